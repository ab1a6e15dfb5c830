"""Combination locks: what they pay, step by step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs.locks import combination_locks
from pgx_jax.envs.locks.env import NUM_DIGITS
from pgx_jax.envs.locks.tasks import OPEN_REWARD


@pytest.fixture(scope="module")
def play():
    """`play(digits)`: returns, successes and lengths of one episode of every task."""
    suite = combination_locks()

    @jax.jit
    def run(digits):
        def step(state, digit):
            action = jnp.broadcast_to(digit, (suite.num_tasks, 1))
            return suite.step(state, action), None

        state = suite.reset(jax.random.key(0), 1)
        state, _ = jax.lax.scan(step, state, digits)
        return state.episode_return[:, 0], state.episode_success[:, 0], state.done[:, 0]

    return suite, run


def test_all_ten_digits_pay_each_half_and_open_the_lock(play):
    suite, run = play
    code = suite.parameters.code[0]
    returns, success, done = run(code)
    # The digits of the other lock are one higher, so that none of them is right there.
    np.testing.assert_allclose(returns, [5, 5, OPEN_REWARD, 0, 0, 0])
    np.testing.assert_array_equal(success, [1, 1, 1, 0, 0, 0])
    assert done.all()
    other, _, _ = run((code + 1) % 4)
    np.testing.assert_allclose(other, [0, 0, 0, 5, 5, OPEN_REWARD])


@pytest.mark.parametrize("wrong", [0, 4, 5, NUM_DIGITS - 1])
def test_one_wrong_digit_costs_its_half_one_and_keeps_the_lock_shut(play, wrong):
    suite, run = play
    digits = suite.parameters.code[0].at[wrong].add(2) % 4
    returns, success, _ = run(digits)
    first = wrong < NUM_DIGITS // 2
    np.testing.assert_allclose(returns[:3], [5 - first, 4 + first, 0])
    assert success[2] == 0


def test_observations_show_the_time():
    suite = combination_locks()
    state = suite.reset(jax.random.key(0), 2)
    np.testing.assert_array_equal(state.observation[3, 1], np.eye(NUM_DIGITS + 1)[0])
    state = suite.step(state, jnp.zeros((6, 2), jnp.int32))
    np.testing.assert_array_equal(state.observation[3, 1], np.eye(NUM_DIGITS + 1)[1])
