"""The environment of a combination lock: enter ten digits of four symbols."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State

NUM_DIGITS = 10
NUM_SYMBOLS = 4


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
        opened = jnp.where(time == NUM_DIGITS, so_far, 0.0)
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
