"""What robots are rewarded for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class RobotMotion(NamedTuple):
    """One step of a robot, for rewards.

    Attributes:
      velocity: of the torso along x and y, its mean over a step, in m/s; float32 [2].
      height: of the torso, in m; float32.
      action: clipped to [-1, 1]; float32 [nu].
      previous_action: of the step before, zero at first; float32 [nu].
      power: mechanical, of each actuator, in W; float32 [nu].
      joint_position: of the actuated joints, from -1 to 1 within their limits; [nu].
    """

    velocity: jax.Array
    height: jax.Array
    action: jax.Array
    previous_action: jax.Array
    power: jax.Array
    joint_position: jax.Array


Reward = Callable[[jax.Array, RobotMotion], jax.Array]


def run_along(goal: jax.Array, motion: RobotMotion) -> jax.Array:
    """Speed in m/s along a direction of the plane; goal [2] is its unit vector."""
    return goal @ motion.velocity


def keep_speed(goal: jax.Array, motion: RobotMotion) -> jax.Array:
    """Minus the distance from a speed along x; goal [1] is that speed, in m/s."""
    return -jnp.abs(motion.velocity[0] - goal[0])
