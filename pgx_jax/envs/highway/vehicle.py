"""Vehicles on a straight road: their state, controllers, motion and collisions.

The x axis points along the road and the y axis to the right of the driver; lane 0, the
leftmost one, has its centre at y = 0. All figures are those of highway-env 1.12.1
(Leurent, "An Environment for Autonomous Driving Decision-Making", 2018); the motion is
the kinematic bicycle of Polack et al., "The kinematic bicycle model", 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LENGTH = 5.0  # m
WIDTH = 2.0  # m
LANE_WIDTH = 4.0  # m
MAX_SPEED = 40.0  # m/s, above which a vehicle slows down; its negative in reverse
SPEED_GAIN = 1 / 0.6  # 1/s
HEADING_GAIN = 1 / 0.2  # 1/s
LATERAL_GAIN = 1 / 0.6  # 1/s
MAX_STEERING = np.pi / 3  # rad
MAX_LANE_ANGLE = np.pi / 4  # rad, of the heading that a change of lane aims at
SMALLEST_DIVISOR = 1e-2  # in the unit of what is divided by


class Vehicles(NamedTuple):
    """Every vehicle of one road; the ego first. Leaves of shape [vehicles, ...].

    Attributes:
      x: m, of the centre, along the road; float32.
      y: m, of the centre, to the right; float32.
      heading: rad, 0 along the road and positive to the right; float32.
      speed: m/s; float32.
      target_lane: the lane that is steered to; int32.
      target_speed: m/s; float32.
      timer: s since the last decision about a change of lane; float32.
      exponent: of the speed ratio in the driver model; float32.
      crashed: bool.
      struck: whether `impact` is to be applied at the next motion; bool.
      impact: m, the displacement by a collision; float32 [vehicles, 2].
      present: whether the slot holds a vehicle; bool.
    """

    x: jax.Array
    y: jax.Array
    heading: jax.Array
    speed: jax.Array
    target_lane: jax.Array
    target_speed: jax.Array
    timer: jax.Array
    exponent: jax.Array
    crashed: jax.Array
    struck: jax.Array
    impact: jax.Array
    present: jax.Array


def not_zero(x: jax.Array) -> jax.Array:
    """`x`, kept at least `SMALLEST_DIVISOR` away from zero on its side of it."""
    small = jnp.where(x >= 0, SMALLEST_DIVISOR, -SMALLEST_DIVISOR)
    return jnp.where(jnp.abs(x) > SMALLEST_DIVISOR, x, small)


def closest_lane(y: jax.Array, num_lanes: jax.Array) -> jax.Array:
    """The lane whose centre is nearest, the left one of two; int32, the shape of y."""
    lane = jnp.ceil(y / LANE_WIDTH - 0.5).astype(jnp.int32)
    return jnp.clip(lane, 0, num_lanes - 1)


def speed_control(speed: jax.Array, target_speed: jax.Array) -> jax.Array:
    """The acceleration towards a speed, m/s^2."""
    return SPEED_GAIN * (target_speed - speed)


def steering_control(
    y: jax.Array, heading: jax.Array, speed: jax.Array, target_lane: jax.Array
) -> jax.Array:
    """The tangent of the steering angle towards the centre of a lane.

    The offset from the lane asks for a lateral speed, that for a heading, and the
    heading's error for a turning rate, which the bicycle has at the angle returned.
    """
    offset = y - LANE_WIDTH * target_lane.astype(jnp.float32)
    divisor = not_zero(speed)
    aim = jnp.arcsin(jnp.clip(-LATERAL_GAIN * offset / divisor, -1, 1))
    error = jnp.clip(aim, -MAX_LANE_ANGLE, MAX_LANE_ANGLE) - heading
    error = (error + np.pi) % (2 * np.pi) - np.pi
    sin_slip = jnp.clip(LENGTH / 2 / divisor * HEADING_GAIN * error, -1, 1)
    # Never an angle of its own: tan(pi / 2) is negative in float32, and trigonometry is
    # what a step of many vehicles spends its time on.
    tangent = 2 * sin_slip / jnp.sqrt(jnp.maximum(1 - sin_slip**2, 1e-12))
    return jnp.clip(tangent, -np.tan(MAX_STEERING), np.tan(MAX_STEERING))


def advance(
    vehicles: Vehicles, acceleration: jax.Array, steering: jax.Array, time_step: float
) -> Vehicles:
    """Moves every vehicle by one time step.

    Vehicles that have crashed go straight on and brake; one that is struck is shifted
    by its impact, and counts as crashed from then on.

    Args:
      vehicles: leaves [vehicles, ...].
      acceleration: m/s^2, [vehicles].
      steering: tangent of the angle of the front wheels, [vehicles].
      time_step: s.
    """
    speed, heading = vehicles.speed, vehicles.heading
    steering = jnp.where(vehicles.crashed, 0.0, steering)
    acceleration = jnp.where(vehicles.crashed, -speed, acceleration)
    acceleration = jnp.where(
        speed > MAX_SPEED, jnp.minimum(acceleration, MAX_SPEED - speed), acceleration
    )
    acceleration = jnp.where(
        speed < -MAX_SPEED, jnp.maximum(acceleration, -MAX_SPEED - speed), acceleration
    )
    # The velocity is at the slip angle to the heading, whose tangent is half of that.
    cos_slip = 1 / jnp.sqrt(1 + (steering / 2) ** 2)
    sin_slip = steering / 2 * cos_slip
    cos, sin = jnp.cos(heading), jnp.sin(heading)
    distance = speed * time_step
    shift = jnp.where(vehicles.struck[:, None], vehicles.impact, 0.0)
    return vehicles._replace(
        x=vehicles.x + distance * (cos * cos_slip - sin * sin_slip) + shift[:, 0],
        y=vehicles.y + distance * (sin * cos_slip + cos * sin_slip) + shift[:, 1],
        heading=heading + distance * sin_slip / (LENGTH / 2),
        speed=speed + acceleration * time_step,
        timer=vehicles.timer + time_step,
        crashed=vehicles.crashed | vehicles.struck,
        struck=jnp.zeros_like(vehicles.struck),
    )


def collide(vehicles: Vehicles, time_step: float) -> Vehicles:
    """Finds what the ego runs into; others pass through each other.

    Two rectangles crash when they overlap. When they will within a time step, at the
    present velocities, each is moved out of the other by half of the overlap.

    Args:
      vehicles: leaves [vehicles, ...].
      time_step: s, to look ahead.
    """
    overlap, strike, push = _overlaps(vehicles, time_step)
    overlap, strike = overlap & vehicles.present, strike & vehicles.present
    overlap, strike = overlap.at[0].set(False), strike.at[0].set(False)
    # The last vehicle in the order of the list decides where the ego is pushed.
    order = jnp.arange(strike.shape[0])
    last = strike & (order == jnp.max(jnp.where(strike, order, 0)))
    ego_push = jnp.sum(jnp.where(last[:, None], push, 0.0), axis=0)
    impact = jnp.where(strike[:, None], -push / 2, vehicles.impact)
    return vehicles._replace(
        crashed=(vehicles.crashed | overlap).at[0].max(overlap.any()),
        struck=strike.at[0].set(strike.any()),
        impact=impact.at[0].set(ego_push / 2),
    )


def _overlaps(
    vehicles: Vehicles, time_step: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tells which vehicles overlap the ego, by the separating axis theorem.

    Returns:
      Whether each does now, bool [vehicles]; whether it will within a time step; and
      the shortest way, in m, that takes the ego out of it, float32 [vehicles, 2].
    """
    cos, sin = jnp.cos(vehicles.heading), jnp.sin(vehicles.heading)
    position = jnp.stack([vehicles.x, vehicles.y], axis=-1)
    velocity = vehicles.speed[:, None] * jnp.stack([cos, sin], axis=-1)
    between = position[0] - position
    travel = (velocity[0] - velocity) * time_step
    axes = _axes(cos, sin)  # [vehicles, axis, 2]
    axes = jnp.concatenate([jnp.broadcast_to(axes[:1], axes.shape), axes], axis=1)

    # Half the extent of either rectangle along its own axes and along the other's.
    along = jnp.abs(cos * cos[0] + sin * sin[0])
    across = jnp.abs(sin * cos[0] - cos * sin[0])
    own = jnp.broadcast_to(jnp.array([LENGTH / 2, WIDTH / 2]), (cos.shape[0], 2))
    other = jnp.stack(
        [
            LENGTH / 2 * along + WIDTH / 2 * across,
            LENGTH / 2 * across + WIDTH / 2 * along,
        ],
        axis=-1,
    )
    ego_extent = jnp.concatenate([own, other], axis=-1)
    extent = jnp.concatenate([other, own], axis=-1)

    centre = jnp.einsum("vad,vd->va", axes, between, precision="highest")
    shift = jnp.einsum("vad,vd->va", axes, travel, precision="highest")
    low, high = centre - ego_extent, centre + ego_extent
    overlap = jnp.all((low <= extent) & (high >= -extent), axis=-1)
    low, high = low + jnp.minimum(shift, 0), high + jnp.maximum(shift, 0)
    strike = jnp.all((low <= extent) & (high >= -extent), axis=-1)

    # Along an axis the overlap is measured from the rectangle that begins first, and
    # each axis is looked along in both directions.
    forth, back = jnp.abs(-extent - high), jnp.abs(low - extent)
    depth = jnp.minimum(
        jnp.where(low < -extent, forth, back), jnp.where(high > extent, back, forth)
    )
    nearest = jnp.argmin(depth, axis=-1)[:, None]
    axis = jnp.take_along_axis(axes, nearest[..., None], axis=1)[:, 0]
    side = jnp.where(jnp.sum(axis * between, axis=-1) > 0, 1.0, -1.0)
    push = jnp.min(depth, axis=-1)[:, None] * side[:, None] * axis

    # A vehicle out of reach of the ego's circle is not looked at any closer.
    reach = np.hypot(LENGTH, WIDTH) + vehicles.speed[0] * time_step
    near = jnp.sum(between**2, axis=-1) <= reach**2
    return overlap & near, strike & near, push


def _axes(cos: jax.Array, sin: jax.Array) -> jax.Array:
    """The unit vectors along and across each rectangle; [vehicles, 2, 2]."""
    # The long axis points backwards, which decides where a tie is pushed.
    along = jnp.stack([-cos, -sin], axis=-1)
    across = jnp.stack([-sin, cos], axis=-1)
    return jnp.stack([along, across], axis=1)
