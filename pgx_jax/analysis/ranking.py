"""The best partitions of tasks, several of them or of a few subsets only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pgx_jax.analysis.partitions import check_totals, subset_layers


def top_partitions(totals: np.ndarray, num_groups: int, count: int) -> np.ndarray:
    """The best partitions into k groups, in descending order of value, exactly.

    The dynamic program of `best_partitions` with so many values kept of every set.

    Args:
      totals: the sum of the values of the tasks of every subset; [2^n].
      num_groups: k in 1..n.
      count: how many are wanted; there may be fewer.

    Returns:
      Labels numbered 0..k-1 in the order of each group's first task; int32 [count, n].

    Raises:
      ValueError: k is not an integer in 1..n, or a subset that some partition into k
        groups has is missing.
    """
    num_tasks = check_totals(totals, num_groups)
    totals = np.where(np.isnan(totals), -np.inf, totals)
    shape = (num_groups + 1, len(totals), count)
    best = np.full(shape, -np.inf)
    best[0, 0, 0] = 0.0
    first, rank = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for size, sets, inner in subset_layers(num_tasks):
        rest = sets[:, None] ^ inner
        for k in range(1, min(num_groups, size) + 1):
            value = totals[inner][..., None] + best[k - 1][rest]
            value = value.reshape(len(sets), -1)
            order = np.argsort(-value, axis=1, kind="stable")[:, :count]
            width = order.shape[1]
            best[k, sets, :width] = np.take_along_axis(value, order, axis=1)
            first[k, sets, :width] = np.take_along_axis(inner, order // count, axis=1)
            rank[k, sets, :width] = order % count
    found = []
    for place in np.flatnonzero(best[num_groups, -1] > -np.inf):
        labels, rest, at = np.zeros(num_tasks, np.int32), len(totals) - 1, place
        for group in range(num_groups):
            k = num_groups - group
            chosen = first[k, rest, at]
            labels[(chosen >> np.arange(num_tasks)) & 1 == 1] = group
            rest, at = rest ^ chosen, rank[k, rest, at]
        found.append(labels)
    return np.array(found, np.int32).reshape(-1, num_tasks)


def best_covers(
    subsets: np.ndarray, totals: Sequence[float] | np.ndarray
) -> dict[int, tuple[float, np.ndarray]]:
    """The best partition into every number of groups, all of some given subsets.

    Args:
      subsets: those that may be groups, few beside all that there are; bool [t, n].
      totals: the sum of the values of the tasks of each; [t].

    Returns:
      By number of groups, where there is a partition into so many: its total and the
      rows of its groups, in the order of their first tasks.
    """
    subsets = np.asarray(subsets, bool)
    codes = [sum(1 << int(i) for i in np.flatnonzero(row)) for row in subsets]
    starting: dict[int, list[int]] = {}
    for row, code in enumerate(codes):
        starting.setdefault(code & -code, []).append(row)
    known: dict[int, dict[int, tuple[float, tuple[int, ...]]]] = {0: {0: (0.0, ())}}

    def cover(left: int) -> dict[int, tuple[float, tuple[int, ...]]]:
        if left not in known:
            found: dict[int, tuple[float, tuple[int, ...]]] = {}
            # Every group is counted once: where its first task is the first one left.
            for row in starting.get(left & -left, []):
                if codes[row] & ~left:
                    continue
                for k, (value, rows) in cover(left ^ codes[row]).items():
                    total = float(totals[row]) + value
                    if k + 1 not in found or total > found[k + 1][0]:
                        found[k + 1] = total, (row, *rows)
            known[left] = found
        return known[left]

    covers = cover((1 << subsets.shape[1]) - 1)
    return {k: (value, np.array(rows)) for k, (value, rows) in sorted(covers.items())}
