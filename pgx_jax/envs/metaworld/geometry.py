"""Shapes of the scene, and how they are added to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import mujoco

# Where unused geoms are, in the frames of their bodies; m.
PARKED, PARKED_FIXTURE = (0.0, 0.0, -20.0), (0.0, 0.0, -40.0)

Vector = Sequence[float]
T = TypeVar("T")


class Box(NamedTuple):
    """Half lengths and the middle, in the frame of its body."""

    half: Vector
    pos: Vector


class Capsule(NamedTuple):
    """The ends of its axis and its radius."""

    start: Vector
    end: Vector
    radius: float


def add_capsule(body: mujoco.MjsBody, name: str, capsule: Capsule) -> None:
    """Adds a capsule's geom to a body."""
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        size=(capsule.radius, 0, 0),
        fromto=(*capsule.start, *capsule.end),
        **UNPAIRED,
    )


def get_or_none(items: Sequence[T], index: int) -> T | None:
    """The item at an index, or None beyond the last one."""
    return items[index] if index < len(items) else None


# Geoms collide in the pairs of `add_pairs` alone.
UNPAIRED = {"contype": 0, "conaffinity": 0}
