"""Statistics that runs are reported and compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.arguments import (
    as_integer,
    as_labels,
    as_numbers,
    as_seed,
    as_share,
    show,
)

_MAX_RESAMPLED_VALUES = 2**23  # drawn at once, so that memory stays below 200 MB


def bootstrap_interval(
    values: ArrayLike,
    *,
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of many samples (Efron, 1979).

    Of few samples it is too short: that of a mean of three covers 76% in place of 95%,
    of ten 90%. `t_interval` is for those.

    Where `values` has two axes, each task is a stratum: its runs are resampled with
    replacement, apart from those of other tasks, and the statistic is taken over all
    resampled values together (Agarwal et al., 2021, section 4.1).

    Args:
      values: finite samples, [samples] or [tasks, runs].
      statistic: maps values [..., samples] to [...]; takes the keyword `axis`.
      level: the interval's coverage, in (0, 1).
      num_resamples: the number of bootstrap samples.
      seed: of the resampling.

    Returns:
      The interval's lower and upper end.

    Raises:
      ValueError: if `values` is empty, has another number of axes or is not finite, or
        if `level` or `num_resamples` is out of range.
    """
    values = as_numbers("values", values)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(
            "values must be non-empty with shape [samples] or [tasks, runs], "
            f"got shape {values.shape}"
        )
    level = as_share("level", level)
    num_resamples, seed = as_integer("num_resamples", num_resamples, 1), as_seed(seed)
    if not callable(statistic):
        raise ValueError(
            f"statistic must be a function such as np.mean, got {show(statistic)}"
        )

    strata = np.atleast_2d(values)
    num_strata, num_runs = strata.shape
    rows = np.arange(num_strata)[:, None]
    rng = np.random.default_rng(seed)
    chunk_size = max(1, _MAX_RESAMPLED_VALUES // strata.size)
    statistics = np.empty(num_resamples)
    for start in range(0, num_resamples, chunk_size):
        size = min(chunk_size, num_resamples - start)
        runs = rng.integers(num_runs, size=(size, num_strata, num_runs), dtype=np.int32)
        resampled = strata[rows, runs].reshape(size, -1)
        statistics[start : start + size] = statistic(resampled, axis=-1)
    low, high = np.quantile(statistics, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def t_interval(values: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of a few samples, such as one per seed.

    It covers at its level from two samples on, where they are normal; the bootstrap of
    three samples is about their range, which covers 76% in place of 95%. Where two
    methods share what varies between seeds, give it their differences seed by seed: the
    interval of the paired t test.

    Args:
      values: at least two finite samples; [samples].
      level: the interval's coverage, in (0, 1).

    Returns:
      The interval's lower and upper end.

    Raises:
      ValueError: if there are fewer than two samples, one is not finite, they have
        another number of axes, or `level` is out of range.

    Source: Student, "The probable error of a mean", Biometrika, 1908.
    """
    from scipy import stats

    values = as_numbers("values", values)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(
            "values must be at least 2 samples of shape [samples], got shape "
            f"{values.shape}"
        )
    level = as_share("level", level)
    error = values.std(ddof=1) / np.sqrt(values.size)
    width = stats.t.ppf((1.0 + level) / 2.0, values.size - 1) * error
    return float(values.mean() - width), float(values.mean() + width)


def interquartile_mean(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """Mean of the middle half: a quarter of the samples is cut off at either end.

    Less swayed by outliers than the mean and less wasteful than the median (Agarwal et
    al., 2021). Where a quarter of the samples is no integer, it is rounded down.

    Args:
      values: samples, of any shape.
      axis: the axis of the samples; all values together by default.

    Raises:
      ValueError: `values` are empty or not finite, or have no such axis.
    """
    values = as_numbers("values", values)
    if axis is None:
        values = values.ravel()
    else:
        axis = as_integer("axis", axis, -values.ndim, values.ndim - 1)
        values = np.moveaxis(values, axis, -1)
    size = values.shape[-1]
    if size == 0:
        raise ValueError("values must not be empty")
    cut = size // 4
    ordered = np.partition(values, [cut, size - cut - 1], axis=-1)
    return ordered[..., cut : size - cut].mean(axis=-1)


def normalized_mutual_information(a: ArrayLike, b: ArrayLike) -> float:
    """Agreement of two groupings of the same tasks, between 0 and 1.

    The mutual information over the arithmetic mean of the two entropies; what the
    labels are called does not matter. Two groupings that both put every task into one
    group agree: 1.

    Args:
      a: integer labels, [n].
      b: integer labels, [n].

    Raises:
      ValueError: if the labels are empty or differ in shape.
    """
    a, b = as_labels("a", a), as_labels("b", b)
    if a.shape != b.shape:
        raise ValueError(
            "a and b must be non-empty labels of one shape [n], "
            f"got shapes {a.shape} and {b.shape}"
        )
    a_ids = np.unique(a, return_inverse=True)[1]
    b_ids = np.unique(b, return_inverse=True)[1]
    joint = np.zeros((a_ids.max() + 1, b_ids.max() + 1))
    np.add.at(joint, (a_ids, b_ids), 1.0 / a.size)
    entropy_sum = _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0))
    if joint.size == 1:
        return 1.0
    information = entropy_sum - _entropy(joint.ravel())
    return float(np.clip(2.0 * information / entropy_sum, 0.0, 1.0))


def chance_agreement(a: ArrayLike, b: ArrayLike, *, num_shuffles: int = 1000) -> float:
    """The agreement of two groupings by chance, which is far from 0 for few tasks.

    The mean normalized mutual information of `a` and `b` with the tasks of `b`
    shuffled, so that the sizes of the groups stay. The same number every time.

    Args:
      a: integer labels, [n].
      b: integer labels, [n].
      num_shuffles: the mean is over as many.

    Raises:
      ValueError: if the labels are empty or differ in shape.
    """
    b = as_labels("b", b)
    num_shuffles = as_integer("num_shuffles", num_shuffles, 1)
    rng = np.random.default_rng(0)
    return float(
        np.mean(
            [
                normalized_mutual_information(a, rng.permutation(b))
                for _ in range(num_shuffles)
            ]
        )
    )


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays of one shape, over all their entries.

    NaN if either is constant. For two affinity matrices, pass the entries above the
    diagonal, `U[np.triu_indices(n, k=1)]`.

    Raises:
      ValueError: if the shapes differ, there are fewer than two entries, or one is not
        finite.
    """
    from scipy import stats

    a, b = as_numbers("a", a), as_numbers("b", b)
    if a.shape != b.shape or a.size < 2:
        raise ValueError(
            "a and b must have one shape and at least 2 entries, "
            f"got shapes {a.shape} and {b.shape}"
        )
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return float("nan")
    result: Any = stats.spearmanr(a.ravel(), b.ravel())
    return float(result.statistic)


def _entropy(probabilities: np.ndarray) -> float:
    """Entropy in nats, with 0 log 0 = 0."""
    positive = probabilities[probabilities > 0]
    return float(-np.sum(positive * np.log(positive)))
