"""What a report says under its figures: how each number came about."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pgx_jax.analysis import statistics
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.curves import has_many_tasks, shown_curve
from pgx_jax.reporting.matrices import CENTERED_SCORES
from pgx_jax.reporting.summary import MethodSummary, describe_collection

TITLES = {
    "methods": "Return by method.",
    "gains": "Gain by the number of groups.",
    "affinity": "Task affinity.",
    "stability": "Certainty of the groups.",
    "learning_curves": "Learning curves.",
    "adaptation": "Return during adaptation.",
    "tasks": "Return by task.",
}


def write_captions(
    results: RunResults, methods: Sequence[MethodSummary]
) -> dict[str, str]:
    """The caption of every figure, by its name; plain text."""
    captions = {
        "methods": _describe_methods(results, methods),
        "affinity": _describe_affinity(results),
        "learning_curves": _describe_curves(results),
        "tasks": (
            "Mean return on every task trained on (columns, in the order of the "
            "affinity's; the strip shows the group) for every method (rows). A row "
            "that is dark under one group only: its policies learned that group and "
            "failed the other."
        ),
    }
    if results.gains:
        captions["gains"] = _describe_gains(results)
    if results.adaptation_curves:
        captions["adaptation"] = _describe_adaptation(results)
    if results.uncertainty is not None:
        captions["stability"] = _describe_stability(
            results.uncertainty["nmi"], results.groups["estimated"]
        )
    return captions


def _describe_adaptation(results: RunResults) -> str:
    settings = results.config.get("adaptation", {})
    updates, learner = settings.get("num_updates"), settings.get("learner", "ppo")
    kind = {"ppo": "PPO", "policy_gradient": "the policy gradient"}[learner]
    curve = next(iter(results.adaptation_curves.values()))
    num_targets = np.shape(curve["returns"])[1]
    count = "Updates" if updates is None else f"{updates} updates"
    return (
        f"{count} of {kind} on each of {num_targets} unseen tasks, from the policy "
        "that does best there. Means over tasks, and over draws, of the episodes with "
        "sampled actions that ended in an update, smoothed; those that end first are "
        "short. Where none ended on a task, the curve has what its neighbors have. "
        "Methods that took fewer steps to choose a policy adapt for longer. Returns of "
        "the finished policies are in the table."
    )


def _describe_gains(results: RunResults) -> str:
    num_groups = len(results.found_groups)
    return (
        "What the best partition into k groups, of those that can be made of groups "
        "that were trained, is expected to return more per task than one policy for "
        "all tasks, and than a policy for each, after as many updates. Expectations "
        "and 90% intervals are those of a Gaussian process over all policies that were "
        f"trained once each, so that luck is left out. Filled: the {num_groups} groups "
        "taken."
    )


def _describe_curves(results: RunResults) -> str:
    median = " Bold: the median of a group." if has_many_tasks(results) else ""
    shown = "Return" if shown_curve(results) == "returns" else "Success rate"
    return (
        f"{shown} of each task while training, colored by the group found for it; one "
        "policy for all tasks in meta-training, one per group afterwards. Lightly "
        "smoothed by a moving average; straight across updates in which no episode of "
        f"a task ended.{median}"
    )


def _describe_affinity(results: RunResults) -> str:
    counts = np.array(results.pair_counts)
    pairs = counts[np.triu_indices(results.num_tasks, k=1)]
    scale = f"Scores: {results.affinity_method.replace('_', ' ')}; brighter is better."
    if results.affinity_method in CENTERED_SCORES:
        zero = "training a task alone"
        if results.affinity_method == "standardized":
            zero = "the average partner"
        scale = (
            f"Zero (white) is as good as {zero}; red is a better partner, blue a "
            "worse one."
        )
    distance = results.relative_distance
    size, kind = "tasks of any size", ""
    if results.subset_size is not None:
        size, kind = f"{results.subset_size} tasks", "sampled "
    return (
        "Entry (i, j) is the mean estimated score of tasks i and j after adapting the "
        f"meta-policy to a subset of {size}, over those of "
        f"{results.num_subsets:,} {kind}subsets that hold both ({pairs.min():,} to "
        f"{pairs.max():,} subsets per pair): how much the two gain from being trained "
        f"together. {scale} Tasks are ordered by the groups found, which the squares "
        "outline; the diagonal has no meaning and is gray. Adapted parameters differ "
        f"from the meta-policy's by {_percent(distance['median'])} (median) and at "
        f"most {_percent(distance['max'])} of its norm, within which the first-order "
        f"estimate must hold; {_percent(results.converged_share)} of the regressions "
        f"converged. {describe_collection(results)}".rstrip()
    )


def _describe_stability(resampled_nmi: Sequence[float], labels: list[int]) -> str:
    nmi = np.asarray(resampled_nmi, dtype=np.float64)
    chance = statistics.chance_agreement(labels, labels)
    return (
        f"From {len(nmi)} bootstrap resamples of the transitions and of the subsets, "
        "each regressed and clustered anew. Left: the affinity of every pair of tasks "
        "with its 95% interval. Right: how often two tasks end up in one group. The "
        "groups of the resamples agree with those found to a mean NMI of "
        f"{nmi.mean():.2f} ({chance:.2f} by chance); "
        f"{_percent(float(np.mean(nmi > 1 - 1e-9)))} of them are the same. Another "
        "meta-policy or another seed of it is not resampled."
    )


def _describe_methods(results: RunResults, methods: Sequence[MethodSummary]) -> str:
    lengths = {np.shape(method["source"])[-1] for method in results.methods}
    lengths |= {np.shape(m["target"])[-1] for m in results.methods if m["target"]}
    count = f"{min(lengths)} " if len(lengths) == 1 else ""
    resampled = (
        f"bootstrap intervals, resampling, with replacement, the {count}evaluation "
        "episodes of each task apart from those of other tasks (the tasks themselves "
        "are kept)"
    )
    if any(len(method.source.by_draw) > 1 for method in methods):
        resampled += (
            "; for a method with several draws, whose means the dots show, t intervals "
            "over the draws instead"
        )
    predicted = ""
    if results.gains:
        predicted = (
            " Predicted, in the table, is the mean similarity of the gradients of a "
            "task and of its group, which candidates are taken by. "
            + _describe_race_steps(results)
        )
    elif any(method.predicted is not None for method in methods):
        predicted = (
            " Predicted, in the table, is the mean over tasks of their estimated "
            "scores, which flatters the groups that were chosen by them."
        )
    return (
        "Mean return of the final policies over tasks and episodes. Whiskers and "
        f"brackets: 95% {resampled}. They leave out how much "
        f"another training seed would change.{predicted}"
    )


def _describe_race_steps(results: RunResults) -> str:
    """What other methods were given beside a race."""
    if results.config.get("group_training", {}).get("match_race"):
        return "All methods take as many environment steps as the race."
    steps = [method.get("env_steps", {}).get("race", 0) for method in results.methods]
    return (
        "Policies of all methods train for about the same number of updates, and those "
        "of all groups of the race, of which the best were taken, took "
        f"{max(steps):,} environment steps together."
    )


def _percent(share: float) -> str:
    if not math.isfinite(share):
        return "an unknown share"
    percent = 100.0 * share
    if percent >= 100.0 or percent == round(percent):
        return f"{percent:,.0f}%"
    return f"{percent:.2g}%"
