"""Which parts of a lander touch the ground, as Box2D counts it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.envs.lunar_lander.body import (
    GROUND_X,
    HULL,
    LEG_HALF_SIZE,
    LEGS,
    SKIN,
    cross,
    leg_points,
    to_world,
)


def hull_touches(position: jax.Array, ground: jax.Array) -> jax.Array:
    """Whether the hull of a lander at `position` [5] touches `ground` [11]; bool."""
    corners = to_world(position, HULL)
    corner_touches = jnp.any(clearance(corners, ground) < SKIN)
    # A peak of the ground may stick into a side: it does if inside of all sides.
    peaks = jnp.stack([jnp.asarray(GROUND_X, jnp.float32), ground], axis=1)
    sides = jnp.roll(corners, -1, axis=0) - corners
    length = np.linalg.norm(np.roll(HULL, -1, axis=0) - HULL, axis=1)
    outwards = -cross(sides[None], peaks[:, None] - corners[None]) / length[None]
    return corner_touches | jnp.any(jnp.max(outwards, axis=1) < SKIN)


def leg_contacts(position: jax.Array, ground: jax.Array) -> jax.Array:
    """Whether each leg touches each stretch of the ground; bool [2, 10].

    Box2D considers two convex shapes to touch if no side of either separates them.
    """
    legs = leg_points(position, LEGS)[:, None]
    points = jnp.stack([jnp.asarray(GROUND_X, jnp.float32), ground], axis=1)
    ends = jnp.stack([points[:-1], points[1:]], axis=1)
    along = ends[:, 1] - ends[:, 0]
    length = jnp.linalg.norm(along, axis=1)
    # [legs, stretches, corners of a leg] and, further down, [..., ends of a stretch].
    above = cross(along[None, :, None], legs - ends[None, :, None, 0])
    above = above / length[None, :, None]
    sides = jnp.roll(legs, -1, axis=2) - legs
    from_corners = ends[None, :, None] - legs[..., None, :]
    outwards = -cross(sides[..., None, :], from_corners)
    outwards = outwards / np.tile(2 * LEG_HALF_SIZE, 2)[None, None, :, None]
    apart = jnp.maximum(jnp.min(above, axis=-1), jnp.min(outwards, -1).max(-1))
    return apart < SKIN


def report_contacts(
    before: jax.Array, after: jax.Array, touching: jax.Array
) -> jax.Array:
    """Whether each leg counts as touching the ground; bool [2].

    Gymnasium is notified of contacts that begin and end. An end clears a leg's mark
    even if the leg, sliding from one stretch to the next, has another; none sets it
    again until a new one begins.

    Args:
      before: the contacts of the step before, as `leg_contacts` gives; [2, 10].
      after: those of this step; [2, 10].
      touching: what was reported the step before; [2].
    """
    begun = jnp.any(after & ~before, axis=1)
    ended = jnp.any(before & ~after, axis=1)
    return (touching | begun) & ~ended


def clearance(points: jax.Array, ground: jax.Array) -> jax.Array:
    """Distance in m of points [..., 2] from the line of the ground beneath them."""
    left, slope = ground_stretch(points[..., 0], ground)
    height = points[..., 1] - left[..., 1] - slope * (points[..., 0] - left[..., 0])
    return height / jnp.sqrt(1 + slope**2)


def ground_stretch(x: jax.Array, ground: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Left end, [..., 2], and slope, [...], of the stretch of ground at x [...]."""
    width = float(GROUND_X[1])
    index = jnp.clip(jnp.floor(x / width).astype(jnp.int32), 0, len(GROUND_X) - 2)
    left = jnp.stack([index.astype(jnp.float32) * width, ground[index]], axis=-1)
    return left, (ground[index + 1] - ground[index]) / width
