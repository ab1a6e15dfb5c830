"""Six combination locks, where three tasks together do what no pair of them does.

A lock is a code of ten digits; the time is all that a policy sees, and each step it
enters one digit of four. Of a first half task, each of the first five right digits pays
1; of a second half task, each of the last five; and an open task pays 10 at the end if
all ten were right, which chance does once in 4^10 times. There are two locks whose
digits all differ, and the three tasks of each:

* the halves of one lock share no step that pays: they neither help nor harm each other;
* with one half only, an open task is paid once in 4^5 episodes, so that a pair tells
  hardly anything of it, while both halves together open the lock;
* tasks of different locks pay for different digits at the same steps.

So any pair of one lock looks as if it might as well be apart, and the three together
are the best group there is.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite

NUM_DIGITS = 10
NUM_SYMBOLS = 4
OPEN_REWARD = 10.0


class LockParameters(NamedTuple):
    """One task, or n tasks with a leading axis.

    Attributes:
      code: the right digit of every step; int32 [..., 10].
      pays: what each right digit pays; float32 [..., 10].
      open_reward: what ten right digits pay; float32 [...].
    """

    code: jax.Array
    pays: jax.Array
    open_reward: jax.Array


class Lock(Env):
    """Enter ten digits; the observation is the time as a one-hot vector, float32 [11].

    The episode terminates after ten steps; success is that the lock opened.
    """

    def __init__(self, parameters: LockParameters):
        self.parameters = parameters

    def reset(self, rng: jax.Array) -> State:
        zero = jnp.zeros((), jnp.float32)
        time = jnp.zeros((), jnp.int32)
        right = jnp.ones((), jnp.float32)
        return State((time, right), self._show(time), zero, zero, {"success": zero})

    def step(self, state: State, action: jax.Array) -> State:
        p = self.parameters
        time, so_far = state.pipeline_state
        right = (action == p.code[time]).astype(jnp.float32)
        so_far = so_far * right
        time = time + 1
        opened = so_far * (time == NUM_DIGITS)
        return state.replace(
            pipeline_state=(time, so_far),
            obs=self._show(time),
            reward=right * p.pays[time - 1] + opened * p.open_reward,
            done=(time == NUM_DIGITS).astype(jnp.float32),
            metrics={"success": opened},
        )

    def _show(self, time: jax.Array) -> jax.Array:
        return jax.nn.one_hot(time, NUM_DIGITS + 1)

    observation_size = property(lambda self: NUM_DIGITS + 1)
    action_size = property(lambda self: NUM_SYMBOLS)
    backend = property(lambda self: "jax")


def combination_locks() -> FamilySuite:
    """Two locks of three tasks each: first half, second half, open."""
    code = np.random.default_rng(0).integers(NUM_SYMBOLS, size=NUM_DIGITS)
    codes = np.repeat(np.stack([code, (code + 1) % NUM_SYMBOLS]), 3, axis=0)
    half = np.arange(NUM_DIGITS) < NUM_DIGITS // 2
    pays = np.tile(np.stack([half, ~half, np.zeros_like(half)]), (2, 1))
    return FamilySuite(
        make_env=Lock,
        parameters=LockParameters(
            code=jnp.asarray(codes, jnp.int32),
            pays=jnp.asarray(pays, jnp.float32),
            open_reward=jnp.asarray(np.tile([0, 0, OPEN_REWARD], 2), jnp.float32),
        ),
        name="combination_locks",
        task_names=tuple(
            f"{lock} {kind}"
            for lock in "AB"
            for kind in ("first half", "second half", "open")
        ),
        observation_size=NUM_DIGITS + 1,
        action_space=ActionSpace(size=NUM_SYMBOLS, discrete=True),
        episode_length=NUM_DIGITS,
        planted_labels=(0, 0, 0, 1, 1, 1),
    )
