"""Where memory runs out, one line names the settings to lower."""

from __future__ import annotations

import functools
import io
import re

import jax
import numpy as np
import pytest
from clock import make_clock_suite
from reliability import calls
from small_run import SMALL, run

from pgx_jax import memory
from pgx_jax.envs import SUITES, make_suite
from pgx_jax.estimation import blocks, logistic, projection
from pgx_jax.pipeline import guards
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.pipeline.runner import Runner
from pgx_jax.pipeline.stages import Problem
from pgx_jax.runs.metrics import MetricsWriter
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir

EXHAUSTED = (
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes."
)


def exhaust(*_, **__):
    raise jax.errors.JaxRuntimeError(EXHAUSTED)


def test_an_estimate_without_memory_names_what_to_lower(monkeypatch):
    monkeypatch.setattr(logistic, "call_with_auto_axes", exhaust)
    function, arguments = calls.CALLS["estimate_subsets"]
    with pytest.raises(memory.OutOfMemory) as error:
        function(**arguments, num_resamples=3)
    assert re.fullmatch(
        r"the estimate ran out of memory on \w+, allocating 68719476736 bytes.*: lower "
        r"dim \(now 3\) or num_resamples \(now 3\) or transitions in data",
        str(error.value),
    )


@pytest.mark.parametrize(
    "text",
    [
        EXHAUSTED,
        "INTERNAL: Error dispatching computation: Out of memory allocating 16 bytes.",
        "INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    ],
)
def test_all_words_for_it_are_known(text):
    with (
        pytest.raises(memory.OutOfMemory, match="the work ran .*: lower x .now 3"),
        memory.explained("the work", {"x": 3}),
    ):
        raise jax.errors.JaxRuntimeError(text)


def test_other_errors_of_xla_are_left_alone(monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(logistic, "call_with_auto_axes", fail)
    function, arguments = calls.CALLS["estimate_subsets"]
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        function(**arguments)


def test_training_without_memory_names_its_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("pgx_jax.training.ppo.PPO.run", exhaust)
    with pytest.raises(memory.OutOfMemory) as error:
        run(tmp_path)
    assert re.search(
        r"^meta_training ran out of .*: lower ppo.num_envs \(now 4\) or "
        r"ppo.unroll_length \(now 16\) or network.hidden_sizes \(now \(8,\)\)$",
        str(error.value),
    )


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            "estimation",
            r"lower estimation.num_transitions \(now 64\) or estimation.dim",
        ),
        ("evaluation", r"lower evaluation.num_episodes \(now 4\)$"),
    ],
)
def test_a_stage_without_memory_names_its_settings(tmp_path, stage, message):
    config = PipelineConfig.from_dict(SMALL)
    suite = make_suite("cartpole_planted")
    directory = Workdir(tmp_path, config.to_dict())
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        runner = Runner(
            Problem(suite, None, config.ppo),
            directory,
            writer,
            Progress(stream=io.StringIO()),
            1,
            lower=functools.partial(guards.settings_to_lower, config),
        )
        with pytest.raises(memory.OutOfMemory, match=f"^{stage} ran .*{message}"):
            runner.once(stage, exhaust)
        with pytest.raises(guards.NotFinite, match=f"^{stage} gave 1 numbers of 'x'"):
            runner.once(stage, lambda: ({"x": np.array([np.nan])}, None))
    assert not (tmp_path / "stages" / stage).exists()


# What runs out of memory, in the order of a run, and the stage that is told.
PLACES = [
    ("pgx_jax.training.ppo.PPO.init", "meta_training"),
    ("pgx_jax.training.ppo.PPO.run", "meta_training"),
    ("pgx_jax.pipeline.estimation.collect_sums", "estimation"),
    ("pgx_jax.estimation.estimate.estimate_least_squares", "estimation"),
    ("pgx_jax.training.ppo.PPO.init_from", "race_training"),
    ("pgx_jax.training.ppo.PPO.run", "race_training"),
    ("pgx_jax.pipeline.race.evaluate", "race_evaluation"),
    ("pgx_jax.pipeline.run.choose_groups", "grouping"),
    ("pgx_jax.training.ppo.PPO.run", "group_training"),
    ("pgx_jax.pipeline.stages.evaluate", "evaluation"),
    ("pgx_jax.pipeline.stages.play_all", "adaptation_selection"),
    ("pgx_jax.pipeline.stages.start_adaptation", "adaptation_training"),
    ("pgx_jax.training.ppo.PPO.run", "adaptation_training"),
    ("pgx_jax.pipeline.stages.evaluate", "adaptation_evaluation"),
]


@pytest.mark.reliability
@pytest.mark.parametrize("of_host", [False, True])
def test_memory_that_runs_out_anywhere_names_settings(tmp_path, monkeypatch, of_host):
    """One run goes on from place to place."""

    def exhaust_host(*_, **__):
        raise MemoryError("Unable to allocate 64.0 GiB for an array")

    suites = {"source": lambda: make_clock_suite([0, 0, 1, 1], [5] * 4)}
    suites["target"] = lambda: make_clock_suite([0, 1], [5] * 2)
    monkeypatch.setitem(SUITES, "clock", suites)
    config = PipelineConfig.from_dict(
        SMALL
        | {
            "suite": {"name": "clock"},
            "estimation": {"num_transitions": 64, "dim": 16},
            "grouping": {"num_candidates": 2, "num_random_draws": 1},
            "adaptation": {"num_updates": 1, "num_selection_episodes": 2},
        }
    )
    for target, stage in PLACES:
        with monkeypatch.context() as patch:
            patch.setattr(target, exhaust_host if of_host else exhaust)
            with pytest.raises(memory.OutOfMemory) as error:
                run_pipeline(config, tmp_path, tensorboard=False)
        place = "the host" if of_host else r"\w+"
        lower = re.fullmatch(
            rf"{stage} ran out of memory on {place}, allocating .*: lower (.*)",
            str(error.value),
        )
        assert lower, error.value
        for setting in lower[1].split(" or "):
            section, _, name = setting.partition(" (now ")[0].partition(".")
            assert hasattr(getattr(config, section), name)
    run_pipeline(config, tmp_path, tensorboard=False)


def test_a_collection_without_memory_names_its_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("pgx_jax.training.ppo.PPO.collect_transitions", exhaust)
    with pytest.raises(memory.OutOfMemory, match="estimation.num_transitions .now 64"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "stage", "names"),
    [
        ({}, "estimation", ["num_transitions", "dim", "num_resamples"]),
        (
            {"estimation": {"regression": "least_squares"}},
            "estimation",
            ["num_envs", "dim", "num_resamples"],
        ),
        (
            {"estimation": SMALL["estimation"] | {"evaluator": "rollout"}},
            "estimation",
            ["num_transitions", "dim", "num_resamples", "num_rollouts"],
        ),
        ({}, "grouping", ["num_subsets", "num_resamples"]),
        ({}, "adaptation_selection", ["num_selection_episodes"]),
        ({}, "adaptation_evaluation", ["num_episodes"]),
        (
            {},
            "group_training",
            ["num_envs", "unroll_length", "hidden_sizes", "num_random_draws"],
        ),
    ],
)
def test_settings_to_lower_exist(changes, stage, names):
    config = PipelineConfig.from_dict(SMALL | changes)
    found = guards.settings_to_lower(config, stage)
    assert [name.partition(".")[2] for name in found] == names
    for path in found:
        section, _, name = path.partition(".")
        assert hasattr(getattr(config, section), name)


@pytest.mark.parametrize(
    ("limit", "elements"),
    [(None, 2**26), (80 * 2**30, 2**26), (16 * 2**30, 2**26), (2 * 2**30, 2**23)],
)
def test_blocks_follow_from_the_memory_of_the_device(monkeypatch, limit, elements):
    monkeypatch.setattr(memory, "_statistics", lambda: {"bytes_limit": limit or 0})
    assert blocks.block_elements() == elements
    assert projection.stored_elements() == 8 * elements
    subsets = np.ones((2**16, 4), bool)
    plan = blocks.plan_blocks(subsets, (4, 2**10, 16))
    assert plan.block == min(2**16, elements // 2**12)


@pytest.mark.parametrize(
    ("count", "text"),
    [(512, "512 B"), (1.5 * 2**30, "1.5 GiB"), (2**41, "2.05e+03 GiB")],
)
def test_bytes_are_shown_in_three_digits(count, text):
    assert memory.format_bytes(count) == text
