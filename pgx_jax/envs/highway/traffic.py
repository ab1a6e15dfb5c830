"""The drivers of the traffic: IDM for speed, MOBIL for changes of lane.

Sources: Treiber, Hennecke and Helbing, "Congested traffic states in empirical
observations and microscopic simulations", 2000 (IDM); Kesting, Treiber and Helbing,
"General lane-changing model MOBIL for car-following models", 2007; the figures and the
order of events are those of highway-env 1.12.1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.envs.highway.vehicle import (
    LANE_WIDTH,
    LENGTH,
    Vehicles,
    closest_lane,
    not_zero,
    steering_control,
)
from pgx_jax.types import PyTree

MAX_ACCELERATION = 6.0  # m/s^2, either way
COMFORT_ACCELERATION = 3.0  # m/s^2
COMFORT_BRAKING = 5.0  # m/s^2
JAM_GAP = 5.0 + LENGTH  # m, between centers
TIME_GAP = 1.5  # s
MIN_GAIN = 0.2  # m/s^2, for which a lane is changed
MAX_BRAKING_IMPOSED = 2.0  # m/s^2, on the vehicle that is cut in on
LANE_CHANGE_DELAY = 1.0  # s
MIN_SPEED_TO_CHANGE = 1.0  # m/s
LANE_MARGIN = 1.0  # m, by which a vehicle beside a lane still counts as on it
LEFT, OWN, RIGHT = 0, 1, 2  # the axis of lanes around a vehicle


class VehicleMotion(NamedTuple):
    """What a driver model asks of a vehicle; leaves of one shape, float32.

    Attributes:
      speed: m/s.
      cos: of the heading.
      sin: of the heading.
      log_ratio: logarithm of the speed over the desired one.
    """

    speed: jax.Array
    cos: jax.Array
    sin: jax.Array
    log_ratio: jax.Array


class Neighbors(NamedTuple):
    """The vehicles nearest ahead and behind; leaves of shape [3 lanes, vehicles].

    Attributes:
      front_gap: m to the center of the one ahead, infinite where there is none.
      front: its motion, zero where there is none.
      rear_gap: m to the center of the one behind, infinite where there is none.
      rear: its motion, zero where there is none.
    """

    front_gap: jax.Array
    front: VehicleMotion
    rear_gap: jax.Array
    rear: VehicleMotion


def drive(
    vehicles: Vehicles,
    num_lanes: jax.Array,
    speed_limit: jax.Array,
    politeness: jax.Array,
) -> tuple[Vehicles, jax.Array, jax.Array]:
    """What every vehicle does; the ego, which is first, keeps its target lane.

    Args:
      vehicles: leaves [vehicles].
      num_lanes: int32, [].
      speed_limit: m/s, float32, [].
      politeness: weight of what others gain by a change of lane; float32, [].

    Returns:
      The vehicles with their new target lanes and timers, the accelerations that IDM
      asks for (m/s^2, [vehicles]), and the tangents of the steering angles to the
      target lanes ([vehicles]).
    """
    # Who has crashed decides nothing more.
    decides = ~vehicles.crashed & (jnp.arange(vehicles.x.shape[0]) > 0)
    lane = closest_lane(vehicles.y, num_lanes)
    motion = _motion(vehicles, speed_limit)
    neighbors = find_neighbors(vehicles, motion, lane)

    target_lane, timer = _change_lane(
        vehicles, motion, neighbors, decides, lane, num_lanes, politeness
    )
    target_lane = _abort_change(vehicles, motion, decides, lane, target_lane)

    # [3, vehicles]: behind whoever drives ahead in each lane.
    motion, exponent = _add_axis((motion, vehicles.exponent))
    following = idm_acceleration(motion, exponent, neighbors.front_gap, neighbors.front)
    acceleration = jnp.where(
        target_lane < lane,
        jnp.minimum(following[OWN], following[LEFT]),
        jnp.where(
            target_lane > lane,
            jnp.minimum(following[OWN], following[RIGHT]),
            following[OWN],
        ),
    )
    acceleration = jnp.clip(acceleration, -MAX_ACCELERATION, MAX_ACCELERATION)
    steering = steering_control(
        vehicles.y, vehicles.heading, vehicles.speed, target_lane
    )
    decided = vehicles._replace(target_lane=target_lane, timer=timer)
    return decided, acceleration, steering


def find_neighbors(
    vehicles: Vehicles, motion: VehicleMotion, lane: jax.Array
) -> Neighbors:
    """Finds who drives ahead and behind in the lanes around each vehicle.

    Args:
      vehicles: leaves [vehicles].
      motion: of those, [vehicles].
      lane: where each drives, int32 [vehicles].
    """
    num_vehicles = lane.shape[0]
    slots = jnp.arange(num_vehicles, dtype=jnp.int32)
    lanes = lane[None] + jnp.array([[-1], [0], [1]], jnp.int32)
    center = LANE_WIDTH * lanes.astype(jnp.float32)
    y = jnp.where(vehicles.present, vehicles.y, jnp.inf)
    # [3, vehicles, other vehicles]
    on_lane = (
        jnp.abs(y[None, None] - center[:, :, None]) <= LANE_WIDTH / 2 + LANE_MARGIN
    )
    gap = vehicles.x[None] - vehicles.x[:, None]
    # The bits of a positive float are ordered as it is. With a slot in place of the
    # last few of them, the least one identifies the nearest, many times faster on a CPU
    # than a minimum of floats and a search for where it is.
    mask = (1 << (num_vehicles - 1).bit_length()) - 1
    key = jax.lax.bitcast_convert_type(jnp.abs(gap), jnp.int32) & ~mask | slots[None]
    none = jnp.iinfo(jnp.int32).max

    def nearest(candidate):
        least = jnp.min(jnp.where(candidate, key, none), axis=-1)
        slot, found = jnp.minimum(least & mask, num_vehicles - 1), least < none
        distance = jnp.abs(vehicles.x[slot] - vehicles.x[None])
        return jnp.where(found, distance, jnp.inf), VehicleMotion(
            *(jnp.where(found, leaf[slot], 0.0) for leaf in motion)
        )

    ahead, behind = on_lane & (gap > 0)[None], on_lane & (gap < 0)[None]
    return Neighbors(*nearest(ahead), *nearest(behind))


def idm_acceleration(
    motion: VehicleMotion, exponent: jax.Array, gap: jax.Array, front: VehicleMotion
) -> jax.Array:
    """The acceleration, in m/s^2, of the Intelligent Driver Model; not limited.

    Args:
      motion: of the vehicle that drives.
      exponent: of its speed ratio, which is how fast it gives up accelerating.
      gap: m, between its center and that of the vehicle ahead; infinite for none.
      front: the motion of the vehicle ahead.
    """
    free = 1 - jnp.exp(exponent * motion.log_ratio)
    return COMFORT_ACCELERATION * (free - _crowding(motion, gap, front))


def _crowding(motion: VehicleMotion, gap: jax.Array, front: VehicleMotion) -> jax.Array:
    """The square of the desired over the actual gap; 0 where the gap is infinite."""
    return (_desired_gap(motion, front) / not_zero(gap)) ** 2


def _desired_gap(motion: VehicleMotion, front: VehicleMotion) -> jax.Array:
    """m, between centers."""
    projected = front.speed * (front.cos * motion.cos + front.sin * motion.sin)
    approach = motion.speed - projected
    braking = 2 * np.sqrt(COMFORT_ACCELERATION * COMFORT_BRAKING)
    return JAM_GAP + motion.speed * (TIME_GAP + approach / braking)


def _add_axis(tree: PyTree) -> PyTree:
    """Leaves of shape [vehicles] as [1, vehicles]."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def _motion(vehicles: Vehicles, speed_limit: jax.Array) -> VehicleMotion:
    desired = jnp.abs(not_zero(jnp.clip(vehicles.target_speed, 0, speed_limit)))
    return VehicleMotion(
        speed=vehicles.speed,
        cos=vehicles.cos,
        sin=vehicles.sin,
        log_ratio=jnp.log(jnp.maximum(vehicles.speed, 0) / desired),
    )


def _change_lane(
    vehicles: Vehicles,
    motion: VehicleMotion,
    neighbors: Neighbors,
    decides: jax.Array,
    lane: jax.Array,
    num_lanes: jax.Array,
    politeness: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Target lanes and timers after each driver has thought of changing lane."""
    # A timer of steps of 0.2 s must not run out by rounding after five of them.
    due = decides & (vehicles.timer > LANE_CHANGE_DELAY + 1e-3)
    due = due & (lane == vehicles.target_lane)
    gain, imposed = _mobil(vehicles, motion, neighbors, politeness)
    wanted = (gain >= MIN_GAIN) & (imposed >= -MAX_BRAKING_IMPOSED)
    fast = jnp.abs(vehicles.speed) >= MIN_SPEED_TO_CHANGE
    wanted = wanted & (due & fast)[None]
    left, right = wanted & jnp.stack([lane > 0, lane < num_lanes - 1])
    target_lane = jnp.where(
        right, lane + 1, jnp.where(left, lane - 1, vehicles.target_lane)
    )
    return target_lane, jnp.where(due, 0.0, vehicles.timer)


def _mobil(
    vehicles: Vehicles,
    motion: VehicleMotion,
    neighbors: Neighbors,
    politeness: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What a change to the left or the right brings; both m/s^2, [2, vehicles].

    Returns:
      The gain in acceleration, the followers' weighted by politeness, and the
      acceleration that it leaves to the follower in the new lane. A driver credits
      everyone with an exponent like its own.
    """
    sides = jax.tree.map(lambda leaf: leaf[jnp.array([LEFT, RIGHT])], neighbors)
    own = jax.tree.map(lambda leaf: leaf[jnp.array([OWN])], neighbors)
    motion, exponent = _add_axis((motion, vehicles.exponent))

    def acceleration(driver, gap, front):
        return idm_acceleration(driver, exponent, gap, front)

    def followers(around):
        """Accelerations of the follower without and with this vehicle in its lane."""
        there = jnp.isfinite(around.rear_gap)
        without = acceleration(
            around.rear, around.rear_gap + around.front_gap, around.front
        )
        behind = acceleration(around.rear, around.rear_gap, motion)
        return jnp.where(there, without, 0.0), jnp.where(there, behind, 0.0)

    new_without, new_behind = followers(sides)
    old_without, old_behind = followers(own)
    gain = acceleration(motion, sides.front_gap, sides.front) - acceleration(
        motion, own.front_gap, own.front
    )
    others = new_behind - new_without + old_without - old_behind
    return gain + politeness * others, new_behind


def _abort_change(
    vehicles: Vehicles,
    motion: VehicleMotion,
    decides: jax.Array,
    lane: jax.Array,
    target_lane: jax.Array,
) -> jax.Array:
    """Target lanes after drivers give way to others who change into the same lane.

    A change is given up where another vehicle, ahead and too close, is on its way into
    that lane. Drivers decide in the order of the list and see what those before them
    have just decided.
    """
    num_vehicles = lane.shape[0]
    changing = decides & (lane != vehicles.target_lane)
    earlier = jnp.tril(jnp.ones((num_vehicles, num_vehicles), bool), -1)
    seen = jnp.where(earlier, target_lane[None, :], vehicles.target_lane[None, :])
    rival = (seen == target_lane[:, None]) & (lane[None, :] != target_lane[:, None])
    gap = vehicles.x[None, :] - vehicles.x[:, None]
    # No vehicle is its own rival: its gap is zero.
    drivers = jax.tree.map(lambda leaf: leaf[:, None], motion)
    close = (gap > 0) & (gap < _desired_gap(drivers, _add_axis(motion)))
    blocked = changing[:, None] & rival & close & vehicles.present[None, :]
    abort = blocked.any(axis=1)
    # An earlier driver who gave way is no rival any more. One correction is exact but
    # where three vehicles at once, each ahead of the one after it in the list, change
    # into one lane.
    abort = (blocked & ~(earlier & abort[None, :])).any(axis=1)
    return jnp.where(abort, lane, target_lane)
