"""Tasks that are rewards of the same samples share observations and actions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation import logistic

NUM_TASKS, NUM_SAMPLES = 4, 24
KEY = jax.random.key(2)
SUBSETS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]], bool)
PARAMS = {
    "hidden": np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32),
    "out": np.random.default_rng(2).normal(size=(5, 2)).astype(np.float32),
}


def log_prob(params, observation, action):
    hidden = jnp.tanh(observation["x"] @ params["hidden"])
    return jax.nn.log_softmax(hidden @ params["out"])[action]


def make_batches(masked=False):
    """The same transitions, shared and repeated for every task."""
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(1, NUM_SAMPLES, 3)).astype(np.float32)
    action = rng.integers(2, size=(1, NUM_SAMPLES))
    advantage = rng.normal(size=(NUM_TASKS, NUM_SAMPLES)).astype(np.float32)
    mask = rng.random(advantage.shape) < 0.8 if masked else None
    shared = pge.Transitions({"x": observation}, action, advantage, mask)
    repeated = shared._replace(
        observation={"x": np.repeat(observation, NUM_TASKS, axis=0)},
        action=np.repeat(action, NUM_TASKS, axis=0),
    )
    return shared, repeated


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        dict(dim=6, num_resamples=2),
        dict(dim=6, evaluator="off_policy", held_out_fraction=0.25),
        dict(dim=None),
        dict(dim=6, regression="least_squares", num_parts=4),
    ],
    ids=["surrogate", "off_policy", "exact", "least_squares"],
)
def test_estimates_are_those_of_repeated_samples(settings, masked):
    found, expected = (
        pge.estimate_subsets(log_prob, PARAMS, batch, SUBSETS, key=KEY, **settings)
        for batch in make_batches(masked)
    )
    # Without a projection, coordinates are others, and rounded otherwise.
    tolerance = 1e-2 if settings["dim"] is None else 1e-4
    np.testing.assert_allclose(found.scores, expected.scores, rtol=tolerance, atol=1e-5)
    np.testing.assert_allclose(
        found.relative_distance, expected.relative_distance, rtol=tolerance
    )
    assert np.abs(expected.scores).max() > 1e-4


def test_gradients_are_computed_once_for_all_tasks(monkeypatch):
    rows = []

    def count(log_prob_fn, params, observation, action, **settings):
        rows.append(len(action))
        return pge.project_gradients(
            log_prob_fn, params, observation, action, **settings
        )

    monkeypatch.setattr(logistic, "project_gradients", count)
    logistic._compiled.cache_clear()
    for batch in make_batches():
        # Of a dimension that no other test has compiled for.
        pge.estimate_subsets(log_prob, PARAMS, batch, SUBSETS, key=KEY, dim=7)
    assert rows == [NUM_SAMPLES, NUM_TASKS * NUM_SAMPLES]


@pytest.mark.parametrize("masked", [False, True])
def test_task_gradients_are_those_of_repeated_samples(masked):
    found, expected = (
        pge.task_gradients(log_prob, PARAMS, batch) for batch in make_batches(masked)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_one_of_both_may_be_shared_and_all_works_inside_jit():
    shared, repeated = make_batches()
    mixed = repeated._replace(observation=shared.observation)

    @jax.jit
    def scores(batch):
        return pge.estimate_subsets(
            log_prob, PARAMS, batch, SUBSETS, key=KEY, dim=6
        ).scores

    expected = scores(repeated)
    np.testing.assert_allclose(scores(mixed), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores(shared), expected, rtol=1e-4, atol=1e-5)


def test_other_leading_axes_are_refused():
    shared, _ = make_batches()
    wrong = shared._replace(action=np.zeros((2, NUM_SAMPLES), int))
    with pytest.raises(ValueError, match=r"action .* \[4, 24\] .* or \[1, N\] = \[1, "):
        pge.estimate_subsets(log_prob, PARAMS, wrong, SUBSETS, key=KEY)


def test_a_number_that_is_not_finite_is_named():
    shared, _ = make_batches(masked=True)
    shared.observation["x"][0, 5, 1] = np.nan
    mask = shared.mask.copy()
    mask[2, 5] = True
    with pytest.raises(ValueError, match=r"observation\['x'\] holds .* transition 5"):
        pge.estimate_subsets(
            log_prob, PARAMS, shared._replace(mask=mask), SUBSETS, key=KEY
        )
