"""Subsets of tasks: coverage counted by hand, and what is refused."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.subsets import check_coverage, check_subsets

SIZES = [(2, 2, 3), (5, 2, 30), (6, 3, 40), (10, 3, 100), (10, 5, 60), (20, 4, 400)]


def count_pairs(subsets):
    """Pairs counted one by one; int [n, n]."""
    num_tasks = subsets.shape[1]
    counts = np.zeros((num_tasks, num_tasks), int)
    for subset in subsets:
        for i, j in itertools.product(np.flatnonzero(subset), repeat=2):
            counts[i, j] += 1
    return counts


@pytest.mark.parametrize(("num_tasks", "subset_size", "num_subsets"), SIZES)
def test_pairs_are_covered_about_equally_often(num_tasks, subset_size, num_subsets):
    for seed in range(3):
        subsets = pge.sample_subsets(
            jax.random.key(seed), num_tasks, num_subsets, subset_size
        )
        assert subsets.shape == (num_subsets, num_tasks)
        assert subsets.dtype == bool
        np.testing.assert_array_equal(subsets.sum(axis=1), subset_size)
        counts = count_pairs(subsets)
        pairs = counts[np.triu_indices(num_tasks, 1)]
        mean = num_subsets * subset_size * (subset_size - 1)
        mean /= num_tasks * (num_tasks - 1)
        np.testing.assert_allclose(pairs.mean(), mean)
        assert pairs.max() - pairs.min() <= max(2, 0.35 * mean)
        per_task = np.diag(counts)
        assert per_task.max() - per_task.min() <= max(2, 0.1 * per_task.mean())


def test_subsets_of_two_cover_every_pair_equally():
    subsets = pge.sample_subsets(jax.random.key(0), 6, 45, 2)
    pairs = count_pairs(subsets)[np.triu_indices(6, 1)]
    np.testing.assert_array_equal(pairs, 3)


def test_all_tasks_may_be_one_subset():
    subsets = pge.sample_subsets(jax.random.key(0), 4, 2, 4)
    assert subsets.all()


def test_a_key_draws_the_same_subsets_and_another_key_others():
    first, again, other = (
        pge.sample_subsets(jax.random.key(seed), 8, 50, 3) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("subset_size", [-1, 0, 1, 6])
def test_sizes_out_of_range_are_refused(subset_size):
    with pytest.raises(
        ValueError, match=rf"subset_size must be.*2\.\.5.*{subset_size}"
    ):
        pge.sample_subsets(jax.random.key(0), 5, 100, subset_size)


def test_too_few_subsets_are_refused_with_the_least_number():
    # 45 pairs, 3 in each subset.
    with pytest.raises(ValueError, match="num_subsets=14.*at least 15"):
        pge.sample_subsets(jax.random.key(0), 10, 14, 3)


def test_a_draw_that_leaves_pairs_uncovered_is_refused():
    # Twelve triples cover 36 pairs only as a Steiner system, which a greedy draw
    # may miss; either all pairs are covered or the message names those that are not.
    for seed in range(5):
        try:
            subsets = pge.sample_subsets(jax.random.key(seed), 9, 12, 3)
        except ValueError as error:
            assert "uncovered" in str(error)
        else:
            assert (count_pairs(subsets) > 0).all()


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_pair_counts_equal_those_counted_one_by_one(dtype):
    subsets = np.random.default_rng(0).random((30, 7)) < 0.4
    for function in (pge.pair_counts, jax.jit(pge.pair_counts)):
        np.testing.assert_array_equal(
            function(subsets.astype(dtype)), count_pairs(subsets)
        )


def test_uncovered_pairs_are_named():
    subsets = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"1 pairs.*: \(1, 3\)$"):
        check_coverage(subsets)
    check_coverage(np.concatenate([subsets, [[0, 1, 0, 1]]]))


def test_a_task_in_no_subset_is_named_too():
    with pytest.raises(ValueError, match=r"\(0, 2\), \(1, 2\), \(2, 2\)$"):
        check_coverage(np.array([[1, 1, 0]]))


def test_only_ten_uncovered_pairs_are_listed():
    with pytest.raises(ValueError, match="15 pairs.* and 5 more"):
        check_coverage(np.eye(6))


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        (np.ones((3, 5)), r"n = 4 tasks, got shape \(3, 5\)"),
        (np.ones(4), r"got shape \(4,\)"),
        (np.ones((0, 4)), r"got shape \(0, 4\)"),
        (np.array([[0, 1, 2, 0]]), "only 0 and 1"),
        (np.array([[0, 1, 0.5, 0]]), "only 0 and 1"),
        (np.array([[0, 1, -1, 0]]), "only 0 and 1"),
        (np.array([[0, 1, np.nan, 0]]), "only 0 and 1"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0]]), "row 1"),
    ],
)
def test_what_is_not_a_matrix_of_subsets_is_refused(subsets, message):
    with pytest.raises(ValueError, match=message):
        check_subsets(subsets, 4)


def test_shapes_are_checked_inside_jit_too():
    with pytest.raises(ValueError, match="n = 4 tasks"):
        jax.jit(lambda s: check_subsets(s, 4))(np.ones((3, 5)))


def test_every_subset_comes_once_before_any_comes_again():
    # 6 tasks have 20 subsets of three.
    subsets = pge.sample_subsets(jax.random.key(0), 6, 47, 3)
    _, times = np.unique(subsets, axis=0, return_counts=True)
    assert len(times) == 20
    assert set(times) == {2, 3}


def test_singletons_come_last():
    plain = pge.sample_subsets(jax.random.key(0), 6, 12, 3)
    more = pge.sample_subsets(jax.random.key(0), 6, 12, 3, singletons=True)
    np.testing.assert_array_equal(more[:12], plain)
    np.testing.assert_array_equal(more[12:], np.eye(6, dtype=bool))


def test_a_key_may_be_an_integer_and_must_be_one_key():
    seeded, drawn = (
        pge.sample_subsets(key, 8, 12, 3) for key in (7, jax.random.key(7))
    )
    np.testing.assert_array_equal(seeded, drawn)
    keys = jax.random.split(jax.random.key(0))
    for key in (0.5, None, np.zeros(4, np.uint32), keys):
        with pytest.raises(ValueError, match="key must be one key"):
            pge.sample_subsets(key, 8, 12, 3)
