"""Scores that are kept against those that are made one by one."""

from __future__ import annotations

import numpy as np
import pytest

from pgx_jax.analysis import partitions, truth_tables
from pgx_jax.analysis.partition_judges import PartitionJudge


def test_scores_are_those_of_partition_score_and_of_all_partitions():
    rng = np.random.default_rng(0)
    subsets = truth_tables.all_subsets(4)
    table = truth_tables.TruthTable.create(
        subsets, rng.normal(size=(3, *subsets.shape))
    )
    judge = PartitionJudge(table)
    labels = np.array([0, 1, 1, 2])
    expected = partitions.partition_score(table, labels, num_resamples=2).score
    np.testing.assert_allclose(judge.score(labels), expected, rtol=1e-12)
    np.testing.assert_allclose(
        judge.value(labels, [1]), partitions.partition_value(table, labels)[1]
    )
    # The 15 partitions of four tasks, one by one.
    listed = [[0]]
    for _ in range(3):
        listed = [p + [g] for p in listed for g in range(max(p) + 2)]
    values = [partitions.partition_value(table, p)[[0, 2]].mean() for p in listed]
    assert len(values) == 15
    value = partitions.partition_value(table, labels)[[0, 2]].mean()
    expected = 100 * (value - np.mean(values)) / (max(values) - np.mean(values))
    found = judge.score(labels, judge.others(1), any_number=True)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_no_score_where_all_partitions_are_worth_the_same():
    subsets = truth_tables.all_subsets(3)
    table = truth_tables.TruthTable.create(subsets, np.ones((2, *subsets.shape)))
    judge = PartitionJudge(table)
    assert judge.others(0) == [1]
    assert np.isnan(judge.score([0, 0, 1]))
    assert judge.value([0, 0, 1]) == pytest.approx(1.0)
