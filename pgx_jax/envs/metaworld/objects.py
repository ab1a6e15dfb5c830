"""The objects of the tasks and the fixtures that they hang on, as numbers.

Source: the models of Meta-World 3.1.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pgx_jax.envs.metaworld.geometry import Box, Capsule, Vector
from pgx_jax.envs.metaworld.softness import DEFAULT, HARD, Softness, mix, soften

NUM_CAPSULES = 3
NUM_FIXTURE_BOXES = 4
NUM_STOPS = 3


class Stop(NamedTuple):
    """A point of the object that does not go behind a plane of the fixture.

    Attributes:
      point: in the object's frame.
      plane: where that point meets the plane, in the fixture's frame.
      normal: of the plane, to where the point may be.
      softness: of the contact.
      weight: how many times softer it is than a contact of that softness, see `soften`.
    """

    point: Vector
    plane: Vector
    normal: Vector
    softness: Softness
    weight: float = 1.0


class ManipulatedObject(NamedTuple):
    """The object that a task has the hand move, and the fixture that it hangs on.

    Attributes:
      mass: kg.
      box: of the object.
      center: of mass.
      inertia_quat: of the principal axes.
      inertia: kg m^2, principal.
      free: which degrees of freedom are not held: x, y, z, and turns about them.
      offset: of the body from the placement, its joint being at 0; None where it
        is free.
      rest: where a reset finds it: displacement from there, or its place.
      begins: displacement from there when an episode begins.
      damping: kg/s or kg m^2/s of what is free.
      armature: kg or kg m^2, the same.
      spring: N/m, and the displacement along z at which it rests.
      capsules: of the object, at most three.
      shaft: what of the object the fixture stops, or None.
      fixture: boxes of the fixture, at most four; the first one is that which the
        gripper's palm may rest on.
      stays: whether the fixture stands at the world's origin, wherever things are
        placed.
      stops: at most three.
      tracked: the point that the observation shows, in the object's frame.
      tracked_quat: its orientation there; w, x, y, z.
      shown_quat: what the observation shows of that: "xyzw", "wxyz" or "zeros".
      softness: of the box.
      pressed: whether fingers press on the box, rather than grip it.
      turn: of the box about y, rad.
      colors: of the object and of the fixture in pictures.
    """

    mass: float
    box: Box
    center: Vector = (0, 0, 0)
    inertia_quat: Vector = (1, 0, 0, 0)
    inertia: Vector = (1e-3, 1e-3, 1e-3)
    free: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    offset: Vector | None = None
    rest: Vector = (0, 0, 0)
    begins: Vector | None = None
    damping: float = 2.0
    armature: float = 0.001
    spring: tuple[float, float] = (0.0, 0.0)
    capsules: tuple[Capsule, ...] = ()
    shaft: Capsule | None = None
    fixture: tuple[Box, ...] = ()
    stays: bool = False
    stops: tuple[Stop, ...] = ()
    tracked: Vector = (0, 0, 0)
    tracked_quat: Vector = (1, 0, 0, 0)
    shown_quat: str = "xyzw"
    softness: Softness = HARD
    pressed: bool = False
    turn: float = 0.0
    colors: tuple[Vector, Vector] = ((0.2, 0.5, 0.8, 1), (0.7, 0.7, 0.7, 1))


def _slide(axis: int, low: float, high: float, origin: Vector) -> tuple[Stop, Stop]:
    """The limits of a slide along an axis, m."""
    direction, center = np.eye(3)[axis], np.asarray(origin)
    # A joint's limit has the inverse mass along it, a contact a third of that.

    def stop(limit, sign):
        plane, normal = tuple(center + limit * direction), tuple(sign * direction)
        return Stop((0, 0, 0), plane, normal, DEFAULT, 3)

    return stop(low, 1.0), stop(high, -1.0)


_PUCK = ManipulatedObject(
    mass=0.75,
    inertia=(0.000880012,) * 3,
    rest=(0, 0.6, 0.019404684),
    damping=0.0,
    armature=0.0,
    box=Box((0.02, 0.02, 0.02), (0, 0, 0)),
    colors=((0.85, 0.2, 0.2, 1), (0.7, 0.7, 0.7, 1)),
)

_WALLED_PUCK = _PUCK._replace(
    # As the wall feels it.
    shaft=Capsule((0, 0, -0.0005), (0, 0, 0.0005), 0.02),
    fixture=(Box((0.12, 0.01, 0.06), (0.1, 0.75, 0.06)),),
    stays=True,
    colors=((0.85, 0.2, 0.2, 1), (0.6, 0.3, 0.25, 1)),
)

_HINGE = (-0.185, -0.1, 0.0)
_DOOR_TIP = 0.36  # m from the hinge
_DOOR_OPEN = 2.0  # rad
# The inverse inertia about the hinge, and that along a line through the center of mass.
_DOOR_TURN, _DOOR_SHIFT = 6.628918, 0.111498
_DOOR_LIMIT = {
    "softness": soften(DEFAULT, 1.0, _DOOR_TIP),
    "weight": _DOOR_TIP**2 * _DOOR_TURN / _DOOR_SHIFT,
}
_DOOR = ManipulatedObject(
    mass=2.2298222619416523,
    center=(0.223701589, -0.020428075, 0.0),
    inertia_quat=(0.55544607, 0.555433844, 0.437591469, 0.437591835),
    inertia=(0.0436175, 0.037338006, 0.011690399),
    free=(5,),
    offset=_HINGE,
    box=Box((0.18, 0.01, 0.123), (0.185, 0, 0)),
    capsules=(
        Capsule((0.325, -0.099, 0), (0.325, -0.031, 0), 0.013),
        Capsule((0.325, -0.12, 0), (0.437, -0.12, 0), 0.019),
        Capsule((0.364, -0.12, 0), (0.426, -0.12, 0), 0.023),
    ),
    fixture=(
        Box((0.188, 0.106, 0.012), (0, 0, 0.138)),
        Box((0.189, 0.106, 0.012), (0, 0, -0.138)),
        Box((0.016, 0.106, 0.15), (-0.204, 0, 0)),
        Box((0.016, 0.106, 0.15), (0.204, 0, 0)),
    ),
    stops=(
        Stop(
            (_DOOR_TIP, 0, 0),
            (_HINGE[0] + _DOOR_TIP, _HINGE[1], 0),
            (0, -1, 0),
            **_DOOR_LIMIT,
        ),
        Stop(
            (_DOOR_TIP, 0, 0),
            (
                _HINGE[0] + _DOOR_TIP * np.cos(_DOOR_OPEN),
                _HINGE[1] - _DOOR_TIP * np.sin(_DOOR_OPEN),
                0,
            ),
            (np.sin(_DOOR_OPEN), np.cos(_DOOR_OPEN), 0),
            **_DOOR_LIMIT,
        ),
        # The panel's edge at the hinge against the post's front.
        Stop((0.005, -0.01, 0), (-0.18, -0.106, 0), (0, -1, 0), HARD, 0.5),
    ),
    tracked=(0.3757216, -0.1071399, 3.594872e-05),
    tracked_quat=(0.151171, 0.690758, -0.150621, 0.690879),
    colors=((0.55, 0.6, 0.68, 1), (0.45, 0.45, 0.5, 1)),
)

_DRAWER_OFFSET = (0, -0.01, 0.09)
_DRAWER = ManipulatedObject(
    mass=0.38,
    center=(0, -0.061578947, -0.002105263),
    free=(1,),
    offset=_DRAWER_OFFSET,
    box=Box((0.1, 0.008, 0.052), (0, -0.082, 0.008)),
    capsules=(
        Capsule((-0.05, -0.15, 0), (0.05, -0.15, 0), 0.009),
        Capsule((-0.05, -0.15, 0), (-0.05, -0.09, 0), 0.009),
        Capsule((0.05, -0.15, 0), (0.05, -0.09, 0), 0.009),
    ),
    fixture=(
        Box((0.118, 0.1, 0.008), (0, 0, 0.16)),
        Box((0.118, 0.1, 0.014), (0, 0, 0.014)),
        Box((0.008, 0.1, 0.084), (-0.11, 0, 0.084)),
        Box((0.008, 0.1, 0.084), (0.11, 0, 0.084)),
    ),
    stops=(
        *_slide(1, -0.16, 0.0, _DRAWER_OFFSET),
        # The wall behind the table, which two boards meet with four corners each.
        Stop((0, 0, 0), _DRAWER_OFFSET, (0, -1, 0), mix(DEFAULT, HARD), 1 / 8),
    ),
    tracked=(0, -0.16, 0),
    shown_quat="wxyz",
    colors=((0.93, 0.9, 0.82, 1), (0.75, 0.66, 0.52, 1)),
)

_BUTTON = ManipulatedObject(
    mass=0.01,
    center=(0, 0, 0.1935),
    free=(2,),
    offset=(0, 0, 0),
    rest=(0, 0, 0.000461516),
    damping=1.0,
    spring=(0.5, 0.5),
    box=Box((0.036, 0.036, 0.011), (0, 0, 0.183)),
    fixture=(
        Box((0.12, 0.048, 0.102), (0, 0.072, -0.012)),
        Box((0.12, 0.048, 0.102), (0, -0.072, -0.012)),
        Box((0.047, 0.024, 0.102), (-0.073, 0, -0.012)),
        Box((0.047, 0.024, 0.102), (0.073, 0, -0.012)),
    ),
    stops=(
        *_slide(2, -0.06, 0.0, (0, 0, 0)),
        # Its disc on the box, all round.
        Stop((0, 0, 0), (0, 0, -0.082), (0, 0, 1), HARD, 1 / 8),
    ),
    tracked=(0, 0, 0.193),
    tracked_quat=(0.707388269, -0.706825181, 0.0, 0.0),
    shown_quat="wxyz",
    pressed=True,
    colors=((0.9, 0.15, 0.15, 1), (0.95, 0.8, 0.2, 1)),
)

_PEG = ManipulatedObject(
    mass=0.1,
    inertia=(1e5,) * 3,
    rest=(0, 0.6, 0.0148),
    damping=0.005,
    armature=0.0,
    box=Box((0.015, 0.015, 0.12), (0, 0, 0)),
    # As the hole's walls feel it, of 15 mm play.
    shaft=Capsule((-0.105, 0, 0), (0.105, 0, 0), 0.015),
    fixture=(
        Box((0.1, 0.1, 0.02), (0, 0, 0.18)),
        Box((0.096, 0.1, 0.05), (0, 0, 0.05)),
        Box((0.096, 0.035, 0.03), (0, -0.065, 0.13)),
        Box((0.096, 0.035, 0.03), (0, 0.065, 0.13)),
    ),
    tracked=(0.03, 0, 0.01),
    softness=DEFAULT,
    turn=np.pi / 2,
    colors=((0.2, 0.65, 0.35, 1), (0.8, 0.6, 0.4, 1)),
)

_WINDOW = ManipulatedObject(
    mass=0.6377869,
    center=(-0.086769134, -0.018868723, 0.0),
    free=(0,),
    offset=(0, 0, 0),
    box=Box((0.1, 0.012, 0.15), (-0.1, -0.013, 0)),
    capsules=(
        Capsule((-0.014, -0.095, -0.045), (-0.014, -0.095, 0.045), 0.008),
        Capsule((-0.014, -0.095, 0.045), (-0.014, -0.025, 0.045), 0.008),
        Capsule((-0.014, -0.095, -0.045), (-0.014, -0.025, -0.045), 0.008),
    ),
    fixture=(
        Box((0.231, 0.03, 0.015), (0, 0, 0.166)),
        Box((0.25, 0.06, 0.025), (0, 0, -0.177)),
        Box((0.015, 0.03, 0.181), (-0.216, 0, 0)),
        Box((0.015, 0.03, 0.181), (0.216, 0, 0)),
    ),
    stops=(
        *_slide(0, 0.0, 0.2, (0, 0, 0)),
        # The sash against the frame.
        Stop((0, 0, 0), (0.201, 0, 0), (-1, 0, 0), HARD, 1 / 4),
    ),
    tracked=(-0.04, -0.095, 0),
    shown_quat="zeros",
    colors=((0.85, 0.9, 0.95, 1), (0.75, 0.25, 0.2, 1)),
)

OBJECTS = {
    "reach-v3": _PUCK,
    "push-v3": _PUCK,
    "pick-place-v3": _PUCK,
    "door-open-v3": _DOOR,
    "drawer-open-v3": _DRAWER,
    "drawer-close-v3": _DRAWER._replace(
        begins=(0, -0.15, 0), tracked=(0, -0.16, 0.05), shown_quat="zeros"
    ),
    "button-press-topdown-v3": _BUTTON,
    "peg-insert-side-v3": _PEG,
    "window-open-v3": _WINDOW,
    "window-close-v3": _WINDOW._replace(
        begins=(0.2, 0, 0),
        stops=(
            *_WINDOW.stops[:2],
            Stop((0, 0, 0), (-0.001, 0, 0), (1, 0, 0), HARD, 1 / 4),
        ),
        tracked=(0.01, -0.095, 0),
    ),
}
OBJECTS |= {
    "reach-wall-v3": _WALLED_PUCK._replace(
        rest=(0, 0.6, 0.013674841), box=Box((0.03, 0.03, 0.015), (0, 0, 0))
    ),
    "push-wall-v3": _WALLED_PUCK,
    "pick-place-wall-v3": _WALLED_PUCK,
}
PEG_HEAD = (-0.1, 0.0, 0.0)  # m
