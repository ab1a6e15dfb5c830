"""The CartPole environment: the rules of Gymnasium's CartPole-v1 in JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State

from pgx_jax.envs.cartpole.drawing import draw_cartpole
from pgx_jax.envs.cartpole.physics import (
    ANGLE_LIMIT,
    POSITION_LIMIT,
    TIME_STEP,
    CartPoleParameters,
    advance,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPISODE_LENGTH = 500  # steps


class CartPole(Env):
    """Keep a pole upright on a cart that is pushed left or right.

    The observation is (position in m, velocity in m/s, angle in rad, angular velocity
    in rad/s), float32 [4]; the reward is 1 for every step, the last one included; the
    episode terminates when the angle passes 12 degrees or the position 2.4 m.
    """

    def __init__(self, parameters: CartPoleParameters):
        self.parameters = parameters

    def reset(self, rng: jax.Array) -> State:
        observation = jax.random.uniform(rng, (4,), minval=-0.05, maxval=0.05)
        zero = jnp.zeros((), jnp.float32)
        return State(pipeline_state=None, obs=observation, reward=zero, done=zero)

    def step(self, state: State, action: jax.Array) -> State:
        observation = advance(self.parameters, state.obs, action)
        fallen = (jnp.abs(observation[0]) > POSITION_LIMIT) | (
            jnp.abs(observation[2]) > ANGLE_LIMIT
        )
        return state.replace(
            obs=observation,
            reward=jnp.ones((), jnp.float32),
            done=fallen.astype(jnp.float32),
        )

    @property
    def observation_size(self) -> int:
        return 4

    @property
    def action_size(self) -> int:
        """The number of discrete actions."""
        return self.parameters.forces.shape[-1]

    @property
    def backend(self) -> str:
        return "jax"

    @property
    def dt(self) -> float:
        """Time between two steps, in s."""
        return TIME_STEP

    def draw(self, axes: Axes, state: State) -> None:
        """Draws one state, without leading axes, onto empty Matplotlib axes.

        Lengths are true, in m, with the hinge at a height of 0. The wedge is what the
        pole may lean without ending the episode, the stops are the ends of the track.
        """
        draw_cartpole(axes, state, self.parameters)
