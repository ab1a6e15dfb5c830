"""The search for the best partition, against lists of all and planted groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from pgx_jax.analysis.truth_tables import all_subsets
from pgx_jax.grouping.clustering import number_labels
from pgx_jax.grouping.partition_search import best_partition


class Scored(NamedTuple):
    subsets: np.ndarray
    scores: np.ndarray


def list_partitions(num_tasks):
    found = [[0]]
    for _ in range(num_tasks - 1):
        found = [p + [g] for p in found for g in range(max(p) + 2)]
    return [np.array(p) for p in found]


def draw(num_tasks, seed=0):
    subsets = all_subsets(num_tasks)
    scores = np.random.default_rng(seed).normal(size=subsets.shape)
    return Scored(subsets, scores)


def value(estimates, labels):
    total = 0.0
    for task, label in enumerate(labels):
        group = sum(2**i for i, other in enumerate(labels) if other == label)
        total += estimates.scores[group - 1, task]
    return total


@pytest.mark.parametrize("num_tasks", [5, 6])
def test_the_best_of_all_partitions_is_found(num_tasks):
    estimates = draw(num_tasks)
    listed = list_partitions(num_tasks)
    values = np.array([value(estimates, p) for p in listed])
    found = best_partition(estimates)
    np.testing.assert_array_equal(found.labels, listed[np.argmax(values)])
    np.testing.assert_allclose(found.objective, values.max())
    assert found.bound == found.objective
    assert found.labels.dtype == np.int32
    sizes = np.array([p.max() + 1 for p in listed])
    for k in range(1, num_tasks + 1):
        found = best_partition(estimates, k)
        assert found.num_groups == k
        np.testing.assert_allclose(found.objective, values[sizes == k].max())


def test_scores_of_tasks_that_are_not_members_do_not_count():
    estimates = draw(5)
    outside = np.where(estimates.subsets, estimates.scores, np.nan)
    expected = best_partition(estimates, 3)
    found = best_partition(estimates._replace(scores=outside), 3)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_function_is_asked_for_what_is_needed_only():
    estimates, asked = draw(6), []

    def score(subsets):
        asked.append(subsets)
        rows = subsets @ (1 << np.arange(6)) - 1
        return estimates.scores[rows]

    found = best_partition(score, 4, num_tasks=6)
    np.testing.assert_array_equal(found.labels, best_partition(estimates, 4).labels)
    # Four groups of six tasks have three tasks at most: 6 + 15 + 20 subsets of 63.
    assert len(np.unique(np.concatenate(asked), axis=0)) == 41
    assert [len(x) for x in asked] == [64]


def test_of_equals_the_fewest_groups_are_taken():
    subsets = all_subsets(4)
    assert best_partition(Scored(subsets, np.zeros(subsets.shape))).num_groups == 1
    # A task alone is worth nothing, and with others a constant.
    scores = np.where(subsets.sum(axis=1, keepdims=True) > 1, 1.0, 0.0) * subsets
    np.testing.assert_array_equal(best_partition(Scored(subsets, scores)).labels, 0)


def planted(num_tasks, num_groups, noise, seed=0):
    """A function of subsets, largest at planted groups, and their labels."""
    rng = np.random.default_rng(seed)
    labels = number_labels(rng.permutation(np.arange(num_tasks) % num_groups))
    pair = np.where(labels[:, None] == labels, 1.0, -1.0)
    pair += noise * rng.normal(size=pair.shape)
    np.fill_diagonal(pair, 0.0)
    return lambda subsets: subsets * (subsets.astype(float) @ pair.T), labels


@pytest.mark.parametrize("given", [True, False])
def test_planted_groups_of_forty_tasks_are_found(given):
    score, labels = planted(40, 5, noise=0.5)
    found = best_partition(
        score, 5 if given else None, num_tasks=40, num_starts=1, num_kicks=1
    )
    np.testing.assert_array_equal(found.labels, labels)
    member = labels == np.arange(5)[:, None]
    np.testing.assert_allclose(found.objective, score(member).sum())
    assert found.bound is None


def test_no_start_or_kick_begins_when_the_subsets_are_up():
    score, labels = planted(40, 5, noise=0.5)
    asked = []

    def count(subsets):
        asked.append(len(np.unique(subsets, axis=0)))
        return score(subsets)

    found = best_partition(count, 5, num_tasks=40, max_subsets=1)
    least = sum(asked)
    np.testing.assert_array_equal(found.labels, labels)
    asked.clear()
    best_partition(count, 5, num_tasks=40, num_starts=0, num_kicks=0)
    assert sum(asked) == least
    asked.clear()
    best_partition(count, 5, num_tasks=40, max_subsets=2 * least)
    within = sum(asked)
    asked.clear()
    best_partition(count, 5, num_tasks=40, max_subsets=None)
    assert least < within < sum(asked)


@pytest.mark.parametrize("num_groups", [3, None])
def test_local_search_finds_the_best_of_seventeen_tasks_with_no_structure(num_groups):
    # One task more than the exact search takes, that is better off alone: what is left
    # are sixteen, whose best partition is known.
    rng = np.random.default_rng(2)
    pair = rng.normal(size=(17, 17))
    pair[16] = pair[:, 16] = -50.0
    np.fill_diagonal(pair, 0.0)

    def score(subsets):
        return subsets * (subsets @ pair.T) / np.maximum(1, subsets.sum(1))[:, None]

    def score_sixteen(subsets):
        return score(np.pad(subsets, ((0, 0), (0, 1))))[:, :16]

    k = None if num_groups is None else num_groups - 1
    exact = best_partition(score_sixteen, k, num_tasks=16)
    found = best_partition(score, num_groups, num_tasks=17, num_kicks=10)
    np.testing.assert_array_equal(found.labels[:16], exact.labels)
    assert found.labels[16] == exact.num_groups
    np.testing.assert_allclose(found.objective, exact.objective)


def test_a_start_that_is_given_is_kept_where_nothing_is_better():
    # Only the planted partition is worth anything: no step leads there.
    labels = number_labels(np.random.default_rng(3).permutation(np.arange(20) % 4))
    member = labels == np.arange(4)[:, None]

    def score(subsets):
        hit = (subsets[:, None] == member).all(axis=2).any(axis=1)
        return subsets * hit[:, None]

    lost = best_partition(score, 4, num_tasks=20, num_starts=1, num_kicks=1)
    assert lost.objective < 20
    found = best_partition(
        score, 4, num_tasks=20, starts=[labels], num_starts=0, num_kicks=1
    )
    np.testing.assert_array_equal(found.labels, labels)
    assert found.objective == 20


def test_groups_of_the_semidefinite_program_are_among_the_starts():
    # Pairs say which tasks belong together; a group is worth something when complete.
    labels = number_labels(np.random.default_rng(4).permutation(np.arange(20) % 4))
    member = labels == np.arange(4)[:, None]
    alike = np.where(labels[:, None] == labels, 0.1, -0.1)

    def score(subsets):
        size = subsets.sum(axis=1)[:, None]
        pair = subsets * (subsets @ alike.T) * (size == 2)
        hit = (subsets[:, None] == member).all(axis=2).any(axis=1)
        return pair + subsets * hit[:, None]

    found = best_partition(score, 4, num_tasks=20, num_starts=0, num_kicks=0)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.objective == 20


def test_bad_input_is_refused_by_name():
    estimates = draw(4)
    for k, message in (
        (5, r"in 1..n = 1..4, got 5"),
        (2.5, r"an integer in 1..n = 1..4, got 2.5"),
    ):
        with pytest.raises(ValueError, match=f"num_groups must be.*{message}"):
            best_partition(estimates, k)
    scores = estimates.scores.copy()
    scores[6, 1] = np.inf
    with pytest.raises(ValueError, match=r"task 1 in subset \[0, 1, 2\] is inf"):
        best_partition(estimates._replace(scores=scores))
    few = Scored(estimates.subsets[:-1], estimates.scores[:-1])
    assert best_partition(few, 2).num_groups == 2
    with pytest.raises(ValueError, match=r"no subset \[0, 1, 2, 3\].*into 1 groups"):
        best_partition(few)
    with pytest.raises(ValueError, match="num_tasks must be the number of tasks"):
        best_partition(lambda subsets: subsets)
    with pytest.raises(ValueError, match="17 tasks cannot hold every subset"):
        best_partition(Scored(np.eye(17), np.eye(17)))
    with pytest.raises(ValueError, match=r"shape of the subsets, \(64, 3\)"):
        best_partition(lambda subsets: subsets[:, 0], num_tasks=3)
    with pytest.raises(ValueError, match="starts must have num_groups = 2"):
        best_partition(
            lambda subsets: subsets, 2, num_tasks=17, starts=[np.arange(17) % 3]
        )
    with pytest.raises(ValueError, match="batch_size must be a power of 2"):
        best_partition(estimates, batch_size=100)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_groups", [None, 4])
def test_no_move_or_swap_of_what_local_search_finds_is_better(num_groups, seed):
    pair = np.random.default_rng(seed).normal(size=(17, 17))

    def score(subsets):
        return subsets * (subsets @ pair.T) / np.maximum(1, subsets.sum(1))[:, None]

    def value(labels):
        return score(labels == np.unique(labels)[:, None]).sum()

    found = best_partition(score, num_groups, num_tasks=17, num_starts=1, num_kicks=0)
    labels, best = found.labels, value(found.labels)
    np.testing.assert_allclose(found.objective, best)
    for task in range(17):
        for group in range(labels.max() + (2 if num_groups is None else 1)):
            moved = labels.copy()
            moved[task] = group
            if num_groups is None or len(set(moved)) == num_groups:
                assert value(moved) <= best + 1e-9
        for other in range(task):
            swapped = labels.copy()
            swapped[[task, other]] = labels[[other, task]]
            assert value(swapped) <= best + 1e-9
