"""Running statistics against NumPy's over all data at once."""

import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.training.running_statistics import (
    RunningStatistics,
    update_observation_statistics,
    update_value_statistics,
)

RNG = np.random.default_rng(0)


def test_observation_statistics_are_those_of_all_data_of_a_policy():
    policy_ids = np.array([0, 2, 0])  # policy 1 has no row
    batches = RNG.normal(5.0, [[[1.0, 10.0]]], (4, 3, 7, 2)).astype(np.float32)
    batches += np.arange(4)[:, None, None, None]
    statistics = RunningStatistics.create(3, (2,))
    for batch in batches:
        statistics = update_observation_statistics(
            statistics, jnp.asarray(batch), jnp.asarray(policy_ids)
        )
    for policy in (0, 2):
        data = batches[:, policy_ids == policy].reshape(-1, 2)
        assert statistics.count[policy] == len(data)
        np.testing.assert_allclose(statistics.mean[policy], data.mean(0), rtol=1e-5)
        np.testing.assert_allclose(statistics.std[policy], data.std(0), rtol=1e-5)


def test_value_statistics_start_as_those_of_all_data():
    batches = RNG.normal(size=(5, 2, 30)).astype(np.float32)
    batches = batches * [[1.0], [9.0]] + np.arange(5)[:, None, None]
    statistics = RunningStatistics.create(2)
    for batch in batches:
        statistics = update_value_statistics(statistics, jnp.asarray(batch), decay=0.99)
    data = np.moveaxis(batches, 0, 1).reshape(2, -1)
    np.testing.assert_allclose(statistics.mean, data.mean(1), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, data.std(1), rtol=1e-5)


def test_value_statistics_forget_at_the_rate_of_the_decay():
    decay, num_batches = 0.8, 80
    statistics = RunningStatistics.create(1)
    # An exponentially weighted mean and variance, written as weighted sums.
    batches = RNG.normal(size=(num_batches, 1, 50)).astype(np.float32)
    batches += np.linspace(0, 30, num_batches)[:, None, None]
    for batch in batches:
        statistics = update_value_statistics(statistics, jnp.asarray(batch), decay)
    weights = decay ** np.arange(num_batches)[::-1]
    weights = np.repeat(weights / weights.sum(), 50) / 50
    data = batches.reshape(-1)
    mean = weights @ data
    std = np.sqrt(weights @ (data - mean) ** 2)
    np.testing.assert_allclose(statistics.mean[0], mean, rtol=2e-3)
    np.testing.assert_allclose(statistics.std[0], std, rtol=2e-3)


@pytest.mark.parametrize("shape", [(7, 3), (2, 7, 3), (3, 7, 2)])
def test_observations_of_another_shape_are_refused(shape):
    """One axis too few, a row too few, and a feature too few."""
    statistics = RunningStatistics.create(1, (3,))
    with pytest.raises(AssertionError, match="[sS]hape"):
        update_observation_statistics(
            statistics, jnp.zeros(shape), jnp.zeros(3, jnp.int32)
        )


@pytest.mark.parametrize("shape", [(7,), (1, 7), (3, 7, 1)])
def test_returns_of_other_rows_are_refused(shape):
    with pytest.raises(AssertionError, match="[sS]hape"):
        update_value_statistics(RunningStatistics.create(3), jnp.zeros(shape), 0.9)
