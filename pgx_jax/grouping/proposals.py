"""Partitions that are worth being trained, by how similar tasks are."""

from __future__ import annotations

from itertools import count as count_up

import jax
import numpy as np

from pgx_jax.analysis.partitions import all_subsets
from pgx_jax.analysis.ranking import top_partitions
from pgx_jax.grouping.clustering import check_num_groups, cluster_tasks, number_labels
from pgx_jax.types import Affinity

MOST_EXACT = 12  # tasks of which every subset is looked at


def propose_partitions(
    similarity: Affinity | jax.Array | np.ndarray,
    num_groups: int | None = None,
    count: int = 4,
) -> np.ndarray:
    """The partitions whose tasks are most similar to those of their groups.

    A partition is worth the sum over its groups S of sum_{i, j in S} U_ij / |S|, as
    for `cluster_tasks`. With k given they are the best ones into k groups. Else they
    are the best ones into 2, 3, ... groups in turn, one of each: what numbers of groups
    are worth is no matter of similarity, and is left to training.

    Args:
      similarity: U, such as `gradient_similarity`; [n, n].
      num_groups: k in 1..n, or None for several.
      count: how many are wanted; there may be fewer.

    Returns:
      Labels; int32 [count, n]. Up to 12 tasks they are exactly the best ones; beyond,
      those that single moves and swaps of two tasks lead to from `cluster_tasks`.

    Raises:
      ValueError: `num_groups` is not in 1..n, or `count` is below 1.
    """
    matrix = np.asarray(getattr(similarity, "matrix", similarity), np.float64)
    num_tasks = len(matrix)
    if num_groups is not None:
        check_num_groups(num_groups, num_tasks, "the number of tasks")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    matrix = 0.5 * (matrix + matrix.T)
    numbers = range(2, num_tasks) if num_groups is None else [num_groups]
    each = -(-count // max(1, len(numbers)))
    ranked = [_rank(matrix, k, each) for k in numbers]
    found = []
    for place in count_up():
        here = [labels[place] for labels in ranked if place < len(labels)]
        found += here
        if not here or len(found) >= count:
            break
    return np.array(found[:count], np.int32).reshape(-1, num_tasks)


def group_similarity(matrix: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    """f_i(S), the mean over j in S of U_ij, 0 where i is not in S; float64 [m, n].

    Args:
      matrix: U; [n, n].
      subsets: bool [m, n].
    """
    member = np.asarray(subsets, np.float64)
    return member * (member @ matrix.T) / member.sum(axis=1, keepdims=True)


def _rank(matrix: np.ndarray, num_groups: int, count: int) -> np.ndarray:
    """The best partitions into k groups first; int32 [count, n]."""
    num_tasks = len(matrix)
    if num_tasks <= MOST_EXACT:
        scores = group_similarity(matrix, all_subsets(num_tasks))
        return top_partitions(np.append(0.0, scores.sum(axis=1)), num_groups, count)
    best = cluster_tasks(matrix.astype(np.float32), num_groups).labels
    near = [best]
    for i in range(num_tasks):
        for group in range(num_groups):
            near.append(np.where(np.arange(num_tasks) == i, group, best))
        for j in range(i):
            swapped = best.copy()
            swapped[[i, j]] = best[[j, i]]
            near.append(swapped)
    near = np.unique([number_labels(x) for x in near], axis=0)
    near = near[near.max(axis=1) == num_groups - 1]
    values = [_value(matrix, labels) for labels in near]
    return near[np.argsort(-np.array(values), kind="stable")[:count]].astype(np.int32)


def _value(matrix: np.ndarray, labels: np.ndarray) -> float:
    groups = labels == np.arange(labels.max() + 1)[:, None]
    return float(group_similarity(matrix, groups).sum())
