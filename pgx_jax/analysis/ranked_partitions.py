"""The best few partitions into k groups, exactly, by a dynamic program over subsets."""

from __future__ import annotations

import numpy as np

from pgx_jax.analysis.partitions import check_totals, subset_layers
from pgx_jax.arguments import as_integer


def ranked_partitions(
    totals: np.ndarray, num_groups: int, count: int
) -> list[np.ndarray]:
    """The `count` partitions into k groups with the largest sums, best first.

    best[k, set] holds the largest sums over partitions of the set into k groups: of
    total(S) + best[k - 1, set less S] over the subsets S that hold the first task of
    the set, so that no partition is counted twice. 3^n count steps a number of groups.

    Args:
      totals: the sum of the values of the tasks of every subset, by its bits; [2^n].
      num_groups: k in 1..n.
      count: of partitions; there may be fewer.

    Returns:
      Labels of each partition, numbered 0..k-1 in the order of each group's first task;
      int32 [n].

    Raises:
      ValueError: k or count is no integer in its range, or a subset that some partition
        into k groups has is missing.
    """
    count = as_integer("count", count, 1)
    num_tasks, num_groups = check_totals(totals, num_groups), int(num_groups)
    totals = np.where(np.isnan(totals), -np.inf, totals)
    shape = (num_groups + 1, 2**num_tasks, count)
    best = np.full(shape, -np.inf)
    chosen = np.zeros(shape, np.int64)  # the group of the set's first task, and
    follows = np.zeros(shape, np.int64)  # the rank of the partition of the rest
    best[0, 0, 0] = 0.0
    for size, sets, inner in subset_layers(num_tasks):
        value, rest = totals[inner][..., None], sets[:, None] ^ inner
        for k in range(1, min(num_groups, size) + 1):
            sums = (value + best[k - 1][rest]).reshape(len(sets), -1)
            top = np.argsort(-sums, axis=1, kind="stable")[:, :count]
            kept = top.shape[1]
            best[k, sets, :kept] = np.take_along_axis(sums, top, axis=1)
            chosen[k, sets, :kept] = np.take_along_axis(inner, top // count, axis=1)
            follows[k, sets, :kept] = top % count
    found = []
    for rank in np.flatnonzero(best[num_groups, -1] > -np.inf):
        labels = np.zeros(num_tasks, np.int32)
        rest = 2**num_tasks - 1
        for group in range(num_groups):
            place = (num_groups - group, rest, rank)
            labels[chosen[place] >> np.arange(num_tasks) & 1 == 1] = group
            rest, rank = rest ^ chosen[place], follows[place]
        found.append(labels)
    return found
