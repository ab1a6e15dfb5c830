"""The policies of a run, or untrained ones."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax
import numpy as np

from pgx_jax.envs import TaskSuite
from pgx_jax.networks.actor_critic import ActorCritic, make_actor_critic
from pgx_jax.pipeline.policies import (
    ESTIMATED_GROUPS,
    find_method,
    rebuild,
    restore_policy,
)
from pgx_jax.runs.digests import Damaged
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.running_statistics import RunningStatistics
from pgx_jax.types import PyTree

TRAINING_STAGES = ("group_training", "meta_training")


class Policies(NamedTuple):
    """A policy for every task of a suite.

    Attributes:
      actor_critic: the networks.
      params: of the policies; leaves of shape [k, ...].
      observation_statistics: [k, observation_size].
      policy_ids: the policy of each task; int [n].
    """

    actor_critic: ActorCritic
    params: PyTree
    observation_statistics: RunningStatistics
    policy_ids: np.ndarray


def restore_policies(
    workdir: str | os.PathLike[str],
    stage: str | None = None,
    method: str = ESTIMATED_GROUPS,
) -> tuple[TaskSuite, Policies]:
    """The suite of a run and the policies that it has trained so far.

    Args:
      workdir: of the run, which may be under way.
      stage: "group_training" or "meta_training"; the later one that has a checkpoint if
        None.
      method: the way of grouping, as the report calls it; of those with several draws
        the first one counts. Not for meta-training.

    Raises:
      ValueError: there is no run, no checkpoint, no such stage or no such method; the
        message lists those that exist.
    """
    directory = Workdir.open(workdir)
    suite, actor_critic = rebuild(directory)
    stage = _choose_stage(directory, stage)
    policy_ids = np.zeros(suite.num_tasks, np.int32)
    if stage == "group_training":
        stage, draws = find_method(directory, method)
        policy_ids = draws[0]
    path = directory.latest_state(stage)
    if path is None:
        raise ValueError(
            f"workdir {str(workdir)!r} has no checkpoint of {method!r} yet"
        )
    params, statistics = restore_policy(path)
    return suite, Policies(actor_critic, params, statistics, policy_ids)


def untrained_policies(suite: TaskSuite, key: jax.Array) -> Policies:
    """One policy for all tasks, its parameters drawn at random.

    With actions sampled, not at their mode, it shows what an environment looks like.
    """
    actor_critic = make_actor_critic(
        suite.observation_size, suite.action_space.size, suite.action_space.discrete
    )
    policy = actor_critic.init(key)["policy"]
    return Policies(
        actor_critic,
        jax.tree.map(lambda x: x[None], policy),
        RunningStatistics.create(1, (suite.observation_size,)),
        np.zeros((suite.num_tasks,), np.int32),
    )


def _choose_stage(directory: Workdir, stage: str | None) -> str:
    """The stage asked for, or the later one that has a state.

    Raises:
      ValueError: there is no such stage, or it has no state yet or any more.
    """
    saved = [x for x in TRAINING_STAGES if directory.latest_state(x) is not None]
    if directory.is_finished("evaluation") and TRAINING_STAGES[0] not in saved:
        raise Damaged(
            f"{directory.path / 'stages' / TRAINING_STAGES[0]} is missing, though its "
            "policies were evaluated; the command of the run makes it again"
        )
    if stage is not None and stage not in TRAINING_STAGES:
        raise ValueError(
            f"stage must be one of {', '.join(TRAINING_STAGES)}, got {stage!r}"
        )
    if not saved or (stage is not None and stage not in saved):
        raise ValueError(
            f"workdir {str(directory.path)!r} has no checkpoint yet"
            + (f" of {stage}" if stage else "")
            + (f"; it has one of {', '.join(saved)}" if saved else "")
        )
    return stage or saved[0]
