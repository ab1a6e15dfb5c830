"""Families of tasks of one robot, which differ in goal and in body.

Sources: Finn et al., "Model-agnostic meta-learning", 2017, and Rakelly et al., "PEARL",
2019.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.locomotion.env import LocomotionParameters, MakeLocomotion
from pgx_jax.envs.locomotion.rewards import Reward, keep_speed, run_along
from pgx_jax.envs.locomotion.robots import load_robot
from pgx_jax.envs.mjx import (
    edit_model,
    put_model,
    stack_differences,
)
from pgx_jax.envs.splits import find_split

EPISODE_LENGTH = 1000  # steps
SHORT_EPISODE_LENGTH = 200  # steps, of the tasks with goals, as in Finn et al.
POOL_SIZE = 64


def locomotion(
    robot: str,
    goals: np.ndarray,
    task_names: tuple[str, ...],
    *,
    name: str,
    reward: Reward = run_along,
    control_cost: float | None = None,
    bodies: Sequence[Mapping[str, float]] | None = None,
    episode_length: int = EPISODE_LENGTH,
    planted_labels: tuple[int, ...] | None = None,
    pool_size: int = POOL_SIZE,
    objective_names: tuple[str, ...] = (),
) -> FamilySuite:
    """A family of tasks of one robot.

    Args:
      robot: "half_cheetah", "ant", "hopper" or "walker2d".
      goals: what the reward function takes, of every task; float [n, g], or
        [n, K, g] where it gives rewards of K objectives.
      task_names: n names.
      name: the suite's name.
      reward: `reward(goal, motion)` of one step.
      control_cost: weight of the squared actions; that of Brax's environment if None.
      bodies: for every task, the factors `length`, `mass`, `friction` and `gear` that
        `pgx_jax.envs.mjx.edit_model` takes; all robots are alike if None.
      episode_length: steps after which an episode is truncated.
      planted_labels: the known group of each task, or None.
      pool_size: initial states of every task that are drawn beforehand.
      objective_names: of K objectives.

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
        objective_names=objective_names,
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
    either way. No observation distinguishes the groups.

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
    drawn once, from the same ranges. No observation includes them.

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
