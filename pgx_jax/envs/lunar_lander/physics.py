"""The forces on a lander, and what a step of MJX makes of them.

MJX computes the dynamics; its constraints are made to give what Box2D's give, see
`_solve`. Each corner of a foot touches a plane of its own, laid at every step through
the stretch of ground beneath it, so that ground of any shape costs four contacts. The
hull needs none: where it touches, the episode ends. What is left of the difference: a
peak of the ground does not push against the side of a leg, and a foot that comes down
fast is stopped at the end of a step, where Box2D goes back to the moment of impact.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from pgx_jax.envs.lunar_lander.body import (
    FEET,
    HULL_CENTER,
    HULL_INERTIA,
    HULL_MASS,
    LEG_AWAY,
    LEG_DOWN,
    LEG_INERTIA,
    LEG_MASS,
    LEG_RANGE,
    LEG_SIDES,
    LEG_SPEED,
    LEG_TORQUE,
    LEGS,
    MAIN_LEVER,
    PIXEL,
    SIDE_LEVER,
    SKIN,
    STANDARD_GRAVITY,
    TIME_STEP,
    TOTAL_MASS,
    LanderMotion,
    LunarLanderParameters,
    cross,
    leg_points,
    rotate,
    to_world,
)
from pgx_jax.envs.lunar_lander.contacts import clearance, ground_stretch
from pgx_jax.runtime import allow_promotion

# Box2D leaves what bodies are in each other by up to here, and takes back a share of
# what is beyond in each step.
SLACK = 0.005  # m
LIMIT_SLACK = np.deg2rad(2.0)  # rad, of the legs' limits
CORRECTION = 0.2
# The height of the side engines differs along x and z, which makes their torque depend
# on the hull's angle; an error of Gymnasium's, kept.
SIDE_HEIGHT = PIXEL * np.array([17.0, 14.0])  # m


def engine_force(
    parameters: LunarLanderParameters,
    position: jax.Array,
    throttle: jax.Array,
    noise: jax.Array,
) -> jax.Array:
    """Force along x and z in N, and torque about the hull's center in N m; [3].

    Args:
      parameters: of one task.
      position: of the lander, [5].
      throttle: of the main engine in 0..1 and of the side engines in -1..1; [2].
      noise: along the hull's axis and across it, within 1/30 m; [2]. Gymnasium makes
        an engine's impulse proportional to where it sits, so that noise in the place
        is noise in the thrust: up to half of the main engine's.
    """
    angle = position[2]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    up, right = jnp.stack([-sin, cos]), jnp.stack([cos, sin])
    origin = -rotate(HULL_CENTER, angle)  # from the center of mass

    main = (MAIN_LEVER + 2 * noise[0]) * up + noise[1] * right
    side_lever = 3 * noise[1] + jnp.sign(throttle[1]) * SIDE_LEVER
    side = noise[0] * up + side_lever * right
    main_force = parameters.main_thrust * throttle[0] / MAIN_LEVER * main
    side_force = parameters.side_thrust * jnp.abs(throttle[1]) / SIDE_LEVER * side
    torque = cross(origin - main, main_force) + cross(
        origin - side + SIDE_HEIGHT * up, side_force
    )
    return jnp.append(main_force + side_force, torque)


def wind_force(parameters: LunarLanderParameters, phase: jax.Array) -> jax.Array:
    """Force along x and z in N, and torque in N m; [3].

    Args:
      parameters: of one task.
      phase: of the gusts and of the turbulence, in steps; int32 [2].
    """
    phase = phase.astype(jnp.float32)
    wave = jnp.tanh(jnp.sin(0.02 * phase) + jnp.sin(np.pi * 0.01 * phase))
    along = parameters.steady_wind + parameters.gust * wave[0]
    return jnp.stack([along, jnp.zeros(()), parameters.turbulence * wave[1]])


def simulate(
    parameters: LunarLanderParameters,
    motion: LanderMotion,
    ground: jax.Array,
    force: jax.Array,
) -> LanderMotion:
    """One step of MJX.

    Args:
      parameters: of one task.
      motion: before the step.
      ground: heights in m at `GROUND_X`; [11].
      force: on the hull's center along x and z in N, and torque in N m; [3].
    """
    model = _task_model(parameters, motion.position, ground)
    data = mjx.make_data(model)
    data = data.replace(
        qpos=motion.position,
        qvel=motion.velocity,
        qfrc_applied=jnp.append(force, jnp.zeros((2,))),
    )
    with allow_promotion():
        data = mjx.fwd_position(model, data)
        data = mjx.fwd_velocity(model, data)
        data = mjx.fwd_actuation(model, data)
        data = mjx.fwd_acceleration(model, data)
        data = mjx.euler(model, _solve(model, data))
    return LanderMotion(_push_out(data.qpos, ground), data.qvel)


def _solve(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """Solves for the accelerations that Box2D's constraints leave.

    They are of speeds, reached by the end of the step: a motor turns at its own, which
    makes it a friction that holds a joint at that speed; a limit stops a leg; a foot
    stops on the ground and slides along it. MJX's contacts, being convex, would have a
    foot that slides rise by its friction coefficient times its speed. The rows of a
    contact therefore aim at a speed that is as much lower. The speed that is
    taken for it is that without friction, which makes a foot sink, by less than 0.1 mm
    in a step, and never rise.
    """
    rows = data._impl.efc_J
    before = rows @ data.qvel
    motors = -LEG_SPEED * jnp.asarray(LEG_SIDES, jnp.float32)
    # A limit that is passed by more than its slack is taken back at a finite speed.
    excess = jnp.maximum(-data._impl.efc_pos[2:4] - LIMIT_SLACK, 0.0)
    sliding = _sliding(before + TIME_STEP * rows @ data.qacc_smooth)
    target = jnp.concatenate(
        [motors, CORRECTION / TIME_STEP * excess, -jnp.repeat(sliding, 4)]
    )
    reference = (target - before) / TIME_STEP
    return mjx.solve(model, data.tree_replace({"_impl.efc_aref": reference}))


def _sliding(speeds: jax.Array) -> jax.Array:
    """Friction times the speed along the ground of each foot's corner; [20] to [4].

    A contact has four rows: up the normal plus and minus friction times a direction
    across it, of which one is along the ground and one out of the plane.
    """
    along, against = jnp.moveaxis(speeds[4:].reshape(4, 2, 2), -1, 0)
    return jnp.sum(jnp.abs(along - against), axis=-1) / 2


def _push_out(position: jax.Array, ground: jax.Array) -> jax.Array:
    """Takes back most of what feet sank in by, without giving them any speed.

    As in Box2D, a fifth of what is more than the slack; which of the bodies gives way
    goes by their inertia, which makes it the leg that swings.
    """
    inertia = np.array([TOTAL_MASS, TOTAL_MASS, HULL_INERTIA])
    leg_inertia = LEG_INERTIA + LEG_MASS * (LEG_AWAY**2 + LEG_DOWN**2)
    inverse = 1.0 / np.append(inertia, [leg_inertia] * 2)
    for leg in range(2):
        feet = leg_points(position, FEET)[leg]
        gaps = clearance(feet, ground) - SKIN
        lowest = jnp.argmin(gaps)
        foot = feet[lowest]
        _, slope = ground_stretch(foot[0], ground)
        normal = jnp.stack([-slope, jnp.ones_like(slope)]) / jnp.sqrt(1 + slope**2)
        joint = to_world(position, np.zeros((1, 2)))[0]
        turn = cross(foot - position[:2], normal)
        swing = jnp.zeros((2,)).at[leg].set(cross(foot - joint, normal))
        row = jnp.concatenate([normal, turn[None], swing])
        depth = jnp.maximum(-gaps[lowest] - SLACK, 0.0)
        step = CORRECTION * depth / jnp.sum(row**2 * inverse)
        position = position + step * row * inverse
    return position


def _task_model(
    parameters: LunarLanderParameters, position: jax.Array, ground: jax.Array
) -> mjx.Model:
    """The model of a task, with planes laid beneath the feet of a lander."""
    model = _base_model()
    ratio = parameters.hull_mass / HULL_MASS
    feet = leg_points(position, FEET).reshape(-1, 2)
    left, slope = ground_stretch(feet[:, 0], ground)
    zeros = jnp.zeros_like(slope)
    tilt = -jnp.arctan(slope) / 2
    planes = jnp.stack([left[:, 0], zeros, left[:, 1]], axis=1)
    turns = jnp.stack([jnp.cos(tilt), zeros, jnp.sin(tilt), zeros], axis=1)
    weight_ratio = ratio * parameters.gravity / STANDARD_GRAVITY
    return model.tree_replace(
        {
            "opt.gravity": jnp.array([0.0, 0.0, -1.0]) * parameters.gravity,
            "body_mass": model.body_mass * ratio,
            "body_inertia": model.body_inertia * ratio,
            "body_invweight0": model.body_invweight0 / ratio,
            "dof_invweight0": model.dof_invweight0 / ratio,
            "dof_frictionloss": model.dof_frictionloss * weight_ratio,
            "geom_pos": model.geom_pos.at[_PLANES].set(planes),
            "geom_quat": model.geom_quat.at[_PLANES].set(turns),
        }
    )


@functools.cache
def _base_model() -> mjx.Model:
    # Made once, maybe while a program is traced, of which it must not become a part.
    with jax.ensure_compile_time_eval():
        return mjx.put_model(mujoco.MjModel.from_xml_string(_xml()))


def _xml() -> str:
    """The lander with Box2D's masses; the planes are geoms 0 to 3, beneath the feet."""

    def body_text(leg):
        x, z = LEGS[leg].mean(axis=0)
        low, high = sorted(LEG_SIDES[leg] * np.array(LEG_RANGE))
        feet = "".join(
            f'<geom name="foot{leg}{corner}" type="sphere" size="{SKIN}" '
            f'pos="{foot[0]} 0 {foot[1]}"/>'
            for corner, foot in enumerate(FEET[leg])
        )
        return f"""
        <body pos="0 0 {-HULL_CENTER[1]}">
          <inertial pos="{x} 0 {z}" mass="{LEG_MASS}"
            diaginertia="{LEG_INERTIA} {LEG_INERTIA} {LEG_INERTIA}"/>
          <joint type="hinge" axis="0 -1 0" range="{low} {high}" limited="true"
            frictionloss="{LEG_TORQUE}"/>
          {feet}
        </body>"""

    feet = [f"{leg}{corner}" for leg in range(2) for corner in range(2)]
    planes = "".join(
        f'<geom name="plane{foot}" type="plane" size="1 1 1"/>' for foot in feet
    )
    pairs = "".join(f'<pair geom1="plane{foot}" geom2="foot{foot}"/>' for foot in feet)
    return f"""
    <mujoco>
      <compiler angle="radian"/>
      <option timestep="{TIME_STEP}" iterations="{_SOLVER_ITERATIONS}"
        ls_iterations="{_SEARCH_ITERATIONS}">
        <flag warmstart="disable" eulerdamp="disable"/>
      </option>
      <default>
        <joint solreflimit="{_SOLREF}" solimplimit="{_SOLIMP}"
          solreffriction="{_SOLREF}" solimpfriction="{_SOLIMP}"/>
        <geom contype="0" conaffinity="0"/>
        <pair condim="3" solref="{_SOLREF}" solimp="{_SOLIMP}"
          friction="{_FRICTION} {_FRICTION} 0 0 0"/>
      </default>
      <worldbody>
        {planes}
        <body>
          <inertial pos="0 0 0" mass="{HULL_MASS}"
            diaginertia="{HULL_INERTIA} {HULL_INERTIA} {HULL_INERTIA}"/>
          <joint type="slide" axis="1 0 0"/>
          <joint type="slide" axis="0 0 1"/>
          <joint type="hinge" axis="0 -1 0"/>
          {body_text(0)}
          {body_text(1)}
        </body>
      </worldbody>
      <contact>{pairs}</contact>
    </mujoco>"""


_PLANES = slice(0, 4)
_FRICTION = (0.1 * 0.2) ** 0.5  # Box2D's mean of the ground's and the legs'
_SOLREF = f"{-1 / TIME_STEP**2} {-1 / TIME_STEP}"  # replaced in `_solve`
_SOLIMP = "0.9999 0.9999 0.001 0.5 2"
# With half as many steps of line search most landings stop dead in their tracks; more
# of either change no speed by 1e-4.
_SOLVER_ITERATIONS = 10
_SEARCH_ITERATIONS = 16
