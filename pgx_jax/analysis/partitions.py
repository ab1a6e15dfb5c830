"""The value of a partition of the tasks relative to all other partitions.

Where a policy has been trained on every subset of n tasks, the true value of every
partition follows by adding up: R[S, i] is the value of task i under the policy trained
on S, and a partition is worth the mean over tasks i of R[group of i, i]. There are
115,975 partitions of ten tasks, but the best one is a dynamic program over subsets, 3^n
steps for each number of groups, and the mean over all of them a sum over subsets with
Stirling numbers for weights, so that no partition is ever listed.

The score of a partition into k groups is 100 (v - mean) / (best - mean), both over all
partitions into k groups: 0 is a partition drawn at random, 100 the best one.

Three tables were kept aside for judging ways of grouping, and nothing was chosen by
looking at them: lunar_lander, half_cheetah_objectives and hopper_body.

Source: Standley et al., "Which tasks should be learned together in multi-task
learning?", 2020, reports networks by total value at each number of groups.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis.truth_tables import TruthTable, check_table, encode_subsets
from pgx_jax.arguments import as_integer, as_labels, as_numbers, as_seed, show

# Pairs of a set and its subset that are held at once, of 8 bytes in several arrays.
_BLOCK = 2**21


class PartitionScore(NamedTuple):
    """Where a partition stands among all partitions into as many groups.

    Attributes:
      score: 100 (value - mean) / (best - mean); NaN where all partitions are worth the
        same.
      value: of the partition, in the units of the table.
      mean: over all partitions into k groups.
      best: the best partition into k groups.
      lower: lower end of the 95% interval of the score over trainings; None for one
        training, and where there is one partition only.
      upper: its upper end.
    """

    score: float
    value: float
    mean: float
    best: float
    lower: float | None = None
    upper: float | None = None


def partition_value(table: TruthTable, labels: ArrayLike) -> np.ndarray:
    """The mean over tasks of R[group of i, i]; float64 [replicates].

    Args:
      table: has every group of the partition.
      labels: the group of each task; [n].

    Raises:
      ValueError: `labels` has another length, or a group is not in the table.
    """
    labels = as_labels("labels", labels, check_table(table).num_tasks)
    rows = {int(c): row for row, c in enumerate(encode_subsets(table.subsets))}
    values = np.empty((table.num_replicates, table.num_tasks))
    for group in np.unique(labels):
        member = labels == group
        row = rows.get(int(encode_subsets(member)))
        if row is None:
            raise ValueError(
                f"the table has no subset {np.flatnonzero(member).tolist()}, a group "
                "of labels"
            )
        values[:, member] = table.values[:, row, member]
    return values.mean(axis=1)


def mean_partition_value(totals: np.ndarray, num_groups: int) -> float:
    """The mean value of all partitions into k groups, exactly.

    A subset S is a group of as many of them as there are partitions of the other tasks
    into k - 1 groups, a Stirling number of the second kind.

    Args:
      totals: the sum of the values of the tasks of every subset; [2^n].
      num_groups: k in 1..n.

    Raises:
      ValueError: k is not an integer in 1..n, or a subset that some partition into k
        groups has is missing.
    """
    num_tasks, num_groups = check_totals(totals, num_groups), int(num_groups)
    size = _sizes(num_tasks)
    others = [
        stirling_number(num_tasks - s, num_groups - 1) for s in range(1 + size[-1])
    ]
    weight = np.array(others, np.float64)[size]
    weight[0] = 0.0
    used = weight > 0
    total = np.sum(weight[used] * totals[used]) / num_tasks
    return float(total / stirling_number(num_tasks, num_groups))


def best_partitions(
    totals: np.ndarray, num_groups: int | None = None
) -> dict[int, np.ndarray]:
    """The best partition into every number of groups, or into k, exactly.

    best[k, set] is the largest of total(S) + best[k - 1, set less S] over the subsets S
    that hold the first task of the set; sets of one size are handled together.

    Args:
      totals: the sum of the values of the tasks of every subset; [2^n].
      num_groups: k in 1..n, or None for every k.

    Returns:
      Labels of the best partition by number of groups, numbered 0..k-1 in the order of
      each group's first task; int32 [n].

    Raises:
      ValueError: k is not an integer in 1..n, or a subset that some partition into k
        groups has is missing.
    """
    num_tasks = check_totals(totals, 1 if num_groups is None else num_groups)
    wanted = range(1, num_tasks + 1) if num_groups is None else [int(num_groups)]
    most = max(wanted)
    totals = np.where(np.isnan(totals), -np.inf, totals)
    best = np.full((most + 1, 2**num_tasks), -np.inf)
    best[0, 0] = 0.0
    for size, sets, inner in subset_layers(num_tasks):
        value, rest = totals[inner], sets[:, None] ^ inner
        for k in range(1, min(most, size) + 1):
            best[k, sets] = np.max(value + best[k - 1][rest], axis=1)
    return {k: _trace(totals, best, k) for k in wanted}


def partition_score(
    table: TruthTable, labels: ArrayLike, *, num_resamples: int = 1000, seed: int = 0
) -> PartitionScore:
    """Scores a partition among all partitions into as many groups.

    Args:
      table: has every subset that a partition into k groups can have.
      labels: the group of each task; [n].
      num_resamples: draws of the trainings, with replacement, behind the interval.
      seed: of those.

    Raises:
      ValueError: the labels do not fit the table, or a subset is missing.
    """
    labels = as_labels("labels", labels, check_table(table).num_tasks)
    num_resamples = as_integer("num_resamples", num_resamples, 1)
    seed = as_seed(seed)
    num_groups = len(np.unique(labels))
    score = _score(table, labels, num_groups, None)
    if table.num_replicates == 1 or num_groups in (1, table.num_tasks):
        return score
    rng = np.random.default_rng(seed)
    draws = rng.integers(
        table.num_replicates, size=(num_resamples, table.num_replicates)
    )
    # Few trainings have few different draws of them.
    drawn, times = np.unique(np.sort(draws, axis=1), axis=0, return_counts=True)
    scores = [_score(table, labels, num_groups, draw).score for draw in drawn]
    lower, upper = np.nanquantile(np.repeat(scores, times), [0.025, 0.975])
    return score._replace(lower=float(lower), upper=float(upper))


def noise_ceiling(table: TruthTable, num_groups: int) -> np.ndarray:
    """The score of choosing by one full training of every subset.

    The best partition of one training is scored by the mean of all others: what the
    noise of training leaves of the truth itself.

    Returns:
      Scores, one for each training that was chosen by; float64 [replicates].

    Raises:
      ValueError: the table has one training, k is out of range or a subset is missing.
    """
    num_groups = as_integer("num_groups", num_groups, 1, check_table(table).num_tasks)
    return held_out_scores(
        table,
        [
            best_partitions(table.totals([r]), num_groups)[num_groups]
            for r in range(table.num_replicates)
        ],
    )


def held_out_scores(table: TruthTable, labels: Sequence[ArrayLike]) -> np.ndarray:
    """Scores partition r by the mean of all trainings but training r.

    Args:
      table: of at least two trainings.
      labels: one partition for each training; [replicates][n].

    Returns:
      float64 [replicates].

    Raises:
      ValueError: the table has one training, or `labels` another number of partitions.
    """
    if check_table(table).num_replicates < 2:
        raise ValueError("table must have at least 2 trainings, it has 1")
    if (
        not isinstance(labels, (list, tuple, np.ndarray))
        or len(labels) != table.num_replicates
    ):
        raise ValueError(
            f"labels must hold one partition for each of the {table.num_replicates} "
            f"trainings, got {show(labels)}"
        )
    scores = []
    for r, partition in enumerate(labels):
        others = np.delete(np.arange(table.num_replicates), r)
        partition = as_labels("labels", partition, table.num_tasks)
        k = len(np.unique(partition))
        scores.append(_score(table, partition, k, others).score)
    return np.array(scores)


def replicate_correlation(table: TruthTable) -> float:
    """How far two trainings agree on which subsets suit a task.

    Spearman's rank correlation of R[S, i] over the subsets S with task i, averaged over
    tasks and pairs of trainings; a task whose values are all the same counts as 0.

    Raises:
      ValueError: the table has one training.
    """
    from pgx_jax.analysis.statistics import rank_correlation

    if check_table(table).num_replicates < 2:
        raise ValueError("table must have at least 2 trainings, it has 1")
    found = []
    for task in range(table.num_tasks):
        values = table.values[:, table.subsets[:, task], task]
        for a in range(len(values)):
            for b in range(a):
                found.append(np.nan_to_num(rank_correlation(values[a], values[b])))
    return float(np.mean(found))


@functools.cache
def stirling_number(num_items: int, num_groups: int) -> int:
    """The number of partitions of n items into k groups, of the second kind."""
    if num_items == num_groups:
        return 1
    if num_groups < 1 or num_groups > num_items:
        return 0
    return num_groups * stirling_number(num_items - 1, num_groups) + stirling_number(
        num_items - 1, num_groups - 1
    )


def _score(table, labels, num_groups, replicates) -> PartitionScore:
    totals = table.totals(replicates)
    mean = mean_partition_value(totals, num_groups)
    groups = [encode_subsets(labels == g) for g in np.unique(labels)]
    best_labels = best_partitions(totals, num_groups)[num_groups]
    best_groups = [encode_subsets(best_labels == g) for g in range(num_groups)]
    value, best = (totals[x].sum() / table.num_tasks for x in (groups, best_groups))
    flat = best - mean <= 1e-12 * max(1.0, abs(best))
    score = math.nan if flat else 100.0 * (value - mean) / (best - mean)
    return PartitionScore(float(score), float(value), mean, float(best))


def _sizes(num_tasks: int) -> np.ndarray:
    """The number of tasks of every subset; int64 [2^n]."""
    return np.bitwise_count(np.arange(2**num_tasks)).astype(np.int64)


def subset_layers(num_tasks: int):
    """Yields a size, sets of it and all of their subsets that hold their first task.

    The sets are int64 [c], their subsets int64 [c, 2^(size - 1)], the set itself among
    them; sizes come in ascending order.
    """
    codes, size = np.arange(2**num_tasks), _sizes(num_tasks)
    for s in range(1, num_tasks + 1):
        sets = codes[size == s]
        member = (sets[:, None] >> np.arange(num_tasks)) & 1
        bits = 1 << np.nonzero(member)[1].reshape(len(sets), s)
        # Every pattern over the other tasks of a set, and the first one always.
        patterns = (np.arange(2 ** (s - 1))[:, None] >> np.arange(s - 1)) & 1
        block = max(1, _BLOCK // len(patterns))
        for start in range(0, len(sets), block):
            part = slice(start, start + block)
            yield s, sets[part], bits[part, :1] + bits[part, 1:] @ patterns.T


def _trace(totals: np.ndarray, best: np.ndarray, num_groups: int) -> np.ndarray:
    """The labels behind best[k, all tasks]; int32 [n]."""
    num_tasks = len(totals).bit_length() - 1
    labels = np.zeros(num_tasks, np.int32)
    rest = len(totals) - 1
    for group in range(num_groups):
        tasks = [i for i in range(num_tasks) if rest >> i & 1]
        inner = np.array([1 << tasks[0]])
        for task in tasks[1:]:
            inner = np.concatenate([inner, inner | 1 << task])
        value = totals[inner] + best[num_groups - group - 1][rest ^ inner]
        chosen = int(inner[np.argmax(value)])
        labels[[i for i in tasks if chosen >> i & 1]] = group
        rest ^= chosen
    return labels


def check_totals(totals: np.ndarray, num_groups: int) -> int:
    """The number of tasks of totals [2^n], from which k groups can be made.

    Raises:
      ValueError: `totals` have another length, k is no integer in 1..n, or a subset
        that some partition into k groups has is missing.
    """
    totals = as_numbers("totals", totals, finite=False)
    num_tasks = len(totals).bit_length() - 1 if totals.ndim == 1 else 0
    if num_tasks < 1 or len(totals) != 2**num_tasks:
        raise ValueError(
            f"totals must have shape [2^n], one a subset of n tasks, got {totals.shape}"
        )
    num_groups = as_integer("num_groups", num_groups, 1)
    if num_groups > num_tasks:
        raise ValueError(
            f"num_groups must be in 1..n = 1..{num_tasks}, got {num_groups}"
        )
    size = _sizes(num_tasks)
    needed = (size >= 1) & (size <= num_tasks - num_groups + 1)
    if num_groups == 1:
        needed &= size == num_tasks
    missing = np.flatnonzero(needed & np.isnan(totals))
    if missing.size:
        tasks = [i for i in range(num_tasks) if missing[0] >> i & 1]
        raise ValueError(
            f"the table has no subset {tasks}, which a partition of {num_tasks} tasks "
            f"into {num_groups} groups may have; {missing.size} are missing in all"
        )
    return num_tasks
