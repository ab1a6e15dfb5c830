"""Predicted gains: closed forms, planted gains, noise, input that is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from pgx_jax.analysis.gains import draw_partition, predict_gains
from pgx_jax.analysis.partitions import stirling_number


def trained_rows(num_tasks, *labelings):
    """Groups of one policy, of single tasks and of further partitions."""
    rows = [np.ones(num_tasks, bool), *np.eye(num_tasks, dtype=bool)]
    for labels in labelings:
        rows += [np.asarray(labels) == g for g in np.unique(labels)]
    return np.unique(np.array(rows), axis=0)


def planted_returns(subsets, per_task):
    """Returns `per_task` for every other member that has its parity, less of others."""
    parity = np.arange(subsets.shape[1]) % 2
    same = (parity[:, None] == parity[None]).astype(float)
    helped = subsets @ (2 * same - 1) - 1
    return subsets * per_task * helped


@pytest.mark.parametrize("with_affinity", [False, True])
def test_gain_of_one_task_apart_is_the_closed_form_of_a_gaussian_process(with_affinity):
    # Two tasks, each trained alone and with the other; partition {0}, {1}. The pooled
    # standard deviation of each task and the 4 x 4 covariance are written out.
    subsets = np.array([[1, 0], [0, 1], [1, 1]], bool)
    returns = np.array([[3.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    affinity = np.array([[1.0, 0.2], [0.2, 0.1]]) if with_affinity else None
    gain = predict_gains(subsets, returns, [0, 1], affinity=affinity).over_one_policy
    pooled = (2 * 1.0 + 2 * 4.0) / 2
    scale = np.sqrt([(2 * pooled + 2) / 3, (2 * pooled + 8) / 3])
    near = np.exp(-0.5)
    # Order: ({0}, 0), ({0, 1}, 0), ({1}, 1), ({0, 1}, 1); log 2 / log 2 = 1.
    prior = np.array(
        [
            [5.0, 4 + near, 0.0, 0.0],
            [4 + near, 5.5, 0.0, 0.5],
            [0.0, 0.0, 5.0, 4 + near],
            [0.0, 0.5, 4 + near, 5.5],
        ]
    )
    if with_affinity:
        # f_0 falls from 1 to 0.6 with company, f_1 rises from 0.1 to 0.15: 1 and -1.
        feature = np.array([1.0, -1.0, -1.0, 1.0])
        own = np.kron(np.eye(2), np.ones((2, 2)))
        prior += (0.3 + 0.075 * own) * np.outer(feature, feature)
    seen = np.array([1.0, -1.0, 2.0, -2.0]) / np.repeat(scale, 2)
    weight = np.array([1.0, -1.0, 1.0, -1.0]) * np.repeat(scale, 2) / 2
    alike = near ** np.array(
        [[0, 1, 2, 1], [1, 0, 1, 0], [2, 1, 0, 1], [1, 0, 1, 0]], float
    )
    evidence, means, variances = [], [], []
    for noise, shared, chance in [
        (1.0, 0.0, 1.0),
        *((x, y, 0.01) for x in (0.5, 0.25, 0.1) for y in (0.0, 0.5)),
    ]:
        known = prior + shared * alike
        noisy = known + noise * 0.8 * np.eye(4)
        noisy[[1, 3], [3, 1]] += noise * 0.3  # the tasks of one training
        density = stats.multivariate_normal(np.zeros(4), noisy).pdf(seen)
        evidence.append(chance * density)
        means.append(weight @ known @ np.linalg.solve(noisy, seen))
        left = known - known @ np.linalg.solve(noisy, known)
        variances.append(weight @ left @ weight)
    mean = np.average(means, weights=evidence)
    second = np.average(np.add(variances, np.square(means)), weights=evidence)
    np.testing.assert_allclose(gain.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(gain.deviation, np.sqrt(second - mean**2), rtol=1e-9)
    np.testing.assert_allclose(gain.upper - gain.mean, 1.645 * gain.deviation)


def test_planted_gains_pay_and_are_shrunk_and_units_do_not_matter():
    labels = np.arange(6) % 2
    subsets = trained_rows(6, labels, [0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 2, 2])
    returns = planted_returns(subsets, 1.0) + 10.0
    gains = predict_gains(subsets, returns, labels)
    assert gains.over_one_policy.verdict == "pays"
    assert (
        0 < gains.over_one_policy.mean < 3.0
    )  # 2 more of its parity, 3 less of others
    assert gains.over_random_groups.mean > 0
    scaled = predict_gains(subsets, returns * 1e3, labels)
    np.testing.assert_allclose(
        scaled.over_one_policy.mean, 1e3 * gains.over_one_policy.mean, rtol=1e-9
    )
    reverse = predict_gains(subsets, -returns, labels)
    assert reverse.over_one_policy.verdict == "costs"


def test_the_same_partition_gains_nothing_and_small_gains_do_not_matter():
    subsets = trained_rows(4, [0, 0, 1, 1])
    rng = np.random.default_rng(0)
    returns = 100.0 + 0.1 * rng.normal(size=subsets.shape)
    gains = predict_gains(subsets, returns, [0, 1, 2, 3])
    assert gains.over_single_tasks == (0.0, 0.0, 0.0, 0.0, "does not matter")
    assert gains.over_one_policy.verdict == "does not matter"


def test_a_second_training_narrows_the_interval():
    labels = [0, 0, 1, 1]
    subsets = trained_rows(4, labels)
    returns = np.random.default_rng(1).normal(size=subsets.shape)
    once = predict_gains(subsets, returns, labels).over_one_policy
    both = np.concatenate([subsets, subsets]), np.concatenate([returns, returns])
    twice = predict_gains(*both, labels).over_one_policy
    assert twice.deviation < 0.9 * once.deviation


def test_pure_noise_seldom_pays_over_both_baselines():
    # The best of several trained partitions by noise alone: at most 5% of 60 draws.
    listed = [[0, 0, 1, 1, 2], [0, 1, 0, 1, 1], [0, 1, 2, 0, 2], [0, 1, 2, 2, 3]]
    subsets = trained_rows(5, *listed)
    place = {tuple(row): i for i, row in enumerate(subsets)}
    said = 0
    for seed in range(60):
        returns = np.random.default_rng(seed).normal(size=subsets.shape)
        value = [
            sum(
                returns[place[tuple(np.array(x) == g)]][np.array(x) == g].sum()
                for g in set(x)
            )
            for x in listed
        ]
        gains = predict_gains(subsets, returns, listed[int(np.argmax(value))])
        words = {gains.over_one_policy.verdict, gains.over_single_tasks.verdict}
        said += words == {"pays"}
    assert said <= 3


def test_groups_that_decide_all_returns_are_not_taken_for_noise():
    """Ten tasks in two opposed halves, as single runs of `ant_opposite` show them."""
    planted = np.arange(10) // 5
    others = [[0, 0, 0, 1, 1, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]]
    subsets = trained_rows(10, planted, *others, np.arange(10) % 2)
    pure = np.array([len(np.unique(planted[row])) == 1 for row in subsets])
    rows = np.where(pure, 300 + 175 * np.log(subsets.sum(axis=1)), 180.0)
    returns = rows[:, None] + np.random.default_rng(0).normal(0, 30, subsets.shape)
    gain = predict_gains(subsets, returns, planted).over_one_policy
    true = 300 + 175 * np.log(5) - 180
    assert gain.verdict == "pays"
    assert gain.lower < true < gain.upper
    assert gain.mean > 0.8 * true


def test_an_affinity_of_the_right_sign_moves_expected_gains():
    labels = np.arange(6) % 2
    subsets = trained_rows(6, [0, 0, 0, 1, 1, 1])
    returns = planted_returns(subsets, 1.0)
    same = np.equal.outer(labels, labels).astype(float)
    with_it = predict_gains(subsets, returns, labels, affinity=same)
    against = predict_gains(subsets, returns, labels, affinity=-same)
    plain = predict_gains(subsets, returns, labels).over_one_policy.mean
    np.testing.assert_allclose(
        with_it.over_one_policy.mean, against.over_one_policy.mean, rtol=1e-9
    )  # the slope's sign is learned
    assert with_it.over_one_policy.mean != pytest.approx(plain, rel=1e-3)


def test_random_partitions_are_uniform():
    rng = np.random.default_rng(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(3000):
        labels = draw_partition(rng, 4, 2)
        first = [labels.tolist().index(x) for x in labels]
        key = tuple(first)
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == stirling_number(4, 2) == 7
    expected = 3000 / 7
    assert sum((x - expected) ** 2 / expected for x in counts.values()) < 22.5  # 0.999


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(labels=[0, 1]), r"labels must have shape \[n\] = \[3\]"),
        (dict(affinity=np.ones((2, 2))), r"affinity must have shape \[n, n\]"),
        (dict(returns=np.full((2, 3), np.nan)), "row 0, task 0 is nan"),
        (dict(returns=np.ones((3, 3))), r"one shape \[m, n\]"),
        (dict(subsets=np.array([[1, 1, 0], [1, 0, 0]])), r"\[2\] are in none"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    given = dict(
        subsets=np.array([[1, 1, 1], [1, 0, 0]]),
        returns=np.ones((2, 3)),
        labels=[0, 1, 1],
    )
    with pytest.raises(ValueError, match=message):
        predict_gains(**(given | change))


def test_partitions_of_every_count_are_drawn_into_that_count():
    rng = np.random.default_rng(0)
    for n, k in itertools.product((1, 3, 9), (1, 3, 9)):
        if k <= n:
            assert len(np.unique(draw_partition(rng, n, k))) == k
