"""What is not finite, or does not fit, stops a run or a call and is named."""

from __future__ import annotations

import functools
import io
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reliability import bad_inputs
from small_run import SMALL, run

import pgx_jax as pge
from pgx_jax import memory
from pgx_jax.envs import make_suite
from pgx_jax.estimation import blocks, logistic, projection
from pgx_jax.pipeline import guards
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.pipeline.runner import Runner, TrainingDiverged
from pgx_jax.pipeline.stages import Problem
from pgx_jax.runs.metrics import MetricsWriter
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training import debugging
from pgx_jax.training import ppo as ppo_module

KEY = bad_inputs.KEY
EXHAUSTED = (
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes."
)


def exhaust(*_, **__):
    raise jax.errors.JaxRuntimeError(EXHAUSTED)


def test_an_estimate_without_memory_names_what_to_lower(monkeypatch):
    monkeypatch.setattr(logistic, "call_with_auto_axes", exhaust)
    function, arguments = bad_inputs.CALLS["estimate_subsets"]
    with pytest.raises(memory.OutOfMemory) as error:
        function(**arguments, num_resamples=3)
    assert re.fullmatch(
        r"the estimate ran out of memory on \w+, allocating 68719476736 bytes.*: lower "
        r"dim \(now 3\) or num_resamples \(now 3\) or transitions in data",
        str(error.value),
    )


def test_other_errors_of_xla_are_left_alone(monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(logistic, "call_with_auto_axes", fail)
    function, arguments = bad_inputs.CALLS["estimate_subsets"]
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


@pytest.fixture
def broken_advantages(monkeypatch):
    """A logarithm of a negative number in the advantages of training."""
    advantages = ppo_module.generalized_advantages

    def broken(*args, **kwargs):
        return advantages(*args, **kwargs) + 0.0 * jnp.log(-1.0 - args[0] ** 2)

    monkeypatch.setattr(ppo_module, "generalized_advantages", broken)


@pytest.mark.reliability
def test_debugging_a_run_names_the_operation(broken_advantages, tmp_path):
    """With settings of no other test, since programs are compiled once for them."""
    ppo = SMALL["ppo"] | {"learning_rate": 1.2345e-3}
    config = PipelineConfig.from_dict(SMALL | {"ppo": ppo})
    with pytest.raises(TrainingDiverged) as error:
        run_pipeline(config, tmp_path, tensorboard=False, debug=True)
    assert re.match(
        r"meta_training met a number that is not finite: metric '\w+' of row 0 \(A1\) "
        r"at update 0 \(update 0: nan generated by primitive: log, at .*test_guards.py:"
        r"\d+\), in steps 0 to 128 of each task\.",
        str(error.value),
    )


class Countdown(NamedTuple):
    """The state of a training that takes the logarithm of what is left."""

    num_updates: jax.Array
    key: jax.Array
    total: jax.Array


class CountingPPO:
    """Its third update takes the logarithm of -1."""

    def step(self, suite, state, key):
        left = 1.0 - state.num_updates.astype(jnp.float32)
        total = state.total + jnp.log(left)
        return state._replace(num_updates=state.num_updates + 1, total=total), {}


def test_the_operation_is_found_by_its_update_and_its_line():
    zero = jnp.zeros((), jnp.int32)
    start = Countdown(zero, KEY, jnp.zeros(()))
    kept = debugging.copy_state(start)
    found = debugging.find_operation(CountingPPO(), None, kept, 3)
    assert re.fullmatch(
        r"update 2: nan generated by primitive: log, at .*test_guards.py:\d+", found
    )
    # The second update gave -inf, which is no NaN.
    found = debugging.find_operation(CountingPPO(), None, start, 2)
    assert "a number became infinite" in found


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1.0, np.nan], [0.0, 0.0]]), r"index \[0, 1\], task 'b': nan"),
        (np.array([np.inf, 0.0, 0.0]), r"index \[0\]: inf"),
    ],
)
def test_no_stage_stores_what_is_not_finite(array, message):
    with pytest.raises(
        guards.NotFinite, match=f"estimation gave 1 .*'scores'.*{message}"
    ):
        guards.check_finite("estimation", {"scores": array}, ["a", "b"])
    guards.check_finite("estimation", {"relative_distance": array}, ["a", "b"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda a: jnp.full(a.subsets.shape, jnp.nan), "evaluator must return finite"),
        (
            lambda a: a.subsets[:, :2].astype(jnp.float32),
            r"evaluator must .*\[4, 4\].*\[4, 2\]",
        ),
        (lambda a: None, "evaluator must return"),
        (lambda a: "scores", "evaluator must return"),
        (lambda a: jnp.zeros(a.subsets.shape, jnp.complex64), "evaluator must return"),
    ],
)
def test_evaluators_that_return_no_scores_are_named(bad, message):
    function, arguments = bad_inputs.CALLS["estimate_subsets"]
    with pytest.raises(ValueError, match=message):
        function(**arguments, evaluator=bad)


def test_sums_that_are_not_finite_name_the_task():
    function, arguments = bad_inputs.CALLS["accumulate"]
    sums = function(**arguments)
    product = np.array(sums.product)
    product[1, 2, 0] = np.nan
    with pytest.raises(
        ValueError, match=r"sums must be finite; product of task 2 in part 1"
    ):
        pge.estimate_subsets(
            None,
            None,
            sums._replace(product=product),
            bad_inputs.SUBSETS,
            key=0,
            regression="least_squares",
        )
