"""The lander's body, the parameters of a task, and the frame that both are in.

A hull on two sprung legs moves in a vertical plane. The frame is Gymnasium's: x to the
right, z up, in meters, the ground spanning 0..20 m; angles are counter-clockwise, in
rad.

Source: Gymnasium's LunarLander-v3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jax.Array

TIME_STEP = 0.02  # s
PIXEL = 1 / 30  # m; Gymnasium gives lengths in pixels

GROUND_WIDTH = 20.0  # m
GROUND_X = np.linspace(0.0, GROUND_WIDTH, 11)  # m
PAD_EDGES = (8.0, 12.0)  # m, where the flags stand
START_HEIGHT = 40 / 3  # m
SKIN = 0.02  # m; Box2D has two bodies touch at this distance

HULL = PIXEL * np.array(
    [[-14, 17], [-17, 0], [-17, -10], [17, -10], [17, 0], [14, 17]], float
)
HULL_DENSITY = 5.0  # kg/m^2
LEG_SIDES = np.array([1.0, -1.0])  # Gymnasium's first leg is the one on the right
LEG_AWAY = 20 * PIXEL  # m, from the joint to the middle of a leg, along x
LEG_DOWN = 18 * PIXEL  # m, the same along z
LEG_HALF_SIZE = PIXEL * np.array([2.0, 8.0])  # m
LEG_DENSITY = 1.0  # kg/m^2
# Gymnasium builds a leg turned inwards by 0.05 rad and counts the angle of its joint,
# of which it sets the limits, from there.
LEG_REFERENCE = -0.05  # rad
LEG_RANGE = (0.4 + LEG_REFERENCE, 0.9 + LEG_REFERENCE)  # rad, outwards
LEG_TORQUE = 40.0  # N m, the most that a leg's motor gives
LEG_SPEED = 0.3  # rad/s, at which the motor turns a leg inwards

MAIN_LEVER = 4 * PIXEL  # m, of the main engine below the hull's origin
SIDE_LEVER = 12 * PIXEL  # m, of the side engines from the hull's axis


def polygon_mass(
    vertices: np.ndarray, density: float
) -> tuple[float, np.ndarray, float]:
    """Mass, center and moment of inertia of a flat polygon.

    Args:
      vertices: m, in counter-clockwise order; [n, 2].
      density: kg/m^2.

    Returns:
      The mass in kg, the center of mass in m, [2], and the moment of inertia about that
      center in kg m^2.
    """
    following = np.roll(vertices, -1, axis=0)
    cross = vertices[:, 0] * following[:, 1] - vertices[:, 1] * following[:, 0]
    area = cross.sum() / 2
    center = (cross[:, None] * (vertices + following)).sum(axis=0) / (6 * area)
    squares = (vertices**2 + vertices * following + following**2).sum(axis=1)
    about_origin = (cross * squares).sum() / 12
    inertia = density * (about_origin - area * center @ center)
    return float(density * area), center, float(inertia)


def _box(half_size: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Corners of a box, counter-clockwise from the lower left one; [4, 2]."""
    return center + half_size * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


HULL_MASS, HULL_CENTER, HULL_INERTIA = polygon_mass(HULL, HULL_DENSITY)
# Legs in the frame of their joint, which sits at the hull's origin; [leg, corner, 2].
LEGS = np.stack(
    [_box(LEG_HALF_SIZE, np.array([side * LEG_AWAY, -LEG_DOWN])) for side in LEG_SIDES]
)
LEG_MASS, _, LEG_INERTIA = polygon_mass(LEGS[0], LEG_DENSITY)
FEET = LEGS[:, :2]
TOTAL_MASS = HULL_MASS + 2 * LEG_MASS
STANDARD_GRAVITY = 10.0  # m/s^2


class LunarLanderParameters(NamedTuple):
    """The physics of one task, or of n tasks with a leading axis; all float32.

    Attributes:
      gravity: m/s^2, downwards.
      hull_mass: kg; the legs' masses and all inertias scale along, and the torque of
        the legs' motors with the weight.
      main_thrust: N, of the main engine at full throttle.
      side_thrust: N, of either side engine at full throttle.
      steady_wind: N, along x.
      gust: N, the largest force of Gymnasium's changing wind along x.
      turbulence: N m, the largest torque of that wind.
    """

    gravity: jax.Array
    hull_mass: jax.Array
    main_thrust: jax.Array
    side_thrust: jax.Array
    steady_wind: jax.Array
    gust: jax.Array
    turbulence: jax.Array


class LanderMotion(NamedTuple):
    """The state that the simulator continues from; float32.

    Attributes:
      position: x and z of the hull's center of mass in m, the hull's angle in rad, and
        the angles of the legs relative to the hull in rad; [5].
      velocity: their rates; [5].
    """

    position: jax.Array
    velocity: jax.Array


def to_world(position: Array, points: np.ndarray) -> jax.Array:
    """Points [n, 2] of the hull, from its origin, in the world; m, [n, 2]."""
    return jnp.asarray(position)[None, :2] + rotate(points - HULL_CENTER, position[2])


def leg_points(position: Array, points: np.ndarray) -> jax.Array:
    """Points [2, n, 2] of the legs, from their joints, in the world; m, [2, n, 2]."""
    origin = to_world(position, np.zeros((1, 2)))[0]
    angles = position[2] + position[3:]
    return origin[None, None] + jnp.stack(
        [rotate(p, a) for p, a in zip(points, angles, strict=True)]
    )


def rotate(points: Array, angle: Array) -> jax.Array:
    """Points [..., 2] turned counter-clockwise by `angle`."""
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    x, z = points[..., 0], points[..., 1]
    return jnp.stack([cos * x - sin * z, sin * x + cos * z], axis=-1)


def cross(a: jax.Array, b: jax.Array) -> jax.Array:
    """The cross product in the plane, counter-clockwise; [..., 2] to [...]."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
