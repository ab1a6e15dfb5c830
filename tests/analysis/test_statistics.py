"""Statistics against SciPy's and scikit-learn's, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from pgx_jax.analysis import statistics


@pytest.mark.parametrize("statistic", [np.mean, np.std])
def test_bootstrap_interval_equals_scipys_percentile_interval(statistic):
    values = np.random.default_rng(0).normal(3.0, 2.0, size=60)
    expected = stats.bootstrap(
        (values,), statistic, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    interval = statistics.bootstrap_interval(
        values, statistic=statistic, num_resamples=20_000
    )
    np.testing.assert_allclose(interval, expected, atol=0.03)


def test_bootstrap_interval_equals_the_normal_one_for_many_samples():
    values = np.random.default_rng(0).normal(size=2_000)
    half_width = 1.645 * values.std() / np.sqrt(values.size)
    interval = statistics.bootstrap_interval(values, level=0.9)
    np.testing.assert_allclose(
        interval, [values.mean() - half_width, values.mean() + half_width], atol=2e-3
    )


def test_strata_leave_the_differences_between_tasks_out():
    rng = np.random.default_rng(0)
    task_means = np.array([0.0, 100.0, 1_000.0])
    values = task_means[:, None] + rng.normal(size=(3, 200))
    low, high = statistics.bootstrap_interval(values)
    # Var of the mean of strata: mean of the strata's variances, over all samples.
    standard_error = np.sqrt(values.var(axis=1).mean() / values.size)
    np.testing.assert_allclose(high - low, 2 * 1.96 * standard_error, rtol=0.05)
    assert low < values.mean() < high


def test_strata_of_one_run_each_have_no_width():
    assert statistics.bootstrap_interval([[1.0], [3.0]]) == (2.0, 2.0)


def test_bootstrap_interval_is_deterministic_and_chunks_cover_all(monkeypatch):
    values = np.random.default_rng(0).normal(size=(4, 25))
    first = statistics.bootstrap_interval(values, seed=3)
    assert first == statistics.bootstrap_interval(values, seed=3)
    assert first != statistics.bootstrap_interval(values, seed=4)
    monkeypatch.setattr(statistics, "_MAX_RESAMPLED_VALUES", 700)
    chunked = statistics.bootstrap_interval(values, seed=3)
    np.testing.assert_allclose(chunked, first, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "non-empty"),
        (np.ones((2, 2, 2)), {}, r"shape \(2, 2, 2\)"),
        ([1.0, np.nan], {}, "finite"),
        ([1.0, 2.0], {"level": 95}, "level"),
        ([1.0, 2.0], {"num_resamples": 0}, "num_resamples"),
    ],
)
def test_bootstrap_interval_refuses(values, options, message):
    with pytest.raises(ValueError, match=message):
        statistics.bootstrap_interval(values, **options)


@pytest.mark.parametrize("size", [2, 3, 5, 30])
def test_t_interval_equals_scipys(size):
    values = np.random.default_rng(size).normal(3.0, 2.0, size=size)
    for level in (0.5, 0.95):
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
        np.testing.assert_allclose(
            statistics.t_interval(values, level=level), expected, rtol=1e-12
        )


@pytest.mark.parametrize("size", [2, 3, 5])
def test_t_interval_of_a_few_seeds_covers_at_its_level(size):
    draws = np.random.default_rng(0).normal(2.0, 3.0, size=(4000, size))
    ends = np.array([statistics.t_interval(x) for x in draws])
    covered = np.mean((ends[:, 0] <= 2.0) & (ends[:, 1] >= 2.0))
    np.testing.assert_allclose(covered, 0.95, atol=0.02)


def test_paired_t_interval_leaves_out_what_seeds_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(scale=100.0, size=5)
    ours, other = shared + 3.0, shared + rng.normal(scale=0.5, size=5)
    expected = stats.ttest_rel(ours, other).confidence_interval(0.95)
    low, high = statistics.t_interval(ours - other)
    np.testing.assert_allclose((low, high), expected, rtol=1e-9)
    assert 0.0 < low < 3.0 < high


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0], {}, "at least 2 samples"),
        (np.ones((2, 2)), {}, r"shape \(2, 2\)"),
        ([1.0, np.inf], {}, "finite"),
        ([1.0, 2.0], {"level": 95}, "level"),
    ],
)
def test_t_interval_refuses(values, options, message):
    with pytest.raises(ValueError, match=message):
        statistics.t_interval(values, **options)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 101])
def test_interquartile_mean_equals_scipys_trimmed_mean(size):
    values = np.random.default_rng(size).standard_cauchy(size=(3, size))
    np.testing.assert_allclose(
        statistics.interquartile_mean(values, axis=1),
        stats.trim_mean(values, 0.25, axis=1),
    )
    np.testing.assert_allclose(
        statistics.interquartile_mean(values), stats.trim_mean(values.ravel(), 0.25)
    )


def test_interquartile_mean_serves_the_bootstrap():
    values = np.random.default_rng(0).normal(size=(5, 40))
    low, high = statistics.bootstrap_interval(
        values, statistic=statistics.interquartile_mean
    )
    assert low < statistics.interquartile_mean(values) < high


@pytest.mark.parametrize("seed", range(8))
def test_nmi_equals_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(1 + seed % 4, size=30)
    b = np.where(rng.random(30) < 0.5, a, rng.integers(4, size=30))
    np.testing.assert_allclose(
        statistics.normalized_mutual_information(a, b),
        metrics.normalized_mutual_info_score(a, b),
        atol=1e-12,
    )


def test_nmi_ignores_names_and_knows_the_extremes():
    nmi = statistics.normalized_mutual_information
    assert nmi([0, 0, 1, 1], [7, 7, 2, 2]) == pytest.approx(1.0)
    assert nmi([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0.0, abs=1e-12)
    assert nmi([0, 0, 0], [5, 5, 5]) == 1.0
    assert nmi([0, 0, 0], [0, 1, 2]) == 0.0


def test_nmi_refuses_labels_of_different_lengths():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        statistics.normalized_mutual_information([0, 1], [0, 1, 2])


def test_chance_agreement_is_the_mean_over_all_shuffles():
    # Of the 20 ways to split six tasks in halves, 2 are the same, 18 move one task.
    a = [0, 0, 0, 1, 1, 1]
    moved = statistics.normalized_mutual_information(a, [0, 0, 1, 1, 1, 0])
    chance = statistics.chance_agreement(a, [5, 5, 5, 2, 2, 2], num_shuffles=4_000)
    assert chance == pytest.approx(0.1 + 0.9 * moved, abs=0.02)
    assert statistics.chance_agreement([0] * 6, [0] * 6) == 1.0
    assert statistics.chance_agreement([0] * 6, a) == 0.0
    with pytest.raises(ValueError, match=r"\(6,\) and \(2,\)"):
        statistics.chance_agreement(a, [0, 1])


def test_rank_correlation_equals_scipys_and_sees_only_ranks():
    rng = np.random.default_rng(0)
    a = rng.integers(5, size=(4, 6)).astype(float)  # with ties
    b = a + rng.normal(size=(4, 6))
    expected = stats.spearmanr(a.ravel(), b.ravel()).statistic
    assert statistics.rank_correlation(a, b) == pytest.approx(expected)
    assert statistics.rank_correlation(b, np.exp(b)) == pytest.approx(1.0)
    assert statistics.rank_correlation(b, -(b**3)) == pytest.approx(-1.0)


def test_rank_correlation_of_a_constant_is_nan():
    assert np.isnan(statistics.rank_correlation([1, 1, 1], [1, 2, 3]))


def test_rank_correlation_refuses_other_shapes():
    with pytest.raises(ValueError, match="one shape"):
        statistics.rank_correlation([1, 2], [1, 2, 3])
