"""A tiny family of environments whose values are known in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State

from pgx_jax.envs import ActionSpace, FamilySuite

EPISODE_LENGTH = 5


class ClockParameters(NamedTuple):
    """The arm that pays, or -1 where both do; and the step that ends an episode."""

    arm: jax.Array
    last_step: jax.Array


class Clock(Env):
    """Shows the time as a one-hot vector, and pays 1 for every pull of its arm."""

    def __init__(self, parameters: ClockParameters):
        self.parameters = parameters

    def reset(self, rng):
        zero = jnp.zeros(())
        time = jnp.zeros((), jnp.int32)
        return State(time, self._show(time), zero, zero, {"success": zero})

    def step(self, state, action):
        arm, last_step = self.parameters
        time = state.pipeline_state + 1
        reward = ((arm < 0) | (action == arm)).astype(jnp.float32)
        return state.replace(
            pipeline_state=time,
            obs=self._show(time),
            reward=reward,
            done=(time >= last_step).astype(jnp.float32),
            metrics={"success": reward},
        )

    def _show(self, time):
        return jax.nn.one_hot(time, EPISODE_LENGTH)

    observation_size = property(lambda self: EPISODE_LENGTH)
    action_size = property(lambda self: 2)
    backend = property(lambda self: "jax")


def make_clock_suite(arms, last_steps):
    """Tasks of one arm each; last steps beyond 5 leave truncation at 5."""
    return FamilySuite(
        make_env=Clock,
        parameters=ClockParameters(jnp.array(arms), jnp.array(last_steps)),
        name="clock",
        task_names=tuple(f"clock {i}" for i in range(len(arms))),
        observation_size=EPISODE_LENGTH,
        action_space=ActionSpace(size=2, discrete=True),
        episode_length=EPISODE_LENGTH,
    )
