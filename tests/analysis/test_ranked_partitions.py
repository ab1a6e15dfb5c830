"""The best few partitions against a list of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from pgx_jax.analysis.ranked_partitions import ranked_partitions
from pgx_jax.analysis.truth_tables import all_subsets, encode_subsets


def list_partitions(num_tasks):
    """Every partition of n tasks, as labels numbered by first appearance."""
    found = [[0]]
    for _ in range(num_tasks - 1):
        found = [p + [g] for p in found for g in range(max(p) + 2)]
    return [np.array(p) for p in found]


@pytest.mark.parametrize("num_groups", [1, 2, 3, 6])
def test_ranked_partitions_are_the_first_of_all_in_order(num_groups):
    rng = np.random.default_rng(0)
    totals = np.zeros(2**6)
    totals[encode_subsets(all_subsets(6))] = rng.normal(size=63)
    listed = [p for p in list_partitions(6) if p.max() + 1 == num_groups]
    values = [
        sum(totals[encode_subsets(p == g)] for g in range(num_groups)) for p in listed
    ]
    order = np.argsort(values)[::-1][:7]
    found = ranked_partitions(totals, num_groups, 7)
    assert len(found) == min(7, len(listed))
    np.testing.assert_array_equal(found, [listed[i] for i in order])


def test_partitions_with_missing_groups_and_bad_counts_are_refused():
    totals = np.zeros(8)
    with pytest.raises(ValueError, match="count must be at least 1"):
        ranked_partitions(totals, 2, 0)
    totals[0b110] = np.nan
    with pytest.raises(ValueError, match=r"no subset \[1, 2\]"):
        ranked_partitions(totals, 2, 3)
