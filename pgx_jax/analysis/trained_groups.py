"""What groups gain, told from trainings of a few of them, each trained once.

Training is noisy, and the best of several trainings is so partly by luck. A Gaussian
process over subsets S and tasks i, on R[S, i], the return of task i under the policy
trained on S, holds both apart: what many trainings have in common is signal, the rest
is noise. Returns are in units of each task's standard deviation over its trainings,
pooled with that of all tasks, about its mean. The covariance of (S, i) and (T, j) is

    4 [i = j] + 0.5 log|S| log|T| / log(n)^2 + [i = j] exp(-|S xor T| / 2)
        + (0.3 + 0.075 [i = j]) f_i(S) f_j(T)

with f the mean similarity to the tasks of the group, standardized for each task over
all subsets that hold it; the noise of a training has variance 1. Its constants were
chosen on the seven tables for development of `pgx_jax.analysis.partitions`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis.partitions import all_subsets

TASK, SIZE, COMPANY, SIMILARITY, SIMILARITY_OF_TASK, NOISE = (
    4.0,
    0.5,
    1.0,
    0.3,
    0.075,
    1.0,
)
HAMMING_LENGTH = 2.0
PRIOR_TRAININGS = 2.0  # that the pooled variance counts as, beside a task's own
MOST_EXACT = 12  # tasks of which every subset is looked at, of more a sample
SAMPLED_SUBSETS = 4096
LEVEL_QUANTILE = 1.6448536269514722  # of the standard normal, for 90% intervals


class Gain(NamedTuple):
    """What a partition is worth more than another one, per task.

    Attributes:
      mean: expected difference of mean returns, in their units.
      deviation: its standard deviation.
    """

    mean: float
    deviation: float

    @property
    def lower(self) -> float:
        """Lower end of the 90% interval."""
        return self.mean - LEVEL_QUANTILE * self.deviation

    @property
    def upper(self) -> float:
        """Its upper end."""
        return self.mean + LEVEL_QUANTILE * self.deviation


def partition_gain(
    subsets: ArrayLike,
    returns: ArrayLike,
    similarity: ArrayLike,
    labels: ArrayLike,
    reference: ArrayLike,
) -> Gain:
    """What a partition returns more than another one, per task, by few trainings.

    Args:
      subsets: that a policy was trained on, rows may repeat; bool [t, n].
      returns: R, mean return of every task under the policy, looked at for members
        only; [t, n].
      similarity: U of the tasks; [n, n].
      labels: the group of each task; [n].
      reference: the groups to compare with; [n].

    Raises:
      ValueError: shapes do not agree, a task is in no subset, or a return of a member
        is not finite.
    """
    subsets = np.asarray(subsets, bool)
    returns = np.asarray(returns, np.float64)
    num_tasks = subsets.shape[1]
    if returns.shape != subsets.shape:
        raise ValueError(
            f"returns must have the shape of subsets, {subsets.shape}, got "
            f"{returns.shape}"
        )
    if not subsets.any(axis=0).all():
        task = int(np.argmin(subsets.any(axis=0)))
        raise ValueError(f"subsets must hold every task; task {task} is in none")
    row, task = np.nonzero(subsets)
    values = returns[row, task]
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values)))
        raise ValueError(
            f"returns must be finite for members; that of task {task[bad]} in row "
            f"{row[bad]} is {values[bad]}"
        )
    feature = _Feature(np.asarray(similarity, np.float64), num_tasks)
    trained = _Points(subsets[row], task, feature)
    scale, normal = _normalize(values, task, num_tasks)
    every = np.arange(num_tasks)
    asked = [_groups_of(np.asarray(x)) for x in (labels, reference)]
    queries = _Points(np.concatenate(asked), np.tile(every, 2), feature)
    weight = np.concatenate([scale, -scale]) / num_tasks
    covariance = trained.covariance(trained) + NOISE * np.eye(len(values))
    cross = queries.covariance(trained).T @ weight
    solved = np.linalg.solve(covariance, np.stack([normal, cross], axis=1))
    variance = weight @ queries.covariance(queries) @ weight - cross @ solved[:, 1]
    return Gain(float(cross @ solved[:, 0]), float(np.sqrt(max(variance, 0.0))))


def _groups_of(labels: np.ndarray) -> np.ndarray:
    """The group of every task; bool [n, n]."""
    return labels[:, None] == labels


def _normalize(values, task, num_tasks) -> tuple[np.ndarray, np.ndarray]:
    """Scale of every task, [n], and values about its mean in units of it."""
    count = np.bincount(task, minlength=num_tasks)
    mean = np.bincount(task, values, num_tasks) / count
    apart = values - mean[task]
    squares = np.bincount(task, apart**2, num_tasks)
    pooled = squares.sum() / max(1, int((count - 1).sum()))
    variance = PRIOR_TRAININGS * pooled + squares
    scale = np.sqrt(variance / (PRIOR_TRAININGS + count - 1))
    scale = np.where(scale > 0, scale, 1.0)
    return scale, apart / scale[task]


class _Feature:
    """f_i(S), standardized for every task over the subsets that hold it."""

    def __init__(self, similarity: np.ndarray, num_tasks: int) -> None:
        self.similarity = 0.5 * (similarity + similarity.T)
        if num_tasks <= MOST_EXACT:
            subsets = all_subsets(num_tasks)
        else:
            rng = np.random.default_rng(0)
            subsets = rng.random((SAMPLED_SUBSETS, num_tasks)) < 0.5
        member = subsets.astype(np.float64)
        size = np.maximum(member.sum(axis=1, keepdims=True), 1.0)
        value = member @ self.similarity / size
        count = member.sum(axis=0)
        self.mean = (member * value).sum(axis=0) / count
        squares = (member * (value - self.mean) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / count)
        self.deviation = np.where(deviation > 0, deviation, 1.0)

    def __call__(self, subsets: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Of subsets, bool [p, n], and a task of each, int [p]; [p]."""
        value = np.einsum("pj,pj->p", subsets, self.similarity[task])
        value = value / subsets.sum(axis=1)
        return (value - self.mean[task]) / self.deviation[task]


class _Points:
    """Subsets, bool [p, n], and a task of each, int [p]."""

    def __init__(self, subsets: np.ndarray, task: np.ndarray, feature: _Feature):
        self.subsets, self.task = subsets, task
        num_tasks = subsets.shape[1]
        self.size = np.log(subsets.sum(axis=1)) / np.log(max(num_tasks, 2))
        self.feature = feature(subsets, task)

    def covariance(self, other: _Points) -> np.ndarray:
        """Before noise; [p, q]."""
        same = self.task[:, None] == other.task
        apart = (self.subsets[:, None] != other.subsets).sum(axis=2)
        company = COMPANY * np.exp(-apart / HAMMING_LENGTH)
        similar = np.outer(self.feature, other.feature)
        return (
            same * (TASK + company + SIMILARITY_OF_TASK * similar)
            + SIZE * np.outer(self.size, other.size)
            + SIMILARITY * similar
        )
