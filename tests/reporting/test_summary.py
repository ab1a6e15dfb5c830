"""Numbers of a run: means, their intervals and the table of methods."""

import numpy as np
from scipy import stats

from pgx_jax.analysis import statistics
from pgx_jax.reporting.summary import estimate_return, summary_table


def test_interval_resamples_episodes_within_tasks():
    returns = np.random.default_rng(0).normal(size=(1, 4, 30))
    estimate = estimate_return(returns)
    expected = statistics.bootstrap_interval(returns[0])
    assert (estimate.low, estimate.high) == expected
    np.testing.assert_allclose(estimate.by_task, returns[0].mean(axis=1))


def test_interval_of_several_draws_is_that_of_students_t():
    returns = np.random.default_rng(0).normal(size=(6, 4, 30))
    returns += np.arange(6)[:, None, None]
    estimate = estimate_return(returns)
    by_draw = returns.mean(axis=(1, 2))
    expected = stats.ttest_1samp(by_draw, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose((estimate.low, estimate.high), expected)
    np.testing.assert_allclose(estimate.by_draw, by_draw)


def test_summary_table_is_aligned_and_has_the_intervals(make_results):
    results = make_results()
    lines = summary_table(results).splitlines()
    assert len(lines) == 2 + len(results.methods)
    assert len(set(map(len, lines))) == 1
    for line, method in zip(lines[2:], results.methods, strict=True):
        returns = np.array(method["source"])
        if len(returns) == 1:
            low, high = statistics.bootstrap_interval(returns[0])
        else:
            low, high = statistics.t_interval(returns.mean(axis=(1, 2)))
        assert line.startswith(method["name"])
        assert f"[{low:.1f}, {high:.1f}]" in line
    assert lines[2].endswith("1.00") and lines[3].endswith("\N{EN DASH}")
    assert lines[5].endswith("0.15")


def test_summary_table_leaves_out_what_was_not_measured(make_results):
    table = summary_table(make_results(num_tasks=20, planted=False))
    assert "NMI" not in table and "unseen" not in table
