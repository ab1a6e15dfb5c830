"""Vehicles on a straight road: their state, controllers, motion and collisions.

The x axis points along the road and the y axis to the right of the driver; lane 0, the
leftmost one, has its center at y = 0. All figures are those of highway-env 1.12.1
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
    """Every vehicle of one road; the ego first. Leaves of shape [vehicles].

    Attributes:
      x: m, of the center, along the road; float32.
      y: m, of the center, to the right; float32.
      heading: rad, 0 along the road and positive to the right; float32.
      cos: of the heading; float32. It is kept since a compiler would compute it anew
        for every pair of vehicles.
      sin: of the heading; float32.
      speed: m/s; float32.
      target_lane: the lane that is steered to; int32.
      target_speed: m/s; float32.
      timer: s since the last decision about a change of lane; float32.
      exponent: of the speed ratio in the driver model; float32.
      crashed: bool.
      struck: whether the impact is to be applied at the next motion; bool.
      impact_x: m, the displacement by a collision along the road; float32.
      impact_y: m, the same across the road; float32.
      present: whether the slot holds a vehicle; bool.
    """

    x: jax.Array
    y: jax.Array
    heading: jax.Array
    cos: jax.Array
    sin: jax.Array
    speed: jax.Array
    target_lane: jax.Array
    target_speed: jax.Array
    timer: jax.Array
    exponent: jax.Array
    crashed: jax.Array
    struck: jax.Array
    impact_x: jax.Array
    impact_y: jax.Array
    present: jax.Array


def not_zero(x: jax.Array) -> jax.Array:
    """`x`, kept at least `SMALLEST_DIVISOR` away from zero on its side of it."""
    small = jnp.where(x >= 0, SMALLEST_DIVISOR, -SMALLEST_DIVISOR)
    return jnp.where(jnp.abs(x) > SMALLEST_DIVISOR, x, small)


def closest_lane(y: jax.Array, num_lanes: jax.Array) -> jax.Array:
    """The lane whose center is nearest, the left one of two; int32, the shape of y."""
    lane = jnp.ceil(y / LANE_WIDTH - 0.5).astype(jnp.int32)
    return jnp.clip(lane, 0, num_lanes - 1)


def speed_control(speed: jax.Array, target_speed: jax.Array) -> jax.Array:
    """The acceleration towards a speed, m/s^2."""
    return SPEED_GAIN * (target_speed - speed)


def steering_control(
    y: jax.Array, heading: jax.Array, speed: jax.Array, target_lane: jax.Array
) -> jax.Array:
    """The tangent of the steering angle towards the center of a lane.

    The offset from the lane asks for a lateral speed, that for a heading, and the
    heading's error for a turning rate, which the bicycle has at the angle returned.
    """
    offset = y - LANE_WIDTH * target_lane.astype(jnp.float32)
    divisor = not_zero(speed)
    aim = jnp.arcsin(jnp.clip(-LATERAL_GAIN * offset / divisor, -1, 1))
    error = jnp.clip(aim, -MAX_LANE_ANGLE, MAX_LANE_ANGLE) - heading
    error = error - 2 * np.pi * jnp.round(error / (2 * np.pi))
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
      vehicles: leaves [vehicles].
      acceleration: m/s^2, [vehicles].
      steering: tangent of the angle of the front wheels, [vehicles].
      time_step: s.
    """
    speed, cos, sin = vehicles.speed, vehicles.cos, vehicles.sin
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
    distance = speed * time_step
    heading = vehicles.heading + distance * sin_slip / (LENGTH / 2)
    shift_x = jnp.where(vehicles.struck, vehicles.impact_x, 0.0)
    shift_y = jnp.where(vehicles.struck, vehicles.impact_y, 0.0)
    return vehicles._replace(
        x=vehicles.x + distance * (cos * cos_slip - sin * sin_slip) + shift_x,
        y=vehicles.y + distance * (sin * cos_slip + cos * sin_slip) + shift_y,
        heading=heading,
        cos=jnp.cos(heading),
        sin=jnp.sin(heading),
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
      vehicles: leaves [vehicles].
      time_step: s, to look ahead.
    """
    slots = jnp.arange(vehicles.x.shape[0])
    others = vehicles.present & (slots > 0)
    overlap, strike, push_x, push_y = _overlaps(vehicles, time_step)
    overlap, strike = overlap & others, strike & others
    # The last vehicle in the order of the list decides where the ego is pushed.
    last = strike & (slots == jnp.max(jnp.where(strike, slots, 0)))
    ego = slots == 0

    def impact(push, old):
        ego_push = jnp.sum(jnp.where(last, push, 0.0))
        return jnp.where(ego, ego_push / 2, jnp.where(strike, -push / 2, old))

    return vehicles._replace(
        crashed=vehicles.crashed | overlap | (ego & overlap.any()),
        struck=strike | (ego & strike.any()),
        impact_x=impact(push_x, vehicles.impact_x),
        impact_y=impact(push_y, vehicles.impact_y),
    )


def _overlaps(
    vehicles: Vehicles, time_step: float
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Which vehicles overlap the ego, by the separating axis theorem.

    Returns:
      Whether each does now, bool [vehicles]; whether it will within a time step; and
      the shortest way, in m, that takes the ego out of it, along and across the road,
      float32 [vehicles] each.
    """
    cos, sin = vehicles.cos, vehicles.sin
    apart_x, apart_y = vehicles.x[0] - vehicles.x, vehicles.y[0] - vehicles.y
    speed_x, speed_y = vehicles.speed * cos, vehicles.speed * sin
    travel_x = (speed_x[0] - speed_x) * time_step
    travel_y = (speed_y[0] - speed_y) * time_step
    # Half of what either rectangle covers on its own axes, and on those of the other.
    along = jnp.abs(cos * cos[0] + sin * sin[0])
    across = jnp.abs(sin * cos[0] - cos * sin[0])
    length, width = LENGTH / 2, WIDTH / 2
    turned_length = length * along + width * across
    turned_width = length * across + width * along

    overlap = strike = jnp.ones(cos.shape, bool)
    depth = jnp.full(cos.shape, jnp.inf)
    push_x = push_y = jnp.zeros(cos.shape)
    # The axes point backwards and to the right, which decides where a tie is pushed.
    for axis_x, axis_y, ego_half, half in (
        (-cos[0], -sin[0], length, turned_length),
        (-sin[0], cos[0], width, turned_width),
        (-cos, -sin, turned_length, length),
        (-sin, cos, turned_width, width),
    ):
        center = axis_x * apart_x + axis_y * apart_y
        travel = axis_x * travel_x + axis_y * travel_y
        overlap = overlap & (jnp.abs(center) <= ego_half + half)
        low = center - ego_half + jnp.minimum(travel, 0)
        high = center + ego_half + jnp.maximum(travel, 0)
        strike = strike & (low <= half) & (high >= -half)
        # The overlap is measured from the rectangle that begins first, looking along
        # the axis in both directions.
        forth, back = jnp.abs(-half - high), jnp.abs(low - half)
        found = jnp.minimum(
            jnp.where(low < -half, forth, back), jnp.where(high > half, back, forth)
        )
        side = jnp.where(center > 0, found, -found)
        push_x = jnp.where(found < depth, side * axis_x, push_x)
        push_y = jnp.where(found < depth, side * axis_y, push_y)
        depth = jnp.minimum(found, depth)

    # A vehicle out of reach of the ego's circle is not examined any closer.
    reach = np.hypot(LENGTH, WIDTH) + vehicles.speed[0] * time_step
    near = apart_x**2 + apart_y**2 <= reach**2
    return overlap & near, strike & near, push_x, push_y
