"""Errors of the first-order approximation, where they are known."""

import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge


@pytest.fixture(scope="module")
def script(load_script):
    flags = ["suites", "output", "num_transitions", "num_directions"]
    return load_script("first_order", flags)


def test_errors_are_those_of_a_quadratic_by_hand(script):
    """log pi = -(p - s)^2 at p = 1: along p, log r - g . Delta is -distance^2."""

    def log_prob(params, observation, action):
        return -jnp.square(params["p"] - observation) + 0.0 * action

    state = np.array([[0.0, 3.0]], np.float32)
    advantage = np.array([[1.0, -2.0]], np.float32)
    batch = pge.Transitions(state, np.zeros((1, 2), np.float32), advantage)
    policy = {"p": jnp.float32(1.0)}
    found = script.measure_errors(log_prob, policy, batch, {"p": jnp.array([7.0])})
    distance = np.asarray(script.DISTANCES)
    moved = 1.0 + distance
    ratio = -((moved - state.T) ** 2) + (1.0 - state.T) ** 2  # [2, distances]
    after = -((moved - state.T) ** 2)
    gain = (advantage.T * (np.exp(ratio) - 1)).mean(axis=0)
    linear = (advantage.T * -2 * (1.0 - state.T) * distance).mean(axis=0)
    expected = [
        distance**2 / np.sqrt((ratio**2).mean(axis=0)),
        distance**2 / np.sqrt((after**2).mean(axis=0)),
        np.abs(gain - linear) / np.abs(gain),
    ]
    # At the smallest distance float32 rounds a tenth of the error away.
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=0.05, atol=5e-5)
    np.testing.assert_allclose(found[2:], np.stack(expected, axis=1)[2:], rtol=1e-2)
