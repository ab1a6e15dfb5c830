"""What environments simulated in MJX share: a small state, and batched models.

`mjx.Data` holds kilobytes that a step computes anew. What a step needs of the one
before are positions, velocities and the last accelerations, from which the constraint
solver starts; only these are kept, which makes training states and resets small.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from pgx_jax.runtime import allow_promotion

# MJX prints the names of optional backends that are not installed.
with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx


class Physics(NamedTuple):
    """The state of one simulation.

    Attributes:
      qpos: generalized positions, in m and rad or unit quaternions; float32 [nq].
      qvel: generalized velocities, in m/s and rad/s; float32 [nv].
      qacc_warmstart: accelerations of the step before; float32 [nv].
    """

    qpos: jax.Array
    qvel: jax.Array
    qacc_warmstart: jax.Array

    @classmethod
    def create(cls, qpos: jax.Array, qvel: jax.Array) -> Physics:
        """At rest or in motion, with no acceleration known yet."""
        return cls(qpos, qvel, jnp.zeros_like(qvel))


def put_model(model: mujoco.MjModel) -> mjx.Model:
    """The model on the device, for MJX's own JAX implementation."""
    return mjx.put_model(model, impl="jax")


def step_physics(
    model: mjx.Model,
    data: mjx.Data,
    physics: Physics,
    control: jax.Array,
    num_substeps: int,
) -> tuple[Physics, Physics]:
    """Takes `num_substeps` steps of `model.opt.timestep` s under one control.

    Args:
      model: of one task.
      data: any data of the model, as `mjx.make_data` gives; what is not in `physics`
        or `control` stays as it is there.
      physics: where to start.
      control: of the actuators; float32 [nu].
      num_substeps: at least 1.

    Returns:
      The state after the last step and that before it.
    """
    data = data.replace(ctrl=control)

    def substep(states, _):
        last = states[0]
        with allow_promotion():
            new = mjx.step(model, data.replace(**last._asdict()))
        return (Physics(new.qpos, new.qvel, new.qacc_warmstart), last), None

    return jax.lax.scan(substep, (physics, physics), None, num_substeps)[0]


def stack_differences(
    base: mjx.Model, models: Sequence[mjx.Model]
) -> dict[str, jax.Array]:
    """What differs between models of one structure, to be batched over tasks.

    Args:
      base: a model.
      models: n models of the same structure.

    Returns:
      The path of each array that differs anywhere, and its values [n, ...].

    Raises:
      ValueError: an array has another shape in one of the models.
    """
    differing = {}
    by_model = [jax.tree.leaves(x) for x in models]
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(base)):
        values = [np.asarray(leaves[i]) for leaves in by_model]
        name = jax.tree_util.keystr(path)
        if any(x.shape != leaf.shape for x in values):
            raise ValueError(f"models must be of one structure, but {name} differs")
        if any(not np.array_equal(x, leaf) for x in values):
            differing[name] = jnp.asarray(np.stack(values))
    return differing


def replace_arrays(model: mjx.Model, arrays: dict[str, jax.Array]) -> mjx.Model:
    """The model with the arrays of one task, which may be traced, in their places."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays.get(jax.tree_util.keystr(path), leaf), model
    )


def edit_model(
    spec: mujoco.MjSpec,
    *,
    length: float = 1.0,
    mass: float = 1.0,
    friction: float = 1.0,
    gear: float = 1.0,
) -> mujoco.MjModel:
    """A robot of other proportions, made of capsules and spheres, on a plane.

    Args:
      spec: the robot; left as it is.
      length: factor of all distances between joints and of capsules' lengths, whose
        radius stays; masses and inertias follow from the shapes.
      mass: factor of all masses and inertias after that.
      friction: factor of the sliding friction of all geoms.
      gear: factor of the strength of all actuators.
    """
    spec = spec.copy()
    robot = [body for body in spec.bodies if body.name != "world"]
    for body in robot:
        body.pos = np.asarray(body.pos) * length
        for joint in body.joints:
            joint.pos = np.asarray(joint.pos) * length
        for geom in body.geoms:
            geom.pos = np.asarray(geom.pos) * length
            if np.isfinite(geom.fromto[0]):
                geom.fromto = np.asarray(geom.fromto) * length
            elif geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
                geom.size = np.asarray(geom.size) * [1.0, length, 1.0]
    model = spec.compile()
    model.body_mass[:] *= mass
    model.body_inertia[:] *= mass
    model.geom_friction[:, 0] *= friction
    model.actuator_gear[:] *= gear
    # Derived constants, such as the inverse inertias that scale contacts.
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model
