"""The stages as functions: their inputs, their own settings and a key go in.

None touches the disk. Training is the runner's, since it is checkpointed on the way;
what it starts from is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge
from pgx_jax.envs import TaskSuite
from pgx_jax.evaluation.rollouts import RolloutEvaluator
from pgx_jax.networks.mlp import ActorCritic
from pgx_jax.pipeline.config import (
    AdaptationConfig,
    EstimationConfig,
    EvaluationConfig,
    GroupingConfig,
    GroupTrainingConfig,
    PipelineConfig,
)
from pgx_jax.pipeline.methods import Groupings
from pgx_jax.pipeline.policies import play_all
from pgx_jax.training.episodes import Episodes, evaluate
from pgx_jax.training.ppo import PPO, PPOConfig, TrainingState
from pgx_jax.training.running_statistics import RunningStatistics
from pgx_jax.types import PyTree

Arrays = dict[str, np.ndarray]


class Problem(NamedTuple):
    """The tasks, networks and PPO settings of all stages.

    Attributes:
      suite: the n tasks.
      actor_critic: the networks of every policy.
      ppo: settings of the training step.
    """

    suite: TaskSuite
    actor_critic: ActorCritic
    ppo: PPOConfig


class Policies(NamedTuple):
    """The trained policies of every grouping.

    Attributes:
      params: leaves of shape [k, ...], policies in the order of groupings.
      observation_statistics: [k, observation_size].
      value_statistics: [groupings * n].
    """

    params: PyTree
    observation_statistics: RunningStatistics
    value_statistics: RunningStatistics


class Adaptation(NamedTuple):
    """The result of adapting to target tasks.

    Attributes:
      returns: after adaptation; float32 [groupings, targets, episodes].
      env_steps: of choosing the policies and of adapting them; int [groupings].
    """

    returns: np.ndarray
    env_steps: np.ndarray


def estimate(
    problem: Problem,
    settings: EstimationConfig,
    meta: TrainingState,
    subsets: np.ndarray,
    key: jax.Array,
) -> tuple[Arrays, int]:
    """Estimates all subsets, and the affinities that follow.

    Args:
      problem: the tasks and networks.
      settings: of the estimate.
      meta: the meta-policy.
      subsets: bool [m, n].
      key: of the transitions, the estimate and the bootstrap.

    Returns:
      Arrays by name, and the environment steps taken.
    """
    suite, actor_critic, ppo = problem
    collect_key, estimate_key, affinity_key = jax.random.split(key, 3)
    batch = PPO(ppo, actor_critic, 1).collect_transitions(
        suite, meta, collect_key, settings.num_transitions
    )
    policy = jax.tree.map(lambda x: x[0], meta.params["policy"])
    estimates = pge.estimate_subsets(
        actor_critic.log_prob,
        policy,
        batch,
        subsets,
        key=estimate_key,
        dim=settings.dim,
        l2=settings.l2,
        max_relative_distance=(
            "auto"
            if settings.max_relative_distance is None
            else settings.max_relative_distance
        ),
        held_out_fraction=settings.held_out_fraction,
        evaluator=_evaluator(problem, settings, meta),
        feature_precision=settings.feature_precision,
        num_resamples=settings.num_resamples,
        resample_length=settings.resample_length,
    )
    affinity = pge.task_affinity(
        estimates,
        score=settings.score,
        key=affinity_key if settings.num_resamples else None,
    )
    similarity = pge.gradient_similarity(
        actor_critic.log_prob, policy, batch, center_features=None
    )
    result = {
        "subsets": estimates.subsets,
        "scores": estimates.scores,
        "converged": estimates.converged,
        "relative_distance": estimates.relative_distance,
        "affinity": affinity.matrix,
        "pair_counts": affinity.pair_counts,
        "gradient_similarity": similarity.matrix,
    }
    if settings.num_resamples:
        result |= {
            "lower": affinity.lower,
            "upper": affinity.upper,
            "resamples": affinity.resamples,
        }
    steps = settings.num_transitions * suite.num_tasks
    if settings.evaluator == "rollout":  # at most: episodes may end sooner
        episodes = int(subsets.sum()) * settings.num_rollouts
        steps += episodes * suite.episode_length
    return jax.device_get(result), steps


def _evaluator(
    problem: Problem, settings: EstimationConfig, meta: TrainingState
) -> str | RolloutEvaluator:
    """What scores the adapted policies."""
    if settings.evaluator != "rollout":
        return settings.evaluator
    return RolloutEvaluator(
        problem.suite,
        problem.actor_critic,
        meta.observation_statistics,
        num_episodes=settings.num_rollouts,
    )


def choose_groups(
    settings: GroupingConfig,
    score: str,
    estimates: Mapping[str, np.ndarray],
    key: jax.Array,
) -> Arrays:
    """Labels by every way of grouping; "random" has one row per draw.

    Args:
      settings: of the groups.
      score: the one that the affinity is of.
      estimates: what `estimate` returned.
      key: of the random groups.
    """
    resamples = estimates.get("resamples")
    affinity = pge.Affinity(
        jnp.asarray(estimates["affinity"]),
        jnp.asarray(estimates["pair_counts"]),
        resamples=None if resamples is None else jnp.asarray(resamples),
    )
    num_tasks = len(affinity.matrix)
    if score == "transfer_gain":
        affinity = affinity._replace(alone=jnp.zeros(num_tasks))
    num_groups = settings.num_groups
    estimated = pge.cluster_tasks(affinity, num_groups)
    similar = pge.cluster_tasks(estimates["gradient_similarity"], num_groups)
    result = {"estimated": estimated.labels, "similarity": similar.labels}
    for k in settings.other_num_groups:
        result[f"estimated_{k}"] = pge.cluster_tasks(affinity, k).labels
    if affinity.resamples is not None:
        stability = pge.grouping_stability(affinity, estimated, num_groups)
        result |= stability._asdict()
    if settings.num_random_draws:
        sizes = np.bincount(estimated.labels)
        draws = [
            pge.random_grouping(draw_key, num_tasks, sizes=sizes)
            for draw_key in jax.random.split(key, settings.num_random_draws)
        ]
        result["random"] = np.stack([draw.labels for draw in draws])
    return result


def count_group_updates(config: PipelineConfig, groupings: Groupings) -> np.ndarray:
    """PPO updates of every grouping, so that all take as many environment steps.

    Methods that do without the estimate train for as long as its transitions take, and
    for as long as the meta-policy took where they do not start from it.

    Returns:
      int [groupings].
    """
    extra = -(-config.estimation.num_transitions // config.ppo.steps_per_update)
    if config.group_training.start != "meta":
        extra += config.meta_training.num_updates
    spared = np.where(groupings.uses_estimate, 0, extra)
    return config.group_training.num_updates + spared


def start_groups(
    settings: GroupTrainingConfig,
    meta: TrainingState,
    part: Groupings,
    ppo: PPO,
    suite: TaskSuite,
    key: jax.Array,
) -> TrainingState:
    """What group training starts from: one policy for each group of some groupings.

    Args:
      settings: of group training.
      meta: the meta-policy.
      part: groupings that train in one program.
      ppo: the training step.
      suite: the task of every row.
      key: of the environments and, from scratch, the parameters.
    """
    if settings.start != "meta":
        return ppo.init(suite, key, part.policy_ids)
    return ppo.init_from(
        suite,
        key,
        part.policy_ids,
        meta.params,
        meta.observation_statistics,
        jax.tree.map(lambda x: x[part.tasks], meta.value_statistics),
    )


def evaluate_groupings(
    problem: Problem,
    settings: EvaluationConfig,
    trained: Policies,
    groupings: Groupings,
    key: jax.Array,
) -> tuple[Arrays, int]:
    """Returns and successes of every grouping; [groupings, n, episodes].

    All groupings meet the same initial states and random numbers of a task. Those of
    sampled actions, where they are asked for, have "sampled_" before them.
    """
    shape = (len(groupings.labels), problem.suite.num_tasks, -1)
    kinds = [("", settings.deterministic)]
    if settings.sampled_too:
        kinds.append(("sampled_", False))
    values, steps = {}, 0
    for prefix, deterministic in kinds:
        result = _play(
            problem,
            trained,
            groupings.policy_ids,
            key,
            settings.num_episodes,
            deterministic,
            groupings.tasks,
        )
        values[f"{prefix}source"] = np.asarray(result.episode_return).reshape(shape)
        values[f"{prefix}success"] = np.asarray(result.episode_success).reshape(shape)
        steps += int(np.asarray(result.episode_length).sum())
    return values, steps


def select_policies(
    problem: Problem,
    settings: AdaptationConfig,
    deterministic: bool,
    trained: Policies,
    groupings: Groupings,
    key: jax.Array,
) -> tuple[Arrays, int]:
    """The policy of every grouping that does best on each target task, unadapted.

    Args:
      problem: the target tasks.
      settings: of adaptation.
      deterministic: whether to take the most likely action.
      trained: policies of all groupings.
      groupings: of the source tasks.
      key: of the episodes.

    Returns:
      "best": the policy's number; int32 [groupings, targets]. "steps": environment
      steps of the choice, the mean over groupings of equally many policies, so that the
      random length of episodes gives none of them a longer adaptation; int [groupings].
      Then the steps of all.
    """
    num_targets = problem.suite.num_tasks
    first = np.array([first for first, _ in groupings.policy_ranges])
    num_policies = groupings.labels.max(axis=1) + 1
    best = np.tile(first[:, None], num_targets).astype(np.int32)
    steps = np.zeros(len(first), int)
    choosing = np.flatnonzero(num_policies > 1)
    if not choosing.size:
        return {"best": best, "steps": steps}, 0
    ranges = [groupings.policy_ranges[i] for i in choosing]
    played = np.concatenate([np.arange(*ends) for ends in ranges])
    returns, lengths = play_all(
        problem.suite,
        problem.actor_critic,
        trained.params["policy"],
        trained.observation_statistics,
        played,
        key,
        settings.num_selection_episodes,
        deterministic=deterministic,
    )
    for i, (start, end) in zip(choosing, ranges, strict=True):
        mine = (played >= start) & (played < end)
        best[i] += np.argmax(returns[mine], axis=0)
        steps[i] = lengths[mine].sum()
    for count in np.unique(num_policies[choosing]):
        steps[num_policies == count] = steps[num_policies == count].mean()
    return {"best": best, "steps": steps}, int(lengths.sum())


def count_adaptation_updates(
    settings: AdaptationConfig,
    ppo: PPOConfig,
    selection_steps: np.ndarray,
    num_targets: int,
) -> np.ndarray:
    """PPO updates of every grouping's adaptation, in place of steps not spent before.

    Returns:
      int [groupings].
    """
    spared = selection_steps.max() - selection_steps
    extra = np.ceil(spared / (ppo.steps_per_update * num_targets)).astype(int)
    return settings.num_updates + extra


def start_adaptation(
    trained: Policies,
    groupings: Groupings,
    policies: np.ndarray,
    ppo: PPO,
    suite: TaskSuite,
    key: jax.Array,
) -> TrainingState:
    """What adaptation starts from: one trained policy for each row of target tasks.

    Args:
      trained: policies of all groupings.
      groupings: of the source tasks.
      policies: the policy of every row; int [rows].
      ppo: the training step.
      suite: the target task of every row.
      key: of the environments.
    """
    values = _policy_means(trained.value_statistics, groupings.policy_ids)
    chosen = jax.tree.map(
        lambda x: x[policies], (trained.params, trained.observation_statistics, values)
    )
    return ppo.init_from(suite, key, np.arange(len(policies)), *chosen)


def evaluate_adapted(
    problem: Problem,
    settings: EvaluationConfig,
    adapted: Policies,
    each: Groupings,
    key: jax.Array,
) -> tuple[Arrays, int]:
    """Returns on target tasks after adaptation; "target" [groupings, targets, ...]."""
    result = _play(
        problem,
        adapted,
        each.policy_ids,
        key,
        settings.num_episodes,
        settings.deterministic,
        each.tasks,
    )
    shape = (len(each.labels), problem.suite.num_tasks, -1)
    returns = np.asarray(result.episode_return).reshape(shape)
    return {"target": returns}, int(np.asarray(result.episode_length).sum())


def _play(
    problem: Problem,
    policies: Policies,
    policy_ids: np.ndarray,
    key: jax.Array,
    num_episodes: int,
    deterministic: bool,
    tasks: np.ndarray,
) -> Episodes:
    return evaluate(
        problem.suite,
        problem.actor_critic,
        policies.params["policy"],
        policies.observation_statistics,
        jnp.asarray(policy_ids, jnp.int32),
        key,
        num_episodes,
        deterministic=deterministic,
        tasks=tasks,
    )


def _policy_means(
    statistics: RunningStatistics, policy_ids: np.ndarray
) -> RunningStatistics:
    """Per-row statistics averaged over the rows of each policy; [k]."""
    num_policies = int(policy_ids.max()) + 1
    weights = jax.nn.one_hot(policy_ids, num_policies, axis=0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return jax.tree.map(lambda x: jnp.asarray(weights @ x), statistics)
