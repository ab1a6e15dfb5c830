"""Moments of the projected policy gradients of tasks, from sums over transitions."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.sums import TaskSums


class TaskMoments(NamedTuple):
    """Means over transitions of features, scaled to unit mean square.

    Attributes:
      gram: G_i; float32 [n, d, d].
      target: b_i; float32 [n, d].
      noise: Sigma_i, the covariance of A^ g~ over transitions; float32 [n, d, d], or
        None.
      scale: what features were divided by; float32 [].
      variance: the mean square of advantages as they are scaled, less their mean where
        features are centered, over all parts; float32 [n].
    """

    gram: jax.Array
    target: jax.Array
    noise: jax.Array | None
    scale: jax.Array
    variance: jax.Array


def task_moments(
    sums: TaskSums,
    parts: np.ndarray | jax.Array | None = None,
    *,
    normalize_advantages: bool = True,
    center_features: bool = True,
    noise: bool = False,
) -> TaskMoments:
    """Scaled moments of the transitions of some parts.

    Scales are those of all parts, so that moments of different parts compare.

    Args:
      sums: in P parts.
      parts: which of them, or how often each counts; [P], all once if None.
      normalize_advantages: divide by each task's standard deviation of advantages.
      center_features: of features and advantages less their means over the parts
        counted; the standard deviation is the root mean square otherwise.
      noise: also the covariance of A^ g~.
    """
    every = _total(sums, None)
    chosen = every if parts is None else _total(sums, parts)
    scale = jnp.sqrt(jnp.mean(jnp.trace(_gram(every, center_features), 0, 1, 2)))
    scale = scale / jnp.sqrt(float(sums.feature.shape[-1]))
    scale = jnp.where(scale > 0, scale, 1.0)
    variance = every.squared_advantage / every.count
    if center_features:
        variance = variance - (every.advantage / every.count) ** 2
    variance = jnp.maximum(variance, 0.0)
    spread = jnp.ones(sums.num_tasks, jnp.float32)
    if normalize_advantages:
        spread = jnp.where(variance > 0, jnp.sqrt(variance), 1.0)
    count = chosen.count[:, None]
    target = chosen.product / count
    if center_features:
        target = target - chosen.advantage[:, None] / count * chosen.feature / count
    target = target / spread[:, None] / scale
    covariance = None
    if noise:
        second = _second_moment(chosen, center_features)
        covariance = second / jnp.square(spread * scale)[:, None, None]
        covariance = covariance - target[:, :, None] * target[:, None, :]
    gram = _gram(chosen, center_features) / scale**2
    return TaskMoments(gram, target, covariance, scale, variance / spread**2)


def _total(sums: TaskSums, parts: np.ndarray | jax.Array | None) -> TaskSums:
    """The sums over parts, each counted as often as given; without the axis P."""
    numbers = sums._replace(fingerprint=None)
    if parts is None:
        return jax.tree.map(lambda x: x.sum(axis=0), numbers)
    times = jnp.asarray(parts).astype(jnp.float32)
    with jax.default_matmul_precision("highest"):
        return jax.tree.map(lambda x: jnp.tensordot(times, x, axes=1), numbers)


def _gram(total: TaskSums, center_features: bool) -> jax.Array:
    """The covariance of features, or their second moment; [n, d, d]."""
    count = total.count[:, None]
    second = total.outer / count[..., None]
    if not center_features:
        return second
    mean = total.feature / count
    return second - mean[:, :, None] * mean[:, None, :]


def _second_moment(total: TaskSums, center_features: bool) -> jax.Array:
    """The mean of A^^2 g~ g~^T; [n, d, d]."""
    count = total.count[:, None]
    if total.squared_product is None or total.noise_outer is None:
        raise ValueError(
            "noise needs sums with noise, as accumulate(..., noise=True) makes them"
        )
    second = total.noise_outer / count[..., None]
    if not center_features:
        return second
    mean = total.feature / count
    cross = total.squared_product / count
    square = (total.squared_advantage / total.count)[:, None, None]
    mixed = cross[:, :, None] * mean[:, None, :]
    second = second - mixed - jnp.swapaxes(mixed, 1, 2)
    return second + square * mean[:, :, None] * mean[:, None, :]
