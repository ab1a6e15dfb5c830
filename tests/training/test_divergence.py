"""Steps that are not finite: they never pay, and leave no NaN behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import (
    ActionSpace,
    from_functions,
)
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.diagnostics import first_nonfinite, on_host
from pgx_jax.training.losses import generalized_advantages
from pgx_jax.training.ppo import PPO, PPOConfig

DISCOUNT, GAE_LAMBDA = 0.9, 0.8


def advantages(reward, value, next_value, termination, truncation, divergence):
    return np.asarray(
        generalized_advantages(
            *(np.asarray(x, np.float32) for x in (reward, value, next_value)),
            *(np.asarray(x, bool) for x in (termination, truncation, divergence)),
            discount=DISCOUNT,
            gae_lambda=GAE_LAMBDA,
        )
    )


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_diverged_step_has_the_lowest_return_and_leaves_those_before_alone(sign):
    """One environment of two steps and a third that diverges, in closed form."""
    value = sign * np.array([[3.0], [4.0], [5.0]])
    next_value = sign * np.array([[4.0], [5.0], [5.0]])
    reward = sign * np.array([[1.0], [1.0], [0.0]])
    never, last = np.zeros((3, 1)), np.array([[0], [0], [1]])
    found = advantages(reward, value, next_value, never, last, last)
    # Steps 0 and 1 as if truncated in state 2, whose value is 5.
    second = sign * (1 + 0.9 * 5 - 4)
    first = sign * (1 + 0.9 * 4 - 3) + 0.9 * 0.8 * second
    # Their returns are -5.68 and -5.5, or 5.68 and 5.5.
    lowest = min(0.0, first + sign * 3, second + sign * 4)
    expected = [[first], [second], [lowest - sign * 5]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_no_step_of_a_task_has_a_lower_return_than_one_that_diverged():
    rng = np.random.default_rng(0)
    for scale in (1.0, -1.0):
        reward, value, next_value = scale * rng.uniform(0, 2, (3, 50, 8))
        ending = rng.choice(4, (50, 8), p=[0.7, 0.1, 0.1, 0.1])
        flags = [ending == 1, (ending == 2) | (ending == 3), ending == 3]
        returns = advantages(reward, value, next_value, *flags) + value
        diverged = returns[flags[2]]
        np.testing.assert_allclose(diverged, diverged[0], rtol=1e-5)
        assert diverged[0] <= min(0.0, returns[~flags[2]].min()) + 1e-5


def treadmill():
    """Rewards of -1 and 1 for ever; action 1 breaks the observation."""

    def step(reward, state, action, key):
        return state, jnp.where(action == 1, jnp.nan, jnp.ones((1,))), reward, False

    return from_functions(
        lambda reward, key: (jnp.zeros(()), jnp.ones((1,))),
        step,
        jnp.array([-1.0, 1.0]),
        action_space=ActionSpace(2, discrete=True),
        episode_length=100,
    )


NETWORKS = make_actor_critic(1, 2, discrete=True, hidden_sizes=(8,))
CONFIG = PPOConfig(
    num_envs=16, unroll_length=32, num_epochs=4, num_minibatches=4, learning_rate=1e-2
)


def test_ppo_does_not_learn_to_diverge_whatever_the_sign_of_rewards():
    """By chance at first; charged for as a plain termination, 96% by update 4."""
    ppo = PPO(CONFIG, NETWORKS, 30)
    suite = treadmill()
    _, metrics = ppo.run(suite, ppo.init(suite, jax.random.key(0), [0, 1]), 30)
    share = np.asarray(metrics["divergences"]) / CONFIG.steps_per_update
    assert np.all(np.abs(share[0] - 0.5) < 0.1)
    assert np.all(share[2:] < share[0])
    assert np.all(share[10:] < 0.05)


def test_a_run_passes_where_jax_stops_at_any_nan():
    suite = treadmill()
    # No episode ends by itself within an update, and both tasks diverge.
    with jax.debug_nans(True):
        ppo = PPO(CONFIG, NETWORKS, 2)
        state = ppo.init(suite, jax.random.key(0))
        state, metrics = ppo.run(suite, state, 2)
        assert first_nonfinite(state, metrics) is None
    assert metrics["divergences"].sum() > 0
    metrics = {name: np.array(x) for name, x in metrics.items()}
    metrics["episodes"][0, 1] = 0
    for name, values in on_host(metrics).items():
        told = np.isnan(values)
        expected = np.zeros_like(told)
        if name in ("return", "length", "success"):
            expected[0, 1] = True
        np.testing.assert_array_equal(told, expected)
