"""Candidates for training, against all partitions and in their turn."""

import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.grouping.proposals import group_similarity, propose_partitions


def make_similarity(num_tasks, seed=0):
    return np.corrcoef(np.random.default_rng(seed).normal(size=(num_tasks, 8)))


def value(matrix, labels):
    """The sum over groups of sum_ij U_ij / |S|, as `cluster_tasks` has it."""
    groups = [np.flatnonzero(labels == g) for g in range(labels.max() + 1)]
    return sum(matrix[np.ix_(g, g)].sum() / len(g) for g in groups)


def test_the_first_candidate_is_the_best_clustering():
    matrix = make_similarity(7)
    for k in (2, 3, 5):
        candidates = propose_partitions(matrix, k, count=6)
        assert candidates.shape == (6, 7)
        values = [value(matrix, labels) for labels in candidates]
        assert values == sorted(values, reverse=True)
        assert len(np.unique(candidates, axis=0)) == 6
        assert (candidates.max(axis=1) == k - 1).all()
        best = pge.cluster_tasks(matrix.astype(np.float32), k)
        assert best.objective == pytest.approx(values[0], rel=1e-5)


def test_several_numbers_of_groups_take_turns():
    """2, 3, 4 and 5 groups of six tasks, then the second best ones of 2 and 3."""
    matrix = make_similarity(6)
    candidates = propose_partitions(matrix, count=6)
    assert (candidates.max(axis=1) + 1).tolist() == [2, 3, 4, 5, 2, 3]
    for place, k in ((4, 2), (5, 3)):
        second = propose_partitions(matrix, k, count=2)[1]
        np.testing.assert_array_equal(candidates[place], second)
    # All tasks together and each alone are no matter of similarity.
    assert propose_partitions(make_similarity(2)).shape == (0, 2)


def test_many_tasks_start_from_their_clusters():
    matrix = make_similarity(16)
    candidates = propose_partitions(matrix, 3, count=4)
    values = [value(matrix, labels) for labels in candidates]
    assert values == sorted(values, reverse=True) and len(set(values)) == 4
    best = pge.cluster_tasks(matrix.astype(np.float32), 3)
    assert values[0] >= best.objective - 1e-4
    assert (candidates.max(axis=1) == 2).all()


def test_similarity_to_a_group_is_the_mean_over_its_tasks():
    matrix = np.array([[1.0, 0.5, -1.0], [0.5, 1.0, 0.0], [-1.0, 0.0, 1.0]])
    found = group_similarity(matrix, np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]]))
    expected = [[0.75, 0.75, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    np.testing.assert_allclose(found, expected)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="num_groups must be .*1.*3"):
        propose_partitions(np.eye(3), 4)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        propose_partitions(np.eye(3), count=0)
