"""What only shows once it is computed: an error outside jit, a status inside."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax import EstimateStatus

NUM_TASKS, NUM_SAMPLES = 4, 12
KEY = jax.random.key(0)
SUBSETS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]])
TASK, SAMPLE = 2, 5


def log_prob(params, observation, action):
    """The root has an infinite slope at zero, where the log-probability is finite."""
    mean = jnp.sqrt(jnp.abs(observation @ params[:3] + jnp.sum(params[3:])))
    return jax.scipy.stats.norm.logpdf(action, mean, 0.5)


def constant_log_prob(params, observation, action):
    return log_prob(jax.lax.stop_gradient(params), observation, action)


PARAMS = np.array([0.5, -0.3, 0.8], np.float32)
# More than there are transitions, and of no effect by themselves.
MANY_PARAMS = np.concatenate([PARAMS, np.zeros(60, np.float32)])


def make_batch(num_samples=NUM_SAMPLES):
    rng = np.random.default_rng(0)
    shape = (NUM_TASKS, num_samples)
    arrays = (
        rng.normal(size=(*shape, 3)),
        rng.normal(size=shape),
        rng.normal(size=shape),
    )
    return pge.Transitions(*(x.astype(np.float32) for x in arrays))


BATCH = make_batch()


def with_observation(value):
    observation = BATCH.observation.copy()
    observation[TASK, SAMPLE] = value
    return {"batch": BATCH._replace(observation=observation)}


def estimate(params=PARAMS, batch=BATCH, log_prob_fn=log_prob, **settings):
    settings = {"key": KEY, "dim": 3, **settings}
    return pge.estimate_subsets(log_prob_fn, params, batch, SUBSETS, **settings)


def scores_of(value):
    """An evaluator that gives this value to task 2, and 1 to the others."""
    return lambda adapted: jnp.ones(adapted.subsets.shape).at[:, TASK].set(value)


IS_TASK = np.arange(NUM_TASKS)[:, None] == TASK
ONE_KIND = BATCH._replace(
    observation=np.where(IS_TASK[..., None], np.float32(1.7), BATCH.observation),
    action=np.where(IS_TASK, np.float32(0.3), BATCH.action),
)
WITH_TASK = [0, 1, 1, 0]
CASES = {
    "gradient": (
        with_observation(0.0),
        "FEATURES_NOT_FINITE",
        WITH_TASK,
        "log_prob_fn must.*task 2, transition 5",
    ),
    "gradient, exact": (
        {**with_observation(0.0), "dim": None, "params": MANY_PARAMS},
        "FEATURES_NOT_FINITE",
        WITH_TASK,
        "log_prob_fn must.*task 2, transition 5",
    ),
    "overflow": (
        {
            **with_observation(1e30),
            "log_prob_fn": lambda p, obs, act: act * jnp.sum(p * obs),
        },
        "FEATURES_NOT_FINITE",
        WITH_TASK,
        "log_prob_fn must.*task 2, transition 5",
    ),
    "stop_gradient": (
        {"log_prob_fn": constant_log_prob},
        "FEATURES_ZERO",
        [1, 1, 1, 1],
        r"log_prob_fn must.*stop_gradient.*tasks \[0, 1, 2, 3\]",
    ),
    "stop_gradient, exact": (
        {"log_prob_fn": constant_log_prob, "dim": None, "params": MANY_PARAMS},
        "FEATURES_ZERO",
        [1, 1, 1, 1],
        r"log_prob_fn must.*stop_gradient.*tasks \[0, 1, 2, 3\]",
    ),
    "one kind of transition": (
        {"batch": ONE_KIND},
        "FEATURES_ZERO",
        WITH_TASK,
        r"tasks \[2\] do not",
    ),
    "one kind of transition, exact": (
        {"batch": ONE_KIND, "dim": None, "params": MANY_PARAMS},
        "FEATURES_ZERO",
        WITH_TASK,
        r"tasks \[2\] do not",
    ),
    "zero params": (
        {
            "params": np.zeros(3, np.float32),
            "log_prob_fn": lambda p, obs, act: act * jnp.sum(p * obs),
            "max_relative_distance": 0.01,
        },
        "DISTANCE_UNDEFINED",
        [1, 1, 1, 1],
        "params must have a norm.*max_relative_distance=None",
    ),
    "solution": (
        {
            "batch": BATCH._replace(advantage=1e37 * BATCH.advantage),
            "normalize_advantages": False,
        },
        "SOLUTION_NOT_FINITE",
        [1, 1, 1, 1],
        "advantage and l2 must",
    ),
    "scores": (
        {"evaluator": scores_of(jnp.nan)},
        "SCORES_NOT_FINITE",
        WITH_TASK,
        r"evaluator must return finite.*2 of 4 subsets.*row 1, .*tasks \[2\]",
    ),
    "infinite scores": (
        {"evaluator": scores_of(jnp.inf)},
        "SCORES_NOT_FINITE",
        WITH_TASK,
        "evaluator must return finite scores",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_an_error_outside_jit_and_a_status_inside(case):
    settings, name, rows, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        estimate(**settings)
    params, batch = settings.get("params", PARAMS), settings.get("batch", BATCH)
    rest = {k: v for k, v in settings.items() if k not in ("params", "batch")}
    traced = jax.jit(lambda p, b: estimate(p, b, **rest))(params, batch)
    status = np.asarray(traced.status)
    rows = np.array(rows, bool)
    np.testing.assert_array_equal(status == EstimateStatus[name], rows)
    ok = status == EstimateStatus.OK
    # Never a number where there is a fault, and never a NaN where there is none.
    member = SUBSETS.astype(bool)
    scores = np.asarray(traced.scores)
    np.testing.assert_array_equal(np.isnan(scores), member & ~ok[:, None])
    assert not np.any(np.asarray(traced.converged) & ~ok)
    with pytest.raises(ValueError, match=f"status {name}"):
        pge.check_estimates(traced)


@pytest.mark.parametrize(
    "settings",
    [
        {"l2": np.inf},
        {"l2": 0.0},
        {"l2": np.nan},
        {"tolerance": np.nan},
        {"tolerance": -1.0},
        {"tolerance": np.inf},
        {"max_relative_distance": np.nan},
    ],
    ids=str,
)
def test_traced_settings_out_of_range_are_a_status(settings):
    (name, value), *_ = settings.items()
    estimates = traced_setting(name)(value)
    assert np.all(estimates.status == EstimateStatus.SETTINGS_OUT_OF_RANGE)
    assert not np.any(estimates.converged)
    assert np.isnan(np.asarray(estimates.scores)[SUBSETS == 1]).all()
    good = traced_setting(name)(0.1)
    assert np.all(good.status == EstimateStatus.OK)
    assert pge.check_estimates(good) is good


_JITTED = {}


def traced_setting(name):
    if name not in _JITTED:
        _JITTED[name] = jax.jit(lambda value: estimate(**{name: value}))
    return _JITTED[name]


def test_estimates_of_the_users_own_need_no_status():
    own = estimate()._replace(status=None)
    assert pge.check_estimates(own) is own


def test_a_resample_that_is_not_finite_is_a_fault():
    def evaluator(adapted):
        # The plain estimate draws nothing; its transitions are in their order.
        plain = jnp.all(adapted.batch.observation[0] == BATCH.observation[0])
        return jnp.where(plain, 1.0, jnp.nan) * jnp.ones(adapted.subsets.shape)

    assert np.all(estimate(evaluator=evaluator).status == EstimateStatus.OK)
    with pytest.raises(ValueError, match="SCORES_NOT_FINITE"):
        estimate(evaluator=evaluator, num_resamples=2)


def test_one_transition_less_its_mean_is_nothing():
    centered = {"center_features": True}
    with pytest.raises(ValueError, match="center_features=True"):
        estimate(batch=make_batch(1), **centered)
    estimates = jax.jit(lambda b: estimate(batch=b, **centered))(make_batch(1))
    assert np.all(estimates.status == EstimateStatus.FEATURES_ZERO)
    assert np.isnan(np.asarray(estimates.scores)[SUBSETS == 1]).all()


def test_without_centering_one_transition_is_enough():
    estimates = estimate(batch=make_batch(1), center_features=False)
    assert np.isfinite(estimates.scores).all()
    assert np.all(estimates.status == EstimateStatus.OK)


def test_a_gradient_that_is_not_finite_names_its_task():
    with pytest.raises(ValueError, match=r"log_prob_fn must have finite.*tasks \[2\]"):
        pge.task_gradients(log_prob, PARAMS, **with_observation(0.0))


@pytest.mark.parametrize("fill", [np.nan, 0.0])
def test_padding_needs_no_finite_gradient(fill):
    """At an observation of zero the log-probability has none."""
    mask = np.ones((NUM_TASKS, NUM_SAMPLES), bool)
    mask[TASK, SAMPLE] = False
    padded = with_observation(fill)["batch"]._replace(mask=mask)
    plain = BATCH._replace(mask=mask)
    for stage in (
        lambda batch: pge.task_gradients(log_prob, PARAMS, batch),
        # In coordinates of the span of the gradients, and back to parameters.
        lambda batch: (
            estimate(MANY_PARAMS, batch, dim=None, evaluator="off_policy").scores
        ),
    ):
        expected = np.asarray(stage(plain))
        assert np.isfinite(expected).all() and np.abs(expected).max() > 0
        np.testing.assert_array_equal(stage(padded), expected)
