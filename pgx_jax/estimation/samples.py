"""The transitions that are fitted and scored: how they are split, drawn and scaled."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pgx_jax.estimation.checks import is_traced
from pgx_jax.types import Transitions


class Sample(NamedTuple):
    """Transitions and their features.

    Attributes:
      batch: leaves [n, N, ...].
      features: their projected gradients; float32 [n, N, d].
    """

    batch: Transitions
    features: jax.Array


def held_out_counts(num_samples: int, fraction: float) -> np.ndarray:
    """How many transitions are held out of a task that has 0, 1, ..., N of them.

    The fraction of them, rounded, but at least one, and at least one is left to fit.

    Returns:
      int32 [N + 1].
    """
    lengths = np.arange(num_samples + 1)
    if fraction == 0:
        return np.zeros_like(lengths, np.int32)
    counts = np.clip(np.round(lengths * fraction), 1, np.maximum(lengths - 1, 1))
    return np.where(lengths > 1, counts, 0).astype(np.int32)


def check_held_out(batch: Transitions, fraction: float) -> None:
    """Refuses a fraction that leaves a task nothing to fit or nothing to score.

    The mask is looked at only outside of jit.

    Raises:
      ValueError: the message names `held_out_fraction`, and the tasks.
    """
    num_samples = batch.advantage.shape[1]
    num_fitted = num_samples - round(num_samples * fraction)
    if num_fitted == 0 or (fraction > 0 and num_fitted == num_samples):
        raise ValueError(
            f"held_out_fraction={fraction} leaves no transition to "
            f"{'score' if num_fitted else 'fit'} out of {num_samples} per task"
        )
    if fraction == 0 or batch.mask is None or isinstance(batch.mask, Tracer):
        return
    few = np.flatnonzero(jax.device_get(batch.mask).sum(axis=1) < 2)
    if len(few):
        raise ValueError(
            f"held_out_fraction={fraction} needs at least 2 transitions of every task, "
            f"of which mask leaves fewer to tasks {few.tolist()}"
        )


def split(sample: Sample, fraction: float, key: jax.Array) -> tuple[Sample, Sample]:
    """The transitions to fit and to score; the same ones if none are held out.

    Of every task its own share is drawn, among the transitions that are valid. Their
    order stays. Both parts are as long as a task without padding needs.
    """
    if fraction == 0:
        return sample, sample
    valid = jnp.asarray(sample.batch.valid)
    counts = held_out_counts(valid.shape[1], fraction)
    draws = jax.random.uniform(key, valid.shape, jnp.float32)
    order = jnp.argsort(jnp.where(valid, draws, 2.0), axis=1)
    rank = jnp.argsort(order, axis=1)
    num_held_out = jnp.asarray(counts, rank.dtype)[valid.sum(axis=1)]
    held_out = valid & (rank < num_held_out[:, None])
    rows = jnp.arange(len(valid))[:, None]

    def take(chosen, length):
        index = jnp.argsort(~chosen, axis=1, stable=True)[:, :length]
        part = jax.tree.map(lambda x: x[rows, index], sample)
        mask = None if sample.batch.mask is None else chosen[rows, index]
        return part._replace(batch=part.batch._replace(mask=mask))

    longest = int(counts[-1])
    return take(valid & ~held_out, valid.shape[1] - longest), take(held_out, longest)


def resample(sample: Sample, length: int, key: jax.Array) -> Sample:
    """Resamples the transitions of every task, with replacement.

    Args:
      sample: of n tasks.
      length: transitions are drawn in runs of this many consecutive valid ones.
      key: of the draw.
    """
    num_tasks, num_samples = sample.batch.advantage.shape
    length = min(length, num_samples)
    if sample.batch.mask is None:
        count = jnp.full((num_tasks, 1), num_samples)
        place = jnp.broadcast_to(jnp.arange(num_samples), (num_tasks, num_samples))
    else:
        count = sample.batch.mask.sum(axis=1, keepdims=True)
        place = jnp.argsort(~sample.batch.mask, axis=1, stable=True)
    # Runs of consecutive transitions, from anywhere, round the end.
    num_runs = -(-num_samples // length)
    # Of one dtype under all JAX settings, which would draw others in int64.
    count = count.astype(jnp.int32)
    starts = jax.random.randint(key, (num_tasks, num_runs), 0, count, jnp.int32)
    within = jnp.arange(length, dtype=jnp.int32)[None, None]
    runs = (starts[..., None] + within).reshape(num_tasks, -1)
    index = jnp.take_along_axis(place, runs[:, :num_samples] % count, axis=1)
    rows = jnp.arange(num_tasks)[:, None]
    drawn = jax.tree.map(lambda x: x[rows, index], sample)
    # Padding stays where it was, so that tasks keep their number of transitions.
    return drawn._replace(batch=drawn.batch._replace(mask=sample.batch.mask))


def check_runs(batch: Transitions, length: int) -> None:
    """Refuses runs so long that a task has fewer than two.

    The mask is looked at only outside of jit.

    Raises:
      ValueError: the message names `resample_length`.
    """
    num_samples = batch.advantage.shape[1]
    if batch.mask is not None and not is_traced(batch.mask):
        num_samples = int(jax.device_get(batch.mask).sum(axis=1).min())
    if length > 1 and num_samples < 2 * length:
        raise ValueError(
            f"resample_length={length} needs at least {2 * length} transitions of "
            f"every task, two runs; the fewest are {num_samples}"
        )


def run_length(length: int, share: float) -> int:
    """The length of runs where only a share of the transitions is left of them."""
    return max(1, round(length * share))


def error_of_mean(spread: jax.Array, valid: jax.Array, length: int) -> jax.Array:
    """The standard error of the mean of values of which runs depend on each other.

    Args:
      spread: values less their mean, 0 where not valid; float32 [..., N].
      valid: bool [N].
      length: of the runs, of consecutive valid values.

    Returns:
      float32 [...].
    """
    num_samples, count = spread.shape[-1], valid.sum()
    if length > 1:
        order = jnp.argsort(~valid, stable=True)
        spread = jnp.take(spread, order, axis=-1)
        padding = [(0, 0)] * (spread.ndim - 1) + [(0, -num_samples % length)]
        spread = jnp.pad(spread, padding)
        spread = spread.reshape(*spread.shape[:-1], -1, length).sum(axis=-1)
    num_runs = -(-count // length)
    unbiased = num_runs / jnp.maximum(num_runs - 1, 1)
    variance = jnp.sum(spread**2, axis=-1) * unbiased.astype(spread.dtype)
    return jnp.sqrt(variance) / count.astype(spread.dtype)


def normalize(sample: Sample, fitted: Sample) -> Sample:
    """Divides each task's advantages by the mean absolute value of those fitted."""
    size, mask = jnp.abs(fitted.batch.advantage), fitted.batch.mask
    if mask is not None:
        size = jnp.where(mask, size, 0.0)
    # The sum of very large ones would not be finite.
    largest = jnp.max(size, axis=1, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1.0)
    mean = jnp.mean(size / largest, axis=1, keepdims=True, where=mask)
    mean = jnp.where(mean > 0, mean, 1.0)
    advantage = sample.batch.advantage / largest / mean
    return sample._replace(batch=sample.batch._replace(advantage=advantage))


def center(sample: Sample, fitted: Sample, centered: jax.Array) -> Sample:
    """Subtracts each task's mean feature over the transitions that are fitted.

    Held-out transitions are centered like the others: less their own mean, the feature
    of a single one would be zero.

    Args:
      sample: the transitions to center.
      fitted: those that are fitted.
      centered: nothing is subtracted where this is false; bool [].
    """
    mean = jnp.mean(
        fitted.features, axis=1, keepdims=True, where=_rows(fitted.batch.mask)
    )
    features = sample.features - jnp.where(centered, mean, 0.0)
    rows = _rows(sample.batch.mask)
    if rows is not None:
        features = jnp.where(rows, features, 0.0)
    return sample._replace(features=features)


def has_one_sign(batch: Transitions) -> jax.Array:
    """Whether all advantages of a task that are not zero have one sign; bool [n]."""
    advantage = jnp.where(batch.valid, batch.advantage, 0.0)
    return jnp.all(advantage >= 0, axis=1) | jnp.all(advantage <= 0, axis=1)


def check_centering(batch: Transitions, center_features: bool | None) -> None:
    """Refuses to center features where that would take the signal away.

    Values are looked at only outside of jit.

    Raises:
      ValueError: the message names `center_features`, and the tasks.
    """
    values = (batch.advantage, batch.mask)
    if not center_features or is_traced(values):
        return
    advantage, mask = jax.device_get(values)
    advantage = np.where(True if mask is None else mask, advantage, 0.0)
    one_sign = (advantage >= 0).all(axis=1) | (advantage <= 0).all(axis=1)
    if one_sign.any():
        raise ValueError(
            "center_features=True subtracts each task's mean feature, which is all "
            "that advantages of one sign can teach; those of tasks "
            f"{np.flatnonzero(one_sign).tolist()} are. Pass center_features=False, or "
            "advantages less their mean"
        )


def _rows(mask: jax.Array | None) -> jax.Array | None:
    """A mask of transitions as one of their features."""
    return None if mask is None else mask[..., None]
