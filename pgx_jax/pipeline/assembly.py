"""The results that the report shows, assembled from those of the stages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pgx_jax.analysis.scalarization import Scalarization
from pgx_jax.analysis.statistics import normalized_mutual_information
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.grouping import predict_values
from pgx_jax.pipeline.methods import Groupings, Method
from pgx_jax.pipeline.race import Race, measure_gains, predict_similarity, race_rows
from pgx_jax.pipeline.results import (
    Collection,
    LearningCurve,
    MethodResult,
    RunResults,
    StageTiming,
    Uncertainty,
)
from pgx_jax.pipeline.runner import Runner
from pgx_jax.pipeline.stages import Adaptation, Arrays, count_group_updates
from pgx_jax.runs.provenance import merge


def assemble_results(
    config: PipelineConfig,
    runner: Runner,
    *,
    estimates: Arrays,
    labels: Arrays,
    race: Race | None,
    planted: np.ndarray | None,
    methods: Sequence[Method],
    groupings: Groupings,
    evaluation: Arrays,
    adaptation: Adaptation | None,
    command: str,
) -> RunResults:
    """The results of a run whose stages are all finished."""
    suite = runner.problem.suite
    distance = estimates["relative_distance"]
    estimate_steps = int(estimates["num_transitions"]) * suite.distinct.num_tasks
    similarity = estimates["gradient_similarity"]
    known = dict(evaluation)
    if not runner.reports_success:
        known = {k: v for k, v in known.items() if not k.endswith("success")}
    return RunResults(
        name=suite.name,
        task_names=list(suite.task_names),
        episode_length=suite.episode_length,
        seed=config.seed,
        affinity=estimates["affinity"].tolist(),
        affinity_method=config.estimation.score,
        pair_counts=estimates["pair_counts"].tolist(),
        num_subsets=len(estimates["subsets"]),
        subset_size=(
            config.estimation.subset_size
            if config.grouping.method != "partition"
            else None
        ),
        relative_distance={
            "median": float(np.median(distance)),
            "max": float(np.max(distance)),
        },
        converged_share=float(np.mean(estimates["converged"])),
        groups={m.grouping: m.draws[0] for m in methods},
        methods=[
            _method_result(
                config,
                method,
                groupings.of_method[i],
                known,
                suite.episode_length,
                adaptation,
                count_env_steps(
                    config,
                    runner,
                    method,
                    groupings,
                    i,
                    estimate_steps,
                    adaptation,
                    None if race is None else race.env_steps,
                ),
                (
                    predict_values(estimates, method.draws)
                    if race is None
                    else predict_similarity(similarity, method.draws)
                ),
            )
            for i, method in enumerate(methods)
        ],
        scalarization=config.evaluation.scalarization,
        learning_curves={
            "meta-training": _curve(runner, "meta_training"),
            "group training": (
                _curve(runner, "group_training")
                if race is None
                else _curve(
                    runner, "race_training", race_rows(race, groupings.labels[0])
                )
            ),
        },
        adaptation_curves={}
        if adaptation is None
        else _adaptation_curves(runner, methods, groupings),
        timings=_timings(runner),
        nmi={} if planted is None else _agreement(planted, methods),
        uncertainty=_uncertainty(estimates, labels),
        collection=_collection(config, estimates),
        gains=None if race is None else measure_gains(race, similarity),
        config=config.to_dict(),
        command=command,
        resumed=runner.directory.resumed,
        **merge(_provenance(runner)),
    )


def count_env_steps(
    config: PipelineConfig,
    runner: Runner,
    method: Method,
    groupings: Groupings,
    index: int,
    estimate_steps: int,
    adaptation: Adaptation | None,
    race_steps: int | None = None,
) -> dict[str, int]:
    """Environment steps behind the policies of one draw of a method, by stage.

    Evaluation is left out, which is no part of any method.

    Args:
      config: of the run.
      runner: whose workdir holds the steps of the estimate.
      method: number `index` of those that the groupings are made of.
      groupings: all of them.
      index: of the method.
      estimate_steps: environment steps that the transitions of the estimate took.
      adaptation: to target tasks, or None.
      race_steps: that the race took, or None.
    """
    per_update = config.ppo.steps_per_update * runner.problem.suite.num_tasks
    which = groupings.of_method[index]
    steps = {}
    if method.uses_estimate or config.group_training.start == "meta":
        steps["meta_training"] = config.meta_training.num_updates * per_update
    if method.uses_estimate:
        steps["estimation"] = int(runner.directory.info("estimation")["env_steps"])
    if method.raced and race_steps is not None:
        steps["race"] = race_steps
    else:
        updates = count_group_updates(config, groupings, estimate_steps, race_steps)
        steps["group_training"] = int(updates[which[0]]) * per_update
    if adaptation is not None:
        steps["adaptation"] = int(adaptation.env_steps[which].mean())
    return steps


def _uncertainty(estimates: Arrays, labels: Arrays) -> Uncertainty | None:
    """How stable affinity and groups are; None where there are no resamples."""
    if "nmi" not in labels:
        return None
    return {
        "lower": estimates["lower"].tolist(),
        "upper": estimates["upper"].tolist(),
        "co_assignment": labels["co_assignment"].tolist(),
        "nmi": labels["nmi"].tolist(),
    }


def _collection(config: PipelineConfig, estimates: Arrays) -> Collection | None:
    """How the transitions were collected; None where their number was given."""
    if "round_agreement" not in estimates:
        return None
    agreement, level = estimates["round_agreement"], config.estimation.stable_agreement
    return {
        "num_transitions": estimates["round_transitions"].tolist(),
        "agreement": agreement.tolist(),
        "stable_agreement": level,
        "is_stable": bool(agreement[-1] >= level),
    }


def _provenance(runner: Runner) -> list[dict[str, Any]]:
    """What every stage was computed on, and what puts the results together."""
    infos = [runner.directory.info(stage) for stage in runner.stages]
    known = [about for info in infos for about in info.get("computed_on", ())]
    return [*known, runner.provenance]


def _timings(runner: Runner) -> list[StageTiming]:
    """Of every stage, in the order in which they ran."""
    infos = [(stage, runner.directory.info(stage)) for stage in runner.stages]
    return [
        {
            "stage": stage.replace("_", " "),
            "seconds": info["seconds"],
            "env_steps": info.get("env_steps"),
        }
        for stage, info in infos
    ]


def _method_result(
    config: PipelineConfig,
    method: Method,
    which: np.ndarray,
    evaluation: Mapping[str, np.ndarray],
    episode_length: int,
    adaptation: Adaptation | None,
    env_steps: dict[str, int],
    predicted: list[float] | None,
) -> MethodResult:
    """Of one method, whose draws are the groupings `which`."""

    def task_means(name: str) -> Any:
        """Over episodes, [draws, n]; None where it is not known."""
        return evaluation[name][which].mean(axis=-1) if name in evaluation else None

    returns: Any = evaluation["source"][which]
    scalarized = None
    if config.evaluation.scalarization is not None:
        scalarization = Scalarization(config.evaluation.scalarization)
        rewards = returns.mean(axis=-1) / episode_length
        scalarized = np.asarray(scalarization(rewards)).tolist()
    target: Any = None if adaptation is None else adaptation.returns[which]
    return {
        "name": method.name,
        "description": method.description,
        "num_policies": method.num_policies,
        "source": returns,
        "target": target,
        "grouping": method.grouping,
        "env_steps": env_steps,
        "scalarized": scalarized,
        "success": task_means("success"),
        "sampled_return": task_means("sampled_source"),
        "sampled_success": task_means("sampled_success"),
        "predicted": predicted,
    }


def _agreement(planted: np.ndarray, methods: Sequence[Method]) -> dict[str, float]:
    """Normalized mutual information with the planted groups, mean over draws."""
    return {
        method.grouping: float(
            np.mean([normalized_mutual_information(planted, x) for x in method.draws])
        )
        for method in methods
    }


def _adaptation_curves(
    runner: Runner, methods: Sequence[Method], groupings: Groupings
) -> dict[str, LearningCurve]:
    """Of every method on target tasks, means over its draws."""
    lines = [json.loads(x) for x in runner.directory.lines("adaptation_training")]
    lines = [line for line in lines if "return" in line]
    num_groupings = len(groupings.labels)
    steps = np.array([line["step"] for line in lines])

    def values(name: str) -> np.ndarray:
        """[updates, groupings, targets], NaN where nothing is known."""
        every = np.array([line[name] for line in lines], dtype=np.float64)
        return every.reshape(len(lines), num_groupings, -1)

    every = {"returns": values("return")}
    if runner.reports_success:
        every["success"] = values("success")
    curves = {}
    for method, which in zip(methods, groupings.of_method, strict=True):
        means = {name: mean_of_known(x[:, which]) for name, x in every.items()}
        # Up to the end of its adaptation; others may go on.
        known = np.flatnonzero(np.isfinite(means["returns"]).any(axis=1))
        end = int(known[-1]) + 1 if known.size else len(steps)
        curve: LearningCurve = {
            "steps": steps[:end].tolist(),
            "returns": means["returns"][:end].tolist(),
        }
        if "success" in means:
            curve["success"] = means["success"][:end].tolist()
        curves[method.name] = curve
    return curves


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean along the second axis over what is not NaN; NaN where nothing is known."""
    known = np.isfinite(values)
    means = np.full((len(values), *values.shape[2:]), np.nan)
    totals = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(totals, known.sum(axis=1), out=means, where=known.any(axis=1))


def _curve(
    runner: Runner, stage: str, columns: np.ndarray | None = None
) -> LearningCurve:
    """Of the policies whose returns are logged, up to the end of their training.

    Args:
      runner: whose workdir has the stage's metrics.
      stage: of the training.
      columns: those of the tasks among the rows that are logged; all if None.
    """
    lines = [json.loads(line) for line in runner.directory.lines(stage)]
    lines = [line for line in lines if "return" in line]

    def values(name: str) -> list[list[float]]:
        every = [[np.nan if y is None else y for y in x[name]] for x in lines]
        if columns is None:
            return every
        return [[row[i] for i in columns] for row in every]

    curve: LearningCurve = {
        "steps": [x["step"] for x in lines],
        "returns": values("return"),
    }
    if runner.reports_success:
        curve["success"] = values("success")
    return curve
