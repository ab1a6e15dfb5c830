"""Evaluation on environments whose returns are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.networks.mlp import make_actor_critic
from pgx_jax.training.evaluate import evaluate
from pgx_jax.training.statistics import RunningStatistics

NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(4,))


def two_policies(log_odds):
    """Policy 0 prefers arm 0 and policy 1 arm 1, by the same log-odds at any time."""
    params = jax.tree.map(jnp.zeros_like, NETWORKS.init(jax.random.key(0))["policy"])
    params = jax.tree.map(lambda x: jnp.stack([x, x]), params)
    params["Dense_1"]["bias"] = log_odds * jnp.eye(2)
    return params


def run(suite, policy_ids, num_episodes, log_odds=1.0, deterministic=True):
    return evaluate(
        suite,
        NETWORKS,
        two_policies(log_odds),
        RunningStatistics.create(2, (5,)),
        policy_ids,
        jax.random.key(0),
        num_episodes,
        deterministic=deterministic,
    )


def test_first_episodes_are_counted_once_and_whole(clock_suite):
    # Ends at steps 2 and 4, and by the time limit of 5; the last row's policy misses.
    suite = clock_suite([0, 1, 0, 0], [2, 4, 99, 3])
    result = run(suite, [0, 1, 0, 1], 3)
    np.testing.assert_array_equal(
        result.episode_length, [[2] * 3, [4] * 3, [5] * 3, [3] * 3]
    )
    np.testing.assert_array_equal(
        result.episode_return, [[2] * 3, [4] * 3, [5] * 3, [0] * 3]
    )
    np.testing.assert_array_equal(
        result.episode_success, [[1] * 3, [1] * 3, [1] * 3, [0] * 3]
    )
    assert result.episode_return.dtype == result.episode_success.dtype == jnp.float32
    assert result.episode_length.dtype == jnp.int32


def test_sampled_actions_follow_the_policy(clock_suite):
    """The return is binomial: 5 pulls, each right with probability 1 / (1 + 1 / 3)."""
    suite = clock_suite([0, 0], [99, 99])
    result = run(suite, [0, 1], 4000, np.log(3.0), deterministic=False)
    for row, p in enumerate([0.75, 0.25]):
        returns = np.asarray(result.episode_return[row])
        np.testing.assert_allclose(
            returns.mean(), 5 * p, atol=4 * (5 * p * (1 - p) / 4000) ** 0.5
        )
        np.testing.assert_allclose(returns.var(), 5 * p * (1 - p), rtol=0.1)
        success = 1 - (1 - p) ** 5
        np.testing.assert_allclose(
            result.episode_success[row].mean(), success, atol=0.03
        )


def test_bad_arguments_are_refused(clock_suite):
    suite = clock_suite([0, 0], [99, 99])
    with pytest.raises(ValueError, match="num_episodes must be at least 1, got 0"):
        run(suite, [0, 1], 0)
    with pytest.raises(ValueError, match=r"policy_ids must have shape \(2,\)"):
        run(suite, [0, 1, 0], 1)
