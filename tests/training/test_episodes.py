"""Evaluation on environments whose returns are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import (
    ActionSpace,
    from_functions,
)
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.running_statistics import RunningStatistics

NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(4,))


def two_policies(log_odds):
    """Policy 0 prefers arm 0 and policy 1 arm 1, by the same log-odds at any time."""
    params = jax.tree.map(jnp.zeros_like, NETWORKS.init(jax.random.key(0))["policy"])
    params = jax.tree.map(lambda x: jnp.stack([x, x]), params)
    params["Dense_1"]["bias"] = log_odds * jnp.eye(2)
    return params


def run(suite, policy_ids, num_episodes, log_odds=1.0, deterministic=True, tasks=None):
    return evaluate(
        suite,
        NETWORKS,
        two_policies(log_odds),
        RunningStatistics.create(2, (5,)),
        policy_ids,
        jax.random.key(0),
        num_episodes,
        deterministic=deterministic,
        tasks=tasks,
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
    with pytest.raises(ValueError, match=r"policy_ids must have shape \(3,\)"):
        run(suite, [0, 1], 1, tasks=[0, 1, 0])


@pytest.fixture(scope="module")
def drawn_suite():
    """Pays at every step what reset drew; task 0 ends after two steps, 1 after five."""

    def reset(last_step, key):
        drawn = jax.random.uniform(key)
        return (drawn, jnp.zeros((), jnp.int32)), drawn * jnp.ones(5)

    def step(last_step, state, action, key):
        drawn, time = state
        reward = drawn + action.astype(jnp.float32)
        return (drawn, time + 1), drawn * jnp.ones(5), reward, time + 1 >= last_step

    return from_functions(
        reset,
        step,
        jnp.array([2, 9]),
        action_space=ActionSpace(2, discrete=True),
        episode_length=5,
    )


def test_the_first_episode_counts_and_not_the_last(drawn_suite):
    """While task 1 plays its episode, task 0 plays two, from different draws."""
    result = run(drawn_suite, [0, 0], 6, log_odds=50.0)
    reset_key, _ = jax.random.split(jax.random.key(0))
    drawn = drawn_suite.reset(reset_key, 6).observation[..., 0]
    np.testing.assert_allclose(
        result.episode_return, drawn * np.array([[2.0], [5.0]]), rtol=1e-6
    )
    np.testing.assert_array_equal(result.episode_length[:, 0], [2, 5])


def test_rows_of_one_task_meet_the_same_states_and_random_numbers(drawn_suite):
    """Policies 0 and 1 differ in the odds of an action that pays 1 a step."""
    alone = run(drawn_suite, [0, 0], 50, deterministic=False)
    result = run(drawn_suite, [0, 1, 0, 0], 50, deterministic=False, tasks=[1, 1, 0, 1])
    returns = np.asarray(result.episode_return)
    np.testing.assert_array_equal(returns[0], returns[3])
    np.testing.assert_array_equal(returns[2:], alone.episode_return)
    # The same draw of the state: returns of one task differ by whole actions.
    difference = returns[1] - returns[0]
    np.testing.assert_allclose(difference, np.round(difference), atol=1e-5)
    assert difference.mean() > 0.5
    # A task that is played by no row is not reset, nor is its place taken.
    only = run(drawn_suite, [0, 0], 50, deterministic=False, tasks=[1, 1])
    np.testing.assert_array_equal(*only.episode_return)


@pytest.mark.parametrize("reward", [-2.0, 2.0])
def test_divergence_does_not_pay(reward):
    """Of two tasks of ten steps, the one diverges at its third step."""

    def reset(last_step, key):
        return jnp.zeros(()), jnp.zeros(1)

    def step(last_step, time, action, key):
        earned = jnp.where(time >= last_step, jnp.nan, reward)
        return time + 1.0, jnp.zeros(1), earned, False

    suite = from_functions(
        reset,
        step,
        jnp.array([2.0, 99.0]),
        action_space=ActionSpace(2, discrete=True),
        episode_length=10,
    )
    found = run(suite, [0, 1], 2)
    np.testing.assert_array_equal(found.episode_length, [[3, 3], [10, 10]])
    # Two steps; and the eight that are missed, at -2 each or at nothing.
    expected = [2 * reward + 8 * min(reward, 0.0), 10 * reward]
    np.testing.assert_array_equal(found.episode_return.T, [expected, expected])
