"""The stage "race": candidate groups are trained, and what they return decides.

Candidates are the partitions whose tasks have the most similar gradients, one policy
for all tasks, and single tasks. Every group that one of them has is trained once, all
side by side in one program. The best partition that can be made of those groups is
taken, with the policies that are trained already.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.analysis.gains import predict_gains
from pgx_jax.grouping.candidates import (
    affinity_scores,
    best_trained_partition,
    candidate_partitions,
)
from pgx_jax.pipeline import stages
from pgx_jax.pipeline.checks import stage_key
from pgx_jax.pipeline.config import GroupingConfig, PipelineConfig
from pgx_jax.pipeline.methods import Groupings, find_rows
from pgx_jax.pipeline.results import Expected, GroupGain
from pgx_jax.pipeline.runner import Runner
from pgx_jax.pipeline.stages import Arrays, Policies, Problem
from pgx_jax.training.episodes import count_steps, evaluate
from pgx_jax.training.ppo import TrainingState


class Race(NamedTuple):
    """What a race has trained.

    Attributes:
      subsets: the groups; bool [t, n].
      trained: a policy for each; rows are those of `subsets`, then of tasks.
      returns: mean return of each of its tasks, NaN of others; [t, n].
      env_steps: of training and of the episodes that decide, all tasks together.
    """

    subsets: np.ndarray
    trained: Policies
    returns: np.ndarray
    env_steps: int


def run_race(
    config: PipelineConfig,
    runner: Runner,
    meta: TrainingState,
    similarity: np.ndarray,
) -> Race:
    """Trains and evaluates the groups of all candidates.

    Args:
      config: of the run.
      runner: of its stages.
      meta: the meta-policy.
      similarity: of task gradients; [n, n].
    """
    problem = runner.problem
    subsets = list_groups(config.grouping, similarity)
    policy_ids, tasks = np.nonzero(subsets)
    training = config.group_training
    ppo = problem.make_trainer(training.learner, training.num_updates)
    train_key, evaluate_key = jax.random.split(stage_key(config.seed, "race"))
    num_tasks = problem.suite.num_tasks
    state = runner.train(
        "race_training",
        ppo,
        problem.suite,
        tasks,
        lambda suite: stages.start_groups(
            config.group_training, meta, policy_ids, tasks, ppo, suite, train_key
        ),
        np.arange(num_tasks),  # of one policy, which comes first
        logged=np.arange(len(tasks)),
    )
    trained = Policies(
        state.params, state.observation_statistics, state.value_statistics
    )
    played = runner.once(
        "race_evaluation",
        lambda: _evaluate(config, problem, trained, policy_ids, tasks, evaluate_key),
    )
    returns = np.full(subsets.shape, np.nan)
    returns[subsets] = played["returns"]
    names = ("race_training", "race_evaluation")
    steps = sum(int(runner.directory.info(x)["env_steps"]) for x in names)
    return Race(subsets, trained, returns, steps)


def list_groups(settings: GroupingConfig, similarity: np.ndarray) -> np.ndarray:
    """The groups to train, all tasks together first; bool [t, n]."""
    num_tasks = len(similarity)
    candidates = candidate_partitions(
        similarity, settings.num_groups, settings.num_candidates
    )
    for k in settings.other_num_groups:
        candidates += candidate_partitions(similarity, k, 1)
    groups = [np.ones((1, num_tasks), bool), np.eye(num_tasks, dtype=bool)]
    groups += [x.labels == np.arange(x.num_groups)[:, None] for x in candidates]
    every = np.concatenate(groups)
    first = np.unique(every, axis=0, return_index=True)[1]
    return every[np.sort(first)]


def choose_raced_groups(settings: GroupingConfig, race: Race) -> Arrays:
    """The best partitions of the groups trained, as `choose_groups` names them."""
    found = best_trained_partition(race.subsets, race.returns, settings.num_groups)
    labels = {"estimated": found.labels}
    for k in settings.other_num_groups:
        other = best_trained_partition(race.subsets, race.returns, k)
        labels[f"estimated_{k}"] = other.labels
    return labels


def measure_gains(race: Race, similarity: np.ndarray) -> list[GroupGain]:
    """What the best partition into every number of groups is expected to gain."""
    gains = []
    for k in range(1, race.subsets.shape[1] + 1):
        try:
            found = best_trained_partition(race.subsets, race.returns, k)
        except ValueError:  # none of the groups trained make a partition into k
            continue
        gain = predict_gains(
            race.subsets, race.returns, found.labels, affinity=similarity
        )
        assert found.objective is not None  # as of every partition found there
        gains.append(
            GroupGain(
                num_groups=k,
                labels=found.labels.tolist(),
                measured=found.objective / len(found.labels),
                over_one_policy=Expected(**gain.over_one_policy._asdict()),
                over_single_tasks=Expected(**gain.over_single_tasks._asdict()),
                over_random_groups=Expected(**gain.over_random_groups._asdict()),
            )
        )
    return gains


def predict_similarity(similarity: np.ndarray, draws: np.ndarray) -> list[float]:
    """The mean over tasks of their similarity to the tasks of their group.

    Args:
      similarity: of task gradients; [n, n].
      draws: labels of every partition; int [draws, n].
    """
    values = []
    for labels in draws:
        groups = labels == np.arange(labels.max() + 1)[:, None]
        values.append(float(affinity_scores(similarity, groups).sum()) / len(labels))
    return values


def join_policies(race: Race, groupings: Groupings, rest: Policies) -> Policies:
    """The policies of all groupings: a race's, then those trained without one.

    Args:
      race: has the groups of the groupings that it has trained, which come first.
      groupings: of all methods.
      rest: of the other groupings.
    """
    raced = groupings.labels[groupings.raced]
    of_task = [find_rows(race.subsets, labels) for labels in raced]
    policies = np.concatenate(
        [
            ids[np.unique(labels, return_index=True)[1]]
            for ids, labels in zip(of_task, raced, strict=True)
        ]
    )
    rows = np.concatenate([race_rows(race, labels) for labels in raced])

    def join(index):
        return lambda first, second: jnp.concatenate([first[index], second])

    params, observation, value = race.trained
    return Policies(
        jax.tree.map(join(policies), params, rest.params),
        jax.tree.map(join(policies), observation, rest.observation_statistics),
        jax.tree.map(join(rows), value, rest.value_statistics),
    )


def race_rows(race: Race, labels: np.ndarray) -> np.ndarray:
    """The row of training of every task, under the policy of its group; int [n]."""
    rows = np.full(race.subsets.shape, -1)
    rows[race.subsets] = np.arange(race.subsets.sum())
    return rows[find_rows(race.subsets, labels), np.arange(len(labels))]


def _evaluate(
    config: PipelineConfig,
    problem: Problem,
    trained: Policies,
    policy_ids: np.ndarray,
    tasks: np.ndarray,
    key: jax.Array,
) -> tuple[Arrays, int]:
    """Mean returns of all rows, and the steps that it took."""
    trained, policy_ids, adapting_steps = stages.adapt_rows(
        problem, trained, policy_ids, tasks, key, config.group_training.learner
    )
    result = evaluate(
        problem.suite,
        problem.actor_critic,
        trained.params["policy"],
        trained.observation_statistics,
        policy_ids,
        key,
        config.grouping.num_race_episodes,
        deterministic=config.evaluation.deterministic,
        tasks=tasks,
        mesh=problem.mesh,
    )
    returns = np.asarray(result.episode_return).mean(axis=1)
    steps = count_steps(problem.suite, result, policy_ids)
    return {"returns": returns}, steps + adapting_steps
