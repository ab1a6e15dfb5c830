"""The policies of a run, or untrained ones."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from pgx_jax.envs import TaskIdSuite, TaskSuite, make_suite
from pgx_jax.networks.mlp import ActorCritic, make_actor_critic
from pgx_jax.pipeline.config import PipelineConfig
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
    method: str = "estimated groups",
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
    file = Path(workdir) / "config.json"
    if not file.exists():
        raise ValueError(f"workdir {str(workdir)!r} holds no run")
    stored = json.loads(file.read_text())
    config = PipelineConfig.from_dict(stored)
    suite = make_suite(config.suite.name)
    if config.suite.task_id:
        suite = TaskIdSuite.create(suite)
    actor_critic = make_actor_critic(
        suite.observation_size,
        suite.action_space.size,
        suite.action_space.discrete,
        **dataclasses.asdict(config.network),
    )
    directory = Workdir(workdir, stored)
    stage = _choose_stage(directory, stage)
    policy_ids = np.zeros(suite.num_tasks, np.int32)
    if stage == "group_training":
        stage, policy_ids = _find_method(directory, method)
    path = directory.latest_state(stage)
    if path is None:
        raise ValueError(
            f"workdir {str(workdir)!r} has no checkpoint of {method!r} yet"
        )
    params, statistics = _restore_policy(path)
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
      ValueError: there is no such stage, or it has no state yet.
    """
    saved = [x for x in TRAINING_STAGES if directory.latest_state(x) is not None]
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


def _find_method(directory: Workdir, method: str) -> tuple[str, np.ndarray]:
    """The stage that trains a method's policies, and each task's policy there."""
    policies = directory.read_policies()
    if policies is None:
        raise ValueError(
            f"workdir {str(directory.path)!r} lacks policies.json, as those of earlier "
            "versions do; the command of the run adds it"
        )
    if method not in policies:
        raise ValueError(f"method must be one of {', '.join(policies)}; got {method!r}")
    return policies[method]["stage"], np.array(policies[method]["policy_ids"][0])


def _restore_policy(path: Path) -> tuple[PyTree, RunningStatistics]:
    """Policy parameters and observation statistics.

    Read as NumPy arrays, whatever devices they were on, and without the environments
    and the optimizer, which are most of a checkpoint.
    """
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        wanted = {
            "params": {"policy": tree["params"]["policy"]},
            "observation_statistics": tree["observation_statistics"],
        }
        kind = ocp.RestoreArgs(restore_type=np.ndarray)
        state = checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=jax.tree.map(lambda _: kind, wanted),
                partial_restore=True,
            ),
        )
    statistics = RunningStatistics(**state["observation_statistics"])
    return state["params"]["policy"], statistics
