"""The environment of Brax's robots in MJX.

The models, starting poses and rules are those of Brax's environments: as there, the
position of the torso that rewards and endings look at, and the height that hopper and
walker observe, are those before the last substep of a step. What differs: actions are
clipped to [-1, 1] before they cost anything, and all robots but the ant search along
fewer lines, see `robots.FEW_LINE_SEARCHES`.

Source: Brax (Freeman et al., 2021).
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
from brax.envs.base import Env, State

from pgx_jax.envs.locomotion.rewards import Reward, RobotMotion
from pgx_jax.envs.locomotion.robots import Robot, load_robot
from pgx_jax.envs.mjx import (
    Physics,
    replace_arrays,
    step_physics,
)


class LocomotionParameters(NamedTuple):
    """One task, or n tasks with a leading axis.

    Attributes:
      goal: what the reward function takes; float32 [g], or [K, g] for rewards of K
        objectives.
      model: the arrays of the MJX model that differ between tasks, by their path.
    """

    goal: jax.Array
    model: dict[str, jax.Array]


class Locomotion(Env):
    """A robot that is rewarded for how it moves.

    The reward is that of the task, plus one for being healthy where the robot can fall,
    minus the cost of control. Observations leave the position on the plane out.
    """

    def __init__(
        self,
        robot: Robot,
        reward: Reward,
        control_cost: float,
        parameters: LocomotionParameters,
    ):
        self.robot = robot
        self.reward = reward
        self.control_cost = control_cost
        self.goal = parameters.goal
        self.model = replace_arrays(robot.model, parameters.model)

    def reset(self, rng: jax.Array) -> State:
        # Split as Brax does, so that one key starts both alike.
        _, position_key, velocity_key = jax.random.split(rng, 3)
        noise = self.robot.rules.reset_noise
        shape = (self.model.nq,)
        qpos = self._start() + jax.random.uniform(
            position_key, shape, minval=-noise, maxval=noise
        )
        if not self.robot.is_planar:  # the torso's turn is a unit quaternion
            turn = qpos[3:7]
            qpos = qpos.at[3:7].set(turn / jnp.linalg.norm(turn))
        shape = (self.model.nv,)
        if self.robot.rules.normal_velocity:
            qvel = noise * jax.random.normal(velocity_key, shape)
        else:
            qvel = jax.random.uniform(velocity_key, shape, minval=-noise, maxval=noise)
        physics, position = Physics.create(qpos, qvel), self._position(qpos)
        zero = jnp.zeros((), jnp.float32)
        action = jnp.zeros((self.model.nu,), jnp.float32)
        return State(
            pipeline_state=physics,
            obs=self._observe(physics, position),
            reward=jnp.zeros(self.goal.shape[:-1], jnp.float32),
            done=zero,
            metrics={},
            info={"action": action, "position": position},
        )

    def step(self, state: State, action: jax.Array) -> State:
        robot = self.robot
        action = jnp.clip(action, -1.0, 1.0)
        physics, last = step_physics(
            self.model,
            robot.data,
            state.pipeline_state,
            action,
            robot.rules.num_substeps,
        )
        position = self._position(last.qpos)
        motion = self._motion(state.info, physics, position, action)
        healthy = self._is_healthy(physics, position)
        reward = (
            self.reward(self.goal, motion)
            + robot.rules.healthy_reward
            - self.control_cost * jnp.sum(action**2)
        )
        return State(
            pipeline_state=physics,
            obs=self._observe(physics, position),
            reward=reward,
            done=1.0 - healthy.astype(jnp.float32),
            metrics={},
            info={"action": action, "position": position},
        )

    def _start(self) -> jax.Array:
        """Positions that resets add noise to, on legs of the task's own length."""
        if self.robot.is_planar:
            return self.model.qpos0
        start = jnp.asarray(self.robot.start, jnp.float32)
        return start.at[2].multiply(self.model.qpos0[2] / self.robot.model.qpos0[2])

    def _position(self, qpos: jax.Array) -> jax.Array:
        """Of the torso's origin, z above the ground, in m; float32 [3]."""
        if not self.robot.is_planar:
            return qpos[:3]
        x, z = self.model.body_pos[1, ::2] + qpos[:2] - self.model.qpos0[:2]
        return jnp.stack([x, jnp.zeros_like(x), z])

    def _observe(self, physics: Physics, position: jax.Array) -> jax.Array:
        limit = self.robot.rules.velocity_limit
        qpos, qvel = physics.qpos, jnp.clip(physics.qvel, -limit, limit)
        if not self.robot.is_planar:
            return jnp.concatenate([qpos[2:], qvel])
        if math.isfinite(limit):  # Brax's hopper and walker observe a true height
            qpos = qpos.at[1].set(position[2])
        return jnp.concatenate([qpos[1:], qvel])

    def _is_healthy(self, physics: Physics, position: jax.Array) -> jax.Array:
        rules, height = self.robot.rules, position[2]
        healthy = (height > rules.healthy_height[0]) & (
            height < rules.healthy_height[1]
        )
        if self.robot.is_planar:
            angle, (low, high) = physics.qpos[2], rules.healthy_angle
            healthy &= (angle > low) & (angle < high)
        if math.isfinite(rules.healthy_state):
            others = jnp.concatenate([physics.qpos[2:], physics.qvel])
            healthy &= jnp.all(jnp.abs(others) < rules.healthy_state)
        return healthy

    def _motion(
        self,
        info: dict[str, jax.Array],
        after: Physics,
        position: jax.Array,
        action: jax.Array,
    ) -> RobotMotion:
        """Of a step from what `info` holds of the one before."""
        model = self.model
        moved = position[:2] - info["position"][:2]
        joints = self.robot.mj_model.actuator_trnid[:, 0]
        dofs = self.robot.mj_model.jnt_dofadr[joints]
        low, high = model.jnt_range[joints].T
        positions = after.qpos[self.robot.mj_model.jnt_qposadr[joints]]
        return RobotMotion(
            velocity=moved / self.dt,
            height=position[2],
            action=action,
            previous_action=info["action"],
            power=action * model.actuator_gear[:, 0] * after.qvel[dofs],
            joint_position=(2.0 * positions - low - high) / (high - low),
        )

    @property
    def mj_model(self) -> mujoco.MjModel:
        """What to draw: the model, with the task's numbers where they are known."""
        return self.robot.mj_model

    @property
    def dt(self) -> float:
        """Of a step, in s."""
        return self.robot.mj_model.opt.timestep * self.robot.rules.num_substeps

    @property
    def observation_size(self) -> int:
        return self.robot.observation_size

    @property
    def action_size(self) -> int:
        return self.robot.mj_model.nu

    @property
    def backend(self) -> str:
        return "mjx"


@dataclasses.dataclass(frozen=True)
class MakeLocomotion:
    """`make_env` of a family: a robot by name, and how it is rewarded.

    Attributes:
      robot: name of the robot.
      reward: of a goal and a motion.
      control_cost: weight of the squared actions.
    """

    robot: str
    reward: Reward
    control_cost: float

    def __call__(self, parameters: LocomotionParameters) -> Locomotion:
        robot = load_robot(self.robot)
        return Locomotion(robot, self.reward, self.control_cost, parameters)
