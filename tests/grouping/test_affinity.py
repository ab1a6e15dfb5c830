"""The affinity against a loop written from its definition."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import pgx_jax as pge


def make_estimates(subsets, scores):
    """Estimates with only what the affinity looks at."""
    others = dict.fromkeys(pge.SubsetEstimates._fields)
    others.update(subsets=subsets, scores=np.asarray(scores, np.float32))
    return pge.SubsetEstimates(**others)


def draw(seed, num_tasks=6, num_subsets=30):
    rng = np.random.default_rng(seed)
    subsets = rng.random((num_subsets, num_tasks)) < 0.5
    subsets[0] = True
    subsets[~subsets.any(axis=1), 0] = True
    # Tasks on scales from 1e-3 to 1e3 and far from zero.
    scale = np.geomspace(1e-3, 1e3, num_tasks)
    scores = scale * (5 + rng.normal(size=subsets.shape))
    return subsets, np.where(subsets, scores, 0.0)


def by_definition(subsets, scores, score):
    """U_ij by a loop over pairs and subsets; float64, not made symmetric."""
    num_tasks = subsets.shape[1]
    matrix = np.zeros((num_tasks, num_tasks))
    for i, j in itertools.product(range(num_tasks), repeat=2):
        own = [scores[s, i] for s in range(len(subsets)) if subsets[s, i]]
        values = []
        for s in range(len(subsets)):
            if not (subsets[s, i] and subsets[s, j]):
                continue
            if score == "standardized":
                values.append((scores[s, i] - np.mean(own)) / np.std(own))
            else:
                values.append(
                    np.mean([scores[s, k] for k in np.flatnonzero(subsets[s])])
                )
        matrix[i, j] = np.mean(values)
    return matrix


@pytest.mark.parametrize("score", ["standardized", "mean"])
@pytest.mark.parametrize("seed", range(3))
def test_the_affinity_equals_a_loop_over_pairs_and_subsets(seed, score):
    subsets, scores = draw(seed)
    expected = by_definition(subsets, scores, score)
    size = np.abs(expected).max()
    estimates = make_estimates(subsets, scores)
    plain = pge.task_affinity(estimates, score=score, symmetric=False)
    np.testing.assert_allclose(plain.matrix, expected, atol=1e-5 * size)
    symmetric = pge.task_affinity(estimates, score=score)
    np.testing.assert_allclose(
        symmetric.matrix, 0.5 * (expected + expected.T), atol=1e-5 * size
    )
    np.testing.assert_array_equal(symmetric.matrix, symmetric.matrix.T)
    if score == "mean":
        np.testing.assert_allclose(expected, expected.T)


def test_standardized_is_the_default():
    subsets, scores = draw(4)
    expected = by_definition(subsets, scores, "standardized")
    affinity = pge.task_affinity(make_estimates(subsets, scores))
    np.testing.assert_allclose(affinity.matrix, (expected + expected.T) / 2, atol=1e-5)


def test_pair_counts_are_those_of_the_subsets():
    subsets, scores = draw(5)
    counts = [
        [(subsets[:, i] & subsets[:, j]).sum() for j in range(6)] for i in range(6)
    ]
    affinity = pge.task_affinity(make_estimates(subsets, scores))
    np.testing.assert_array_equal(affinity.pair_counts, counts)


def test_scores_outside_of_a_subset_are_not_looked_at():
    subsets, scores = draw(6)
    estimates = make_estimates(subsets, scores)
    garbage = make_estimates(subsets, np.where(subsets, scores, np.nan))
    for score in ("standardized", "mean"):
        np.testing.assert_array_equal(
            pge.task_affinity(garbage, score=score).matrix,
            pge.task_affinity(estimates, score=score).matrix,
        )


def test_the_diagonal_is_zero_where_scores_are_standardized():
    subsets, scores = draw(7)
    affinity = pge.task_affinity(make_estimates(subsets, scores))
    np.testing.assert_allclose(np.diag(affinity.matrix), 0.0, atol=2e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e-6])
def test_a_task_whose_scores_never_differ_has_no_preference(value):
    subsets, scores = draw(8)
    scores[:, 2] = np.where(subsets[:, 2], value, 0.0)
    affinity = pge.task_affinity(make_estimates(subsets, scores), symmetric=False)
    np.testing.assert_array_equal(affinity.matrix[2], 0.0)
    expected = by_definition(subsets, scores, "mean")
    np.testing.assert_allclose(
        pge.task_affinity(make_estimates(subsets, scores), score="mean").matrix,
        expected,
        rtol=1e-4,
    )


def test_small_differences_on_a_large_offset_are_kept():
    subsets, _ = draw(9)
    rng = np.random.default_rng(0)
    # Exact in float32, a thousandth of their size apart.
    scores = np.where(subsets, 1 + rng.integers(-8, 9, subsets.shape) / 4096, 0.0)
    affinity = pge.task_affinity(make_estimates(subsets, scores), symmetric=False)
    expected = by_definition(subsets, scores, "standardized")
    np.testing.assert_allclose(affinity.matrix, expected, atol=1e-3)


def test_jit_and_vmap_give_the_same():
    subsets, _ = draw(10)
    scores = np.stack([draw(seed)[1] for seed in (10, 11)])
    scores = np.where(subsets, scores + 1.0, 0.0).astype(np.float32)

    def affinity(s):
        return pge.task_affinity(make_estimates(subsets, 0)._replace(scores=s)).matrix

    together = jax.jit(jax.vmap(affinity))(scores)
    for index in range(2):
        expected = by_definition(subsets, scores[index].astype(float), "standardized")
        np.testing.assert_allclose(
            together[index], (expected + expected.T) / 2, atol=1e-4
        )


def test_uncovered_pairs_are_refused_by_name():
    subsets = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]], bool)
    with pytest.raises(ValueError, match=r"uncovered.*: \(1, 3\)$"):
        pge.task_affinity(make_estimates(subsets, np.zeros((3, 4))))


def test_an_unknown_score_is_refused():
    subsets, scores = draw(0)
    with pytest.raises(ValueError, match="score must.*standardized, mean.*'median'"):
        pge.task_affinity(make_estimates(subsets, scores), score="median")


def test_transfer_gain_is_what_company_adds():
    subsets, scores = draw(0)
    num_tasks = subsets.shape[1]
    alone = 10.0 + np.arange(num_tasks)
    subsets = np.concatenate([subsets, np.eye(num_tasks, dtype=bool)])
    scores = np.concatenate([scores, np.diag(alone)])
    affinity = pge.task_affinity(
        make_estimates(subsets, scores), score="transfer_gain", symmetric=False
    )
    singles = subsets.sum(axis=1) == 1
    reference = [scores[singles & subsets[:, i], i].mean() for i in range(num_tasks)]
    for i, j in itertools.permutations(range(num_tasks), 2):
        both = subsets[:, i] & subsets[:, j]
        np.testing.assert_allclose(
            affinity.matrix[i, j], np.mean(scores[both, i]) - reference[i], rtol=1e-4
        )


def test_transfer_gain_names_the_tasks_that_are_never_alone():
    subsets = np.concatenate([np.ones((1, 4), bool), np.eye(4, dtype=bool)[[0, 2]]])
    with pytest.raises(ValueError, match=r"of tasks \[1, 3\]"):
        pge.task_affinity(
            make_estimates(subsets, np.ones((3, 4))), score="transfer_gain"
        )


def test_a_task_alone_gains_nothing():
    subsets, scores = draw(0)
    subsets = np.concatenate([subsets, np.eye(6, dtype=bool)])
    scores = np.concatenate([scores, np.diag(1.0 + np.arange(6))])
    affinity = pge.task_affinity(
        make_estimates(subsets, scores),
        score="transfer_gain",
        key=jax.random.key(0),
        num_resamples=5,
    )
    for matrix in (affinity.matrix, *affinity.resamples):
        np.testing.assert_array_equal(np.diag(matrix), 0.0)
    np.testing.assert_array_equal(affinity.alone, np.zeros(6))


@pytest.mark.parametrize("with_resamples", [False, True])
@pytest.mark.parametrize("company", [-1.0, 1.0], ids=["harmful", "helpful"])
@pytest.mark.parametrize("num_tasks", [2, 3, 6])
def test_tasks_that_harm_each_other_stay_alone(num_tasks, company, with_resamples):
    """Every other task adds -1 or 1 to what a task scores alone, 5 with noise."""
    rng = np.random.default_rng(0)
    subsets = np.array(list(itertools.product([False, True], repeat=num_tasks))[1:])
    subsets = np.tile(subsets, (4, 1))
    others = subsets.sum(axis=1, keepdims=True) - 1
    noise = 0.1 * rng.normal(size=(51, *subsets.shape))
    scores = np.where(subsets, 5 + company * others + noise, 0.0).astype(np.float32)
    estimates = make_estimates(subsets, scores[0])
    if with_resamples:
        estimates = estimates._replace(resampled_scores=scores[1:])
    affinity = pge.task_affinity(
        estimates,
        score="transfer_gain",
        key=jax.random.key(0) if with_resamples else None,
    )
    grouping = pge.cluster_tasks(affinity)
    assert grouping.num_groups == (num_tasks if company < 0 else 1)


@pytest.mark.parametrize("score", ["standardized", "mean", "transfer_gain"])
def test_a_score_that_is_not_finite_is_refused_and_spreads_inside_jit(score):
    subsets, scores = draw(11)
    subsets = np.concatenate([np.eye(6, dtype=bool), subsets])
    scores = np.where(subsets, np.concatenate([np.ones((6, 6)), scores]), 0.0)
    row = int(np.flatnonzero(subsets[:, 2] & subsets[:, 4])[0])
    for bad in (np.nan, np.inf):
        scores[row, 2] = bad
        members = np.flatnonzero(subsets[row]).tolist()
        told = (
            rf"scores must be finite; 1 are not, first that of task 2 in subset {row}"
        )
        told += rf", tasks \[{', '.join(map(str, members))}\]: {bad}"
        with pytest.raises(ValueError, match=told):
            pge.task_affinity(make_estimates(subsets, scores), score=score)
        affinity = compiled_affinity(subsets, scores, score)
        assert np.isnan(affinity.matrix[2, 4]) and np.isnan(affinity.matrix[4, 2])
        assert not (np.asarray(affinity.matrix)[2, [0, 1, 3, 4, 5]] == 0.0).any()
        with pytest.raises(ValueError, match="affinity must be finite"):
            pge.cluster_tasks(affinity)


def compiled_affinity(subsets, scores, score, **others):
    """The affinity inside jit, where scores have no values that could be checked."""

    @jax.jit
    def affinity(scores, others):
        return pge.task_affinity(
            StatusEstimates(subsets, scores, **others), score=score
        )

    return affinity(np.asarray(scores, np.float32), others)


class StatusEstimates(NamedTuple):
    """What the affinity looks at."""

    subsets: Any
    scores: Any
    status: Any = None
    resampled_scores: Any = None


def test_subsets_that_failed_are_refused_and_spread_inside_jit():
    subsets, scores = draw(12)
    status = np.zeros(len(subsets), np.int32)
    status[0], status[7] = 0, 3
    members = np.flatnonzero(subsets[7])
    told = rf"status must be 0.*; 1 of 30 differ, first subset 7, tasks .*{members[-1]}"
    with pytest.raises(ValueError, match=told + r"\], with status 3"):
        pge.task_affinity(StatusEstimates(subsets, scores, status))
    affinity = compiled_affinity(subsets, scores, "standardized", status=status)
    assert np.isnan(np.asarray(affinity.matrix)[np.ix_(members, members)]).all()
    sound = StatusEstimates(subsets, np.float32(scores), np.zeros_like(status))
    np.testing.assert_array_equal(
        pge.task_affinity(sound).matrix,
        pge.task_affinity(make_estimates(subsets, scores)).matrix,
    )


def test_resampled_scores_that_are_not_finite_are_refused():
    subsets, scores = draw(13)
    drawn = np.stack([scores, scores])
    drawn[1, 0, 3] = np.nan
    told = (
        "resampled_scores must be finite; 1 are not, first that of task 3 in subset 0"
    )
    with pytest.raises(ValueError, match=told):
        pge.task_affinity(StatusEstimates(subsets, scores, None, drawn))


@pytest.mark.parametrize("num_resamples", [0, 2.5, True, "9"])
def test_numbers_of_resamples_that_cannot_be_are_refused(num_resamples):
    subsets, scores = draw(0)
    with pytest.raises(
        ValueError, match="num_resamples must be (an integer|at least 1)"
    ):
        pge.task_affinity(make_estimates(subsets, scores), num_resamples=num_resamples)


class TwoFields(NamedTuple):
    subsets: np.ndarray
    scores: np.ndarray


class Plain:
    """No pytree, no named tuple."""

    def __init__(self, subsets, scores):
        self.subsets, self.scores = subsets, scores


@pytest.mark.parametrize("kind", [TwoFields, Plain])
def test_any_table_of_subsets_and_scores_has_an_affinity(kind):
    subsets = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    scores = np.arange(12.0).reshape(4, 3) ** 2
    outside = np.where(subsets == 1, scores, np.nan)
    found = pge.task_affinity(kind(subsets, outside), score="mean", symmetric=False)
    mean = np.where(subsets == 1, scores, 0).sum(axis=1) / subsets.sum(axis=1)
    np.testing.assert_allclose(found.matrix[0, 1], (mean[0] + mean[3]) / 2, rtol=1e-6)
    # As lists, too.
    listed = kind(subsets.tolist(), outside.tolist())
    again = pge.task_affinity(listed, score="mean", symmetric=False)
    np.testing.assert_array_equal(again.matrix, found.matrix)


def test_tables_that_lack_something_are_refused_by_name():
    subsets = np.ones((1, 3), bool)
    with pytest.raises(ValueError, match="got Plain without scores"):
        pge.task_affinity(Plain(subsets, None))
    with pytest.raises(ValueError, match=r"scores must be of the shape of subsets"):
        pge.task_affinity(Plain(subsets, np.ones((1, 2))))
    with pytest.raises(ValueError, match=r"subsets must be a 0/1 matrix"):
        pge.task_affinity(Plain(np.ones(3, bool), np.ones(3)))
    with pytest.raises(ValueError, match=r"estimates.scores must be finite.*task 1"):
        pge.task_affinity(Plain(subsets, np.array([[1.0, np.inf, 0.0]])))


def test_resamples_vary_as_weighted_draws_of_numpy_do():
    every = list(itertools.combinations(range(6), 3))
    rng = np.random.default_rng(2)
    # 14 of all 20, so that draws with replacement vary too much.
    chosen = [every[i] for i in rng.permutation(20)[:14]]
    subsets = np.zeros((14, 6), bool)
    np.put_along_axis(subsets, np.array(chosen), True, axis=1)
    scores = np.where(subsets, rng.normal(size=subsets.shape), 0.0)
    affinity = pge.task_affinity(
        make_estimates(subsets, scores),
        score="mean",
        key=jax.random.key(0),
        num_resamples=2000,
    )
    times = rng.multinomial(14, np.full(14, 1 / 14), size=2000)
    weights = 1 + np.sqrt(1 - 14 / 20) * (times - 1)
    both = subsets[:, :, None] & subsets[:, None, :]
    mean = scores.sum(axis=1) / 3
    drawn = np.einsum("rs,s,sij->rij", weights, mean, both.astype(float))
    drawn /= np.einsum("rs,sij->rij", weights, both.astype(float))
    resamples = np.asarray(affinity.resamples)
    deviation = drawn.std(axis=0)
    np.testing.assert_allclose(resamples.std(axis=0), deviation, rtol=0.15, atol=1e-4)
    error = np.abs(resamples.mean(axis=0) - drawn.mean(axis=0))
    assert np.all(error < 5 * deviation * np.sqrt(2 / 2000) + 1e-4)
    for bound, share in ((affinity.lower, 0.025), (affinity.upper, 0.975)):
        np.testing.assert_allclose(
            bound, np.quantile(resamples, share, axis=0), rtol=1e-4, atol=1e-6
        )
