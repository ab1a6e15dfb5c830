"""The scene of Meta-World: one structure of bodies, joints and contacts for all tasks.

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

import mujoco
import numpy as np

from pgx_jax.envs.metaworld.arm import add_arm, add_gripper
from pgx_jax.envs.metaworld.contacts import add_pairs
from pgx_jax.envs.metaworld.drawing import VIEW_CENTER, VIEW_EXTENT, show
from pgx_jax.envs.metaworld.geometry import (
    PARKED,
    PARKED_FIXTURE,
    UNPAIRED,
    Box,
    Capsule,
    add_capsule,
    get_or_none,
)
from pgx_jax.envs.metaworld.objects import (
    NUM_CAPSULES,
    NUM_FIXTURE_BOXES,
    NUM_STOPS,
    OBJECTS,
)

TIME_STEP = 0.0025  # s, of physics
NUM_SUBSTEPS = 5
ACTION_SCALE = 0.01  # m that a full action moves the mocap body

MAX_CONTACTS = 16  # of those with friction
SOLVER_ITERATIONS = 4
LINE_SEARCHES = 8
# What holds a degree of freedom: kg and kg/s, or kg m^2 and kg m^2/s. A contact of
# 1,000 N moves it by 1 micrometer a second.
HELD_ARMATURE = 1e7
HELD_DAMPING = 1e9
# Scales the solver's tolerance; MuJoCo's own mean would count what is held.
MEAN_INERTIA = 20.0
POINT_RADIUS = 1e-3  # m, of the points that stop at planes
# 1/kg and 1/(kg m^2); the original's bodies, which differ in what they are made of.
INVERSE_WEIGHTS = {
    "hand": (6.105627, 284.895061),
    "palm": (0.67, 284.895061),
    "rightclaw": (2.746041, 284.895061),
    "leftclaw": (2.746041, 284.895061),
}


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
    manipulated = OBJECTS[task]
    spec = mujoco.MjSpec()
    spec.modelname = "mt10"
    spec.compiler.degree = False
    _set_options(spec)
    hand = add_arm(spec)
    add_gripper(spec, hand)
    _add_table(spec)
    _add_object(spec, manipulated)
    _add_fixture(spec, manipulated)
    add_pairs(spec, manipulated)
    if visible:
        show(spec, manipulated)
    model = spec.compile()
    _hold(model, manipulated)
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


def _add_table(spec):
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(0.7, 0.4, 0.1),
        **UNPAIRED,
    )


def _add_object(spec, manipulated):
    body = spec.worldbody.add_body(
        name="object",
        mass=manipulated.mass,
        ipos=manipulated.center,
        iquat=manipulated.inertia_quat,
        inertia=manipulated.inertia,
        explicitinertial=True,
    )
    body.add_freejoint(name="object")
    body.add_geom(
        name="box",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=manipulated.box.half,
        pos=manipulated.box.pos,
        quat=(np.cos(manipulated.turn / 2), 0, np.sin(manipulated.turn / 2), 0),
        **UNPAIRED,
    )
    for i in range(NUM_CAPSULES):
        add_capsule(
            body, f"capsule{i}", get_or_none(manipulated.capsules, i) or _park(i)
        )
    add_capsule(body, "shaft", manipulated.shaft or _park(NUM_CAPSULES))
    for i in range(NUM_STOPS):
        stop = get_or_none(manipulated.stops, i)
        body.add_geom(
            name=f"point{i}",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=(POINT_RADIUS, 0, 0),
            pos=stop.point if stop else (0, 0, 0),
            **UNPAIRED,
        )


def _add_fixture(spec, manipulated):
    body = spec.worldbody.add_body(name="fixture", mocap=True)
    for i in range(NUM_FIXTURE_BOXES):
        box = get_or_none(manipulated.fixture, i) or Box((0.01,) * 3, PARKED_FIXTURE)
        body.add_geom(
            name=f"fixture{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=box.half,
            pos=box.pos,
            **UNPAIRED,
        )
    for i in range(NUM_STOPS):
        stop = get_or_none(manipulated.stops, i)
        pos, normal = (stop.plane, stop.normal) if stop else (PARKED_FIXTURE, (0, 0, 1))
        quat = np.zeros(4)
        mujoco.mju_quatZ2Vec(quat, np.array(normal, float))
        body.add_geom(
            name=f"plane{i}",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=(0.1, 0.1, 0.1),
            pos=np.asarray(pos) - POINT_RADIUS * np.asarray(normal),
            quat=quat,
            **UNPAIRED,
        )


def _hold(model, manipulated):
    """Holds the object's degrees of freedom that the task does not have."""
    address = model.joint("object").dofadr[0]
    for i in range(6):
        free = i in manipulated.free
        model.dof_armature[address + i] = (
            manipulated.armature if free else HELD_ARMATURE
        )
        model.dof_damping[address + i] = manipulated.damping if free else HELD_DAMPING
    stiffness, rest = manipulated.spring
    model.jnt_stiffness[model.joint("object").id] = stiffness
    model.qpos_spring[model.joint("object").qposadr[0] + 2] += rest
    # Derived constants, such as the inverse inertias that scale contacts.
    mujoco.mj_setConst(model, mujoco.MjData(model))
    for name, weights in INVERSE_WEIGHTS.items():
        model.body(name).invweight0 = weights
    model.stat.meaninertia = MEAN_INERTIA


def _park(index):
    x, y, z = PARKED
    return Capsule((x + index, y, z), (x + index, y, z + 0.01), 0.001)
