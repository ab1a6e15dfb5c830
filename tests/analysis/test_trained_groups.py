"""What groups gain by a few trainings: a posterior in closed form, and its coverage."""

import numpy as np
import pytest
from scipy.stats import norm

from pgx_jax.analysis import trained_groups
from pgx_jax.analysis.partitions import all_subsets
from pgx_jax.analysis.trained_groups import partition_gain


def test_two_tasks_by_hand():
    """Groups against one policy, from three trainings of two tasks that are alike.

    Tasks trained together return 10 and 20, alone 16 and 26: apart by -3 and 3 from
    their means, variance 18 each, so that units are sqrt(18). No similarity is left
    after standardizing two subsets of each task but -1 and 1.
    """
    subsets = [[1, 1], [1, 0], [0, 1]]
    returns = [[10, 20], [16, np.nan], [np.nan, 26]]
    similarity = np.array([[1.0, 0.5], [0.5, 1.0]])
    # Points: (both, 0), (both, 1), (alone, 0), (alone, 1); f is -1, -1, 1, 1, since
    # 0.75 and 1 are all the similarities that there are.
    task, alone = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    feature = 2.0 * alone - 1
    same = task[:, None] == task
    apart = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 2], [1, 1, 2, 0]], float)
    size = np.outer(1 - alone, 1 - alone)  # log 2 / log 2, or none
    prior = same * (4 + np.exp(-apart / 2) + 0.075 * np.outer(feature, feature))
    prior = prior + 0.5 * size + 0.3 * np.outer(feature, feature)
    scale = np.sqrt(18.0)
    values = np.array([-3, -3, 3, 3]) / scale
    weight = scale / 2 * np.array([-1, -1, 1, 1])
    cross = prior @ weight
    inverse = np.linalg.inv(prior + np.eye(4))
    gain = partition_gain(subsets, returns, similarity, [0, 1], [0, 0])
    assert gain.mean == pytest.approx(cross @ inverse @ values)
    variance = weight @ prior @ weight - cross @ inverse @ cross
    assert gain.deviation == pytest.approx(np.sqrt(variance))
    assert 0 < gain.mean < 6  # what was measured is shrunk
    assert gain.lower == pytest.approx(gain.mean + norm.ppf(0.05) * gain.deviation)


def test_units_and_offsets_of_tasks_do_not_matter():
    rng = np.random.default_rng(0)
    subsets = np.concatenate([np.ones((1, 5), bool), all_subsets(5)[:20]])
    returns, similarity = rng.normal(size=(21, 5)), rng.normal(size=(5, 5))
    labels, one = [0, 0, 1, 1, 1], [0] * 5
    first = partition_gain(subsets, returns, similarity, labels, one)
    moved = partition_gain(subsets, 100 * returns + 7, 3 * similarity, labels, one)
    assert moved.mean == pytest.approx(100 * first.mean)
    assert moved.deviation == pytest.approx(100 * first.deviation)
    none = partition_gain(subsets, returns, similarity, labels, labels)
    np.testing.assert_allclose([none.mean, none.deviation], 0.0, atol=1e-6)


def test_intervals_hold_what_they_say_where_returns_follow_the_process():
    """Of 300 draws of returns 90% of the gains are inside, give or take 4 sigma."""
    rng = np.random.default_rng(0)
    every = all_subsets(4)
    row, task = np.nonzero(every)
    similarity = np.corrcoef(rng.normal(size=(4, 6)))
    feature = trained_groups._Feature(similarity, 4)
    points = trained_groups._Points(every[row], task, feature)
    prior = points.covariance(points)
    draws = np.linalg.cholesky(prior + 1e-9 * np.eye(len(prior))) @ rng.normal(
        size=(len(prior), 300)
    )
    trained = np.flatnonzero(np.isin(every.sum(axis=1), [1, 4]))
    trained = np.append(trained, [2, 11])  # tasks 0 and 1, and 2 and 3
    labels, one = np.array([0, 0, 1, 1]), np.zeros(4, int)
    inside = 0
    for draw in draws.T:
        truth = np.zeros(every.shape)
        truth[row, task] = draw
        gain = partition_gain(
            every[trained],
            (truth + rng.normal(size=truth.shape))[trained],
            similarity,
            labels,
            one,
        )
        pairs = [truth[2, 0], truth[2, 1], truth[11, 2], truth[11, 3]]
        inside += gain.lower < np.mean(pairs) - truth[14].mean() < gain.upper
    assert abs(inside / 300 - 0.9) < 4 * np.sqrt(0.09 / 300)


@pytest.mark.parametrize(
    ("subsets", "returns", "message"),
    [
        ([[1, 1]], [[1.0]], "returns must have the shape of subsets"),
        ([[1, 0]], [[1.0, 0.0]], "task 1 is in none"),
        ([[1, 1], [1, 0]], [[1.0, np.nan], [0, 0]], "that of task 1 in row 0 is nan"),
    ],
)
def test_bad_tables_are_refused(subsets, returns, message):
    with pytest.raises(ValueError, match=message):
        partition_gain(subsets, returns, np.eye(2), [0, 1], [0, 0])
