"""Candidate partitions that are trained for real, and the choice among them.

Estimates at the meta-policy say little of what hundreds of updates will do; as
proposals they say enough. So a few partitions that score highest are trained, at full
budget, and what their policies return decides. Their groups combine: any partition that
is made of trained groups is known as well, and its policies exist.

On truth tables of seven suites the best of six partitions that the cosine of task
gradients proposes, by one training of each, scores as much as the best one by a
training of every subset, at a cost of 8 partitions in place of 16 to 128
(experiments/results/truth/races.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis.gains import check_returns
from pgx_jax.analysis.ranked_partitions import ranked_partitions
from pgx_jax.analysis.truth_tables import all_subsets, encode_subsets
from pgx_jax.arguments import as_integer, as_seed, as_square, as_subset_matrix
from pgx_jax.grouping.clustering import check_num_groups, number_labels
from pgx_jax.grouping.partition_search import best_partition
from pgx_jax.types import Grouping

# Tasks up to which the best few partitions are found exactly.
MOST_RANKED_TASKS = 12


def affinity_scores(affinity: ArrayLike, subsets: ArrayLike) -> np.ndarray:
    """f_i(S), the mean of U_ij over the tasks j of S, i among them.

    Its sum over a partition is <U, X> with X_ij = 1 / |S| for i and j of one group S,
    the objective of `cluster_tasks`.

    Args:
      affinity: U; float [n, n].
      subsets: 0/1 matrix [m, n].

    Returns:
      float64 [m, n]; 0 where task i is not in S.

    Raises:
      ValueError: `affinity` is not square or not finite, or `subsets` are no 0/1 matrix
        of its tasks.
    """
    matrix = as_square("affinity", affinity)
    member = as_subset_matrix(subsets, len(matrix)).astype(np.float64)
    size = np.maximum(member.sum(axis=1, keepdims=True), 1.0)
    return member * (member @ (0.5 * (matrix + matrix.T))) / size


def candidate_partitions(
    affinity: ArrayLike,
    num_groups: int | None = None,
    num_candidates: int = 6,
    *,
    seed: int = 0,
) -> list[Grouping]:
    """The partitions to train: those with the largest <U, X>, different ones.

    With k given, the best ones into k groups: exactly up to 12 tasks, beyond them the
    best of the partitions that are one move or one swap of tasks from the best one that
    is found. With k free the best into 2, 3, ..., n - 1 groups, then the second best
    into each, and so on. One policy for all and single tasks are not among those.

    Args:
      affinity: U of every pair of tasks, such as `gradient_similarity(...).matrix`;
        finite [n, n].
      num_groups: k in 1..n, or None.
      num_candidates: how many; there may be fewer partitions.
      seed: of the search beyond 12 tasks.

    Raises:
      ValueError: `affinity` is not square or not finite, k is no integer in 1..n or
        num_candidates is no positive integer.
    """
    affinity, seed = as_square("affinity", affinity), as_seed(seed)
    num_candidates = as_integer("num_candidates", num_candidates, 1)
    num_tasks = len(affinity)
    if num_groups is not None:
        num_groups = check_num_groups(num_groups, num_tasks, "the tasks of affinity")
        return _best_few(affinity, num_groups, num_candidates, seed)
    ks = range(2, num_tasks)
    rounds = -(-num_candidates // max(len(ks), 1))
    # Only as many as are asked for: a program over subsets for each number of groups.
    ks = list(ks)[:num_candidates]
    lists = [_best_few(affinity, k, rounds, seed) for k in ks]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*lists))
    return [x for x in turns if x is not None][:num_candidates]


def best_trained_partition(
    subsets: ArrayLike, returns: ArrayLike, num_groups: int | None = None
) -> Grouping:
    """The best partition that is made of groups that were trained.

    Args:
      subsets: groups with a policy; 0/1 matrix [m, n], of any number of tasks; a group
        that is there again counts with the mean of its returns.
      returns: mean return of task i under the policy of row S; [m, n], looked at for
        members only.
      num_groups: k, or None for the number with the largest sum, the smallest of
        equals.

    Returns:
      The groups; `objective` and `bound` are the sum over tasks of their returns.

    Raises:
      ValueError: shapes do not agree, a member's return is not finite, or no partition
        (into k groups) can be made of the groups.
    """
    member, returns = check_returns(subsets, returns)
    if num_groups is not None:
        n = member.shape[1]
        num_groups = check_num_groups(num_groups, n, "the tasks of subsets")
    gathered: dict[int, list[float]] = {}
    for row, tasks in enumerate(member):
        code = sum(1 << int(i) for i in np.flatnonzero(tasks))
        gathered.setdefault(code, []).append(float(returns[row, tasks].sum()))
    groups = {code: float(np.mean(x)) for code, x in gathered.items() if code}
    found = _best_cover(groups, member.shape[1], num_groups)
    if found is None:
        into = "" if num_groups is None else f" into {num_groups} groups"
        raise ValueError(f"no partition{into} can be made of the groups of subsets")
    total, chosen = found
    labels = np.zeros(member.shape[1], np.int32)
    for number, code in enumerate(chosen):
        labels[[i for i in range(len(labels)) if code >> i & 1]] = number
    labels = number_labels(labels)
    return Grouping(labels, len(chosen), objective=total, bound=total)


def _best_cover(
    groups: dict[int, float], num_tasks: int, num_groups: int | None
) -> tuple[float, tuple[int, ...]] | None:
    """The disjoint groups of all tasks with the largest sum; bits of each."""
    starting: dict[int, list[int]] = {}
    for code in sorted(groups):
        starting.setdefault(code & -code, []).append(code)
    # States by the first task that is not covered: it grows with every group.
    reached: list[dict[tuple[int, int], tuple[float, tuple[int, ...]]]]
    reached = [{} for _ in range(num_tasks + 1)]
    reached[0][0, 0] = (0.0, ())
    for first in range(num_tasks):
        for (covered, used), (total, chosen) in reached[first].items():
            if used == num_groups:
                continue
            for code in starting.get(1 << first, ()):
                if code & covered:
                    continue
                new = (total + groups[code], (*chosen, code))
                both = covered | code
                states = reached[(both & ~(both + 1)).bit_count()]
                if new[0] > states.get((both, used + 1), (-np.inf,))[0]:
                    states[both, used + 1] = new
    finished = [x for (_, k), x in reached[-1].items() if num_groups in (None, k)]
    return max(finished, key=lambda x: (x[0], -len(x[1])), default=None)


def _best_few(affinity, num_groups, count, seed) -> list[Grouping]:
    num_tasks = len(affinity)

    def totals(subsets):
        return affinity_scores(affinity, subsets).sum(axis=1)

    if num_tasks <= MOST_RANKED_TASKS:
        subsets = all_subsets(num_tasks)
        every = np.zeros(2**num_tasks)
        every[encode_subsets(subsets)] = totals(subsets)
        found: Sequence[np.ndarray] = ranked_partitions(every, num_groups, count)
    else:
        best = best_partition(
            lambda subsets: affinity_scores(affinity, subsets),
            num_groups,
            num_tasks=num_tasks,
            seed=seed,
        )
        found = _neighbors(np.asarray(best.labels), num_groups)
        values = [sum(totals(np.eye(num_groups)[x].T)) for x in found]
        order = np.argsort(-np.array(values), kind="stable")
        found = [found[i] for i in order[:count]]
    groupings = []
    for labels in found:
        value = float(totals(np.eye(num_groups)[labels].T).sum())
        groupings.append(Grouping(labels, num_groups, objective=value))
    return groupings


def _neighbors(labels: np.ndarray, num_groups: int) -> list[np.ndarray]:
    """A partition and all that one move or one swap of tasks makes of it."""
    found = {labels.tobytes(): labels}
    sizes = np.bincount(labels, minlength=num_groups)
    for i in range(len(labels)):
        moves = [(i, g) for g in range(num_groups) if sizes[labels[i]] > 1]
        changed = [[move] for move in moves]
        changed += [
            [(i, labels[j]), (j, labels[i])] for j in range(i) if labels[i] != labels[j]
        ]
        for change in changed:
            new = labels.copy()
            for task, group in change:
                new[task] = group
            new = number_labels(new).astype(labels.dtype)
            found.setdefault(new.tobytes(), new)
    return list(found.values())
