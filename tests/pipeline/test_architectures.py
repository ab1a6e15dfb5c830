"""Every architecture as the meta-policy of a run and inside of its groups."""

import numpy as np
import pytest
from networks.cases import PER_TASK, VARIANTS
from small_run import SMALL, without_clock

from pgx_jax.envs import SUITES
from pgx_jax.pipeline import load_policies, route
from pgx_jax.pipeline.checks import find_problems, stage_key
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.rendering import restore_policies
from pgx_jax.settings import CONFIG_FIELD, SettingsError

# Embeddings and heads are other parameters of the same programs.
RUN = {x: VARIANTS[x] for x in (*PER_TASK, "wide residual critic")}
# Three tasks, of which two are alike. All chunks of updates are of one length, so that
# as few programs as possible are compiled.
CHANGES = {
    "suite": {"name": "clocks", "task_id": True},
    "checkpoint_every": 1,
    "meta_training": {"num_updates": 3},
    "estimation": SMALL["estimation"]
    | {"num_subsets": 4, "subset_size": 2, "num_resamples": 0},
    "grouping": {"method": "clustering", "num_groups": 2, "num_random_draws": 0},
    "group_training": {"num_updates": 1},
}

# What else is to follow the task id: one each.
FURTHER = {
    "multi_head": {"estimation": CHANGES["estimation"] | {"evaluator": "rollout"}},
    "film": {
        "estimation": CHANGES["estimation"] | {"regression": "least_squares"},
        "grouping": {"num_candidates": 1, "num_race_episodes": 4}
        | {"num_random_draws": 0},
    },
}


class Stopped(Exception):
    """The run was stopped."""


@pytest.fixture(autouse=True)
def clocks(clock_suite, monkeypatch):
    def make():
        return clock_suite([0, 1, 0], [4, 4, 4])

    monkeypatch.setitem(SUITES, "clocks", {"source": make})


def read_network(network):
    """The settings of a config from arguments of `make_actor_critic`."""
    rows = np.asarray(network.get("task_embeddings", ())).tolist()
    return {"hidden_sizes": [8]} | network | {"task_embeddings": rows}


@pytest.mark.parametrize(
    "name",
    # Half a minute each: the others with the faults that are injected.
    [
        pytest.param(x, marks=[] if x == "multi_head" else pytest.mark.reliability)
        for x in RUN
    ],
)
def test_a_run_goes_on_exactly_where_it_was_stopped(name, tmp_path):
    network = {"network": read_network(RUN[name])}
    config = PipelineConfig.from_dict(SMALL | CHANGES | FURTHER.get(name, {}) | network)
    results = run_pipeline(config, tmp_path / "whole", tensorboard=False)
    assert np.isfinite(results.affinity).all()

    def stop(stage, step, metrics):
        if (stage, step) == ("meta_training", 2 * 64):
            raise Stopped

    workdir = tmp_path / "stopped"
    with pytest.raises(Stopped):
        run_pipeline(config, workdir, tensorboard=False, callback=stop)
    resumed = run_pipeline(config, workdir, tensorboard=False)
    assert resumed.resumed
    assert without_clock(resumed) == without_clock(results)
    if name in FURTHER:
        check_restored(workdir, results)


def check_restored(workdir, results):
    """What is stored earns what is reported, each task under its own id."""
    suite, policies = restore_policies(workdir)
    loaded = load_policies(workdir)
    assert loaded.actor_critic == policies.actor_critic
    found = route(loaded, suite, stage_key(0, "evaluation"), 4)
    own = found.returns[loaded.labels, np.arange(3)]
    reported = np.mean(results.methods[0]["source"][0], axis=-1)
    np.testing.assert_allclose(own, reported, rtol=1e-5)
    with pytest.raises(ValueError, match="read the id of a task.*unseen tasks"):
        route(loaded, suite.suite, stage_key(0, "evaluation"), 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network": {"name": "multi_heads"}},
            "network.name must be one of mlp, .*did you mean multi_head",
        ),
        (
            {"network": {"name": "film"}, "suite": {"name": "clocks"}},
            "suite.task_id must be True where network.name is 'film'",
        ),
        (
            {
                "network": {"name": "paco"},
                "suite": {"name": "cartpole", "task_id": True},
                "estimation": {"num_subsets": 50},
                "adaptation": {"num_updates": 1},
            },
            "network.name must be 'mlp' for adaptation.*has no id.*num_updates = 0",
        ),
        (
            {"network": {"name": "care", "task_embeddings": [[1.0], [2.0]]}},
            "network.task_embeddings must be 3 rows, one for each task of 'clock'",
        ),
        (
            {"network": {"name": "care", "task_embeddings": [[1.0], [1.0, 2.0]]}},
            "network.task_embeddings must be rows of one length",
        ),
        (
            {"network": {"name": "care", "task_embeddings": [[float("nan")]] * 3}},
            "network.task_embeddings must be finite",
        ),
        ({"network": {"shared_head": True}}, "network.shared_head must be False where"),
        ({"network": {"critic": "wide"}}, "network.critic must be one of same, wide_"),
        ({"network": {"critic_width": 64}}, "network.critic_width must be 512 where"),
        (
            {"network": {"name": "moore", "hidden_sizes": [8, 2]}},
            "network.num_modules must be at most 2.*4 experts",
        ),
    ],
)
def test_networks_that_cannot_work_are_refused(changes, message):
    _, problems = find_problems(SMALL | CHANGES | changes)
    assert len(problems) == 1, problems
    with pytest.raises(ValueError, match=message):
        raise SettingsError(problems, CONFIG_FIELD)
