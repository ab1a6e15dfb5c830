"""Suites of one environment and n reward functions.

An objective is a task with environments of its own; or, with vector rewards, the one
environment is stepped once for all objectives.

Every objective is normalized before it is combined with others, so that none counts
more because of its unit: 0 is about what random actions earn, 1 a good value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import check_switch
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.locomotion.rewards import RobotMotion
from pgx_jax.envs.locomotion.tasks import SHORT_EPISODE_LENGTH, locomotion


class Objective(NamedTuple):
    """One objective: a measure of a step, and the scale that normalizes it.

    Attributes:
      measure: of one step; larger is better.
      low: what is normalized to 0, in the measure's unit.
      high: what is normalized to 1, in the measure's unit.
    """

    measure: Callable[[RobotMotion], jax.Array]
    low: float
    high: float


def _crowding(motion: RobotMotion) -> jax.Array:
    """How far joints are beyond 80 percent of their range, from 0 to 0.2."""
    return jnp.mean(jnp.maximum(jnp.abs(motion.joint_position) - 0.8, 0.0))


# `low` was measured with standard normal actions, clipped, over 16 episodes.
HALF_CHEETAH_OBJECTIVES: Mapping[str, Objective] = {
    "forward speed": Objective(lambda m: m.velocity[0], 0.0, 5.0),  # m/s
    "backward speed": Objective(lambda m: -m.velocity[0], 0.0, 5.0),  # m/s
    "energy": Objective(lambda m: -jnp.abs(m.power).sum(), -2200.0, 0.0),  # W
    "height": Objective(lambda m: m.height, 0.58, 1.0),  # m
    "smoothness": Objective(
        lambda m: -jnp.mean((m.action - m.previous_action) ** 2), -1.0, 0.0
    ),
    "joint limits": Objective(lambda m: -_crowding(m), -0.024, 0.0),
}


@dataclasses.dataclass(frozen=True)
class WeightedObjectives:
    """A reward function: sums of normalized objectives, weighted by the goal.

    The goal has shape [K], or [m, K] for a reward of m sums.

    Attributes:
      objectives: K of them.
    """

    objectives: tuple[Objective, ...]

    def __call__(self, goal: jax.Array, motion: RobotMotion) -> jax.Array:
        values = [
            (x.measure(motion) - x.low) / (x.high - x.low) for x in self.objectives
        ]
        return goal @ jnp.stack(values)


def objective_suite(
    robot: str,
    objectives: Mapping[str, Objective],
    *,
    weights: Mapping[str, Sequence[float]] | None = None,
    name: str = "objectives",
    episode_length: int = SHORT_EPISODE_LENGTH,
    vector_rewards: bool = False,
) -> FamilySuite:
    """One robot, and a task for every objective or weighting of objectives.

    Control costs nothing; make it an objective where it should.

    Args:
      robot: as in `pgx_jax.envs.locomotion.load_robot`.
      objectives: K objectives by name.
      weights: for every task, by its name, the weights of the K objectives; one task
        per objective if None.
      name: the suite's name.
      episode_length: steps after which an episode is truncated.
      vector_rewards: one task, whose reward is the vector of what would be the rewards
        of those tasks.

    Raises:
      ValueError: `vector_rewards` is no bool, there is no objective, one whose high is
        not above its low, or weights of another number than K.
    """
    check_switch("vector_rewards", vector_rewards)
    if not objectives:
        raise ValueError("objectives must hold at least one")
    for key, objective in objectives.items():
        if not objective.high > objective.low:
            raise ValueError(f"objective {key!r} must have high > low, got {objective}")
    num = len(objectives)
    rows = (
        dict(zip(objectives, np.eye(num), strict=True))
        if weights is None
        else {key: np.asarray(row, np.float32) for key, row in weights.items()}
    )
    for key, row in rows.items():
        if np.shape(row) != (num,):
            raise ValueError(
                f"weights of task {key!r} must be {num} numbers, one for each "
                f"objective, got {row}"
            )
    goals = np.stack([np.asarray(row, np.float32) for row in rows.values()])
    names = tuple(rows)
    return locomotion(
        robot,
        goals[None] if vector_rewards else goals,
        ("all objectives",) if vector_rewards else names,
        name=name,
        reward=WeightedObjectives(tuple(objectives.values())),
        control_cost=0.0,
        episode_length=episode_length,
        objective_names=names if vector_rewards else (),
    )


def half_cheetah_objectives(*, vector_rewards: bool = False) -> FamilySuite:
    """Six objectives of a half-cheetah.

    Forward and backward speed, little mechanical power, a high torso, smooth actions
    and joints away from their limits.

    Args:
      vector_rewards: as in `objective_suite`.
    """
    return objective_suite(
        "half_cheetah",
        HALF_CHEETAH_OBJECTIVES,
        name="half_cheetah_objectives",
        vector_rewards=vector_rewards,
    )
