"""Running means and variances that normalize observations and values."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class RunningStatistics(NamedTuple):
    """Mean and variance of all that was seen, one set per leading index.

    Attributes:
      count: samples seen; float32 of shape [k].
      mean: float32 of shape [k, ...].
      variance: float32 of shape [k, ...].
    """

    count: jax.Array
    mean: jax.Array
    variance: jax.Array

    @property
    def std(self) -> jax.Array:
        """Standard deviation, kept away from zero; shape [k, ...]."""
        return jnp.sqrt(self.variance + 1e-8)

    @classmethod
    def create(cls, num: int, shape: tuple[int, ...] = ()) -> RunningStatistics:
        """Statistics of nothing: mean 0, variance 1."""
        return cls(jnp.zeros((num,)), jnp.zeros((num, *shape)), jnp.ones((num, *shape)))


def update_observation_statistics(
    statistics: RunningStatistics,
    observation: jax.Array,
    policy_ids: jax.Array,
    num_ids: int = 0,
) -> RunningStatistics:
    """Adds a batch, exactly (Chan, Golub and LeVeque, 1979).

    Args:
      statistics: one set per policy, [k, observation_size].
      observation: float32 [r, samples, observation_size].
      policy_ids: the policy that each row belongs to; int32 [r].
      num_ids: trailing entries of an observation that are a one-hot task id. Their
        statistics stay as they are, mean 0 and variance 1, so that the id is seen as it
        is: of a policy with one task, whose id never changes, it would become 0.
    """
    num_policies, observation_size = statistics.mean.shape
    chex.assert_shape(observation, (*policy_ids.shape, None, observation_size))
    weights = jax.nn.one_hot(policy_ids, num_policies, axis=0)  # [k, r]
    batch_count = weights.sum(axis=1) * observation.shape[1]
    safe_count = jnp.maximum(batch_count, 1.0)[:, None]
    batch_mean = weights @ observation.sum(axis=1) / safe_count
    centered = observation - batch_mean[policy_ids][:, None]
    batch_sum_squares = weights @ jnp.sum(centered**2, axis=1)

    count = statistics.count + batch_count
    safe_total = jnp.maximum(count, 1.0)[:, None]
    delta = batch_mean - statistics.mean
    share = batch_count[:, None] / safe_total
    mean = statistics.mean + delta * share
    sum_squares = (
        statistics.variance * statistics.count[:, None]
        + batch_sum_squares
        + delta**2 * statistics.count[:, None] * share
    )
    variance = sum_squares / safe_total
    if num_ids:
        is_id = jnp.arange(observation_size) >= observation_size - num_ids
        mean = jnp.where(is_id[None], statistics.mean, mean)
        variance = jnp.where(is_id[None], statistics.variance, variance)
    return RunningStatistics(count, mean, variance)


def update_value_statistics(
    statistics: RunningStatistics, returns: jax.Array, decay: float
) -> RunningStatistics:
    """Moves each row's mean and variance towards those of a batch of its returns.

    The statistics are those of all batches at first, and forget the past at rate
    `decay` once there is enough of it, since returns grow as the policy improves.

    Args:
      statistics: one set per row, [r], or [r, K] of K objectives.
      returns: float32 [r, samples], or [r, samples, K].
      decay: weight of the past, in [0, 1).
    """
    num_rows, *objectives = statistics.mean.shape
    chex.assert_shape(returns, (num_rows, None, *objectives))
    count = statistics.count + returns.shape[1]
    rate = jnp.maximum(returns.shape[1] / count, 1.0 - decay)
    rate = rate.reshape(-1, *[1] * len(objectives))
    mean = statistics.mean + rate * (returns.mean(axis=1) - statistics.mean)
    # Both variances are taken about the new mean.
    past = statistics.variance + (statistics.mean - mean) ** 2
    present = jnp.mean((returns - mean[:, None]) ** 2, axis=1)
    return RunningStatistics(count, mean, past + rate * (present - past))
