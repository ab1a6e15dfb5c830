"""The five stages in order, resumable between and inside them.

    meta_training -> estimation -> grouping -> group_training -> evaluation
                                                      -> adaptation (target tasks)

Each stage leaves its result in the workdir and is not run again. Training stages also
checkpoint their whole state, so that a run that was killed goes on from there and ends
with the same numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
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
from pgx_jax.networks.mlp import ActorCritic, make_actor_critic
from pgx_jax.report import RunResults, write_report
from pgx_jax.runs.metrics import MetricsWriter, read_metrics
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.provenance import describe
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.diagnostics import first_nonfinite
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
    """

    name: str
    description: str
    grouping: str
    draws: np.ndarray

    @property
    def num_policies(self) -> int:
        """Policies of one draw."""
        return int(self.draws.max()) + 1


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
        jax.random.key(config.seed),
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
                self.actor_critic.log_prob, policy, batch
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

        def group():
            estimated = pgx.cluster_tasks(
                estimates["affinity"], settings.num_groups or None
            )
            num_groups = estimated.num_groups
            similar = pgx.cluster_tasks(estimates["gradient_similarity"], num_groups)
            result = {"estimated": estimated.labels, "similarity": similar.labels}
            for k in settings.other_num_groups:
                other = pgx.cluster_tasks(estimates["affinity"], k)
                result[f"estimated_{k}"] = other.labels
            if "resamples" in estimates:
                affinity = pgx.Affinity(
                    estimates["affinity"],
                    estimates["pair_counts"],
                    resamples=estimates["resamples"],
                )
                stability = pgx.grouping_stability(
                    affinity, estimated, settings.num_groups or None
                )
                result |= stability._asdict()
            if settings.num_random_draws:
                keys = jax.random.split(self.key("grouping"), settings.num_random_draws)
                result["random"] = np.stack(
                    [
                        pgx.random_grouping(
                            key, self.suite.num_tasks, num_groups
                        ).labels
                        for key in keys
                    ]
                )
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
            ),
            *(
                Method(
                    f"estimated groups, k = {k}",
                    "The same, with another number of groups.",
                    f"estimated, k = {k}",
                    labels[f"estimated_{k}"][None],
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
                    "One policy per group, groups of equal size drawn at random.",
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
        return methods

    @property
    def planted(self) -> np.ndarray | None:
        labels = getattr(self.suite, "planted_labels", None)
        return None if labels is None else np.asarray(labels, np.int32)

    @functools.cached_property
    def tells_success(self) -> bool:
        return reports_success(self.suite)

    def group_training(
        self, meta: TrainingState, groupings: Groupings
    ) -> TrainingState:
        """Trains one policy per group of every grouping, all in one program."""
        settings = self.config.group_training
        ppo = PPO(self.config.ppo, self.actor_critic, settings.num_updates)
        suite = self.suite.select(groupings.tasks)
        key = self.key("group_training")
        if settings.start == "meta":
            start = ppo.init_from(
                suite,
                key,
                groupings.policy_ids,
                meta.params,
                meta.observation_statistics,
                jax.tree.map(lambda x: x[groupings.tasks], meta.value_statistics),
            )
        else:
            start = ppo.init(suite, key, groupings.policy_ids)
        rows = groupings.rows(0)
        names = self.suite.task_names
        return self._train("group_training", ppo, suite, start, names, rows)

    def evaluation(
        self, trained: TrainingState, groupings: Groupings
    ) -> dict[str, np.ndarray]:
        """Returns and successes of every grouping; [groupings, n, episodes].

        Those of sampled actions, where they are asked for, have "sampled_" before them.
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
                    self.suite.select(groupings.tasks),
                    self.actor_critic,
                    trained.params["policy"],
                    trained.observation_statistics,
                    groupings.policy_ids,
                    self.key("evaluation"),
                    settings.num_episodes,
                    deterministic=deterministic,
                )
                returns, lengths, success = map(np.asarray, result)
                values[f"{prefix}source"] = returns.reshape(shape)
                values[f"{prefix}success"] = success.reshape(shape)
                steps += int(lengths.sum())
            return values, {"env_steps": steps}

        return self._once("evaluation", run)

    def adaptation(
        self, trained: TrainingState, groupings: Groupings
    ) -> dict[str, np.ndarray] | None:
        """Returns on target tasks after adaptation; [groupings, targets, episodes]."""
        settings = self.config.adaptation
        if not settings.num_updates:
            return None
        targets = make_suite(self.config.suite.name, "target")
        select_key, train_key, evaluate_key = jax.random.split(
            self.key("adaptation"), 3
        )
        num_targets, num_policies = targets.num_tasks, groupings.num_policies

        # Every policy of every grouping on every target, policies slowest.
        pairs = np.tile(np.arange(num_targets), num_policies)
        stage = "adaptation_selection"

        def select():
            result = evaluate(
                targets.select(pairs),
                self.actor_critic,
                trained.params["policy"],
                trained.observation_statistics,
                np.repeat(np.arange(num_policies), num_targets),
                select_key,
                settings.num_selection_episodes,
                deterministic=self.config.evaluation.deterministic,
            )
            mean = np.asarray(result.episode_return).mean(axis=1)
            mean = mean.reshape(num_policies, num_targets)
            best = np.stack(
                [
                    first + np.argmax(mean[first:last], axis=0)
                    for first, last in groupings.policy_ranges
                ]
            )
            steps = int(np.asarray(result.episode_length).sum())
            return {"best": best.astype(np.int32)}, {"env_steps": steps}

        best = self._once(stage, select)["best"].ravel()  # [groupings * targets]
        rows = np.tile(np.arange(num_targets), len(groupings.labels))
        suite = targets.select(rows)
        ppo = PPO(self.config.ppo, self.actor_critic, settings.num_updates)
        take = lambda tree: jax.tree.map(lambda x: x[best], tree)  # noqa: E731
        start = ppo.init_from(
            suite,
            train_key,
            np.arange(len(rows)),
            take(trained.params),
            take(trained.observation_statistics),
            take(_policy_means(trained.value_statistics, groupings.policy_ids)),
        )
        names = targets.task_names
        state = self._train(
            "adaptation_training", ppo, suite, start, names, np.arange(num_targets)
        )

        def run():
            result = evaluate(
                suite,
                self.actor_critic,
                state.params["policy"],
                state.observation_statistics,
                np.arange(len(rows)),
                evaluate_key,
                self.config.evaluation.num_episodes,
                deterministic=self.config.evaluation.deterministic,
            )
            returns = np.asarray(result.episode_return)
            steps = int(np.asarray(result.episode_length).sum())
            shape = (len(groupings.labels), num_targets, -1)
            return {"target": returns.reshape(shape)}, {"env_steps": steps}

        return self._once("adaptation_evaluation", run)

    def results(self, command: str) -> RunResults:
        """Runs what is left to run, and gathers what the report shows."""
        meta = self.meta_training()
        estimates = self.estimation(meta)
        labels = self.grouping(estimates)
        methods = self.methods(labels)
        groupings = Groupings.create(methods)
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
            max_return=getattr(self.suite, "max_return", None),
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
                metrics = jax.device_get(metrics)
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
        names = [
            *STAGES[:-1],
            "adaptation_selection",
            "adaptation_training",
            "adaptation_evaluation",
        ]
        return [
            (name, self.directory.info(name))
            for name in names
            if self.directory.is_finished(name)
        ]


@dataclasses.dataclass(frozen=True)
class Groupings:
    """Every different partition among all methods, trained side by side once each.

    Attributes:
      labels: one row per partition; int [groupings, n].
      of_method: for every method, the partition of each of its draws.
    """

    labels: np.ndarray
    of_method: list[np.ndarray]

    @classmethod
    def create(cls, methods: list[Method]) -> Groupings:
        every = np.concatenate([m.draws for m in methods])
        different, first, inverse = np.unique(
            every, axis=0, return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # as they first appear: the estimated groups lead
        place = np.argsort(order)[inverse.ravel()]
        ends = np.cumsum([len(m.draws) for m in methods])
        return cls(different[order], np.split(place, ends[:-1]))

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
