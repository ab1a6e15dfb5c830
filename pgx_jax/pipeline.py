"""The five stages in order, resumable between and inside them.

    meta_training -> estimation -> grouping -> group_training -> evaluation
                                                      -> adaptation (target tasks)

Methods are compared at equal numbers of environment steps, to within one update: those
that do without the estimate's transitions train for longer, and so do groupings that
spend less on choosing the policy to adapt.

Each stage leaves its result in the workdir and is not run again. Training stages also
checkpoint their whole state, so that a run that was killed goes on from there and ends
with the same numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pgx
from pgx_jax.analysis.scalarization import Scalarization
from pgx_jax.analysis.statistics import normalized_mutual_information
from pgx_jax.config import PipelineConfig
from pgx_jax.envs import SUITES, TaskIdSuite, TaskSuite, make_suite
from pgx_jax.estimation.estimate import PRECISIONS
from pgx_jax.estimation.evaluators import EVALUATORS
from pgx_jax.grouping.affinity import SCORES
from pgx_jax.grouping.clustering import number_labels
from pgx_jax.networks.mlp import ActorCritic, make_actor_critic
from pgx_jax.reporting.page import write_report
from pgx_jax.results import RunResults
from pgx_jax.runs.metrics import MetricsWriter, read_metrics
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.provenance import describe
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.diagnostics import first_nonfinite, on_host
from pgx_jax.training.evaluate import evaluate
from pgx_jax.training.ppo import PPO, TrainingState
from pgx_jax.training.rollout import RolloutEvaluator
from pgx_jax.training.statistics import RunningStatistics

PyTree = Any
STAGES = (
    "meta_training",
    "estimation",
    "grouping",
    "group_training",
    "evaluation",
    "adaptation",
)
# Share of a task's steps between two checkpoints that may diverge.
MOST_DIVERGENCES = 0.1


class TrainingDiverged(RuntimeError):
    """Training met a number that is not finite; the last good checkpoint is kept."""


class Method(NamedTuple):
    """One way of grouping the tasks.

    Attributes:
      name: as tables and figures call it.
      description: one sentence.
      grouping: the key of its labels in the report; one of several draws' if there are
        several.
      draws: labels of every draw; int [draws, n].
      uses_estimate: whether it needs the transitions of the estimate.
    """

    name: str
    description: str
    grouping: str
    draws: np.ndarray
    uses_estimate: bool = False

    @property
    def num_policies(self) -> int:
        """Policies of one draw."""
        return int(self.draws.max()) + 1


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


def run_pipeline(
    config: PipelineConfig,
    workdir: str | os.PathLike[str],
    *,
    command: str = "",
    tensorboard: bool = True,
    progress: Progress | None = None,
) -> tuple[RunResults, Path]:
    """Runs all stages that the workdir has no result of, and writes the report.

    Args:
      config: the settings.
      workdir: directory of the run.
      command: that started the run, for the report.
      tensorboard: whether to write TensorBoard events beside `metrics.jsonl`.
      progress: where to show progress; standard output if None.

    Returns:
      The results, and the path of the report.

    Raises:
      ValueError: a setting is not allowed, or the workdir is of another config.
      OSError: the workdir cannot be written to.
      TrainingDiverged: training met a NaN or an infinity.
    """
    suite = _make_checked_suite(config)
    actor_critic = make_networks(config, suite)
    directory = Workdir(workdir, config.to_dict())
    with (
        progress or Progress() as shown,
        MetricsWriter(
            directory.path, tensorboard=tensorboard, task_names=suite.task_names
        ) as writer,
    ):
        run = Run(config, suite, actor_critic, directory, writer, shown)
        results = run.results(command)
    results.to_json(directory.path / "results.json")
    return results, write_report(results, directory.path)


def _make_checked_suite(config: PipelineConfig) -> TaskSuite:
    """The suite, once every setting that depends on it has been found possible."""
    suite = make_suite(config.suite.name)
    if config.suite.task_id:
        suite = TaskIdSuite.create(suite)
    num_tasks = suite.num_tasks
    estimation, num_groups = config.estimation, config.grouping.num_groups
    if num_tasks < 2:
        raise ValueError(
            f"config field 'suite.name': {suite.name!r} has one task; there is nothing "
            "to group"
        )
    if not 0 <= num_groups <= num_tasks:
        raise ValueError(
            f"config field 'grouping.num_groups' must be 0 (choose it) or at most the "
            f"{num_tasks} tasks of {suite.name!r}, got {num_groups}"
        )
    others = config.grouping.other_num_groups
    if not all(1 <= k <= num_tasks for k in others) or len({*others}) < len(others):
        raise ValueError(
            "config field 'grouping.other_num_groups' must be different numbers of at "
            f"least 1 and at most the {num_tasks} tasks of {suite.name!r}, got {others}"
        )
    planted = getattr(suite, "planted_labels", None)
    if planted is not None and len(planted) != num_tasks:
        raise ValueError(
            f"planted_labels of suite {suite.name!r} must be {num_tasks} labels, one "
            f"for each task, got {len(planted)}"
        )
    for field, value, allowed in (
        ("evaluator", estimation.evaluator, (*EVALUATORS, "rollout")),
        ("score", estimation.score, SCORES),
        ("feature_precision", estimation.feature_precision, PRECISIONS),
    ):
        if value not in allowed:
            raise ValueError(
                f"config field 'estimation.{field}' must be one of "
                f"{', '.join(allowed)}, got {value!r}"
            )
    if estimation.num_transitions % config.ppo.num_envs:
        raise ValueError(
            "config field 'estimation.num_transitions' must be a multiple of "
            f"ppo.num_envs = {config.ppo.num_envs}, got {estimation.num_transitions}"
        )
    for field in ("max_relative_distance", "num_resamples"):
        if getattr(estimation, field) < 0:
            raise ValueError(
                f"config field 'estimation.{field}' must not be negative, got "
                f"{getattr(estimation, field)}"
            )
    if config.checkpoint_every < 1:
        raise ValueError(
            f"config field 'checkpoint_every' must be at least 1, got "
            f"{config.checkpoint_every}"
        )
    if config.adaptation.num_updates and "target" not in SUITES[config.suite.name]:
        raise ValueError(
            f"config field 'adaptation.num_updates' must be 0, since {suite.name!r} "
            "has no target tasks"
        )
    if config.adaptation.num_updates and config.suite.task_id:
        raise ValueError(
            "config field 'suite.task_id' must be False for adaptation: a target task "
            "has no id among the source tasks"
        )
    # Drawn here once, so that what cannot be sampled is refused before training.
    _sample_subsets(config, num_tasks)
    return suite


def make_networks(config: PipelineConfig, suite: TaskSuite) -> ActorCritic:
    """The networks of the config, in the sizes of the suite."""
    return make_actor_critic(
        suite.observation_size,
        suite.action_space.size,
        suite.action_space.discrete,
        config.network.hidden_sizes,
        config.network.activation,
        config.network.bounded_mean,
    )


def reports_success(suite: TaskSuite) -> bool:
    """Whether the tasks tell success, by `metrics["success"]` of their environment."""
    state = jax.eval_shape(lambda key: suite.reset(key, 1), jax.random.key(0))
    return "success" in getattr(state.env_state, "metrics", {})


def _sample_subsets(config: PipelineConfig, num_tasks: int) -> np.ndarray:
    estimation = config.estimation
    return pgx.sample_subsets(
        # Those before are the keys of the stages.
        jax.random.fold_in(jax.random.key(config.seed), len(STAGES)),
        num_tasks,
        estimation.num_subsets,
        estimation.subset_size,
        singletons=estimation.score == "transfer_gain",
    )


class Run:
    """What the stages of one run share."""

    def __init__(self, config, suite, actor_critic, directory, writer, progress):
        self.config: PipelineConfig = config
        self.suite: TaskSuite = suite
        self.actor_critic: ActorCritic = actor_critic
        self.directory: Workdir = directory
        self.writer: MetricsWriter = writer
        self.progress: Progress = progress
        self.stages: list[str] = []  # finished ones, in their order

    def key(self, stage: str) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.config.seed), STAGES.index(stage))

    # The stages.

    def meta_training(self) -> TrainingState:
        """Trains one policy on all tasks."""
        num_updates = self.config.meta_training.num_updates
        ppo = PPO(self.config.ppo, self.actor_critic, num_updates)
        start = ppo.init(self.suite, self.key("meta_training"))
        names = self.suite.task_names
        rows = np.arange(len(names))
        return self._train("meta_training", ppo, self.suite, start, names, rows)

    def estimation(self, meta: TrainingState) -> dict[str, np.ndarray]:
        """Estimates all subsets, and the affinities that follow."""
        settings = self.config.estimation
        ppo = PPO(self.config.ppo, self.actor_critic, 1)

        def estimate():
            collect_key, estimate_key, affinity_key = jax.random.split(
                self.key("estimation"), 3
            )
            batch = ppo.collect_transitions(
                self.suite, meta, collect_key, settings.num_transitions
            )
            policy = jax.tree.map(lambda x: x[0], meta.params["policy"])
            subsets = _sample_subsets(self.config, self.suite.num_tasks)
            estimates = pgx.estimate_subsets(
                self.actor_critic.log_prob,
                policy,
                batch,
                subsets,
                key=estimate_key,
                dim=settings.dim,
                l2=settings.l2,
                max_relative_distance=settings.max_relative_distance or "auto",
                held_out_fraction=settings.held_out_fraction,
                evaluator=self.evaluator(meta),
                feature_precision=settings.feature_precision,
                num_resamples=settings.num_resamples,
                resample_length=settings.resample_length,
            )
            affinity = pgx.task_affinity(
                estimates,
                score=settings.score,
                key=affinity_key if settings.num_resamples else None,
            )
            similarity = pgx.gradient_similarity(
                self.actor_critic.log_prob, policy, batch, center_features=None
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
            steps = settings.num_transitions * self.suite.num_tasks
            if settings.evaluator == "rollout":  # at most: episodes may end sooner
                episodes = int(subsets.sum()) * settings.num_rollouts
                steps += episodes * self.suite.episode_length
            return jax.device_get(result), {"env_steps": steps}

        return self._once("estimation", estimate)

    def evaluator(self, meta: TrainingState) -> str | RolloutEvaluator:
        """What scores the adapted policies."""
        settings = self.config.estimation
        if settings.evaluator != "rollout":
            return settings.evaluator
        return RolloutEvaluator(
            self.suite,
            self.actor_critic,
            meta.observation_statistics,
            num_episodes=settings.num_rollouts,
        )

    def grouping(self, estimates: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Labels by every way of grouping; "random" has one row per draw."""
        settings = self.config.grouping
        affinity = pgx.Affinity(
            estimates["affinity"],
            estimates["pair_counts"],
            resamples=estimates.get("resamples"),
        )
        if self.config.estimation.score == "transfer_gain":
            affinity = affinity._replace(alone=np.zeros(self.suite.num_tasks))

        def group():
            num_groups = settings.num_groups or None
            estimated = pgx.cluster_tasks(affinity, num_groups)
            similar = pgx.cluster_tasks(estimates["gradient_similarity"], num_groups)
            result = {"estimated": estimated.labels, "similarity": similar.labels}
            for k in settings.other_num_groups:
                other = pgx.cluster_tasks(affinity, k)
                result[f"estimated_{k}"] = other.labels
            if affinity.resamples is not None:
                stability = pgx.grouping_stability(affinity, estimated, num_groups)
                result |= stability._asdict()
            if settings.num_random_draws:
                keys = jax.random.split(self.key("grouping"), settings.num_random_draws)
                sizes = np.bincount(estimated.labels)
                draws = [
                    pgx.random_grouping(key, self.suite.num_tasks, sizes=sizes)
                    for key in keys
                ]
                result["random"] = np.stack([draw.labels for draw in draws])
            return result, {}

        return self._once("grouping", group)

    def methods(self, labels: Mapping[str, np.ndarray]) -> list[Method]:
        """The estimated groups, and what they are compared with."""
        num_tasks = self.suite.num_tasks
        methods = [
            Method(
                "estimated groups",
                "One policy per group of the estimated affinity.",
                "estimated",
                labels["estimated"][None],
                uses_estimate=True,
            ),
            *(
                Method(
                    f"estimated groups, k = {k}",
                    "The same, with another number of groups.",
                    f"estimated, k = {k}",
                    labels[f"estimated_{k}"][None],
                    uses_estimate=True,
                )
                for k in self.config.grouping.other_num_groups
            ),
            Method(
                "one policy",
                "One policy for all tasks.",
                "one policy",
                np.zeros((1, num_tasks), np.int32),
            ),
        ]
        if "random" in labels:
            methods.append(
                Method(
                    "random groups",
                    "One policy per group, groups of the same sizes drawn at random.",
                    "random",
                    labels["random"],
                )
            )
        methods.append(
            Method(
                "gradient similarity",
                "One policy per group of the cosine similarity of task gradients.",
                "gradient similarity",
                labels["similarity"][None],
                uses_estimate=True,
            )
        )
        if self.planted is not None:
            methods.append(
                Method(
                    "planted groups",
                    "One policy per group, the groups known beforehand.",
                    "planted",
                    self.planted[None],
                )
            )
        if self.config.grouping.single_tasks:
            methods.append(
                Method(
                    "single tasks",
                    "One policy per task.",
                    "single tasks",
                    np.arange(num_tasks, dtype=np.int32)[None],
                )
            )
        return [
            method._replace(draws=np.stack([number_labels(x) for x in method.draws]))
            for method in methods
        ]

    @property
    def planted(self) -> np.ndarray | None:
        labels = getattr(self.suite, "planted_labels", None)
        return None if labels is None else number_labels(np.asarray(labels))

    @functools.cached_property
    def tells_success(self) -> bool:
        return reports_success(self.suite)

    def group_updates(self, groupings: Groupings) -> np.ndarray:
        """PPO updates of every grouping, so that all take as many environment steps.

        Methods that do without the estimate train for as long as its transitions take,
        and for as long as the meta-policy took where they do not start from it.
        """
        settings = self.config.group_training
        saved = self.config.estimation.num_transitions
        extra = -(-saved // self.config.ppo.steps_per_update)
        if settings.start != "meta":
            extra += self.config.meta_training.num_updates
        return settings.num_updates + np.where(groupings.uses_estimate, 0, extra)

    def write_policies(self, methods: list[Method], groupings: Groupings) -> None:
        """Stores where the policies of every method will be, for those who use them."""
        places = {}
        updates = self.group_updates(groupings)
        for stage, _, chosen in _training_parts("group_training", updates):
            ids = groupings.subset(chosen).policy_ids.reshape(len(chosen), -1)
            for method, draws in zip(methods, groupings.of_method, strict=True):
                if draws[0] in chosen:
                    ids_of_draws = ids[np.searchsorted(chosen, draws)]
                    places[method.name] = {
                        "stage": stage,
                        "policy_ids": ids_of_draws.tolist(),
                    }
        self.directory.write_policies({m.name: places[m.name] for m in methods})

    def group_training(self, meta: TrainingState, groupings: Groupings) -> Policies:
        """Trains one policy per group of every grouping."""
        settings = self.config.group_training

        def start(ppo: PPO, suite: TaskSuite, chosen: np.ndarray) -> TrainingState:
            part, key = groupings.subset(chosen), self.key("group_training")
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

        updates = self.group_updates(groupings)
        return self._train_groupings(
            "group_training", self.suite, groupings, updates, start
        )

    def _train_groupings(
        self,
        stage: str,
        suite: TaskSuite,
        groupings: Groupings,
        num_updates: np.ndarray,
        start: Callable[[PPO, TaskSuite, np.ndarray], TrainingState],
    ) -> Policies:
        """Trains groupings of one number of updates in one program.

        Args:
          stage: of the first grouping; of others, their number of updates follows it.
          suite: n tasks.
          groupings: of those tasks.
          num_updates: of every grouping; int [groupings].
          start: makes the state to start from, of the groupings of some indices.
        """
        parts, policies, rows = [], [], []
        for name, count, chosen in _training_parts(stage, num_updates):
            part = groupings.subset(chosen)
            ppo = PPO(self.config.ppo, self.actor_critic, count)
            tasks = suite.select(part.tasks)
            state = self._train(
                name,
                ppo,
                tasks,
                start(ppo, tasks, chosen),
                suite.task_names,
                part.rows(0),
            )
            parts.append(
                Policies(
                    state.params, state.observation_statistics, state.value_statistics
                )
            )
            ranges = [groupings.policy_ranges[i] for i in chosen]
            policies += [np.arange(*ends) for ends in ranges]
            rows += [groupings.rows(i) for i in chosen]
        of_policy = np.argsort(np.concatenate(policies))
        of_row = np.argsort(np.concatenate(rows))

        def join(order):
            return lambda *leaves: jnp.concatenate(leaves)[order]

        params, observation, value = zip(*parts, strict=True)
        return Policies(
            jax.tree.map(join(of_policy), *params),
            jax.tree.map(join(of_policy), *observation),
            jax.tree.map(join(of_row), *value),
        )

    def evaluation(
        self, trained: Policies, groupings: Groupings
    ) -> dict[str, np.ndarray]:
        """Returns and successes of every grouping; [groupings, n, episodes].

        All groupings meet the same initial states and random numbers of a task. Those
        of sampled actions, where they are asked for, have "sampled_" before them.
        """
        settings = self.config.evaluation
        shape = (len(groupings.labels), self.suite.num_tasks, -1)

        def run():
            values, steps = {}, 0
            for prefix, deterministic in [
                ("", settings.deterministic),
                *([("sampled_", False)] if settings.sampled_too else []),
            ]:
                result = evaluate(
                    self.suite,
                    self.actor_critic,
                    trained.params["policy"],
                    trained.observation_statistics,
                    groupings.policy_ids,
                    self.key("evaluation"),
                    settings.num_episodes,
                    deterministic=deterministic,
                    tasks=groupings.tasks,
                )
                returns, lengths, success = map(np.asarray, result)
                values[f"{prefix}source"] = returns.reshape(shape)
                values[f"{prefix}success"] = success.reshape(shape)
                steps += int(lengths.sum())
            return values, {"env_steps": steps}

        return self._once("evaluation", run)

    def adaptation(
        self, trained: Policies, groupings: Groupings
    ) -> dict[str, np.ndarray] | None:
        """Adapts to target tasks, from the policy of each grouping that is best there.

        A grouping of one policy has no episodes to play for that choice; those that
        play fewer steps than others adapt for longer instead, in whole updates.

        Returns:
          "target": returns after adaptation; [groupings, targets, episodes].
          "env_steps": of the choice and of adaptation; int [groupings]. None where the
          config adapts to nothing.
        """
        settings = self.config.adaptation
        if not settings.num_updates:
            return None
        targets = make_suite(self.config.suite.name, "target")
        num_targets, num_groupings = targets.num_tasks, len(groupings.labels)
        select_key, train_key, evaluate_key = jax.random.split(
            self.key("adaptation"), 3
        )
        selection = self._once(
            "adaptation_selection",
            lambda: self._select_policies(trained, groupings, targets, select_key),
        )
        best, selection_steps = selection["best"], selection["steps"]
        values = _policy_means(trained.value_statistics, groupings.policy_ids)

        def start(ppo: PPO, suite: TaskSuite, chosen: np.ndarray) -> TrainingState:
            policies = best[chosen].ravel()
            return ppo.init_from(
                suite,
                train_key,
                np.arange(len(policies)),
                *jax.tree.map(
                    lambda x: x[policies],
                    (trained.params, trained.observation_statistics, values),
                ),
            )

        per_update = self.config.ppo.steps_per_update
        spared = selection_steps.max() - selection_steps
        extra = np.ceil(spared / (per_update * num_targets)).astype(int)
        updates = settings.num_updates + extra
        each = Groupings.alone(num_targets, num_groupings)
        adapted = self._train_groupings(
            "adaptation_training", targets, each, updates, start
        )

        def run():
            result = evaluate(
                targets,
                self.actor_critic,
                adapted.params["policy"],
                adapted.observation_statistics,
                each.policy_ids,
                evaluate_key,
                self.config.evaluation.num_episodes,
                deterministic=self.config.evaluation.deterministic,
                tasks=each.tasks,
            )
            returns = np.asarray(result.episode_return)
            steps = int(np.asarray(result.episode_length).sum())
            shape = (num_groupings, num_targets, -1)
            return {"target": returns.reshape(shape)}, {"env_steps": steps}

        result = self._once("adaptation_evaluation", run)
        steps = selection_steps + updates * per_update * num_targets
        return {"target": result["target"], "env_steps": steps}

    def _select_policies(
        self, trained: Policies, groupings: Groupings, targets: TaskSuite, key
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The policy of every grouping that does best on each target, unadapted.

        Returns:
          "best": its number; int32 [groupings, targets]. "steps": environment steps of
          the choice; of groupings of as many policies the mean, so that chance in the
          length of episodes gives none of them a longer adaptation; int [groupings].
        """
        num_targets = targets.num_tasks
        first = np.array([first for first, _ in groupings.policy_ranges])
        num_policies = groupings.labels.max(axis=1) + 1
        best = np.tile(first[:, None], num_targets).astype(np.int32)
        steps = np.zeros(len(first), int)
        choosing = np.flatnonzero(num_policies > 1)
        if not choosing.size:
            return {"best": best, "steps": steps}, {"env_steps": 0}
        # Every policy of those groupings on every target, policies slowest.
        ranges = [groupings.policy_ranges[i] for i in choosing]
        played = np.concatenate([np.arange(*ends) for ends in ranges])
        result = evaluate(
            targets,
            self.actor_critic,
            trained.params["policy"],
            trained.observation_statistics,
            np.repeat(played, num_targets),
            key,
            self.config.adaptation.num_selection_episodes,
            deterministic=self.config.evaluation.deterministic,
            tasks=np.tile(np.arange(num_targets), len(played)),
        )
        shape = (len(played), num_targets, -1)
        returns = np.asarray(result.episode_return).reshape(shape).mean(axis=-1)
        lengths = np.asarray(result.episode_length).reshape(shape).sum(axis=(1, 2))
        for i, (start, end) in zip(choosing, ranges, strict=True):
            mine = (played >= start) & (played < end)
            best[i] += np.argmax(returns[mine], axis=0)
            steps[i] = lengths[mine].sum()
        for count in np.unique(num_policies[choosing]):
            steps[num_policies == count] = steps[num_policies == count].mean()
        info = {"env_steps": int(lengths.sum())}
        return {"best": best, "steps": steps}, info

    def env_steps(
        self,
        method: int,
        methods: Sequence[Method],
        groupings: Groupings,
        adaptation: Mapping[str, np.ndarray] | None,
    ) -> dict[str, int]:
        """Environment steps behind the policies of one draw of a method, by stage.

        Evaluation is left out, which is no part of any method.
        """
        per_update = self.config.ppo.steps_per_update * self.suite.num_tasks
        used = methods[method].uses_estimate
        which = groupings.of_method[method]
        steps = {}
        if used or self.config.group_training.start == "meta":
            steps["meta_training"] = self.config.meta_training.num_updates * per_update
        if used:
            steps["estimation"] = int(self.directory.info("estimation")["env_steps"])
        updates = self.group_updates(groupings)[which[0]]
        steps["group_training"] = int(updates) * per_update
        if adaptation is not None:
            steps["adaptation"] = int(adaptation["env_steps"][which].mean())
        return steps

    def results(self, command: str) -> RunResults:
        """Runs what is left to run, and gathers what the report shows."""
        meta = self.meta_training()
        estimates = self.estimation(meta)
        labels = self.grouping(estimates)
        methods = self.methods(labels)
        groupings = Groupings.create(methods)
        self.write_policies(methods, groupings)
        trained = self.group_training(meta, groupings)
        evaluation = self.evaluation(trained, groupings)
        source = evaluation["source"]
        target = self.adaptation(trained, groupings)
        self.progress.note("writing the report")
        known = set(evaluation)
        if not self.tells_success:
            known -= {"success", "sampled_success"}

        def task_means(name: str, method: int) -> np.ndarray | None:
            """Over episodes, [draws, n]; None where it is not known."""
            if name not in known:
                return None
            return evaluation[name][groupings.of_method[method]].mean(axis=-1)

        groups = {m.grouping: m.draws[0] for m in methods}
        distance = estimates["relative_distance"]
        nmi = {}
        if self.planted is not None:
            nmi = {
                m.grouping: float(
                    np.mean(
                        [
                            normalized_mutual_information(self.planted, draw)
                            for draw in m.draws
                        ]
                    )
                )
                for m in methods
            }
        uncertainty = None
        if "nmi" in labels:
            uncertainty = {
                "lower": estimates["lower"],
                "upper": estimates["upper"],
                "co_assignment": labels["co_assignment"],
                "nmi": labels["nmi"],
            }
        return RunResults(
            name=self.suite.name,
            task_names=list(self.suite.task_names),
            episode_length=self.suite.episode_length,
            seed=self.config.seed,
            affinity=estimates["affinity"],
            affinity_method=self.config.estimation.score,
            pair_counts=estimates["pair_counts"],
            num_subsets=self.config.estimation.num_subsets,
            subset_size=self.config.estimation.subset_size,
            relative_distance={
                "median": float(np.median(distance)),
                "max": float(np.max(distance)),
            },
            converged_share=float(np.mean(estimates["converged"])),
            groups=groups,
            methods=[
                {
                    "name": m.name,
                    "description": m.description,
                    "num_policies": m.num_policies,
                    "source": source[groupings.of_method[i]],
                    "target": None
                    if target is None
                    else target["target"][groupings.of_method[i]],
                    "grouping": m.grouping,
                    "env_steps": self.env_steps(i, methods, groupings, target),
                    "scalarized": self._scalarize(source[groupings.of_method[i]]),
                    "success": task_means("success", i),
                    "sampled_return": task_means("sampled_source", i),
                    "sampled_success": task_means("sampled_success", i),
                }
                for i, m in enumerate(methods)
            ],
            scalarization=self.config.evaluation.scalarization,
            learning_curves={
                "meta-training": self._curve("meta_training"),
                "group training": self._curve("group_training"),
            },
            timings=[
                {
                    "stage": stage.replace("_", " "),
                    "seconds": info["seconds"],
                    "env_steps": info.get("env_steps"),
                }
                for stage, info in self._stage_infos()
            ],
            nmi=nmi,
            uncertainty=uncertainty,
            config=self.config.to_dict(),
            command=command,
            resumed=self.directory.resumed,
            **describe(),
        )

    def _scalarize(self, returns: np.ndarray) -> list[float] | None:
        """One number per draw, of returns [draws, n, episodes]; None if not set."""
        kind = self.config.evaluation.scalarization
        if not kind:
            return None
        rewards = returns.mean(axis=-1) / self.suite.episode_length
        return np.asarray(Scalarization(kind)(rewards)).tolist()

    # What stages are made of.

    def _once(self, stage: str, function: Callable[[], tuple[PyTree, dict]]) -> PyTree:
        """The stage's stored result, or the one that `function` now computes."""
        self.stages.append(stage)
        if not self.directory.is_finished(stage):
            self.progress.start(stage.replace("_", " "), 0)
            began = time.perf_counter()
            result, info = function()
            info["seconds"] = time.perf_counter() - began
            self.directory.finish(stage, result, info)
            self.progress.finish()
        return self.directory.result(stage)

    def _train(
        self,
        stage: str,
        ppo: PPO,
        suite: TaskSuite,
        state: TrainingState,
        task_names: tuple[str, ...],
        rows: np.ndarray,
    ) -> TrainingState:
        """Trains to the end of the stage, from its last checkpoint if there is one.

        Args:
          stage: its name.
          ppo: the training step.
          suite: r tasks.
          state: to start from.
          task_names: of the rows whose returns are logged and shown.
          rows: those rows.
        """
        self.stages.append(stage)
        if self.directory.is_finished(stage):
            return self.directory.result(stage, state)
        per_update = self.config.ppo.steps_per_update
        names = tuple(task_names)
        per_task = ["return", *(["success"] if self.tells_success else [])]
        began = time.perf_counter()
        with self.directory.training_checkpoints(stage) as checkpoints:
            done, seconds_before = 0, 0.0
            restored = checkpoints.restore(state)
            if restored is not None:
                done, state, info = restored
                seconds_before = info["seconds"]
            seconds = seconds_before  # where only the result was still to be stored
            self.writer.rewind(stage, done * per_update)
            all_steps = per_update * suite.num_tasks
            self.progress.start(
                stage.replace("_", " "),
                ppo.num_updates * all_steps,
                done * all_steps,
                names,
            )
            while done < ppo.num_updates:
                chunk = min(self.config.checkpoint_every, ppo.num_updates - done)
                state, metrics = ppo.run(suite, state, chunk)
                place = first_nonfinite(state, metrics)
                if place is not None:
                    raise TrainingDiverged(
                        f"{stage} met a number that is not finite: {place}. The "
                        f"checkpoint after update {done} is kept in "
                        f"{self.directory.path / 'checkpoints' / stage}"
                    )
                metrics = on_host(metrics)
                self._check_divergences(stage, metrics["divergences"], suite, chunk)
                for i in range(chunk):
                    step = (done + i + 1) * per_update
                    line = _log_line(metrics, i, rows, per_task)
                    self.writer.write(stage, step, line)
                done += chunk
                seconds = seconds_before + time.perf_counter() - began
                checkpoints.save(done, state, {"seconds": seconds})
                shown = _latest_returns(metrics["return"][:, rows])
                self.progress.update(done * all_steps, shown)
        self.directory.finish(
            stage,
            state,
            {"seconds": seconds, "env_steps": ppo.num_updates * all_steps},
        )
        self.progress.finish()
        return state

    def _check_divergences(
        self, stage: str, divergences: np.ndarray, suite: TaskSuite, num_updates: int
    ) -> None:
        """Tells of environments whose physics diverged; refuses to train on many."""
        counts = divergences.sum(axis=0)
        steps = num_updates * self.config.ppo.steps_per_update
        worst = int(counts.argmax())
        if counts[worst] > MOST_DIVERGENCES * steps:
            raise TrainingDiverged(
                f"{stage}: {counts[worst] / steps:.0%} of the steps of task "
                f"{suite.task_names[worst]!r} gave an observation or a reward that is "
                "not finite; its environment seems to be broken"
            )
        if counts[worst]:
            self.progress.note(
                f"{stage}: {int(counts.sum()):,} of {steps * len(counts):,} steps "
                "diverged, their environments were reset; most of them of "
                f"{suite.task_names[worst]!r}"
            )

    def _curve(self, stage: str) -> dict[str, Any]:
        lines = [x for x in read_metrics(self.directory.path) if x["stage"] == stage]

        def values(name: str) -> list[list[float]]:
            return [[np.nan if y is None else y for y in x[name]] for x in lines]

        curve = {"steps": [x["step"] for x in lines], "returns": values("return")}
        if self.tells_success:
            curve["success"] = values("success")
        return curve

    def _stage_infos(self) -> list[tuple[str, dict[str, Any]]]:
        return [(name, self.directory.info(name)) for name in self.stages]


@dataclasses.dataclass(frozen=True)
class Groupings:
    """Every different partition among all methods, trained once each.

    A partition is trained twice where methods with and without the estimate have it,
    since these train for different numbers of updates.

    Attributes:
      labels: one row per partition; int [groupings, n].
      uses_estimate: of the methods that have it; bool [groupings].
      of_method: for every method, the partition of each of its draws.
    """

    labels: np.ndarray
    uses_estimate: np.ndarray
    of_method: list[np.ndarray]

    @classmethod
    def create(cls, methods: list[Method]) -> Groupings:
        every = np.concatenate(
            [np.insert(m.draws, 0, m.uses_estimate, axis=1) for m in methods]
        )
        different, first, inverse = np.unique(
            every, axis=0, return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # as they first appear: the estimated groups lead
        place = np.argsort(order)[inverse.ravel()]
        ends = np.cumsum([len(m.draws) for m in methods])
        labels, uses_estimate = different[order, 1:], different[order, 0].astype(bool)
        return cls(labels, uses_estimate, np.split(place, ends[:-1]))

    @classmethod
    def alone(cls, num_tasks: int, num_groupings: int) -> Groupings:
        """Groupings that have every task alone."""
        labels = np.tile(np.arange(num_tasks), (num_groupings, 1))
        return cls(labels, np.zeros(num_groupings, bool), [])

    def subset(self, chosen: np.ndarray) -> Groupings:
        """The partitions of some indices, of no method."""
        return Groupings(self.labels[chosen], self.uses_estimate[chosen], [])

    @property
    def policy_ranges(self) -> list[tuple[int, int]]:
        """First and one past the last policy of every partition."""
        ends = np.cumsum(self.labels.max(axis=1) + 1)
        return list(zip([0, *ends[:-1]], ends, strict=True))

    @property
    def num_policies(self) -> int:
        return self.policy_ranges[-1][1]

    @property
    def tasks(self) -> np.ndarray:
        """The task of every row."""
        return np.tile(np.arange(self.labels.shape[1]), len(self.labels))

    @property
    def policy_ids(self) -> np.ndarray:
        """The policy of every row."""
        firsts = np.array([first for first, _ in self.policy_ranges])
        return (self.labels + firsts[:, None]).ravel().astype(np.int32)

    def rows(self, grouping: int) -> np.ndarray:
        """The rows of one partition, in the order of tasks."""
        num_tasks = self.labels.shape[1]
        return grouping * num_tasks + np.arange(num_tasks)


def _training_parts(
    stage: str, num_updates: np.ndarray
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, number of updates and groupings of what is trained in one program."""
    for count in dict.fromkeys(num_updates.tolist()):
        chosen = np.flatnonzero(num_updates == count)
        yield stage if chosen[0] == 0 else f"{stage}_{count}_updates", count, chosen


def _policy_means(
    statistics: RunningStatistics, policy_ids: np.ndarray
) -> RunningStatistics:
    """Per-row statistics averaged over the rows of each policy; [k]."""
    num_policies = int(policy_ids.max()) + 1
    weights = jax.nn.one_hot(policy_ids, num_policies, axis=0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return jax.tree.map(lambda x: jnp.asarray(weights @ x), statistics)


def _log_line(
    metrics: Mapping[str, np.ndarray],
    update: int,
    rows: np.ndarray,
    per_task: Sequence[str],
) -> dict:
    """One update: of some metrics the rows shown, else the mean over all rows."""
    line = {name: metrics[name][update, rows] for name in per_task}
    for name, values in metrics.items():
        if name not in per_task:
            finite = values[update][np.isfinite(values[update])]
            line[name] = finite.mean() if len(finite) else np.nan
    return line


def _latest_returns(returns: np.ndarray) -> np.ndarray:
    """The last return of every row that is not NaN; [updates, rows] to [rows]."""
    latest = np.full(returns.shape[1], np.nan)
    for row in returns:
        latest = np.where(np.isnan(row), latest, row)
    return latest
