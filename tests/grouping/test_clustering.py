"""Clustering against planted groups and against all partitions."""

from __future__ import annotations

import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.grouping.clustering import number_labels


def all_partitions(num_tasks):
    """Every partition of n tasks, as labels numbered by first appearance."""
    partitions = [[0]]
    for _ in range(num_tasks - 1):
        partitions = [p + [g] for p in partitions for g in range(max(p) + 2)]
    return [np.array(p) for p in partitions]


def value(matrix, labels):
    """The sum over groups of the sum of their entries over their size."""
    total = 0.0
    for group in set(labels.tolist()):
        members = [i for i, label in enumerate(labels) if label == group]
        total += sum(matrix[i, j] for i in members for j in members) / len(members)
    return total


def blocks(sizes, noise=0.0, seed=0, within=1.0, between=-0.5):
    """An affinity with planted groups in shuffled order, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    matrix = np.where(labels[:, None] == labels, within, between)
    return matrix + noise * rng.normal(size=matrix.shape), number_labels(labels)


PLANTED = [[6], [4, 4], [2, 6], [3, 3, 3], [2, 4, 5], [3, 3, 3, 3], [2, 2, 3, 3, 4]]


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("sizes", PLANTED, ids=str)
def test_planted_groups_are_recovered(sizes, noise):
    matrix, labels = blocks(sizes, noise)
    grouping = pge.cluster_tasks(matrix, len(sizes))
    np.testing.assert_array_equal(grouping.labels, labels)
    assert grouping.labels.dtype == np.int32
    assert grouping.num_groups == len(sizes)
    if noise == 0.0:
        same = labels[:, None] == labels
        planted = same / same.sum(axis=1)
        np.testing.assert_allclose(grouping.relaxation, planted, atol=1e-3)
        # Each group of ones has the mean 1 per member.
        np.testing.assert_allclose(grouping.objective, sum(sizes))
        np.testing.assert_allclose(grouping.bound, sum(sizes), rtol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("sizes", PLANTED[1:], ids=str)
def test_the_number_of_planted_groups_is_found(sizes, noise):
    matrix, labels = blocks(sizes, noise, seed=1)
    grouping = pge.cluster_tasks(matrix)
    assert grouping.num_groups == len(sizes)
    np.testing.assert_array_equal(grouping.labels, labels)


def test_tasks_that_do_not_differ_are_one_group():
    assert pge.cluster_tasks(np.ones((5, 5))).num_groups == 1


def test_the_penalty_chooses_between_few_groups_and_many():
    matrix, labels = blocks([3, 4], seed=2)
    assert pge.cluster_tasks(matrix, penalty=100.0).num_groups == 1
    assert pge.cluster_tasks(matrix, penalty=-100.0).num_groups == 7
    grouping = pge.cluster_tasks(matrix, penalty=1.0)
    np.testing.assert_array_equal(grouping.labels, labels)
    np.testing.assert_allclose(grouping.objective, 7.0 - 2 * 1.0)


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e300])
def test_values_of_the_objective_are_in_units_of_the_affinity(scale):
    matrix, labels = blocks([3, 4, 2], noise=0.2, seed=3)
    reference = pge.cluster_tasks(matrix, penalty=0.5)
    grouping = pge.cluster_tasks(matrix * scale, penalty=0.5 * scale)
    np.testing.assert_array_equal(grouping.labels, reference.labels)
    np.testing.assert_allclose(grouping.objective / scale, reference.objective)
    np.testing.assert_allclose(grouping.bound / scale, reference.bound)


def test_the_chosen_penalty_is_its_closed_form():
    """A task alone counts as much as a pair one deviation below the average one."""
    matrix, labels = blocks([3, 4, 3], noise=0.2, seed=8)
    matrix = (matrix + matrix.T) / 2
    pairs = matrix[np.triu_indices(10, 1)]
    penalty = np.diag(matrix).mean() - pairs.mean() + pairs.std()
    grouping = pge.cluster_tasks(matrix)
    np.testing.assert_array_equal(grouping.labels, labels)
    np.testing.assert_allclose(grouping.objective, value(matrix, labels) - 3 * penalty)


@pytest.mark.parametrize("num_tasks", [2, 3, 5, 6])
@pytest.mark.parametrize("seed", range(3))
def test_every_k_against_all_partitions(num_tasks, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(num_tasks, num_tasks))
    matrix = matrix + matrix.T
    partitions = all_partitions(num_tasks)
    slack = 1e-4 * np.abs(matrix).max() * num_tasks
    for num_groups in range(1, num_tasks + 1):
        best = max(value(matrix, p) for p in partitions if p.max() + 1 == num_groups)
        grouping = pge.cluster_tasks(matrix, num_groups)
        assert grouping.num_groups == num_groups
        np.testing.assert_array_equal(np.unique(grouping.labels), range(num_groups))
        np.testing.assert_allclose(grouping.objective, value(matrix, grouping.labels))
        assert best <= grouping.bound + slack
        # Rounding is a heuristic; on matrices with no groups at all it comes close.
        assert grouping.objective >= best - 0.1 * np.abs(matrix).max() * num_tasks


@pytest.mark.parametrize("seed", range(4))
def test_the_chosen_k_against_all_partitions(seed):
    matrix, _ = blocks([2, 3], noise=0.5, seed=seed)
    matrix = (matrix + matrix.T) / 2
    penalty = 0.7
    values = [
        value(matrix, p) - penalty * (p.max() + 1) for p in all_partitions(len(matrix))
    ]
    grouping = pge.cluster_tasks(matrix, penalty=penalty)
    np.testing.assert_allclose(grouping.objective, max(values), rtol=1e-6)
    assert max(values) <= grouping.bound + 1e-4


@pytest.mark.parametrize("num_tasks", [7, 12])
def test_exactly_k_groups_whatever_the_matrix(num_tasks):
    rng = np.random.default_rng(num_tasks)
    for matrix in (
        rng.normal(size=(num_tasks, num_tasks)),
        np.ones((num_tasks, num_tasks)),
        np.zeros((num_tasks, num_tasks)),
        rng.integers(0, 2, size=(num_tasks, num_tasks)).astype(float),
    ):
        for num_groups in range(1, num_tasks + 1):
            grouping = pge.cluster_tasks(matrix, num_groups)
            assert grouping.num_groups == num_groups
            np.testing.assert_array_equal(np.unique(grouping.labels), range(num_groups))
            slack = 1e-4 * np.abs(matrix).max() * num_tasks
            assert grouping.objective <= grouping.bound + slack + 1e-9


@pytest.mark.parametrize(
    "matrix",
    [np.random.default_rng(0).normal(size=(8, 8)), blocks([4, 4])[0], np.eye(8)],
    ids=["random", "fewer groups are better", "more groups are better"],
)
def test_the_relaxation_is_feasible(matrix):
    x = pge.cluster_tasks(matrix, 3).relaxation
    assert x.min() >= 0
    np.testing.assert_allclose(x, x.T)
    np.testing.assert_allclose(x.sum(axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(np.trace(x), 3.0, atol=1e-4)
    assert np.linalg.eigvalsh(x).min() > -1e-4


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e-4, 1.0, 1e4, 1e300])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_units_and_offset_of_the_affinity_do_not_matter(scale, offset):
    matrix, labels = blocks([3, 4, 2], noise=0.2, seed=3)
    for num_groups in (3, None):
        grouping = pge.cluster_tasks(scale * (matrix + offset), num_groups)
        np.testing.assert_array_equal(grouping.labels, labels)


def test_the_symmetric_part_is_used():
    matrix, labels = blocks([3, 4], noise=0.2, seed=4)
    skew = np.triu(5 * np.ones_like(matrix), 1)
    grouping = pge.cluster_tasks(matrix + skew - skew.T, 2)
    np.testing.assert_array_equal(grouping.labels, labels)


def test_an_affinity_is_taken_as_it_is():
    matrix, labels = blocks([2, 3])
    affinity = pge.Affinity(matrix.astype(np.float32), np.ones((5, 5), np.int32))
    np.testing.assert_array_equal(pge.cluster_tasks(affinity, 2).labels, labels)


@pytest.mark.parametrize("num_groups", [1, None])
def test_one_task_is_one_group(num_groups):
    grouping = pge.cluster_tasks(np.array([[3.0]]), num_groups)
    assert grouping.labels.tolist() == [0]
    assert grouping.num_groups == 1
    np.testing.assert_array_equal(grouping.relaxation, [[1.0]])


@pytest.mark.parametrize(
    ("link", "labels"), [(1.0, [0, 0]), (-1.0, [0, 1])], ids=["friends", "foes"]
)
def test_two_tasks(link, labels):
    matrix = np.array([[0.0, link], [link, 0.0]])
    assert pge.cluster_tasks(matrix, penalty=0.0).labels.tolist() == labels
    assert pge.cluster_tasks(matrix, 1).labels.tolist() == [0, 0]
    assert pge.cluster_tasks(matrix, 2).labels.tolist() == [0, 1]


@pytest.mark.parametrize("num_groups", [5, None])
def test_fifty_tasks_are_grouped_by_scs(num_groups):
    matrix, labels = blocks([5, 8, 10, 12, 15], noise=0.2, seed=5)
    grouping = pge.cluster_tasks(matrix, num_groups)
    np.testing.assert_array_equal(grouping.labels, labels)
    assert grouping.objective <= grouping.bound + 0.01 * abs(grouping.bound)


def test_solvers_agree():
    matrix, labels = blocks([3, 4], noise=0.3, seed=6)
    bounds = []
    for solver in ("CLARABEL", "SCS"):
        grouping = pge.cluster_tasks(matrix, 2, solver=solver)
        np.testing.assert_array_equal(grouping.labels, labels)
        bounds.append(grouping.bound)
    np.testing.assert_allclose(*bounds, rtol=1e-3)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([5], [0]),
        ([2, 2, 0, 7, 0], [0, 0, 1, 2, 1]),
        ([3, 1, 2, 0], [0, 1, 2, 3]),
        ([-1, 4, -1], [0, 1, 0]),
        (list("ba"), [0, 1]),
    ],
)
def test_labels_are_numbered_by_first_appearance(labels, expected):
    numbered = number_labels(np.array(labels))
    np.testing.assert_array_equal(numbered, expected)
    assert numbered.dtype == np.int32


NAN = np.eye(3)
NAN[1, 2] = np.nan
ESTIMATES = pge.SubsetEstimates(*[np.ones((3, 3))] * 8)
RESAMPLED = pge.Affinity(
    np.eye(3), np.ones((3, 3)), resamples=np.stack([np.eye(3), NAN])
)


@pytest.mark.parametrize(
    ("matrix", "settings", "message"),
    [
        (
            np.eye(3),
            {"num_groups": 4},
            r"num_groups must be an integer in 1\.\.n = 1\.\.3, got 4",
        ),
        (np.eye(3), {"num_groups": 0}, "num_groups must be .*got 0"),
        (np.eye(3), {"num_groups": -1}, "num_groups must be .*got -1"),
        (np.eye(3), {"num_groups": 2.5}, "num_groups must be .*got 2.5"),
        (np.eye(3), {"num_groups": True}, "num_groups must be .*got True"),
        (np.eye(3), {"num_groups": "2"}, "num_groups must be .*got '2'"),
        (np.eye(3), {"penalty": np.nan}, "penalty must be a finite number.*got nan"),
        (np.eye(3), {"penalty": np.inf}, "penalty must be a finite number.*got inf"),
        (np.eye(3), {"penalty": "1"}, "penalty must be a finite number.*got '1'"),
        (np.eye(3), {"penalty": True}, "penalty must be a finite number.*got True"),
        ([[1.0, 2.0], [3.0]], {}, "affinity must be .* rows of several lengths"),
        (np.eye(3) * 1j, {}, "affinity must hold real numbers, got complex128"),
        (np.full((2, 2), None), {}, "affinity must hold real numbers, got object"),
        (ESTIMATES, {}, r"got SubsetEstimates; task_affinity\(estimates\) makes one"),
        (RESAMPLED, {}, "affinity.resamples must be finite"),
        (np.ones((2, 3)), {}, r"affinity must have shape \[n, n\], got \(2, 3\)"),
        (np.ones(3), {}, "affinity must have shape"),
        (np.ones((0, 0)), {}, "affinity must have shape"),
        (NAN, {"num_groups": 2}, r"affinity must be finite; entry \(1, 2\) is nan"),
        (np.eye(3), {"num_groups": 2, "penalty": 1.0}, "penalty"),
    ],
)
def test_bad_arguments_are_refused_by_name(matrix, settings, message):
    with pytest.raises(ValueError, match=message):
        pge.cluster_tasks(matrix, **settings)
