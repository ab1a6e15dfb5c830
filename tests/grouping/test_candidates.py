"""Candidates to train against a list of all partitions, and the choice among them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pgx_jax.grouping.candidates import (
    affinity_scores,
    best_trained_partition,
    candidate_partitions,
)


def objective(affinity, labels):
    """<U, X>, X_ij = 1 / |S| for i and j of one group S."""
    same = np.equal.outer(labels, labels)
    return float(np.sum(affinity * same / same.sum(axis=1)))


def draw_affinity(num_tasks, seed=0):
    matrix = np.random.default_rng(seed).normal(size=(num_tasks, num_tasks))
    return matrix + matrix.T


def labelings(num_tasks, num_groups):
    """All partitions into k groups, by first appearance."""
    found = set()
    for labels in itertools.product(range(num_groups), repeat=num_tasks):
        numbers: dict[int, int] = {}
        found.add(tuple(numbers.setdefault(x, len(numbers)) for x in labels))
    return sorted(x for x in found if max(x) + 1 == num_groups)


def test_candidates_are_the_best_partitions_by_the_objective():
    affinity = draw_affinity(6)
    for k in (2, 3):
        listed = sorted(labelings(6, k), key=lambda x: -objective(affinity, x))
        found = candidate_partitions(affinity, k, 4)
        np.testing.assert_array_equal([x.labels for x in found], listed[:4])
        expected = [objective(affinity, x) for x in listed[:4]]
        np.testing.assert_allclose([x.objective for x in found], expected, rtol=1e-12)
    free = candidate_partitions(affinity, None, 6)
    assert [x.num_groups for x in free] == [2, 3, 4, 5, 2, 3]
    second = sorted(labelings(6, 2), key=lambda x: -objective(affinity, x))[1]
    np.testing.assert_array_equal(free[4].labels, second)


def test_candidates_of_many_tasks_differ_and_start_with_the_best():
    labels = np.arange(20) % 3
    affinity = np.equal.outer(labels, labels) + 0.01 * draw_affinity(20)
    found = candidate_partitions(affinity, 3, 5)
    np.testing.assert_array_equal(found[0].labels, labels)
    values = [objective(affinity, x.labels) for x in found]
    assert values == sorted(values, reverse=True)
    assert len({tuple(x.labels) for x in found}) == 5


def test_few_tasks_have_few_candidates():
    assert candidate_partitions(np.eye(2)) == []
    assert len(candidate_partitions(np.eye(3), 2, 8)) == 3
    assert len(candidate_partitions(np.eye(3), None, 8)) == 3


def test_trained_groups_combine_to_the_best_cover():
    # One policy 1 each, single tasks 2, groups {0, 1} 3 and {2, 3} 0: the best is
    # {0, 1} with single tasks, which no partition that was trained is.
    subsets = np.array(
        [[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1],
         [1, 1, 0, 0], [0, 0, 1, 1]]
    )  # fmt: skip
    worth = np.array([1.0, 2, 2, 2, 2, 3, 0])
    returns = np.where(subsets, worth[:, None], np.nan)
    found = best_trained_partition(subsets, returns)
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 2])
    assert found.objective == found.bound == 10.0
    assert best_trained_partition(subsets, returns, 1).objective == 4.0
    assert best_trained_partition(subsets, returns, 2).objective == 6.0
    # Trained again, {0, 1} is worth (3 - 1) / 2 = 1 on average: single tasks are best.
    again = np.concatenate([subsets, subsets[5:6]])
    more = np.concatenate([returns, np.where(subsets[5:6], -1.0, np.nan)])
    assert best_trained_partition(again, more).num_groups == 4


def test_groups_do_not_overlap_and_of_equals_the_fewest_win():
    subsets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]])
    worth = np.array([0.0, 0, 0, 5, 4])  # the last two share a task
    found = best_trained_partition(subsets, subsets * worth[:, None])
    np.testing.assert_array_equal(found.labels, [0, 1, 0])
    assert found.objective == 10.0
    assert best_trained_partition(subsets, 0.0 * subsets).num_groups == 2


def test_best_cover_is_that_of_all_partitions():
    rng = np.random.default_rng(3)
    n = 6
    subsets = np.unique(rng.random((30, n)) < 0.5, axis=0)
    subsets = np.unique(np.concatenate([subsets, np.eye(n, dtype=bool)]), axis=0)
    returns = rng.normal(size=subsets.shape)
    place = {tuple(x): i for i, x in enumerate(subsets)}
    for k in (2, 3, 4, None):
        values = []
        for count in range(1, n + 1) if k is None else [k]:
            for labels in labelings(n, count):
                groups = [tuple(np.array(labels) == g) for g in range(count)]
                if all(g in place for g in groups):
                    values.append(sum(returns[place[g]][list(g)].sum() for g in groups))
        found = best_trained_partition(subsets, returns, k)
        np.testing.assert_allclose(found.objective, max(values), rtol=1e-12)


def test_sum_of_affinity_scores_is_the_objective():
    affinity = np.random.default_rng(0).normal(size=(4, 4))
    labels = np.array([0, 1, 0, 0])
    groups = np.array([labels == 0, labels == 1])
    total = affinity_scores(affinity, groups).sum()
    np.testing.assert_allclose(total, objective(affinity, labels), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)),), r"affinity must have shape \[n, n\]"),
        ((np.full((3, 3), np.nan),), "tasks 0 and 0 is nan"),
        ((np.eye(3), 4), "num_groups must be an integer in"),
        ((np.eye(3), 2, 0), "num_candidates must be at least 1"),
    ],
)
def test_candidates_of_bad_input_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        candidate_partitions(*arguments)


def test_bad_trainings_are_refused():
    with pytest.raises(ValueError, match="no partition into 2 groups can be made"):
        best_trained_partition([[1, 1]], [[1.0, 1.0]], 2)
    with pytest.raises(ValueError, match="row 0, task 1 is nan"):
        best_trained_partition([[1, 1]], [[1.0, np.nan]])
    with pytest.raises(ValueError, match="one shape"):
        best_trained_partition([[1, 1]], [1.0, 2.0])
