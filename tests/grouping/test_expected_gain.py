"""What groups are expected to gain, and whether noise is told from signal."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import pgx_jax as pge
from pgx_jax.analysis.truth_tables import TruthTable, all_subsets
from pgx_jax.estimation.sums import sum_transitions

NUM_DRAWS = 60
MOST = 3  # 5% of them


class Halves(NamedTuple):
    subsets: np.ndarray
    scores: np.ndarray
    half_scores: np.ndarray
    part_scores: np.ndarray


@jax.jit
def draw_sums(key, first_task, others):
    """Six tasks whose advantages are noise and multiples of a feature of eight."""
    feature_key, noise_key = jax.random.split(key)
    features = jax.random.normal(feature_key, (6, 400, 8))
    advantage = jax.random.normal(noise_key, (6, 400))
    slope = jnp.where(jnp.arange(6) % 2 == 0, first_task, others)
    advantage += slope[:, None] * features[..., 0]
    return sum_transitions(
        features,
        advantage,
        jnp.ones((6, 400), bool),
        num_parts=8,
        noise=True,
        fingerprint=jnp.zeros(4),
    )


def find_gain(seed, first_task=0.0, others=0.0, **settings):
    estimates = pge.estimate_subsets(
        None,
        None,
        draw_sums(jax.random.key(seed), first_task, others),
        all_subsets(6),
        key=jax.random.key(0),
        regression="least_squares",
        num_splits=2,
        **settings,
    )
    return pge.grouping_gain(estimates)


@pytest.mark.parametrize("signal", [0.0, 0.3])
def test_on_noise_alone_and_on_equal_tasks_there_is_one_group(signal):
    """Also where tasks are worth something, and all the same."""
    found = [find_gain(seed, signal, signal) for seed in range(NUM_DRAWS)]
    assert sum(x.num_groups > 1 for x in found) <= MOST
    verdicts = [x.verdict for x in found]
    share = verdicts.count("does not matter") / NUM_DRAWS
    assert share > 0.3 if signal else share < 0.1


def test_noise_of_scores_themselves_pays_in_few_draws():
    """Scores that are independent noise gain nothing: a test of exact level."""
    rng = np.random.default_rng(0)
    subsets = all_subsets(5)
    found = [
        pge.grouping_gain(
            TruthTable.create(subsets, rng.normal(size=(8, *subsets.shape)))
        )
        for _ in range(NUM_DRAWS)
    ]
    assert sum(x.num_groups > 1 for x in found) <= MOST
    np.testing.assert_allclose(np.mean([x.agreement for x in found]), 0, atol=0.03)
    # And its intervals are of the right size: 5% of them miss 0 on each side at most.
    assert np.mean([x.lower > 0 for x in found]) <= 0.05
    assert np.mean([x.upper < 0 for x in found]) <= 0.05


def test_opposite_tasks_are_two_groups_that_pay():
    found = [find_gain(seed, 0.4, -0.4, batch_transitions=100) for seed in range(20)]
    assert sum(x.verdict == "pays" for x in found) >= 19
    planted = [0, 1, 0, 1, 0, 1]
    hits = [np.array_equal(x.grouping.labels, planted) for x in found]
    assert np.mean(hits) >= 0.9
    assert np.mean([x.agreement for x in found]) > 0.6
    assert found[0].sentence.startswith("Grouping pays: 2 groups")


def test_gains_are_those_of_the_halves_worked_out_by_hand():
    """Two tasks: together or alone, on halves and parts with known scores."""
    subsets = np.array([[1, 0], [0, 1], [1, 1]], bool)
    rng = np.random.default_rng(1)
    halves = rng.normal(size=(3, 2, 3, 2))
    parts = rng.normal(size=(3, 2, 4, 3, 2))
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = pge.grouping_gain(Halves(subsets, scores, halves, parts))
    apart = 0.5 * (parts[..., 0, 0] + parts[..., 1, 1])
    together = 0.5 * parts[..., 2, :].sum(axis=-1)
    np.testing.assert_allclose(found.values, [together.mean(), apart.mean()])
    errors = (apart - together).std(axis=2, ddof=1).mean() / 2
    gain = apart.mean() - together.mean()
    np.testing.assert_allclose(found.over_one_policy.mean, [0, gain], atol=1e-12)
    half = stats.t.ppf(0.95, 3) * errors
    np.testing.assert_allclose(found.over_one_policy.lower[1], gain - half)
    np.testing.assert_allclose(found.over_single_tasks.upper[0], half - gain)
    np.testing.assert_allclose(found.over_random.mean, 0.0, atol=1e-12)
    better = halves[..., 0, 0] + halves[..., 1, 1] > halves[..., 2, :].sum(axis=-1)
    chosen = np.where(better[:, ::-1, None], apart - together, 0.0)
    np.testing.assert_allclose(found.gain, chosen.mean())
    error = chosen.std(axis=2, ddof=1).mean() / 2
    np.testing.assert_allclose(found.p_value, stats.t.sf(found.gain / error, 3))
    assert found.grouping.num_groups == found.num_groups
    given = pge.grouping_gain(Halves(subsets, scores, halves, parts), 2)
    np.testing.assert_allclose(given.gain, gain)
    np.testing.assert_array_equal(given.grouping.labels, [0, 1])


def test_random_groups_are_the_mean_over_all_partitions():
    """Three partitions of three tasks into two groups."""
    subsets = all_subsets(3)
    rng = np.random.default_rng(2)
    parts = rng.normal(size=(1, 2, 2, 7, 3))
    halves = rng.normal(size=(1, 2, 7, 3))
    found = pge.grouping_gain(Halves(subsets, halves[0, 0], halves, parts))
    mean = parts.mean(axis=(0, 1, 2))
    pairs = [[3, 4], [5, 2], [6, 1]]  # codes of the groups of the three partitions
    values = [
        sum(mean[code - 1][subsets[code - 1]].sum() for code in pair) / 3
        for pair in pairs
    ]
    random = found.values[1] - found.over_random.mean[1]
    np.testing.assert_allclose(random, np.mean(values))


def test_what_cannot_be_judged_is_refused_by_name():
    subsets = all_subsets(3)
    values = np.random.default_rng(0).normal(size=(4, 7, 3))
    table = TruthTable.create(subsets, values)
    with pytest.raises(ValueError, match="num_groups must be an integer in 1..n"):
        pge.grouping_gain(table, 4)
    with pytest.raises(ValueError, match=r"level must be in \(0, 0.5\), got 0.5"):
        pge.grouping_gain(table, level=0.5)
    with pytest.raises(ValueError, match="an even number of at least 4 replicates"):
        pge.grouping_gain(TruthTable.create(subsets, values[:3]))
    with pytest.raises(ValueError, match=r"no subset \[0, 1, 2\]"):
        pge.grouping_gain(TruthTable.create(subsets[:-1], values[:, :-1]))
    half, part = np.zeros((1, 2, 7, 3)), np.zeros((1, 2, 2, 7, 3))
    with pytest.raises(ValueError, match="estimates must have half_scores"):
        pge.grouping_gain(Halves(subsets, half[0, 0], None, part))
    part[0, 1, 1, 6, 2] = np.nan
    with pytest.raises(ValueError, match=r"part_scores must be finite.*task 2 in"):
        pge.grouping_gain(Halves(subsets, half[0, 0], half, part))
