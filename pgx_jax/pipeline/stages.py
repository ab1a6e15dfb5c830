"""The stages as functions: their inputs, their own settings and a key go in.

None touches the disk. Training is the runner's, since it is checkpointed on the way;
what it starts from is here.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgx_jax.envs import TaskSuite
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.pipeline.config import (
    AdaptationConfig,
    EvaluationConfig,
    GroupTrainingConfig,
    PipelineConfig,
)
from pgx_jax.pipeline.methods import Groupings
from pgx_jax.pipeline.policies import play_all
from pgx_jax.training.episodes import Episodes, count_steps, evaluate
from pgx_jax.training.learners import InnerConfig, choose_adapter, make_trainer
from pgx_jax.training.ppo import PPO, PPOConfig, TrainingState
from pgx_jax.training.running_statistics import RunningStatistics
from pgx_jax.types import PyTree

Arrays = dict[str, np.ndarray]


class Problem(NamedTuple):
    """The tasks, networks and settings of training of all stages.

    Attributes:
      suite: the n tasks.
      actor_critic: the networks of every policy.
      ppo: settings of the training step.
      inner: steps on one task.
      mesh: devices to split environments, episodes and transitions over; None for one.
    """

    suite: TaskSuite
    actor_critic: ActorCritic
    ppo: PPOConfig
    inner: InnerConfig = InnerConfig()
    mesh: Mesh | None = None

    def make_trainer(self, learner: str, num_updates: int | np.ndarray) -> PPO:
        """The training step of a learner; see `training.learners`."""
        return make_trainer(
            learner, self.ppo, self.actor_critic, num_updates, self.inner, self.mesh
        )


class Policies(NamedTuple):
    """The trained policies of every grouping.

    Attributes:
      params: leaves of shape [k, ...], policies in the order of groupings.
      observation_statistics: [k, observation_size].
      value_statistics: [groupings * n], or [groupings * n, K] of K objectives.
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


def count_group_updates(
    config: PipelineConfig,
    groupings: Groupings,
    estimate_steps: int,
    race_steps: int | None = None,
) -> np.ndarray:
    """PPO updates of every grouping that no race has trained.

    Methods that do without the estimate train for as long as its transitions take, and
    for as long as the meta-policy took where they do not start from it. After a
    race with `group_training.match_race`, all others train for as long as it took.

    Args:
      config: of the run.
      groupings: of all methods.
      estimate_steps: environment steps that the estimate's transitions took, of all
        tasks together.
      race_steps: environment steps that the race took, of all tasks together; None if
        there is none.

    Returns:
      int [groupings].
    """
    num_tasks = groupings.labels.shape[1]
    per_update = config.ppo.steps_per_update * num_tasks
    extra = -(-estimate_steps // per_update)
    if config.group_training.start != "meta":
        extra += config.meta_training.num_updates
    spared = np.where(groupings.uses_estimate, 0, extra)
    usual = config.group_training.num_updates
    if race_steps is not None and config.group_training.match_race:
        usual = -(-race_steps // per_update)
    return usual + spared


def start_groups(
    settings: GroupTrainingConfig,
    meta: TrainingState,
    policy_ids: np.ndarray,
    tasks: np.ndarray,
    ppo: PPO,
    suite: TaskSuite,
    key: jax.Array,
) -> TrainingState:
    """What group training starts from: policies for rows of tasks.

    Args:
      settings: of group training.
      meta: the meta-policy.
      policy_ids: the policy of every row; int [rows].
      tasks: the task of every row; int [rows].
      ppo: the training step.
      suite: the task of every row.
      key: of the environments and, from scratch, the parameters.
    """
    if settings.start != "meta":
        return ppo.init(suite, key, policy_ids)
    return ppo.init_from(
        suite,
        key,
        policy_ids,
        meta.params,
        meta.observation_statistics,
        jax.tree.map(lambda x: x[tasks], meta.value_statistics),
    )


def evaluate_groupings(
    problem: Problem,
    settings: EvaluationConfig,
    trained: Policies,
    groupings: Groupings,
    key: jax.Array,
    learner: str = "ppo",
) -> tuple[Arrays, int]:
    """Returns and successes of every grouping; [groupings, n, episodes].

    All groupings meet the same initial states and random numbers of a task. Those of
    sampled actions, where they are asked for, have "sampled_" before them. Policies of
    a meta-learner are adapted to every task first, in the steps they were trained for.
    """
    policy_ids = groupings.policy_ids
    trained, policy_ids, adapting_steps = adapt_rows(
        problem, trained, policy_ids, groupings.tasks, key, learner
    )
    shape = (len(groupings.labels), problem.suite.num_tasks, -1)
    kinds = [("", settings.deterministic)]
    if settings.sampled_too:
        kinds.append(("sampled_", False))
    values, steps = {}, adapting_steps
    for prefix, deterministic in kinds:
        result = _play(
            problem,
            trained,
            policy_ids,
            key,
            settings.num_episodes,
            deterministic,
            groupings.tasks,
        )
        values[f"{prefix}source"] = np.asarray(result.episode_return).reshape(shape)
        values[f"{prefix}success"] = np.asarray(result.episode_success).reshape(shape)
        steps += count_steps(problem.suite, result, policy_ids)
    return values, steps


def adapt_rows(
    problem: Problem,
    trained: Policies,
    policy_ids: np.ndarray,
    tasks: np.ndarray,
    key: jax.Array,
    learner: str,
) -> tuple[Policies, np.ndarray, int]:
    """Adapts policies of a meta-learner to the task of each row.

    Args:
      problem: the tasks.
      trained: the policies.
      policy_ids: the policy of every row; int [rows].
      tasks: the task of every row; int [rows].
      key: of the environments and the actions.
      learner: that has trained them.

    Returns:
      The policies, the policy of every row, and the environment steps taken: what was
      given and 0 where policies of the learner are used as they are.
    """
    adapter = choose_adapter(learner, problem.inner)
    if adapter is None:
        return trained, policy_ids, 0
    name, num_updates = adapter
    ppo = problem.make_trainer(name, num_updates)
    suite, rows = problem.suite.select(tasks), np.arange(len(tasks))
    params, observation = jax.tree.map(
        lambda x: x[policy_ids], (trained.params, trained.observation_statistics)
    )
    # Copies, as training gives the buffers of its state away.
    value = jax.tree.map(lambda x: x[rows], trained.value_statistics)
    start_key = jax.random.fold_in(key, 1)
    state = ppo.init_from(suite, start_key, rows, params, observation, value)
    state, _ = ppo.run(suite, state, num_updates)
    adapted = Policies(
        state.params, state.observation_statistics, state.value_statistics
    )
    steps = num_updates * ppo.config.steps_per_update * len(tasks)
    return adapted, rows.astype(np.int32), steps


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
    num_policies = groupings.group_counts
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
        mesh=problem.mesh,
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
    return {"target": returns}, count_steps(problem.suite, result, each.policy_ids)


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
        mesh=problem.mesh,
    )


def _policy_means(
    statistics: RunningStatistics, policy_ids: np.ndarray
) -> RunningStatistics:
    """Per-row statistics averaged over the rows of each policy; [k]."""
    num_policies = int(policy_ids.max()) + 1
    weights = jax.nn.one_hot(policy_ids, num_policies, axis=0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return jax.tree.map(lambda x: jnp.asarray(weights @ x), statistics)
