"""The loss whose curvature is measured, by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge


@pytest.fixture(scope="module")
def script(load_script):
    flags = ["output", "seeds", "num_transitions", "num_episodes", "num_products"]
    return load_script("generalization", flags)


def test_loss_has_the_derivatives_of_ratios_times_advantages(script):
    """pi(1 | s) = p = 1 / (1 + exp(-x s)), whose second derivative is p (1 - p)
    (1 - 2 p) s^2; the ratio is over p at x itself."""

    def log_prob(x, observation, action):
        return -jnp.log1p(jnp.exp(-x * observation)) + 0.0 * action

    state = np.array([[0.5, -1.0], [2.0, 1.0]], np.float32)
    advantage = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)
    batch = pge.Transitions(state, np.ones((2, 2), np.float32), advantage)
    scale = np.array([0.2, 0.8], np.float32)
    networks = SimpleNamespace(log_prob=log_prob)

    def loss(x):
        return script.policy_loss(networks, batch, jnp.asarray(scale), x)

    x = jnp.float32(0.7)
    p = 1 / (1 + np.exp(-0.7 * state))
    weight = -scale[:, None] * advantage / 4
    first, second = (1 - p) * state, (1 - p) * (1 - 2 * p) * state**2
    np.testing.assert_allclose(jax.grad(loss)(x), np.sum(weight * first), rtol=1e-5)
    found = jax.grad(jax.grad(loss))(x)
    np.testing.assert_allclose(found, np.sum(weight * second), rtol=1e-5)


def test_correlations_are_taken_within_seeds(script):
    def entries(traces):
        values = enumerate(traces)
        return {str(i): {"trace": x, "gap": float(i)} for i, x in values}

    seeds = {
        "0": {"training": entries([1.0, 2.0, 3.0]), "groupings": entries([3.0, 1.0])},
        "1": {"training": entries([7.0, 8.0, 9.0]), "groupings": entries([5.0, 1.0])},
    }
    assert script.correlate(seeds, "trace") == ["1.00", "-1.00"]
