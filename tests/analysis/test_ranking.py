"""The several best partitions, against a list of all of them."""

import numpy as np
import pytest

from pgx_jax.analysis.partitions import all_subsets
from pgx_jax.analysis.ranking import best_covers, top_partitions


def list_partitions(num_tasks):
    """Labels of all partitions, numbered by first tasks; [partitions, n]."""
    rows = [[0]]
    for _ in range(num_tasks - 1):
        rows = [[*row, label] for row in rows for label in range(max(row) + 2)]
    return np.array(rows)


def value_of(labels, totals):
    codes = [np.sum(1 << np.flatnonzero(labels == g)) for g in range(labels.max() + 1)]
    return totals[codes].sum()


@pytest.mark.parametrize("num_groups", [1, 2, 3, 6])
def test_top_partitions_are_the_first_of_all(num_groups):
    totals = np.append(0.0, np.random.default_rng(num_groups).normal(size=63))
    every = list_partitions(6)
    assert len(every) == 203  # Bell's number of 6
    every = every[every.max(axis=1) == num_groups - 1]
    order = np.argsort([-value_of(x, totals) for x in every])
    found = top_partitions(totals, num_groups, 5)
    np.testing.assert_array_equal(found, every[order[:5]])


def test_covers_are_the_best_of_the_given_subsets():
    rng = np.random.default_rng(0)
    chosen = rng.permutation(63)[:20]
    subsets = np.concatenate([all_subsets(6)[chosen], np.eye(6, dtype=bool)])
    totals = np.append(rng.normal(size=20), np.zeros(6))
    known = {}
    for subset, total in zip(subsets, totals, strict=True):
        code = np.sum(1 << np.flatnonzero(subset))
        known[code] = max(known.get(code, -np.inf), total)  # alone may come twice
    best = {}
    for labels in list_partitions(6):
        k = labels.max() + 1
        codes = [np.sum(1 << np.flatnonzero(labels == g)) for g in range(k)]
        if all(code in known for code in codes):
            best[k] = max(best.get(k, -np.inf), sum(known[code] for code in codes))
    covers = best_covers(subsets, totals)
    assert covers.keys() == best.keys() and len(best) > 3
    for k, (value, rows) in covers.items():
        assert value == pytest.approx(best[k])
        np.testing.assert_array_equal(subsets[rows].sum(axis=0), 1)
        assert len(rows) == k and totals[rows].sum() == pytest.approx(value)


def test_tasks_that_no_subsets_cover_have_no_partition():
    assert best_covers([[1, 1, 0], [0, 1, 1]], [1.0, 1.0]) == {}
