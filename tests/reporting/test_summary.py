"""Numbers of a run: means, their intervals and the table of methods."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from pgx_jax.analysis import statistics
from pgx_jax.reporting.summary import (
    describe_collection,
    describe_verdict,
    estimate_return,
    headline,
    summarize,
    summary_table,
)


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


def with_gain(results, verdict, num_groups=2):
    """The same after a race whose groups are those found."""
    gain = {"mean": 12.34, "deviation": 2.0, "lower": 9.05, "upper": 15.6}
    expected = {**gain, "verdict": verdict}
    return dataclasses.replace(
        results,
        gains=[
            {
                "num_groups": num_groups,
                "labels": list(results.groups["estimated"]),
                "measured": 400.0,
                "over_one_policy": expected,
                "over_single_tasks": {**expected, "mean": -3.0},
                "over_random_groups": expected,
            }
        ],
    )


@pytest.mark.parametrize(
    ("verdict", "opening"),
    [
        ("pays", "Groups pay: "),
        ("costs", "Groups do not pay: "),
        ("does not matter", "Groups do not matter here: "),
        ("cannot tell", "The data cannot tell whether groups pay: "),
    ],
)
def test_the_first_line_says_whether_groups_pay(make_results, verdict, opening):
    results = with_gain(make_results(), verdict)
    first = summary_table(results).splitlines()[0]
    assert first.startswith(opening)
    assert "12.3 [9.1, 15.6] more per task than one policy for all" in first
    minus = "\N{MINUS SIGN}"
    assert f"single tasks the gain is {minus}3.00 [9.05, 15.60]" in first
    assert headline(results, summarize(results)).startswith(first)


def test_one_policy_is_an_answer_of_a_race(make_results):
    first = describe_verdict(with_gain(make_results(), "does not matter", 1))
    assert first.startswith("Groups do not pay here: of what raced, no groups")
    assert describe_verdict(make_results()) == ""


@pytest.mark.parametrize("is_stable", [True, False])
def test_what_ended_the_collection_is_said(make_results, is_stable):
    collection = {
        "num_transitions": [8192, 16384],
        "agreement": [0.5, 0.93 if is_stable else 0.71],
        "stable_agreement": 0.9,
        "is_stable": is_stable,
    }
    text = describe_collection(
        dataclasses.replace(make_results(), collection=collection)
    )
    assert text.startswith("16.4k transitions per task were collected until ")
    reason = (
        "the groups were stable (NMI 0.93" if is_stable else "the limit was reached"
    )
    assert reason in text
    assert describe_collection(make_results()) == ""
