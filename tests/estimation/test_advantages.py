"""Optimal values and advantages against bandits that are solved in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge

ARMS = np.array([1.0, 0.0, -1.0], np.float32)
OPTIMAL = [0.6652, 0.2447, 0.0900]


def test_three_arms():
    """A uniform reference, beta = 1: V* = log((e + 1 + 1/e) / 3) = 0.3090."""
    np.testing.assert_allclose(pge.optimal_value(ARMS, beta=1.0), 0.3090, atol=5e-5)
    advantage = pge.optimal_advantages(ARMS, beta=1.0)
    np.testing.assert_allclose(np.exp(advantage) / 3, OPTIMAL, atol=5e-5)


def test_fitted_by_least_squares_they_give_the_optimal_policy():
    def log_prob(params, observation, action):
        return jax.nn.log_softmax(params)[action]

    params = jnp.zeros(3)
    batch = pge.Transitions(
        np.zeros((1, 3, 1), np.float32),
        np.arange(3)[None],
        pge.optimal_advantages(ARMS[None], beta=1.0),
    )
    key = jax.random.key(0)
    estimates = pge.estimate_subsets(
        log_prob,
        params,
        batch,
        [[1]],
        key=key,
        regression="least_squares",
        center_features=False,
        normalize_advantages=False,
        ridge=1e-5,
        num_parts=1,
        num_folds=1,
    )
    projection = pge.GaussianProjection(3)
    delta = pge.back_project(
        projection, jax.random.split(key, 4)[0], params, estimates.delta[0]
    )
    np.testing.assert_allclose(jax.nn.softmax(params + delta), OPTIMAL, atol=1e-3)


def test_values_of_many_prompts_match_numpy():
    rng = np.random.default_rng(0)
    reward = rng.normal(size=(2, 5, 7)).astype(np.float32)
    mask = rng.random(reward.shape) < 0.7
    mask[..., 0] = True
    found = pge.optimal_value(np.where(mask, reward, np.nan), beta=0.4, mask=mask)
    for index in np.ndindex(2, 5):
        kept = reward[index][mask[index]].astype(float)
        expected = 0.4 * np.log(np.mean(np.exp(kept / 0.4)))
        np.testing.assert_allclose(found[index], expected, rtol=1e-4, atol=1e-6)
    advantage = pge.optimal_advantages(reward, beta=0.4, mask=mask)
    np.testing.assert_allclose(
        advantage, np.where(mask, reward, 0.0) - found[..., None], rtol=1e-5, atol=1e-6
    )


def test_beta_leads_from_the_mean_to_the_largest_reward():
    reward = np.array([300.0, 100.0, -400.0], np.float32)
    np.testing.assert_allclose(pge.optimal_value(reward, beta=1e7), 0.0, atol=0.1)
    # exp(r / beta) itself would overflow.
    np.testing.assert_allclose(pge.optimal_value(reward, beta=1e-2), 300.0, rtol=1e-3)


def test_other_samples_of_the_reference_give_the_value():
    reward = np.array([[2.0, 5.0], [1.0, 0.0]], np.float32)
    reference = np.array([ARMS, ARMS + 1.0])
    found = pge.optimal_advantages(reward, beta=1.0, reference_reward=reference)
    expected = [[2 - 0.3090, 5 - 0.3090], [1 - 1.3090, -1.3090]]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_they_are_jitted_and_keep_double_precision():
    jitted = jax.jit(lambda r, b: pge.optimal_advantages(r, beta=b))
    expected = pge.optimal_advantages(ARMS, beta=0.5)
    np.testing.assert_allclose(jitted(ARMS, 0.5), expected, rtol=1e-6)
    assert pge.optimal_value([1, 0, -1], beta=1).dtype == jnp.float32
    with jax.enable_x64(True):
        found = pge.optimal_value(ARMS.astype(float), beta=1.0)
        assert found.dtype == jnp.float64
        expected = np.log(np.mean(np.exp(ARMS.astype(float))))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0.0}, "beta must be positive"),
        ({"beta": "one"}, "beta must be one real number"),
        ({"reward": 3.0}, r"reward must have shape \[\.\.\., K\]"),
        ({"reward": np.zeros((2, 0))}, r"reward must have shape \[\.\.\., K\]"),
        ({"reward": ["a", "b"]}, "reward must hold real numbers"),
        ({"reward": [1.0, np.nan]}, r"reward must be finite; entry \(1,\)"),
        ({"mask": [True, False]}, r"mask must have the shape of reward, \[3\]"),
        ({"mask": [0, 1, 2]}, "mask must hold only 0 and 1"),
        ({"mask": [0, 0, 0]}, "mask leaves no sample"),
        ({"reference_reward": np.zeros((2, 3))}, r"reference_reward must .* \[\]"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pge.optimal_advantages(**{"reward": ARMS, "beta": 1.0} | arguments)
