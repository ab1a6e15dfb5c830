"""Runs of several seeds side by side, held against the same runs alone."""

import io
import json
import shutil

import numpy as np
import pytest
from small_run import SMALL

from pgx_jax.envs import make_suite
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.pipeline.runner import TrainingDiverged
from pgx_jax.pipeline.seeds import run_seeds, seed_directory
from pgx_jax.pipeline.side_by_side import Chunk, SideBySide
from pgx_jax.runs.progress import Progress
from pgx_jax.training.ppo import PPO, PPOConfig
from pgx_jax.training.ppo_config import GradientConfig

RACE = SMALL | {
    "estimation": {"num_transitions": 64, "dim": 8, "num_resamples": 2},
    "grouping": {"num_random_draws": 1, "num_candidates": 2, "num_race_episodes": 2},
}

# Without races, resamples and training of several lengths.
LEAST = RACE | {
    "estimation": SMALL["estimation"] | {"num_resamples": 0},
    "grouping": {"method": "clustering", "num_groups": 2, "num_random_draws": 0},
    "checkpoint_every": 4,
    "group_training": {"num_updates": 4},
}


def run_both(workdir, config=RACE, seeds=(3, 1)):
    stream = io.StringIO()
    results = run_seeds(
        PipelineConfig.from_dict(config),
        seeds,
        workdir,
        tensorboard=False,
        progress=Progress(stream=stream),
    )
    return results, stream.getvalue()


def meta_lines(workdir):
    """The metrics of every update of meta-training, but for the time."""
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").open()]
    found = [x for x in lines if x["stage"] == "meta_training"]
    assert len(found) == RACE["meta_training"]["num_updates"]
    return [
        {name: value for name, value in x.items() if isinstance(value, float)}
        for x in found
    ]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("together") / "runs"
    return workdir, *run_both(workdir)


def test_the_first_seed_meets_what_it_meets_alone(together, tmp_path):
    workdir, results, _ = together
    alone = run_pipeline(
        PipelineConfig.from_dict(RACE | {"seed": 3}), tmp_path, tensorboard=False
    )
    # Its rows come first, and all noise is of its key.
    for one, other in zip(
        meta_lines(seed_directory(workdir, 3)), meta_lines(tmp_path), strict=True
    ):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert results[0].groups == alone.groups


def test_runs_side_by_side_are_whole_runs_of_different_seeds(together):
    workdir, results, _ = together
    assert [x.seed for x in results] == [3, 1]
    lines = [meta_lines(seed_directory(workdir, seed)) for seed in (3, 1)]
    assert lines[0] != lines[1]
    affinity = [np.asarray(x.affinity) for x in results]
    assert not np.allclose(*affinity)
    for seed in (3, 1):
        directory = seed_directory(workdir, seed)
        assert json.loads((directory / "config.json").read_text())["seed"] == seed


def test_the_same_seeds_give_the_same_numbers_again(together, tmp_path):
    results, _ = run_both(tmp_path / "again")
    for one, other in zip(together[1], results, strict=True):
        np.testing.assert_array_equal(one.affinity, other.affinity)
        assert one.methods == other.methods


def test_runs_that_stopped_at_different_updates_come_together(together, tmp_path):
    workdir = together[0]
    for seed in (3, 1):
        shutil.copytree(
            seed_directory(workdir, seed), seed_directory(tmp_path / "runs", seed)
        )
    for stage in ("group_training", "evaluation"):
        shutil.rmtree(seed_directory(tmp_path / "runs", 1) / "stages" / stage)
    results, _ = run_both(tmp_path / "runs")
    assert [x.seed for x in results] == [3, 1]


def test_a_run_that_fails_leaves_the_others_to_end(tmp_path):
    broken = seed_directory(tmp_path / "runs", 3)
    broken.mkdir(parents=True)
    (broken / "stages").write_text("no directory")
    with pytest.raises((OSError, ValueError)):
        run_both(tmp_path / "runs", LEAST)
    assert (seed_directory(tmp_path / "runs", 1) / "results.json").exists()


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [0.5], [2**32]])
def test_seeds_that_are_none_are_refused(tmp_path, seeds):
    with pytest.raises(ValueError, match="^seeds must be"):
        run_seeds(PipelineConfig(), seeds, tmp_path / "runs")
    assert not list(tmp_path.iterdir())


def test_what_a_joined_program_raises_reaches_every_run(monkeypatch):
    def fail(chunks, states):
        raise TrainingDiverged("all of them")

    monkeypatch.setattr("pgx_jax.pipeline.side_by_side.run_together", fail)
    table = SideBySide(1)
    with pytest.raises(TrainingDiverged, match="all of them"):
        table.seats[0].run(chunk_of_nothing(), None)


def test_runs_whose_gradients_are_combined_train_one_after_another():
    plain, combined = chunk_of_nothing(), chunk_of_nothing(method="pcgrad")
    assert plain.is_like(chunk_of_nothing())
    assert not combined.is_like(combined) and not plain.is_like(combined)


def chunk_of_nothing(method="mean"):
    suite = make_suite("cartpole")
    networks = make_actor_critic(4, 2, True)
    config = PPOConfig(gradients=GradientConfig(method=method))
    return Chunk(0, PPO(config, networks, 1), suite, np.arange(2), 0, 1)
