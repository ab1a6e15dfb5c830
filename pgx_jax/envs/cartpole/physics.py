"""The dynamics of a pole on a cart.

Source: Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve
difficult learning control problems", 1983; Gymnasium's CartPole-v1 for the constants.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TIME_STEP = 0.02  # s
ANGLE_LIMIT = 12 * np.pi / 180  # rad
POSITION_LIMIT = 2.4  # m


class CartPoleParameters(NamedTuple):
    """The physics of one task, or of n tasks with a leading axis.

    Attributes:
      gravity: m/s^2; float32.
      cart_mass: kg; float32.
      pole_mass: kg; float32.
      pole_half_length: m, from the hinge to the pole's center; float32.
      forces: N, the horizontal force of each action; float32 [..., num_actions].
    """

    gravity: jax.Array
    cart_mass: jax.Array
    pole_mass: jax.Array
    pole_half_length: jax.Array
    forces: jax.Array


def advance(
    parameters: CartPoleParameters, observation: jax.Array, action: jax.Array
) -> jax.Array:
    """The position, velocity, angle and angular velocity one time step later.

    Args:
      parameters: of one task.
      observation: position in m, velocity in m/s, angle in rad and angular velocity in
        rad/s; float32 [4].
      action: index of a force; int32 [].
    """
    position, velocity, angle, angular_velocity = observation
    force = parameters.forces[action]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    total_mass = parameters.cart_mass + parameters.pole_mass
    moment = parameters.pole_mass * parameters.pole_half_length

    push = (force + moment * angular_velocity**2 * sin) / total_mass
    angular_acceleration = (parameters.gravity * sin - cos * push) / (
        parameters.pole_half_length
        * (4.0 / 3.0 - parameters.pole_mass * cos**2 / total_mass)
    )
    acceleration = push - moment * angular_acceleration * cos / total_mass

    return jnp.stack(
        [
            position + TIME_STEP * velocity,
            velocity + TIME_STEP * acceleration,
            angle + TIME_STEP * angular_velocity,
            angular_velocity + TIME_STEP * angular_acceleration,
        ]
    )
