"""The environment: what an episode of Meta-World is, stepped inside jit.

The original's reset first holds the hand where it is to start for fifty steps. What
that leaves does not depend on where things are placed, and is known
(`arm.START_POSES`), so that a reset only draws a placement.

Source: Meta-World 3.1.1; docs/suites/metaworld.md says what differs.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
from brax.envs.base import Env, State
from brax.math import quat_mul, quat_to_3x3, rotate
from mujoco import mjx

from pgx_jax.envs.metaworld import observations, rewards, scene
from pgx_jax.envs.metaworld.arm import HAND_QUAT, PAD_SHIFT, TIP
from pgx_jax.envs.metaworld.objects import PEG_HEAD
from pgx_jax.envs.metaworld.observations import OBSERVATION_SIZE, Readings, Start
from pgx_jax.envs.metaworld.tasks import (
    ALL_TASKS,
    TASKS,
    TaskSpec,
    draw_placement,
)
from pgx_jax.envs.mjx import (
    Physics,
    put_model,
    replace_arrays,
    step_physics,
)
from pgx_jax.runtime import allow_promotion

EPISODE_LENGTH = 500  # steps of 12.5 ms
ACTION_SIZE = 4
OBJECT = slice(9, 12)  # of qpos and qvel, where the object is and goes
OBJECT_QUAT = slice(12, 16)
SHOWN_QUATS = ("xyzw", "wxyz", "zeros")


class HandReadings(NamedTuple):
    """The part of `Readings` that belongs to the robot; each of shape [3]."""

    hand: jax.Array
    left_claw: jax.Array
    right_claw: jax.Array
    left_pad: jax.Array
    right_pad: jax.Array
    tcp: jax.Array


class Parameters(NamedTuple):
    """One task, or n tasks with a leading axis; float32 where nothing else is said.

    Attributes:
      model: what differs between the tasks' models, by its path in `mjx.Model`.
      spec: the task's numbers; `spec.index` (int32) selects its reward.
      qpos: positions after the reset of the hand; of the object, where it hangs on the
        fixture, from the placement; [nq].
      qvel: velocities, [nv].
      hand: readings then.
      hangs: whether the object hangs on the fixture, or is free; bool.
      stays: whether the fixture stands at the world's origin; bool.
      displaced: from where a reset finds it to where an episode begins, where it
        hangs; [3].
      keeps_height: whether it is placed at the height where a reset finds it, rather
        than at that of the placement; bool.
      tracked: the point of the object that is observed, in its frame, [3].
      tracked_quat: w, x, y, z of what is observed of its orientation, [4].
      shown_quat: what is shown of that, as a place in `SHOWN_QUATS`; int32.
    """

    model: dict[str, jax.Array]
    spec: TaskSpec
    qpos: jax.Array
    qvel: jax.Array
    hand: HandReadings
    hangs: jax.Array
    stays: jax.Array
    displaced: jax.Array
    keeps_height: jax.Array
    tracked: jax.Array
    tracked_quat: jax.Array
    shown_quat: jax.Array


class World(NamedTuple):
    """What a step needs of the one before.

    Attributes:
      physics: of the simulation.
      mocap: where the hand is led to, [3].
      fixture: where the fixture stands, [3].
      frame: present part of the last observation, unclipped, [18].
      start: what the episode fixes.
    """

    physics: Physics
    mocap: jax.Array
    fixture: jax.Array
    frame: jax.Array
    start: Start

    # What drawing needs, as `mjx.Data` has it.

    @property
    def qpos(self) -> jax.Array:
        return self.physics.qpos

    @property
    def mocap_pos(self) -> jax.Array:
        return jnp.stack([self.mocap, self.fixture, self.start.target], axis=-2)

    @property
    def mocap_quat(self) -> jax.Array:
        upright = (1.0, 0.0, 0.0, 0.0)
        return jnp.array([HAND_QUAT, upright, upright])


class MetaWorld(Env):
    """One task of Meta-World.

    Observations have 39 numbers: hand, gripper and object, the same of the step before,
    and the goal. Actions, clipped to [-1, 1], move the hand by up to 0.01 m along each
    axis and close the gripper. Rewards are in [0, 10]; `metrics["success"]` is 1
    where the goal is reached at this step, which ends nothing.

    Args:
      parameters: of one task.
      tasks: names of those that it may be; no others' rewards are computed.
    """

    observation_size = OBSERVATION_SIZE
    action_size = ACTION_SIZE
    backend = "mjx"
    dt = scene.TIME_STEP * scene.NUM_SUBSTEPS  # s

    def __init__(self, parameters: Parameters, tasks: tuple[str, ...] = TASKS) -> None:
        self.parameters, self._tasks = parameters, tasks
        base, self._data = load_base()
        self._model = replace_arrays(base, parameters.model)

    @property
    def mj_model(self) -> mujoco.MjModel:
        """The task's model as it is drawn."""
        return scene.build_model(
            ALL_TASKS[int(self.parameters.spec.index)], visible=True
        )

    def reset(self, rng: jax.Array) -> State:
        """Starts an episode with things somewhere in the task's box."""
        return self.reset_at(draw_placement(self.parameters.spec, rng))

    def reset_at(self, placement: jax.Array) -> State:
        """Starts an episode.

        Args:
          placement: where its things are, see `TaskSpec`; [6].
        """
        p = self.parameters
        spec = p.spec
        before = p.qpos.at[OBJECT].add(jnp.where(p.hangs, placement[:3], 0.0))
        height = jnp.where(p.keeps_height, before[OBJECT][2], placement[2])
        placed = placement[:3].at[2].set(height)
        after = before.at[OBJECT].set(
            jnp.where(p.hangs, before[OBJECT] + p.displaced, placed)
        )

        readings_before = self._read(p.hand, before)
        readings = self._read(p.hand, after)
        start = observations.start(spec.index, placement, readings_before, readings)
        frame = observations.reset_frame(spec.index, readings_before, readings)
        # That of a puck is parked, or is a wall that stays.
        fixture = jnp.where(p.hangs, placement[:3], placement[3:])
        fixture = jnp.where(p.stays, 0.0, fixture)
        world = World(
            Physics.create(after, p.qvel),
            jnp.asarray(spec.hand_init),
            fixture,
            frame,
            start,
        )
        zero = jnp.zeros(())
        return State(
            pipeline_state=world,
            obs=observations.stack(frame, frame, start.target, spec),
            reward=zero,
            done=zero,
            metrics={"success": zero},
        )

    def step(self, state: State, action: jax.Array) -> State:
        world, spec = state.pipeline_state, self.parameters.spec
        action = jnp.clip(action, -1.0, 1.0)
        mocap = world.mocap + scene.ACTION_SCALE * action[:3]
        mocap = jnp.clip(mocap, spec.mocap_low, spec.mocap_high)
        data = self._data.replace(mocap_pos=jnp.stack([mocap, world.fixture]))
        control = jnp.stack([action[3], -action[3]])
        physics, _ = step_physics(
            self._model, data, world.physics, control, scene.NUM_SUBSTEPS
        )
        with allow_promotion():
            data = mjx.kinematics(self._model, data.replace(qpos=physics.qpos))
        readings = self._read(read_hand(data.xpos, data.xmat), physics.qpos)
        frame = observations.observe(readings)
        obs = observations.stack(frame, world.frame, world.start.target, spec)
        reward, success = rewards.reward(
            spec.index, readings, obs, action, world.start, self._tasks
        )
        world = world._replace(physics=physics, mocap=mocap, frame=frame)
        return state.replace(
            pipeline_state=world,
            obs=obs,
            reward=reward,
            metrics={"success": success.astype(jnp.float32)},
        )

    def _read(self, hand: HandReadings, qpos: jax.Array) -> Readings:
        p = self.parameters
        pos, quat = qpos[OBJECT], qpos[OBJECT_QUAT]
        seen = quat_mul(quat, p.tracked_quat)
        shown = jnp.stack(
            [observations.quaternion(quat_to_3x3(seen)), seen, jnp.zeros(4)]
        )
        return Readings(
            *hand,
            object_pos=pos + rotate(p.tracked, quat),
            object_quat=shown[p.shown_quat],
            head=pos + rotate(jnp.array(PEG_HEAD), quat),
            angle=2.0 * jnp.arctan2(quat[3], quat[0]),
        )


def read_hand(positions: Any, rotations: Any) -> HandReadings:
    """What is read off the robot.

    Args:
      positions: of all bodies in the world, in m; [bodies, 3].
      rotations: of all bodies; [bodies, 3, 3].
    """
    body = _bodies()
    left, right = positions[body["leftclaw"]], positions[body["rightclaw"]]
    # Fingers do not turn in the hand.
    along, across = rotations[body["hand"]][:, 0], rotations[body["hand"]][:, 1]
    return HandReadings(
        hand=positions[body["hand"]],
        left_claw=left,
        right_claw=right,
        left_pad=left - PAD_SHIFT * across,
        right_pad=right + PAD_SHIFT * across,
        tcp=(left + right) / 2.0 + TIP * along,
    )


@functools.cache
def _bodies() -> dict[str, int]:
    model = scene.build_model(TASKS[0])
    return {name: model.body(name).id for name in ("hand", "leftclaw", "rightclaw")}


@functools.cache
def load_base() -> tuple[mjx.Model, mjx.Data]:
    """The first task's model and its data, as host constants of any program."""
    with jax.ensure_compile_time_eval():
        base = scene.build_model(TASKS[0])
        model = put_model(base)
        data = mjx.make_data(base, impl="jax")
        quats = jnp.array([HAND_QUAT, (1.0, 0.0, 0.0, 0.0)])
        return model, data.replace(mocap_quat=quats)
