"""Brax's robots in MJX, as families of tasks that differ in goal and in body.

The models, starting poses and rules are those of Brax's environments: as there, the
position of the torso that rewards and endings look at, and the height that hopper and
walker observe, are those before the last substep of a step. What differs: actions are
clipped to [-1, 1] before they cost anything, and all robots but the ant search along
fewer lines, see `FEW_LINE_SEARCHES`.

Sources: Brax (Freeman et al., 2021); for the families Finn et al., "Model-agnostic
meta-learning", 2017, and Rakelly et al., "PEARL", 2019.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax.envs.base import Env, State
from mujoco import mjx

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.mjx import (
    Physics,
    edit_model,
    put_model,
    replace_arrays,
    stack_differences,
    step_physics,
)
from pgx_jax.envs.splits import find_split

EPISODE_LENGTH = 1000  # steps
SHORT_EPISODE_LENGTH = 200  # steps, of the tasks with goals, as in Finn et al.
POOL_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Rules:
    """What Brax's environment of a robot adds to its model.

    Attributes:
      num_substeps: simulation steps per action.
      control_cost: weight of the squared actions.
      reset_noise: half width of the uniform noise on positions, and the scale of that
        on velocities; in their own units.
      normal_velocity: whether the velocities' noise is normal, else uniform.
      healthy_reward: of every step, for the robots that can fall.
      healthy_height: of the torso, in m; an episode terminates outside.
      healthy_angle: of the torso, in rad; an episode terminates outside.
      healthy_state: largest size of any position other than the torso's and of any
        velocity, in their own units; an episode terminates outside.
      velocity_limit: that observed velocities are clipped to.
      options: of the simulation; see `FEW_LINE_SEARCHES`.
    """

    num_substeps: int
    control_cost: float
    reset_noise: float
    normal_velocity: bool
    healthy_reward: float = 0.0
    healthy_height: tuple[float, float] = (-math.inf, math.inf)
    healthy_angle: tuple[float, float] = (-math.inf, math.inf)
    healthy_state: float = math.inf
    velocity_limit: float = math.inf
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# Brax leaves MJX's 50 steps of line search to all robots but the ant, and a batch waits
# for the slowest of its members. After 20 actions in each of 16 environments, four give
# the same positions as 50, to 1e-4 of those of MuJoCo with 100, in a third of the time;
# fewer than the model's four iterations of the solver do not.
FEW_LINE_SEARCHES = {"ls_iterations": 4}

RULES = {
    "half_cheetah": Rules(5, 0.1, 0.1, True, options=FEW_LINE_SEARCHES),
    "ant": Rules(
        5,
        0.5,
        0.1,
        True,
        healthy_reward=1.0,
        healthy_height=(0.2, 1.0),
        options={
            "iterations": 1,
            "ls_iterations": 4,
            "disableflags": mujoco.mjtDisableBit.mjDSBL_EULERDAMP,
        },
    ),
    "hopper": Rules(
        4,
        1e-3,
        5e-3,
        False,
        healthy_reward=1.0,
        healthy_height=(0.7, math.inf),
        healthy_angle=(-0.2, 0.2),
        healthy_state=100.0,
        velocity_limit=10.0,
        options=FEW_LINE_SEARCHES,
    ),
    "walker2d": Rules(
        4,
        1e-3,
        5e-3,
        False,
        healthy_reward=1.0,
        healthy_height=(0.8, 2.0),
        healthy_angle=(-1.0, 1.0),
        velocity_limit=10.0,
        options=FEW_LINE_SEARCHES,
    ),
}


class Motion(NamedTuple):
    """One step of a robot, for rewards.

    Attributes:
      velocity: of the torso along x and y, its mean over a step, in m/s; float32 [2].
      height: of the torso, in m; float32.
      action: clipped to [-1, 1]; float32 [nu].
      previous_action: of the step before, zero at first; float32 [nu].
      power: mechanical, of each actuator, in W; float32 [nu].
      joint_position: of the actuated joints, from -1 to 1 within their limits; [nu].
    """

    velocity: jax.Array
    height: jax.Array
    action: jax.Array
    previous_action: jax.Array
    power: jax.Array
    joint_position: jax.Array


class LocomotionParameters(NamedTuple):
    """One task, or n tasks with a leading axis.

    Attributes:
      goal: what the reward function takes; float32 [g].
      model: the arrays of the MJX model that differ between tasks, by their path.
    """

    goal: jax.Array
    model: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Robot:
    """A robot's model, and what Brax's environment makes of it.

    Attributes:
      rules: of its environment.
      spec: what other bodies are made from.
      mj_model: for rendering, and to compile others like it.
      model: on the device.
      data: of the model at rest.
    """

    rules: Rules
    spec: mujoco.MjSpec
    mj_model: mujoco.MjModel
    model: mjx.Model
    data: mjx.Data

    @property
    def is_planar(self) -> bool:
        """Whether the torso slides along x and z and turns about y, else it is free."""
        return self.mj_model.jnt_type[0] == mujoco.mjtJoint.mjJNT_SLIDE

    @functools.cached_property
    def start(self) -> np.ndarray:
        """Positions that resets add noise to, in m and rad; float64 [nq].

        As in Brax, the model's own `init_qpos` if it has one, as the ant does, whose
        ankles are outside their limits at zero.
        """
        model = self.mj_model
        names = [model.numeric(i).name for i in range(model.nnumeric)]
        if "init_qpos" in names:
            return np.array(model.numeric("init_qpos").data)
        return model.qpos0.copy()

    @property
    def observation_size(self) -> int:
        model = self.mj_model
        return model.nq + model.nv - (1 if self.is_planar else 2)


@functools.cache
def load_robot(name: str) -> Robot:
    """One of Brax's robots: "half_cheetah", "ant", "hopper" or "walker2d".

    Raises:
      ValueError: there is no such robot.
    """
    if name not in RULES:
        raise ValueError(f"robot must be one of {', '.join(RULES)}, got {name!r}")
    from etils import epath

    path = epath.resource_path("brax") / "envs" / "assets" / f"{name}.xml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the files' older syntax
        spec = mujoco.MjSpec.from_file(str(path))
        for option, value in RULES[name].options.items():
            setattr(spec.option, option, value)
        mj_model = spec.compile()
    model = put_model(mj_model)
    return Robot(RULES[name], spec, mj_model, model, mjx.make_data(mj_model))


Reward = Callable[[jax.Array, Motion], jax.Array]


def run_along(goal: jax.Array, motion: Motion) -> jax.Array:
    """Speed in m/s along a direction of the plane; goal [2] is its unit vector."""
    return goal @ motion.velocity


def keep_speed(goal: jax.Array, motion: Motion) -> jax.Array:
    """Minus the distance from a speed along x; goal [1] is that speed, in m/s."""
    return -jnp.abs(motion.velocity[0] - goal[0])


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
            reward=zero,
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
    ) -> Motion:
        """Of a step from what `info` holds of the one before."""
        model = self.model
        moved = position[:2] - info["position"][:2]
        joints = self.robot.mj_model.actuator_trnid[:, 0]
        dofs = self.robot.mj_model.jnt_dofadr[joints]
        low, high = model.jnt_range[joints].T
        positions = after.qpos[self.robot.mj_model.jnt_qposadr[joints]]
        return Motion(
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


def locomotion(
    robot: str,
    goals: np.ndarray,
    task_names: tuple[str, ...],
    *,
    name: str,
    reward: Reward = run_along,
    control_cost: float | None = None,
    bodies: list[Mapping[str, float]] | None = None,
    episode_length: int = EPISODE_LENGTH,
    planted_labels: tuple[int, ...] | None = None,
    pool_size: int = POOL_SIZE,
) -> FamilySuite:
    """A family of tasks of one robot.

    Args:
      robot: "half_cheetah", "ant", "hopper" or "walker2d".
      goals: what the reward function takes, of every task; float [n, g].
      task_names: n names.
      name: the suite's name.
      reward: `reward(goal, motion)` of one step.
      control_cost: weight of the squared actions; that of Brax's environment if None.
      bodies: for every task, the factors `length`, `mass`, `friction` and `gear` that
        `pgx_jax.envs.mjx.edit_model` takes; all robots are alike if None.
      episode_length: steps after which an episode is truncated.
      planted_labels: the known group of each task, or None.
      pool_size: initial states of every task that are drawn beforehand.

    Raises:
      ValueError: there is no such robot, or goals, names and bodies are not as many.
    """
    loaded = load_robot(robot)
    num_tasks = len(task_names)
    if len(goals) != num_tasks or len(bodies or goals) != num_tasks:
        raise ValueError(
            f"goals, task_names and bodies must be as many, got {len(goals)}, "
            f"{num_tasks} and {len(bodies or goals)}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the files' older syntax
        models = [put_model(edit_model(loaded.spec, **body)) for body in bodies or []]
    cost = loaded.rules.control_cost if control_cost is None else control_cost
    return FamilySuite(
        make_env=MakeLocomotion(robot, reward, cost),
        parameters=LocomotionParameters(
            goal=jnp.asarray(goals, jnp.float32),
            model=stack_differences(loaded.model, models) if models else {},
        ),
        name=name,
        task_names=task_names,
        observation_size=loaded.observation_size,
        action_space=ActionSpace(size=loaded.mj_model.nu, discrete=False),
        episode_length=episode_length,
        planted_labels=planted_labels,
        pool_size=pool_size,
    )


def single_robot(robot: str) -> FamilySuite:
    """One task: run forward, by the rules of Brax's environment of that robot."""
    return locomotion(robot, np.array([[1.0, 0.0]]), ("forward",), name=robot)


def half_cheetah_velocity(split: str = "source") -> FamilySuite:
    """Half-cheetahs that are to keep one speed each, of 0 to 3 m/s.

    The 10 source tasks are spread evenly over the range; the 50 target tasks are drawn
    from it once. Episodes last 200 steps, control costs 0.05 times the squared action.

    Args:
      split: "source" or "target".
    """
    seed, num_tasks = find_split(split)
    if split == "source":
        speeds = np.linspace(0.15, 2.85, num_tasks)
    else:
        speeds = np.random.default_rng(seed).uniform(0.0, 3.0, num_tasks)
    return locomotion(
        "half_cheetah",
        speeds[:, None],
        tuple(f"{speed:.2f} m/s" for speed in speeds),
        name="half_cheetah_velocity",
        reward=keep_speed,
        control_cost=0.05,
        episode_length=SHORT_EPISODE_LENGTH,
    )


def half_cheetah_direction(num_tasks: int = 10) -> FamilySuite:
    """Half-cheetahs of which half run forward, half backward: two known groups.

    Within a group, masses differ by up to 30 percent and friction by up to 40 percent
    either way. No observation tells the groups apart.

    Args:
      num_tasks: even, at least 4.

    Raises:
      ValueError: of another number of tasks.
    """
    labels, member = _planted_pair(num_tasks)
    spread = 2.0 * member / member.max() - 1.0
    bodies = [
        {"mass": 1.0 + 0.3 * x, "friction": 1.0 + 0.4 * (-1) ** i * x}
        for i, x in zip(member, spread, strict=True)
    ]
    return locomotion(
        "half_cheetah",
        np.stack([1.0 - 2.0 * labels, 0.0 * labels], axis=1),
        tuple(
            f"{('forward', 'backward')[g]} {i + 1}"
            for g, i in zip(labels, member, strict=True)
        ),
        name="half_cheetah_direction",
        control_cost=0.05,
        bodies=bodies,
        episode_length=SHORT_EPISODE_LENGTH,
        planted_labels=tuple(labels.tolist()),
    )


def ant_direction(split: str = "source") -> FamilySuite:
    """Ants that run in one direction each, all round the circle.

    The 10 source tasks are spread evenly; the 50 target tasks are drawn once.

    Args:
      split: "source" or "target".
    """
    seed, num_tasks = find_split(split)
    if split == "source":
        degrees = np.arange(num_tasks) * (360.0 / num_tasks)
    else:
        degrees = np.random.default_rng(seed).uniform(0.0, 360.0, num_tasks)
    return _ants(degrees, "ant_direction")


def ant_opposite(num_tasks: int = 10) -> FamilySuite:
    """Ants that run along x or against it, give or take 20 degrees: two known groups.

    Args:
      num_tasks: even, at least 4.

    Raises:
      ValueError: of another number of tasks.
    """
    labels, member = _planted_pair(num_tasks)
    degrees = 180.0 * labels + 40.0 * (member / member.max() - 0.5)
    return _ants(degrees, "ant_opposite", tuple(labels.tolist()))


def changed_bodies(robot: str, split: str = "source") -> FamilySuite:
    """Robots that run forward, of other mass, friction, strength and length.

    Each factor is drawn log-uniformly: mass from 1/2 to 2, friction from 1/2 to 2, gear
    from 2/3 to 3/2, length from 0.8 to 1.25. The 10 source and the 50 target tasks are
    drawn once, from the same ranges. No observation tells them.

    Args:
      robot: "hopper" or "walker2d".
      split: "source" or "target".
    """
    seed, num_tasks = find_split(split)
    rng = np.random.default_rng(seed)
    largest = {"mass": 2.0, "friction": 2.0, "gear": 1.5, "length": 1.25}
    factors = {x: largest[x] ** rng.uniform(-1, 1, num_tasks) for x in largest}
    bodies = [
        {name: float(values[i]) for name, values in factors.items()}
        for i in range(num_tasks)
    ]
    return locomotion(
        robot,
        np.tile([1.0, 0.0], (num_tasks, 1)),
        tuple(
            f"m={body['mass']:.2f} g={body['gear']:.2f} l={body['length']:.2f}"
            for body in bodies
        ),
        name=f"{robot}_body",
        bodies=bodies,
    )


def _ants(
    degrees: np.ndarray, name: str, planted_labels: tuple[int, ...] | None = None
) -> FamilySuite:
    radians = np.deg2rad(degrees)
    return locomotion(
        "ant",
        np.stack([np.cos(radians), np.sin(radians)], axis=1),
        tuple(f"{degree % 360:.0f}°" for degree in degrees),
        name=name,
        episode_length=SHORT_EPISODE_LENGTH,
        planted_labels=planted_labels,
    )


def _planted_pair(num_tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """Group and place within it of every task; int [n] each."""
    if num_tasks < 4 or num_tasks % 2:
        raise ValueError(f"num_tasks must be even and at least 4, got {num_tasks}")
    half = num_tasks // 2
    return np.repeat([0, 1], half), np.tile(np.arange(half), 2)
