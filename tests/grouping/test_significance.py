"""The test against one group: its size on noise, its power, and its search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.grouping.significance import gain_p_value, greedy_gain


def noise_affinity(rng, num_tasks=10, subset_size=3):
    """The standardized affinity of scores that are noise; all subsets of one size."""
    members = list(itertools.combinations(range(num_tasks), subset_size))
    subsets = np.zeros((len(members), num_tasks), bool)
    np.put_along_axis(subsets, np.array(members), True, axis=1)
    scores = np.where(subsets, rng.normal(size=subsets.shape), 0.0)
    centered = np.where(subsets, scores - scores.sum(0) / subsets.sum(0), 0.0)
    scaled = centered / np.sqrt((centered**2).sum(0) / subsets.sum(0))
    matrix = scaled.T @ subsets / (subsets.T.astype(float) @ subsets)
    return (matrix + matrix.T) / 2


def default_penalty(matrix):
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    return np.diag(matrix).mean() - pairs.mean() + pairs.std()


@pytest.mark.parametrize(("num_tasks", "num_draws"), [(6, 400), (10, 400), (15, 200)])
def test_noise_is_divided_in_one_of_twenty_draws(num_tasks, num_draws):
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(num_draws):
        matrix = noise_affinity(rng, num_tasks)
        p_values.append(gain_p_value(matrix, default_penalty(matrix)))
    rate = np.mean(np.array(p_values) <= 0.05)
    # Two standard deviations of the share of so many draws above 5%.
    assert rate <= 0.05 + 2 * (0.05 * 0.95 / num_draws) ** 0.5
    # No draw is more likely to be near 0 than near 1: the test is not blind either.
    np.testing.assert_allclose(np.mean(p_values), 0.5, atol=0.1)


def test_clustering_leaves_noise_whole():
    rng = np.random.default_rng(1)
    groupings = [pge.cluster_tasks(noise_affinity(rng)) for _ in range(30)]
    divided = [x for x in groupings if x.num_groups > 1]
    assert len(divided) <= 4  # of 30 at 5%, more come in 1% of times
    assert all(x.p_value <= 0.05 for x in divided)
    whole = next(x for x in groupings if x.num_groups == 1)
    np.testing.assert_array_equal(whole.labels, 0)
    assert whole.objective <= whole.bound + 1e-6


@pytest.mark.parametrize("sizes", [[5, 5], [3, 3, 4], [2, 3, 3, 2]], ids=str)
def test_groups_are_found_in_noise_of_their_size(sizes):
    """Pairs of one group are 1 above the others, whose noise has deviation 0.4."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(len(sizes)), sizes)
        matrix = (labels[:, None] == labels) + 0.4 * rng.normal(size=(10, 10))
        matrix = (matrix + matrix.T) / 2
        np.fill_diagonal(matrix, 0.5)
        grouping = pge.cluster_tasks(matrix)
        assert grouping.p_value <= 0.05
        np.testing.assert_array_equal(grouping.labels, labels)


def test_effects_of_single_tasks_make_no_groups():
    """U_ij = a_i + a_j: no partition is better than another under <U, X>."""
    rng = np.random.default_rng(2)
    effects = rng.normal(size=8)
    matrix = effects[:, None] + effects + 1e-3 * rng.normal(size=(8, 8))
    matrix = (matrix + matrix.T) / 2
    penalty = default_penalty(matrix)
    assert gain_p_value(matrix, penalty) > 0.05
    left = gain_p_value(matrix - effects[:, None] - effects, penalty)
    assert gain_p_value(matrix, penalty) == pytest.approx(left, abs=0.01)


def merge_by_loops(matrix, penalty):
    groups = [[i] for i in range(len(matrix))]

    def value():
        return sum(matrix[np.ix_(g, g)].sum() / len(g) - penalty for g in groups)

    best = value()
    while len(groups) > 1:
        options = []
        for a, b in itertools.combinations(groups, 2):
            both, alone = a + b, [a, b]
            gain = matrix[np.ix_(both, both)].sum() / len(both)
            gain -= sum(matrix[np.ix_(g, g)].sum() / len(g) for g in alone)
            options.append((gain, a, b))
        _, a, b = max(options)
        groups = [g for g in groups if g not in (a, b)] + [a + b]
        best = max(best, value())
    return best - value()


@pytest.mark.parametrize("num_tasks", [2, 3, 7])
def test_the_search_merges_as_loops_do(num_tasks):
    rng = np.random.default_rng(num_tasks)
    matrices = rng.normal(size=(5, num_tasks, num_tasks))
    matrices = matrices + matrices.swapaxes(1, 2)
    for penalty in (-0.5, 0.7):
        expected = [merge_by_loops(matrix, penalty) for matrix in matrices]
        np.testing.assert_allclose(
            greedy_gain(matrices, penalty), expected, rtol=1e-9, atol=1e-9
        )


def test_four_tasks_are_divided_only_where_their_noise_is_known():
    labels = np.array([0, 0, 1, 1])
    matrix = np.where(labels[:, None] == labels, 1.0, -0.5)
    assert pge.cluster_tasks(matrix).num_groups == 1
    counts = np.full((4, 4), 10)
    rng = np.random.default_rng(0)
    for noise, expected in ((0.1, [0, 0, 1, 1]), (3.0, [0, 0, 0, 0])):
        resamples = matrix + noise * rng.normal(size=(100, 4, 4))
        affinity = pge.Affinity(matrix, counts, resamples=resamples)
        grouping = pge.cluster_tasks(affinity)
        np.testing.assert_array_equal(grouping.labels, expected)


def test_the_same_affinity_has_the_same_p_value():
    matrix = noise_affinity(np.random.default_rng(3))
    assert gain_p_value(matrix, 0.1) == gain_p_value(matrix, 0.1)
    assert pge.cluster_tasks(matrix, 3).p_value is None
    assert pge.cluster_tasks(matrix, penalty=0.1).p_value is None


@pytest.mark.parametrize("num_tasks", [5, 9])
def test_effects_of_tasks_do_not_change_the_p_value(num_tasks):
    rng = np.random.default_rng(num_tasks)
    matrix = noise_affinity(rng, num_tasks)
    penalty = 0.7 * default_penalty(matrix)
    effects = rng.normal(size=num_tasks)
    expected = gain_p_value(matrix, penalty)
    assert 0.01 < expected < 1.0
    assert gain_p_value(matrix + effects[:, None] + effects, penalty) == expected
