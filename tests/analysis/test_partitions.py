"""The measure of partitions against a list of all partitions."""

from __future__ import annotations

import numpy as np
import pytest

from pgx_jax.analysis import partitions, truth_tables
from pgx_jax.analysis.truth_tables import TruthTable


def list_partitions(num_tasks):
    """Every partition of n tasks, as labels numbered by first appearance."""
    found = [[0]]
    for _ in range(num_tasks - 1):
        found = [p + [g] for p in found for g in range(max(p) + 2)]
    return [np.array(p) for p in found]


def draw_table(num_tasks, num_replicates=3, seed=0):
    rng = np.random.default_rng(seed)
    subsets = truth_tables.all_subsets(num_tasks)
    values = rng.normal(size=(num_replicates, *subsets.shape))
    return TruthTable.create(subsets, values)


def look_up(values, labels):
    """The value of a partition of one table [m, n], in the order of all subsets."""
    total = 0.0
    for task, label in enumerate(labels):
        group = [i for i, other in enumerate(labels) if other == label]
        total += values[sum(2**i for i in group) - 1, task]
    return total / len(labels)


@pytest.mark.parametrize("num_tasks", [5, 6])
def test_mean_best_and_score_are_those_of_all_partitions(num_tasks):
    table = draw_table(num_tasks)
    mean_table = table.values.mean(axis=0)
    listed = list_partitions(num_tasks)
    assert len(listed) == {5: 52, 6: 203}[num_tasks]
    for k in range(1, num_tasks + 1):
        group = [p for p in listed if p.max() + 1 == k]
        values = np.array([look_up(mean_table, p) for p in group])
        assert partitions.stirling_number(num_tasks, k) == len(group)
        totals = table.totals()
        mean = partitions.mean_partition_value(totals, k)
        np.testing.assert_allclose(mean, values.mean(), rtol=1e-12)
        best = partitions.best_partitions(totals, k)[k]
        np.testing.assert_array_equal(best, group[np.argmax(values)])
        np.testing.assert_array_equal(best, partitions.best_partitions(totals)[k])
        if k in (1, num_tasks):
            assert np.isnan(partitions.partition_score(table, best).score)
            continue
        for i in (0, len(group) // 2):
            scored = partitions.partition_score(table, group[i], num_resamples=20)
            expected = 100 * (values[i] - values.mean())
            expected /= values.max() - values.mean()
            np.testing.assert_allclose(scored.score, expected, rtol=1e-9)
            np.testing.assert_allclose(scored.value, values[i], rtol=1e-12)
            np.testing.assert_allclose(scored.best, values.max(), rtol=1e-12)
            # Three trainings have ten draws; the interval ends among their scores.
            assert scored.lower is not None and scored.upper is not None
            assert scored.lower <= scored.upper <= 100 + 1e-9


def test_random_partitions_score_zero_on_average_and_the_best_a_hundred():
    table = draw_table(5)
    scores = [
        partitions.partition_score(table, p, num_resamples=1).score
        for p in list_partitions(5)
        if p.max() == 2
    ]
    np.testing.assert_allclose(np.mean(scores), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.max(scores), 100.0)


def test_the_noise_ceiling_is_judged_by_the_other_trainings():
    table = draw_table(5, num_replicates=3)
    ceiling = partitions.noise_ceiling(table, 2)
    groups = [p for p in list_partitions(5) if p.max() == 1]
    for r in range(3):
        chosen = max(groups, key=lambda p: look_up(table.values[r], p))
        others = table.values[[i for i in range(3) if i != r]].mean(axis=0)
        values = np.array([look_up(others, p) for p in groups])
        expected = look_up(others, chosen) - values.mean()
        expected *= 100 / (values.max() - values.mean())
        np.testing.assert_allclose(ceiling[r], expected, rtol=1e-9)
    # Without noise the ceiling is the best there is.
    same = TruthTable.create(table.subsets, np.stack([table.values[0]] * 3))
    np.testing.assert_allclose(partitions.noise_ceiling(same, 2), 100.0)
    assert partitions.replicate_correlation(same) == pytest.approx(1.0)
    assert abs(partitions.replicate_correlation(table)) < 0.4


def test_the_interval_is_that_of_draws_of_the_trainings():
    # Two tasks' worth of structure: training 0 likes {0, 1}, training 1 likes {1, 2}.
    subsets = truth_tables.all_subsets(3)
    values = np.zeros((2, 7, 3))
    values[0, 2, :2] = 3.0
    values[1, 5, 1:] = 3.0
    table = TruthTable.create(subsets, values)
    scored = partitions.partition_score(table, [0, 0, 1])
    # Values of the three pairs: (2, 0, 0) and (0, 2, 0); halves of both: (1, 1, 0).
    np.testing.assert_allclose(scored.score, 100.0)
    np.testing.assert_allclose([scored.lower, scored.upper], [-50.0, 100.0])
    np.testing.assert_allclose(partitions.noise_ceiling(table, 2), [-50.0, -50.0])


def test_values_by_task_of_a_table_with_few_subsets():
    table = TruthTable.create(
        [[1, 1, 0], [0, 0, 1]], [[1.0, 2.0, np.nan], [np.nan, np.nan, 6.0]]
    )
    np.testing.assert_allclose(partitions.partition_value(table, [4, 4, 1]), [3.0])
    with pytest.raises(ValueError, match=r"no subset \[0, 2\]"):
        partitions.partition_value(table, [0, 1, 0])
    with pytest.raises(ValueError, match=r"no subset \[0\]"):
        partitions.mean_partition_value(table.totals(), 2)
    with pytest.raises(ValueError, match=r"labels must have shape \[n\] = \[3\]"):
        partitions.partition_value(table, [0, 1])


def test_partitions_into_many_groups_need_only_small_subsets():
    subsets = truth_tables.all_subsets(4)
    subsets = subsets[subsets.sum(axis=1) <= 2]
    table = TruthTable.create(subsets, np.ones(subsets.shape))
    assert partitions.mean_partition_value(table.totals(), 3) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"no subset \[0, 1, 2\].*into 2 groups"):
        partitions.best_partitions(table.totals(), 2)


def test_ten_tasks_of_additive_values_are_grouped_by_their_sign():
    # Every pair of one sign adds 1 to both members, every other pair takes 1.
    rng = np.random.default_rng(1)
    sign = rng.permutation([1, 1, 1, 1, -1, -1, -1, -1, -1, -1])
    subsets = truth_tables.all_subsets(10)
    values = subsets * ((subsets @ sign)[:, None] * sign - 1)
    table = TruthTable.create(subsets, values.astype(float))
    best = partitions.best_partitions(table.totals())
    same = sign[:, None] == sign
    np.testing.assert_array_equal(best[2][:, None] == best[2], same)
    assert sorted(best) == list(range(1, 11))
    np.testing.assert_array_equal(best[10], np.arange(10))


@pytest.mark.parametrize(
    ("subsets", "values", "message"),
    [
        (np.ones((1, 17), bool), np.ones((1, 17)), "at most 16 tasks, got 17"),
        (np.ones((2, 2), bool), np.ones((2, 2)), r"row 1, tasks \[0, 1\], is again"),
        (np.eye(2) * 2, np.ones((2, 2)), "only 0 and 1"),
        (np.array([[1, 0], [0, 0]]), np.ones((2, 2)), "row 1 is"),
        (np.eye(2), np.ones((3, 2)), r"\[m, n\] = \[2, 2\]"),
        (
            np.eye(2),
            np.array([[1, np.nan], [0, np.inf]]),
            r"subset \[1\], task 1 is inf",
        ),
    ],
)
def test_bad_tables_are_refused(subsets, values, message):
    with pytest.raises(ValueError, match=message):
        TruthTable.create(subsets, values)


@pytest.mark.parametrize("num_groups", [0, 4, 2.5, True])
def test_bad_numbers_of_groups_are_refused(num_groups):
    table = draw_table(3)
    with pytest.raises(ValueError, match="num_groups must be"):
        partitions.best_partitions(table.totals(), num_groups)


def test_one_training_has_no_ceiling():
    table = draw_table(3, num_replicates=1)
    with pytest.raises(ValueError, match="at least 2 trainings"):
        partitions.replicate_correlation(table)
    with pytest.raises(ValueError, match="at least 2 trainings"):
        partitions.noise_ceiling(table, 2)
    assert partitions.partition_score(table, [0, 0, 1]).lower is None
