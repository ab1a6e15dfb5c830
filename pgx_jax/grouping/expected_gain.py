"""What groups are expected to gain, from halves of the transitions scored apart.

The best of many partitions looks better than it is on the scores it was chosen by. So
it is chosen on one half of the transitions and judged on the parts of the other, at
solutions that knew nothing of them, both ways round and for several splits: what it
gains there is unbiased, and how parts differ gives its error. The
intervals are Student's over the parts of a half: a bootstrap of four parts is too short
(`pgx_jax.analysis.statistics`). Splits and directions share transitions; their mean is
given the average of their errors, as if they were one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pgx_jax.analysis.partitions import best_partitions, mean_partition_value
from pgx_jax.analysis.statistics import rank_correlation
from pgx_jax.analysis.truth_tables import MOST_TASKS, encode_subsets
from pgx_jax.arguments import (
    as_numbers,
    as_share,
    as_subset_matrix,
    check_number,
)
from pgx_jax.estimation.closed_form import draw_halves
from pgx_jax.grouping.clustering import check_num_groups
from pgx_jax.grouping.partition_search import best_partition
from pgx_jax.types import Grouping

LEVEL = 0.05
TOLERANCE = 0.05
REPLICATE_SPLITS = 4


class GainCurve(NamedTuple):
    """Gains of the best partition into 1, ..., n groups, per task, in units of scores.

    Attributes:
      mean: expected; float64 [n].
      lower: lower end of the interval of each; float64 [n].
      upper: its upper end.
    """

    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class GroupingGain(NamedTuple):
    """What grouping is expected to gain, and whether to group.

    Attributes:
      grouping: the best partition into `num_groups` groups by the scores of all
        transitions.
      num_groups: the number of groups with the largest expected value where grouping
        pays, else 1; or the one that was given.
      verdict: "pays", "does not matter" or "cannot tell".
      sentence: the verdict in words, with numbers.
      gain: of choosing a partition, of its number of groups too, over one policy;
        expected, per task, in units of scores.
      lower: lower end of its interval.
      upper: its upper end.
      p_value: of no gain, one-sided.
      agreement: Spearman's rank correlation of f_i(S) from two halves over the subsets
        with task i, averaged over tasks and splits: 0 for noise.
      values: expected value of the best partition into 1, ..., n groups; float64 [n].
      over_one_policy: what it gains over one policy for all tasks.
      over_single_tasks: over a policy for each.
      over_random: over the mean of all partitions into as many groups.
    """

    grouping: Grouping
    num_groups: int
    verdict: str
    sentence: str
    gain: float
    lower: float
    upper: float
    p_value: float
    agreement: float
    values: np.ndarray
    over_one_policy: GainCurve
    over_single_tasks: GainCurve
    over_random: GainCurve


def grouping_gain(
    estimates: Any,
    num_groups: int | None = None,
    *,
    level: float = LEVEL,
    tolerance: float = TOLERANCE,
) -> GroupingGain:
    """What grouping is expected to gain over one policy and over single tasks.

    A partition is worth the mean over tasks i of f_i(group of i). Where one that is
    chosen on half of the transitions gains over one policy on the other half, at the
    given level, grouping "pays". It "does not matter" where the interval of the gain
    stays below a small share of the value, which itself is above 0; else the data
    cannot tell. More than one group is then not chosen: on noise, in at most `level` of
    all cases.

        estimates = pge.estimate_subsets(
            log_prob_fn, params, batch, subsets, key=key,
            regression="least_squares", num_splits=4)
        gain = pge.grouping_gain(estimates)
        print(gain.sentence)
        gain.grouping.labels

    Args:
      estimates: of every subset of at most 16 tasks, with `subsets` [m, n], `scores`
        [m, n], `half_scores` and `part_scores`, as `estimate_subsets(...,
        num_splits=...)` gives them; or independent `values` [replicates, m, n] of
        subsets, such as a `TruthTable`, an even number of at least 4 of them.
      num_groups: k in 1..n, or None to choose it.
      level: share of one-sided errors, and of gains outside of either end of their
        intervals, in (0, 0.5).
      tolerance: the share of the largest value below which a gain does not matter.

    Raises:
      ValueError: the estimates lack what is needed, a score of a member is not finite,
        a subset is missing, or an argument is out of range; the message names it.
    """
    subsets, scores, halves, parts = _read(estimates)
    num_tasks = subsets.shape[1]
    if num_groups is not None:
        num_groups = check_num_groups(num_groups, num_tasks, "n")
    level = as_share("level", level, 0.5)
    check_number("tolerance", tolerance)
    totals = _totals(subsets, halves), _totals(subsets, parts)
    judged = _judge(*totals, num_groups)
    p_value, gain = _test(judged.chosen - judged.values[..., 0])
    one, single, random = (
        _curve(judged.values - reference, level)
        for reference in (
            judged.values[..., :1],
            judged.values[..., -1:],
            judged.random,
        )
    )
    _, lower, upper = _interval(judged.chosen - judged.values[..., 0], level)
    values = judged.values.mean(axis=(0, 1, 2))
    best = int(np.argmax(values[1:])) + 2 if num_tasks > 1 else 1
    _, floor, _ = _interval(judged.values[..., int(np.argmax(values))], level)
    verdict = "cannot tell"
    if p_value <= level:
        verdict = "pays"
    elif floor > 0 and upper < tolerance * values.max():
        verdict = "does not matter"
    chosen = num_groups or (best if verdict == "pays" else 1)
    agreement = _agreement(subsets, halves)
    numbers = (gain, lower, upper, values[0], agreement)
    return GroupingGain(
        best_partition(_Scored(subsets, scores), chosen),
        chosen,
        verdict,
        _sentence(verdict, chosen, numbers, level),
        gain,
        lower,
        upper,
        p_value,
        agreement,
        values,
        one,
        single,
        random,
    )


class _Scored(NamedTuple):
    subsets: np.ndarray
    scores: np.ndarray


class _Judged(NamedTuple):
    """Values on parts that nothing was chosen by; float64 [splits, 2, parts, n].

    Attributes:
      values: of the best partition into 1, ..., n groups.
      random: the mean over all partitions into as many.
      chosen: of the best partition into any number of groups, or into the one given;
        [splits, 2, parts].
    """

    values: np.ndarray
    random: np.ndarray
    chosen: np.ndarray


def _judge(halves: np.ndarray, parts: np.ndarray, num_groups: int | None) -> _Judged:
    """Judges what each half chooses on the parts of the other.

    Args:
      halves: totals by half; [splits, 2, 2^n].
      parts: totals of the parts of each half; [splits, 2, parts, 2^n].
      num_groups: k, or None.
    """
    num_tasks = halves.shape[-1].bit_length() - 1
    shape = (*parts.shape[:3], num_tasks)
    values, random = np.empty(shape), np.empty(shape)
    chosen = np.empty(shape[:3])
    ks = range(1, num_tasks + 1)
    for split, half in np.ndindex(shape[:2]):
        table = halves[split, 1 - half]
        found = best_partitions(table)
        codes = {k: [encode_subsets(found[k] == g) for g in range(k)] for k in ks}
        own = [table[codes[k]].sum() for k in ks]
        best = num_groups or int(np.argmax(own)) + 1
        judge = parts[split, half]
        for k in ks:
            values[split, half, :, k - 1] = judge[:, codes[k]].sum(axis=1) / num_tasks
            random[split, half, :, k - 1] = [mean_partition_value(x, k) for x in judge]
        chosen[split, half] = values[split, half, :, best - 1]
    return _Judged(values, random, chosen)


def _interval(gains: np.ndarray, level: float) -> tuple[float, float, float]:
    """Mean and interval of gains on parts, [splits, 2, parts]."""
    from scipy import stats

    mean, error = _mean_and_error(gains)
    half = float(stats.t.ppf(1.0 - level, gains.shape[2] - 1)) * error
    return mean, mean - half, mean + half


def _test(gains: np.ndarray) -> tuple[float, float]:
    """The p-value of no gain, and the gain."""
    from scipy import stats

    mean, error = _mean_and_error(gains)
    if error == 0:
        return (0.0 if mean > 0 else 1.0), mean
    return float(stats.t.sf(mean / error, gains.shape[2] - 1)), mean


def _mean_and_error(gains: np.ndarray) -> tuple[float, float]:
    errors = gains.std(axis=2, ddof=1) / np.sqrt(gains.shape[2])
    return float(gains.mean()), float(errors.mean())


def _curve(gains: np.ndarray, level: float) -> GainCurve:
    found = [_interval(gains[..., k], level) for k in range(gains.shape[-1])]
    return GainCurve(*np.array(found).T)


def _agreement(subsets: np.ndarray, halves: np.ndarray) -> float:
    """Rank correlation of the scores of two halves, [splits, 2, m, n]."""
    found = []
    for task in range(subsets.shape[1]):
        rows = subsets[:, task]
        if rows.sum() < 2:
            continue
        for first, second in halves[:, :, rows, task]:
            found.append(np.nan_to_num(rank_correlation(first, second)))
    return float(np.mean(found)) if found else 0.0


def _sentence(verdict, num_groups, numbers, level) -> str:
    gain, lower, upper, one, agreement = numbers
    interval = (
        f"{gain:.3g} a task over one policy, which is worth {one:.3g} "
        f"({1 - 2 * level:.0%} interval {lower:.3g} to {upper:.3g})"
    )
    trust = f"two halves of the data rank subsets alike to {agreement:.2f}."
    groups = "1 group" if num_groups == 1 else f"{num_groups} groups"
    if verdict == "pays":
        return f"Grouping pays: {groups} are expected to gain {interval}; {trust}"
    if verdict == "does not matter":
        return f"Grouping does not matter here: it gains {interval}; {trust}"
    return f"The data cannot tell whether grouping pays: it gains {interval}; {trust}"


def _totals(subsets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The sums over members by the code of the subset; [..., m, n] to [..., 2^n]."""
    totals = np.full((*scores.shape[:-2], 2 ** subsets.shape[1]), np.nan)
    totals[..., encode_subsets(subsets)] = np.where(subsets, scores, 0.0).sum(axis=-1)
    return totals


def _read(estimates: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Subsets, scores, scores of halves and scores of their parts."""
    if not hasattr(estimates, "subsets"):
        raise ValueError(
            "estimates must have subsets, half_scores and part_scores, as "
            "estimate_subsets(..., regression='least_squares', num_splits=4) makes "
            f"them, got {type(estimates).__name__}"
        )
    subsets = as_subset_matrix(estimates.subsets)
    if subsets.shape[1] > MOST_TASKS:
        raise ValueError(
            f"subsets must have shape [m, n] with n in 1..{MOST_TASKS}, got "
            f"{subsets.shape}"
        )
    if getattr(estimates, "half_scores", None) is None:
        scores, halves, parts = _from_replicates(estimates, subsets)
    else:
        scores, halves, parts = (
            as_numbers(name, getattr(estimates, name, None), finite=False)
            for name in ("scores", "half_scores", "part_scores")
        )
        _check_shapes(subsets, scores, halves, parts)
    for name, x in (
        ("scores", scores),
        ("half_scores", halves),
        ("part_scores", parts),
    ):
        bad = np.argwhere(~np.isfinite(x) & subsets)
        if len(bad):
            row, task = bad[0][-2:]
            raise ValueError(
                f"{name} must be finite for members; that of task {task} in subset "
                f"{np.flatnonzero(subsets[row]).tolist()} is {x[tuple(bad[0])]}"
            )
    return subsets, scores, halves, parts


def _check_shapes(subsets, scores, halves, parts) -> None:
    of_splits = halves.shape[:-2]
    for name, x, allowed in (
        ("scores", scores, scores.shape == subsets.shape),
        ("half_scores", halves, halves.ndim == 4 and of_splits[1:] == (2,)),
        ("part_scores", parts, parts.ndim == 5 and parts.shape[:2] == of_splits),
    ):
        if not allowed or x.shape[-2:] != subsets.shape or 0 in x.shape:
            raise ValueError(
                f"{name} must have the axes [m, n] = {list(subsets.shape)} of subsets "
                "after those of splits, the 2 halves and their parts, got shape "
                f"{x.shape}"
            )


def _from_replicates(estimates: Any, subsets: np.ndarray):
    """Halves of independent replicates, and each replicate as a part of its half."""
    values = getattr(estimates, "values", None)
    if values is None:
        raise ValueError(
            "estimates must have half_scores and part_scores, which "
            "estimate_subsets(..., regression='least_squares', num_splits=4) makes, or "
            "values of at least 4 replicates"
        )
    values = as_numbers("values", values, finite=False)
    if values.shape[1:] != subsets.shape or len(values) < 4 or len(values) % 2:
        raise ValueError(
            "values must have shape [replicates, m, n], an even number of at least 4 "
            f"replicates, got {values.shape}"
        )
    parts = values[draw_halves(len(values), REPLICATE_SPLITS)]
    return values.mean(axis=0), parts.mean(axis=2), parts
