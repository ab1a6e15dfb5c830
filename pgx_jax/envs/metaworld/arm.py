"""The Sawyer arm and its gripper.

Source: the models of Meta-World 3.1.1.
"""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

from pgx_jax.envs.metaworld.geometry import UNPAIRED, Capsule, Vector, add_capsule

HAND_QUAT = (1.0, 0.0, 1.0, 0.0)  # of the mocap body


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
START_POSES: dict[tuple[float, ...], Pose] = {
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
# The convex hull of the gripper's mesh, in the hand's frame.
PALM_POS, PALM_HALF = (-0.0655, 0.0, -0.0054), (0.0235, 0.046, 0.0292)
# A contact's margin in the original, m. MJX finds no contact between convex shapes that
# are apart, so that the fingers are larger by it instead, which comes to the same.
PAD_MARGIN = 0.001


def add_arm(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    """Adds the arm and what leads its hand; returns the body of the hand."""
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


def add_gripper(spec: mujoco.MjSpec, hand: mujoco.MjsBody) -> None:
    """Adds the palm and the fingers to the hand."""
    # A body of its own, since it is heavier to move than the hand's tip.
    hand.add_body(name="palm").add_geom(
        name="palm",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=PALM_POS,
        size=PALM_HALF,
        mass=0,
        **UNPAIRED,
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
            **UNPAIRED,
        )
        add_capsule(body, f"{name}_edge", _find_edge(shift[1]))
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
