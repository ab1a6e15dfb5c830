"""The scene of MT10: one structure of bodies, joints and contacts for all ten tasks.

A Sawyer arm, whose hand a weld pulls to a mocap body, stands before a table with one
object on it. Whatever a task's object is, it is one free body: where the original has a
hinge or a slide, all but one of the six degrees of freedom are held fast by an armature
and a damping that no force here can move. What is left of the original's joint, its
limits, are contacts of a point of the object with planes of a fixture, a body without
joints that stands where the object's frame does (the door's case, the block with the
hole). So models of different tasks differ in numbers only, and one MJX program, batched
over those numbers, steps all of them.

The object has a box and four capsules, the fixture four boxes; a task's unused ones
are parked far below the table. Only pairs of geoms that can touch in some task collide,
and of all their contacts the solver gets the `MAX_CONTACTS` deepest.

Frames are the original's: x to the right of the robot, y away from it, z up.

Source: the models of Meta-World 3.1.1, whose masses, inertias, poses and parameters of
contact these are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

TIME_STEP = 0.0025  # s, of physics
NUM_SUBSTEPS = 5
ACTION_SCALE = 0.01  # m that a full action moves the mocap body
HAND_QUAT = (1.0, 0.0, 1.0, 0.0)  # of the mocap body

MAX_CONTACTS = 16  # of those with friction
SOLVER_ITERATIONS = 4
LINE_SEARCHES = 8
# What holds a degree of freedom: kg and kg/s, or kg m^2 and kg m^2/s. A contact of
# 1,000 N moves it by 1 micrometer a second.
HELD_ARMATURE = 1e7
HELD_DAMPING = 1e9
# Scales the solver's tolerance; MuJoCo's own mean would count what is held.
MEAN_INERTIA = 20.0

# Where unused geoms are, in the frames of their bodies; m.
PARKED, PARKED_FIXTURE = (0.0, 0.0, -20.0), (0.0, 0.0, -40.0)
NUM_CAPSULES = 3
NUM_FIXTURE_BOXES = 4
NUM_STOPS = 3
POINT_RADIUS = 1e-3  # m, of the points that stop at planes

Vector = Sequence[float]

# Of pictures.
VIEW_CENTER, VIEW_EXTENT = (0.0, 0.67, 0.17), 0.64  # m
VIEW_AZIMUTH, VIEW_ELEVATION = 140.0, -26.0  # degrees
ARM_RADII = (0.075, 0.06, 0.06, 0.055, 0.05, 0.045, 0.04)  # m
ARM_COLOR = (0.78, 0.30, 0.28, 1.0)
GOAL_COLOR = (0.1, 0.7, 0.25, 1.0)
HIDDEN = 4  # a group of geoms that is not drawn


class Link(NamedTuple):
    """A link of the arm and the hinge, about its z axis, that it turns on."""

    pos: Vector
    quat: Vector
    range: tuple[float, float]  # rad
    mass: float
    center: Vector
    inertia_quat: Vector
    inertia: Vector  # kg m^2, principal


# The first carries the robot's head.
ARM = (
    Link(
        (0, 0, 0.08),
        (1, 0, 0, 0),
        (-3.0503, 3.0503),
        6.9008,
        (0.020006788, 0.008452267, 0.201989192),
        (0.922361431, 0.013856345, -0.083427121, 0.376957967),
        (0.153012247, 0.140858655, 0.025612435),
    ),
    Link(
        (0.081, 0.05, 0.237),
        (0.5, -0.5, 0.5, 0.5),
        (-3.8, -0.5),
        4.505,
        (-0.0030849, -0.026811, 0.092521),
        (0.424888, 0.891987, 0.132364, -0.0794296),
        (0.0224339, 0.0221624, 0.0097097),
    ),
    Link(
        (0, -0.14, 0.1425),
        (0.70710678, 0.70710678, 0, 0),
        (-3.0426, 3.0426),
        1.745,
        (-0.00016044, -0.014967, 0.13582),
        (0.707831, -0.0524761, 0.0516007, 0.702537),
        (0.0257928, 0.025506, 0.00292515),
    ),
    Link(
        (0, -0.042, 0.26),
        (0.70710678, -0.70710678, 0, 0),
        (-3.0439, 3.0439),
        2.5097,
        (-0.0048135, -0.0281, -0.084154),
        (0.902999, 0.385391, -0.0880901, 0.168247),
        (0.0102404, 0.0096997, 0.00369622),
    ),
    Link(
        (0, -0.125, -0.1265),
        (0.70710678, 0.70710678, 0, 0),
        (-2.9761, 2.9761),
        1.1136,
        (-0.0018844, 0.0069001, 0.1341),
        (0.803612, 0.031257, -0.0298334, 0.593582),
        (0.0136549, 0.0135493, 0.00127353),
    ),
    Link(
        (0, 0.031, 0.275),
        (0.70710678, -0.70710678, 0, 0),
        (-2.9761, 2.9761),
        1.5625,
        (0.0061133, -0.023697, 0.076416),
        (0.404076, 0.9135, 0.0473125, 0.00158335),
        (0.00474131, 0.00422857, 0.00190672),
    ),
    Link(
        (0, -0.11, 0.1053),
        (0.0616248, 0.06163, -0.704416, 0.704416),
        (-4.7124, 4.7124),
        0.3292,
        (-8.0726e-06, 0.0085838, -0.0049566),
        (0.479044, 0.515636, -0.513069, 0.491322),
        (0.000360258, 0.000311068, 0.000214974),
    ),
)


class Pose(NamedTuple):
    """The arm and the fingers: positions, rad and m, and velocities of nine joints."""

    qpos: Vector
    qvel: Vector


# What the original's reset leaves, which holds the hand for fifty steps at where it is
# to start and opens the gripper: the arm is still moving. By where the hand starts.
START_POSES = {
    (0.0, 0.6, 0.2): Pose(
        (
            *(1.8892881813, -0.5757689062, -0.9766593499, 1.6419914938),
            *(0.9428596256, 1.0436962396, 2.2928333115, -0.00017190620, 0.00017174542),
        ),
        (
            *(0.2610021408, 0.4289125866, -0.4857704977, 0.2440376394, 0.8291097873),
            *(0.0987622677, 1.5894717648, 5.84e-7, 5.91e-7),
        ),
    ),
    (0.0, 0.4, 0.2): Pose(
        (
            *(2.1674905862, -0.5459568452, -1.2347217871, 2.1711108677),
            *(1.2478093743, 1.0194763319, 1.9011960170, -0.00017186078, 0.00017178965),
        ),
        (
            *(0.0851203540, 0.6327525877, -0.2159614883, 0.1741174814, 0.7585235102),
            *(0.4010606898, 1.0192004970, 2.05e-7, 2.01e-7),
        ),
    ),
}
JOINT_ARMATURE, JOINT_DAMPING = 0.001, 10.0  # kg m^2, N m s

# The hand in the frame of the last link: 0.12 m beyond the flange, which is turned by
# 90 degrees; its x axis points along the fingers.
HAND_POS, HAND_TURN = (0, 0, 0.1445), (-0.5, -0.5, 0.5, -0.5)
# Fingers slide along y from 0.05 m either side of the hand.
FINGERS = {
    "rightclaw": {"side": -1.0, "range": (0.0, 0.04)},
    "leftclaw": {"side": 1.0, "range": (-0.03, 0.0)},
}
FINGER_Y = 0.05
FINGER_MASS, FINGER_INERTIA = 0.0162, (1.264e-6, 1.215e-5, 1.0984e-5)
FINGER_ARMATURE, FINGER_DAMPING, FINGER_STIFFNESS = 100.0, 1000.0, 400.0
# The original has a claw and, 3 mm nearer the middle, a pad of equal size.
FINGER_HALF = (0.045, 0.0045, 0.015)
FINGER_SHIFT = 0.0015
PAD_SHIFT = 0.003
TIP = 0.045  # m, of a finger from its middle
# 1/kg and 1/(kg m^2); the original's bodies, which differ in what they are made of.
INVERSE_WEIGHTS = {
    "hand": (6.105627, 284.895061),
    "palm": (0.67, 284.895061),
    "rightclaw": (2.746041, 284.895061),
    "leftclaw": (2.746041, 284.895061),
}
# How many times softer contacts are, of the palm with a capsule and of a finger with a
# box. MJX finds other points of contact than MuJoCo (of the former two for one); fitted
# to how windows' handles are pressed and how things are held.
PALM_WEIGHT, GRIP_WEIGHT = 2.5, 2.0
# The convex hull of the gripper's mesh, in the hand's frame.
PALM_POS, PALM_HALF = (-0.0655, 0.0, -0.0054), (0.0235, 0.046, 0.0292)


class Softness(NamedTuple):
    """Parameters of a constraint; where two geoms meet MuJoCo averages.

    Attributes:
      time_constant: s.
      impedance: the first three of solimp, the third in m or rad.
      damping_ratio: 1 in the original.
    """

    time_constant: float
    impedance: tuple[float, float, float]
    damping_ratio: float = 1.0


DEFAULT = Softness(0.02, (0.9, 0.95, 0.001))
HARD = Softness(0.01, (0.99, 0.99, 0.01))  # of everything a task brings along
PAD = Softness(0.01, (0.95, 0.99, 0.01))
PAD_FRICTION, FRICTION = 2.0, 1.0
# A contact's margin in the original, m. MJX finds no contact between convex shapes that
# are apart, so that the fingers are larger by it instead, which comes to the same.
PAD_MARGIN = 0.001


class Box(NamedTuple):
    """Half lengths and the middle, in the frame of its body."""

    half: Vector
    pos: Vector


class Capsule(NamedTuple):
    """The ends of its axis and its radius."""

    start: Vector
    end: Vector
    radius: float


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


class Thing(NamedTuple):
    """What a task has the hand move, and what that hangs on.

    Attributes:
      mass: kg.
      box: of the object.
      center: of mass.
      inertia_quat: of the principal axes.
      inertia: kg m^2, principal.
      free: which degrees of freedom are not held: x, y, z, and turns about them.
      offset: of the body from the placement, its joint being at 0; None where it
        lies about.
      rest: where a reset finds it: displacement from there, or its place.
      begins: displacement from there when an episode begins.
      damping: kg/s or kg m^2/s of what is free.
      armature: kg or kg m^2, the same.
      spring: N/m, and the displacement along z at which it rests.
      capsules: of the object, at most three.
      shaft: what of the object the fixture stops, or None.
      fixture: boxes of the fixture, at most four; the first one is that which the
        gripper's palm may rest on.
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
    stops: tuple[Stop, ...] = ()
    tracked: Vector = (0, 0, 0)
    tracked_quat: Vector = (1, 0, 0, 0)
    shown_quat: str = "xyzw"
    softness: Softness = HARD
    pressed: bool = False
    turn: float = 0.0
    colors: tuple[Vector, Vector] = ((0.2, 0.5, 0.8, 1), (0.7, 0.7, 0.7, 1))


def mix(a: Softness, b: Softness) -> Softness:
    """What MuJoCo makes of two geoms' parameters."""
    return Softness(
        (a.time_constant + b.time_constant) / 2,
        tuple((x + y) / 2 for x, y in zip(a.impedance, b.impedance, strict=True)),
        (a.damping_ratio + b.damping_ratio) / 2,
    )


def soften(softness: Softness, weight: float, lever: float = 1.0) -> Softness:
    """Parameters that make a constraint's regularization `weight` times as large.

    With impedance d and a constraint's inverse inertia A, MuJoCo regularizes by
    (1 - d) / d A. Where A is not that of the constraint to be imitated, an impedance d'
    with (1 - d') / d' = weight (1 - d) / d makes up for it. Stiffness is d over the
    square of the full impedance, the time constant and the damping ratio, and damping
    2 over the full impedance and the time constant, so that these two are scaled such
    that both stay.

    Args:
      softness: of the constraint to be imitated.
      weight: above 0.
      lever: m per unit of that constraint's position.
    """
    low, high, width = softness.impedance
    softer = [1.0 / (1.0 + weight * (1.0 - d) / d) for d in (low, high)]
    return Softness(
        softness.time_constant * high / softer[1],
        (*softer, width * lever),
        softness.damping_ratio * np.sqrt(softer[1] / high),
    )


def _slide(axis: int, low: float, high: float, origin: Vector) -> tuple[Stop, Stop]:
    """The limits of a slide along an axis, m."""
    direction, origin = np.eye(3)[axis], np.asarray(origin)
    # A joint's limit has the inverse mass along it, a contact a third of that.
    return tuple(
        Stop(
            (0, 0, 0),
            tuple(origin + x * direction),
            tuple(sign * direction),
            DEFAULT,
            3,
        )
        for x, sign in ((low, 1.0), (high, -1.0))
    )


_PUCK = Thing(
    mass=0.75,
    inertia=(0.000880012,) * 3,
    rest=(0, 0.6, 0.019404684),
    damping=0.0,
    armature=0.0,
    box=Box((0.02, 0.02, 0.02), (0, 0, 0)),
    colors=((0.85, 0.2, 0.2, 1), (0.7, 0.7, 0.7, 1)),
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
_DOOR = Thing(
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
_DRAWER = Thing(
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

_BUTTON = Thing(
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

_PEG = Thing(
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

_WINDOW = Thing(
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

THINGS = {
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
PEG_HEAD = (-0.1, 0.0, 0.0)  # m


@functools.cache
def build_model(task: str, visible: bool = False) -> mujoco.MjModel:
    """The MuJoCo model of one task.

    Positions of joints are those of the arm's seven hinges, the right and the left
    finger, and the object's free joint; mocap bodies are the one that leads the hand
    and the fixture.

    Args:
      task: one of `TASKS`.
      visible: for pictures: with the arm's links and a third mocap body, the goal.
    """
    thing = THINGS[task]
    spec = mujoco.MjSpec()
    spec.modelname = "mt10"
    spec.compiler.degree = False
    _set_options(spec)
    hand = _add_arm(spec)
    _add_gripper(spec, hand)
    _add_table(spec)
    _add_object(spec, thing)
    _add_fixture(spec, thing)
    _add_pairs(spec, thing)
    if visible:
        _show(spec, thing)
    model = spec.compile()
    _hold(model, thing)
    if visible:
        model.stat.center[:], model.stat.extent = VIEW_CENTER, VIEW_EXTENT
    return model


def _set_options(spec):
    option = spec.option
    option.timestep = TIME_STEP
    option.iterations = SOLVER_ITERATIONS
    option.ls_iterations = LINE_SEARCHES
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.add_numeric(name="max_contact_points", data=[MAX_CONTACTS])


def _add_arm(spec):
    """The arm; returns the body of the hand."""
    body = spec.worldbody
    for i, link in enumerate(ARM):
        body = body.add_body(
            name=f"link{i}",
            pos=link.pos,
            quat=link.quat,
            mass=link.mass,
            ipos=link.center,
            iquat=link.inertia_quat,
            inertia=link.inertia,
            explicitinertial=True,
        )
        body.add_joint(
            name=f"joint{i}",
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=(0, 0, 1),
            range=link.range,
            limited=True,
            armature=JOINT_ARMATURE,
            damping=JOINT_DAMPING,
        )
    spec.worldbody.add_body(name="mocap", mocap=True, quat=HAND_QUAT)
    hand = body.add_body(name="hand", pos=HAND_POS, quat=HAND_TURN)
    weld = spec.add_equality(
        type=mujoco.mjtEq.mjEQ_WELD,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1="mocap",
        name2="hand",
    )
    weld.data[:11] = [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]
    return hand


def _add_gripper(spec, hand):
    # A body of its own, since it is heavier to move than the hand's tip.
    hand.add_body(name="palm").add_geom(
        name="palm",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=PALM_POS,
        size=PALM_HALF,
        mass=0,
        **_UNPAIRED,
    )
    for name, finger in FINGERS.items():
        inwards = -finger["side"]
        body = hand.add_body(
            name=name,
            pos=(0, finger["side"] * FINGER_Y, 0),
            mass=FINGER_MASS,
            ipos=(0, 0, 0),
            inertia=FINGER_INERTIA,
            explicitinertial=True,
        )
        body.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0, 1, 0),
            range=finger["range"],
            limited=True,
            armature=FINGER_ARMATURE,
            damping=FINGER_DAMPING,
        )
        shift = (0, inwards * FINGER_SHIFT, 0)
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=shift,
            size=np.add(FINGER_HALF, PAD_MARGIN),
            **_UNPAIRED,
        )
        _add_capsule(body, f"{name}_edge", _find_edge(shift[1]))
        actuator = spec.add_actuator(
            name=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, target=name
        )
        actuator.set_to_position(kp=FINGER_STIFFNESS)
        actuator.ctrllimited = True
        actuator.ctrlrange = (-1, 1)


def _find_edge(y):
    """The finger's edge along its length that meets a fixture: the one on the left."""
    length, radius, width = np.add(FINGER_HALF, PAD_MARGIN)
    x, z = length - radius, radius - width
    return Capsule((-x, y, z), (x, y, z), radius)


def _add_table(spec):
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(0.7, 0.4, 0.1),
        **_UNPAIRED,
    )


def _add_object(spec, thing):
    body = spec.worldbody.add_body(
        name="object",
        mass=thing.mass,
        ipos=thing.center,
        iquat=thing.inertia_quat,
        inertia=thing.inertia,
        explicitinertial=True,
    )
    body.add_freejoint(name="object")
    body.add_geom(
        name="box",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=thing.box.half,
        pos=thing.box.pos,
        quat=(np.cos(thing.turn / 2), 0, np.sin(thing.turn / 2), 0),
        **_UNPAIRED,
    )
    for i in range(NUM_CAPSULES):
        _add_capsule(body, f"capsule{i}", _get(thing.capsules, i) or _park(i))
    _add_capsule(body, "shaft", thing.shaft or _park(NUM_CAPSULES))
    for i in range(NUM_STOPS):
        stop = _get(thing.stops, i)
        body.add_geom(
            name=f"point{i}",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=(POINT_RADIUS, 0, 0),
            pos=stop.point if stop else (0, 0, 0),
            **_UNPAIRED,
        )


def _add_fixture(spec, thing):
    body = spec.worldbody.add_body(name="fixture", mocap=True)
    for i in range(NUM_FIXTURE_BOXES):
        box = _get(thing.fixture, i) or Box((0.01,) * 3, PARKED_FIXTURE)
        body.add_geom(
            name=f"fixture{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=box.half,
            pos=box.pos,
            **_UNPAIRED,
        )
    for i in range(NUM_STOPS):
        stop = _get(thing.stops, i)
        pos, normal = (stop.plane, stop.normal) if stop else (PARKED_FIXTURE, (0, 0, 1))
        quat = np.zeros(4)
        mujoco.mju_quatZ2Vec(quat, np.array(normal, float))
        body.add_geom(
            name=f"plane{i}",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=(0.1, 0.1, 0.1),
            pos=np.asarray(pos) - POINT_RADIUS * np.asarray(normal),
            quat=quat,
            **_UNPAIRED,
        )


def _add_pairs(spec, thing):
    fingers = tuple(FINGERS)
    capsules = [f"capsule{i}" for i in range(NUM_CAPSULES)]
    fixture = [f"fixture{i}" for i in range(NUM_FIXTURE_BOXES)]
    pad_on_box = mix(PAD, thing.softness)
    if not thing.pressed:
        pad_on_box = soften(pad_on_box, GRIP_WEIGHT)

    def add(first, second, softness, friction=FRICTION, condim=3, by_friction=False):
        if condim > 1:
            # Where the normal is softer than it should be, a force presses deeper, and
            # impedance rises over that much more.
            ratio = _pyramid(friction) / _pyramid(friction, by_friction)
            softness = soften(softness, 1.0 / _pyramid(friction, by_friction), ratio)
        spec.add_pair(
            geomname1=first,
            geomname2=second,
            condim=condim,
            friction=[friction] * 2 + [0.005, 1e-4, 1e-4],
            solref=(softness.time_constant, softness.damping_ratio),
            solimp=(*softness.impedance, 0.5, 2.0),
        )

    for finger in fingers:
        add(finger, "box", pad_on_box, PAD_FRICTION, by_friction=not thing.pressed)
        for capsule in capsules:
            add(finger, capsule, mix(PAD, HARD), PAD_FRICTION)
        for box in fixture:
            add(f"{finger}_edge", box, mix(PAD, HARD), PAD_FRICTION)
    for capsule in capsules:
        add("palm", capsule, soften(mix(DEFAULT, HARD), PALM_WEIGHT))
    add("palm", fixture[0], mix(DEFAULT, HARD))
    add("table", "box", mix(DEFAULT, thing.softness), by_friction=True)
    for box in fixture:
        add("shaft", box, mix(thing.softness, HARD), by_friction=True)
    for i in range(NUM_STOPS):
        stop = _get(thing.stops, i)
        softness = soften(stop.softness, stop.weight) if stop else DEFAULT
        add(f"plane{i}", f"point{i}", softness, condim=1)


def _pyramid(friction, by_friction=False):
    """How much softer than an elliptic cone MuJoCo's pyramidal one is.

    Each of a pyramid's four edges is regularized by 2 mu^2 (1 + mu^2) times what the
    normal of an elliptic cone would be. The four share a normal force, and pairs of
    opposite ones, which lean by mu, a tangential one; so either the normal or the
    tangential softness can be that of the elliptic cone, which has one for both. What
    is held between fingers creeps by the latter.

    Args:
      friction: mu, the coefficient of sliding friction.
      by_friction: whether to compare tangential softness.
    """
    edge = 2.0 * friction**2 * (1.0 + friction**2)
    return edge / (2.0 * friction**2) if by_friction else edge / 4.0


def _hold(model, thing):
    """Holds the object's degrees of freedom that the task does not have."""
    address = model.joint("object").dofadr[0]
    for i in range(6):
        free = i in thing.free
        model.dof_armature[address + i] = thing.armature if free else HELD_ARMATURE
        model.dof_damping[address + i] = thing.damping if free else HELD_DAMPING
    stiffness, rest = thing.spring
    model.jnt_stiffness[model.joint("object").id] = stiffness
    model.qpos_spring[model.joint("object").qposadr[0] + 2] += rest
    # Derived constants, such as the inverse inertias that scale contacts.
    mujoco.mj_setConst(model, mujoco.MjData(model))
    for name, weights in INVERSE_WEIGHTS.items():
        model.body(name).invweight0 = weights
    model.stat.meaninertia = MEAN_INERTIA


def _show(spec, thing):
    """Hides what only collides, shows the arm and the goal, and colors things."""
    # The last one ends where the fingers are not hidden.
    ends = [link.pos for link in ARM[1:]] + [tuple(0.55 * x for x in HAND_POS)]
    for i, end in enumerate(ends):
        spec.body(f"link{i}").add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=(ARM_RADII[i], 0, 0),
            fromto=(0, 0, 0, *end),
            mass=0,
            rgba=ARM_COLOR,
            **_UNPAIRED,
        )
    goal = spec.worldbody.add_body(name="goal", mocap=True)
    goal.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=(0.02, 0, 0),
        rgba=GOAL_COLOR,
        **_UNPAIRED,
    )
    spec.add_texture(
        name="table",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=(0.9, 0.9, 0.9),
        rgb2=(0.8, 0.8, 0.8),
        width=256,
        height=256,
    )
    table = spec.add_material(name="table", texuniform=True, texrepeat=(5, 5))
    table.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
    of_object, of_fixture = thing.colors
    for geom in spec.geoms:
        kind, parent = geom.name.rstrip("0123456789"), geom.parent.name
        # The gripper's palm and fingers keep MuJoCo's grey.
        if kind in ("plane", "point", "shaft") or kind.endswith("_edge"):
            geom.group = HIDDEN
        elif kind == "table":
            geom.material = "table"
        elif parent == "object":
            geom.rgba = of_object
        elif parent == "fixture":
            geom.rgba = of_fixture
        if geom.pos[2] < PARKED[2] / 2:
            geom.group = HIDDEN
    view = spec.visual.global_
    view.azimuth, view.elevation = VIEW_AZIMUTH, VIEW_ELEVATION


def _add_capsule(body, name, capsule):
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        size=(capsule.radius, 0, 0),
        fromto=(*capsule.start, *capsule.end),
        **_UNPAIRED,
    )


def _park(index):
    x, y, z = PARKED
    return Capsule((x + index, y, z), (x + index, y, z + 0.01), 0.001)


def _get(items, index):
    return items[index] if index < len(items) else None


# Geoms collide in the pairs of `_add_pairs` alone.
_UNPAIRED = {"contype": 0, "conaffinity": 0}
