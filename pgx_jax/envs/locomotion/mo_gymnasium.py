"""Robots whose rewards are the vectors that MO-Gymnasium defines, in its units.

Rewards are those of `mo-halfcheetah-v5`, `mo-hopper-v5` and `mo-hopper-2obj-v5`; robots
are Brax's in MJX. What differs from MO-Gymnasium's, which step MuJoCo:

* velocities and heights are those before the last of a step's substeps, and actions are
  clipped to [-1, 1] before they cost anything, as in all robots here;
* the hopper earns one for being healthy in the step that it falls in, too;
* hoppers observe their height and velocities as Brax's do.

Source: MO-Gymnasium (Felten et al., "A toolkit for reliable benchmarking and research
in multi-objective reinforcement learning", 2023), version 5 of its MuJoCo environments.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.arguments import as_integer
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.locomotion.objectives import Objective, objective_suite
from pgx_jax.envs.locomotion.rewards import RobotMotion
from pgx_jax.envs.locomotion.tasks import EPISODE_LENGTH

HOPPER_HEIGHT = 1.25  # m, of the torso at the start
HOPPER_CONTROL_COST = 1e-3


def mo_half_cheetah(*, episode_length: int = EPISODE_LENGTH) -> FamilySuite:
    """`mo-halfcheetah-v5`: forward velocity in m/s, and minus the squared actions.

    Args:
      episode_length: steps after which an episode is truncated.
    """
    return _suite(
        "half_cheetah",
        {"forward velocity": _velocity, "control cost": _control_cost},
        "mo_half_cheetah",
        episode_length,
    )


def mo_hopper(
    num_objectives: int = 3, *, episode_length: int = EPISODE_LENGTH
) -> FamilySuite:
    """`mo-hopper-v5`, or `mo-hopper-2obj-v5` with two objectives.

    They are the forward velocity in m/s, ten times the height above the start in m, and
    minus the squared actions; one is added to each of them. With two objectives, 0.001
    times the squared actions is taken from both.

    Args:
      num_objectives: 2 or 3.
      episode_length: steps after which an episode is truncated.

    Raises:
      ValueError: `num_objectives` is neither.
    """
    num_objectives = as_integer("num_objectives", num_objectives, 2, 3)
    measures = {"forward velocity": _velocity, "height": _height}
    if num_objectives == 3:
        measures["control cost"] = _control_cost
    else:
        measures = {name: _charged(measure) for name, measure in measures.items()}
    return _suite("hopper", measures, f"mo_hopper_{num_objectives}", episode_length)


def _suite(robot, measures, name, episode_length) -> FamilySuite:
    return objective_suite(
        robot,
        # From 0 to 1: rewards stay in their units.
        {key: Objective(measure, 0.0, 1.0) for key, measure in measures.items()},
        name=name,
        episode_length=episode_length,
        vector_rewards=True,
    )


def _velocity(motion: RobotMotion) -> jax.Array:
    return motion.velocity[0]


def _height(motion: RobotMotion) -> jax.Array:
    return 10.0 * (motion.height - HOPPER_HEIGHT)


def _control_cost(motion: RobotMotion) -> jax.Array:
    return -jnp.sum(motion.action**2)


def _charged(measure):
    return lambda m: measure(m) + HOPPER_CONTROL_COST * _control_cost(m)
