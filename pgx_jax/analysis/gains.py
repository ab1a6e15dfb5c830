"""Does grouping pay? What trained policies say of a partition's gain, with intervals.

A few policies on groups of tasks were trained once each, and the best partition of
their groups was picked: what it gained is overstated, and one training has noise. A
Gaussian process on R[S, i], the return of task i under the policy trained on S, takes
both into account. In units of each task's standard deviation over what was trained, the
covariance of R[S, i] and R[T, j] is

    0.5 log|S| log|T| / (log n)^2                         how many tasks there are
    + 0.3 f_i(S) f_j(T)                                   what an estimate says
    + [i = j] (4 + exp(-H(S, T) / 2) + 0.075 f_i(S) f_i(T))
    + [the same training] (0.3 + 0.5 [i = j])             the noise of a training

with H the number of tasks that S and T differ by, and f standardized for each task. A
part of the noise is common to all tasks of a policy, which share its luck.

The noise is nearly as large as all that was seen to vary, on purpose: where groups do
not matter, that is what it is. Where they do, returns follow the groups too well for
that. So other hypotheses stand beside this one, each a hundredth as likely beforehand:
a half, a quarter or a tenth of the noise, and none or half of exp(-H / 2) common to all
tasks. Means and variances are averaged over all, weighted by how likely the returns are
under each.
How often verdicts were true of other trainings: experiments/results/truth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis.partitions import stirling_number
from pgx_jax.arguments import (
    as_integer,
    as_labels,
    as_numbers,
    as_seed,
    as_square,
    as_subset_matrix,
    check_number,
)

SIZE, SLOPE, TASK, GROUP, OWN_SLOPE = 0.5, 0.3, 4.0, 1.0, 0.075
COMMON_NOISE, OWN_NOISE = 0.3, 0.5


class Hypothesis(NamedTuple):
    """One way in which returns may vary.

    Attributes:
      noise: times `COMMON_NOISE` and `OWN_NOISE`.
      shared: variance that like groups have in common for all tasks.
      prior: how likely it is beforehand, times any constant.
    """

    noise: float
    shared: float
    prior: float


HYPOTHESES = (
    Hypothesis(1.0, 0.0, 1.0),
    *(Hypothesis(x, y, 0.01) for x in (0.5, 0.25, 0.1) for y in (0.0, 0.5)),
)
LEAST_WEIGHT = 1e-4  # below it a hypothesis is left out
# The standard deviation of all tasks counts as so many observations of each.
POOLED_OBSERVATIONS = 2.0
# Standard deviations between the expected gain and 0 at which it is said to pay: 95%.
DEFAULT_THRESHOLD = 1.64
# A gain below this share of the returns does not matter.
DEFAULT_TOLERANCE = 0.02


class Gain(NamedTuple):
    """What a partition gains over another way of training, in mean return of a task.

    Attributes:
      mean: expected, shrunk for the luck of one training.
      deviation: its standard deviation.
      lower: end of the 90% interval.
      upper: end of the 90% interval.
      verdict: "pays", "costs", "does not matter" or "cannot tell".
    """

    mean: float
    deviation: float
    lower: float
    upper: float
    verdict: str


class Gains(NamedTuple):
    """What a partition gains.

    Attributes:
      over_one_policy: over one policy for all tasks.
      over_single_tasks: over a policy for each task.
      over_random_groups: over the mean of random partitions into as many groups.
    """

    over_one_policy: Gain
    over_single_tasks: Gain
    over_random_groups: Gain


def predict_gains(
    subsets: ArrayLike,
    returns: ArrayLike,
    labels: ArrayLike,
    *,
    affinity: ArrayLike | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    tolerance: float = DEFAULT_TOLERANCE,
    num_draws: int = 64,
    seed: int = 0,
) -> Gains:
    """The gains of a partition, expected from the policies that were trained.

    A gain "pays" where it is expected to be above 0 by `threshold` standard deviations,
    "costs" where below, and "does not matter" where its 90% interval is within
    `tolerance` of the mean absolute return of the policies trained; else the data
    cannot tell.

    Args:
      subsets: the tasks of every policy that was trained; 0/1 matrix [m, n]. A group
        that was trained twice is there twice.
      returns: mean return of task i under the policy of row S; [m, n], looked at for
        members only.
      labels: the group of each task; [n].
      affinity: what proposed the groups, such as the cosine of task gradients; [n, n].
      threshold: positive.
      tolerance: not negative.
      num_draws: random partitions that stand for all of them.
      seed: of those.

    Raises:
      ValueError: shapes do not agree, a member's return or an affinity is not finite, a
        task has no policy or another argument is out of range; the message names it.
    """
    check_number("threshold", threshold)
    check_number("tolerance", tolerance, zero=True)
    num_draws, seed = as_integer("num_draws", num_draws, 1), as_seed(seed)
    subsets, returns, labels = _check(subsets, returns, labels, affinity)
    trained = _Trained(subsets, returns, affinity)
    posteriors, weights = _weigh_hypotheses(trained)
    n = subsets.shape[1]
    rng = np.random.default_rng(seed)
    count = len(np.unique(labels))
    drawn = [draw_partition(rng, n, count) for _ in range(num_draws)]
    baselines = ([np.zeros(n, int)], [np.arange(n)], drawn)
    matters = tolerance * np.abs(returns[subsets]).mean()
    gains = []
    for others in baselines:
        comparison = trained.compare(labels, others)
        means, deviations = np.transpose(
            [posterior.difference(comparison) for posterior in posteriors]
        )
        mean = float(weights @ means)
        spread = weights @ (deviations**2 + (means - mean) ** 2)
        deviation = float(np.sqrt(spread))
        half = 1.645 * deviation
        gain = Gain(mean, deviation, mean - half, mean + half, "cannot tell")
        if -matters <= gain.lower and gain.upper <= matters:
            gain = gain._replace(verdict="does not matter")
        elif abs(mean) > threshold * deviation:
            gain = gain._replace(verdict="pays" if mean > 0 else "costs")
        gains.append(gain)
    return Gains(*gains)


def draw_partition(
    rng: np.random.Generator, num_tasks: int, num_groups: int
) -> np.ndarray:
    """A partition into k groups, all of them equally likely; labels, int64 [n].

    Task by task from the last: it is alone in a group with the share of partitions of
    the tasks before it into k - 1 groups, and else joins one of k.
    """
    labels = np.empty(num_tasks, int)
    k = num_groups
    for task in range(num_tasks - 1, -1, -1):
        alone = stirling_number(task, k - 1) / stirling_number(task + 1, k)
        if rng.random() < alone:
            k -= 1
            labels[task] = k
        else:
            labels[task] = rng.integers(k)
    return labels


class _Points(NamedTuple):
    """Tasks i with groups S, as they enter the covariance.

    Attributes:
      member: bool [p, n].
      task: int [p].
      feature: f_i(S), standardized; [p].
    """

    member: np.ndarray
    task: np.ndarray
    feature: np.ndarray


class _Covariance(NamedTuple):
    """Of points with points; [p, q] both.

    Attributes:
      base: under every hypothesis.
      alike: exp(-H / 2), of which a hypothesis adds a share.
    """

    base: np.ndarray
    alike: np.ndarray

    def under(self, hypothesis: Hypothesis) -> np.ndarray:
        return self.base + hypothesis.shared * self.alike


class _Comparison(NamedTuple):
    """A partition's value less the mean of other ones'.

    Attributes:
      weight: of every point in it; [p].
      with_trained: covariance with what was trained; [trained, p].
      within: covariance of the points; [p, p].
    """

    weight: np.ndarray
    with_trained: _Covariance
    within: _Covariance


class _Trained:
    """What was trained, and how it varies with what was not."""

    def __init__(self, subsets, returns, affinity):
        self.affinity = affinity
        self.num_tasks = subsets.shape[1]
        if affinity is not None:
            self.spread = _feature_moments(np.asarray(affinity, np.float64))
        rows, task = np.nonzero(subsets)
        self.points = self._points(subsets[rows], task)
        value = returns[rows, task]
        count = np.bincount(task, minlength=self.num_tasks)
        mean = np.bincount(task, value, self.num_tasks) / count
        off = value - mean[task]
        squares = np.bincount(task, off**2, self.num_tasks)
        free = np.maximum(count - 1, 0)
        pooled = squares.sum() / max(free.sum(), 1)
        scale = np.sqrt(
            (POOLED_OBSERVATIONS * pooled + squares) / (POOLED_OBSERVATIONS + free)
        )
        self.scale = np.maximum(scale, 1e-12 * max(1.0, np.abs(value).max()))
        self.standardized = off / self.scale[task]
        self.covariance = self._covariance(self.points, self.points)
        self.noise = COMMON_NOISE * (rows[:, None] == rows[None])
        self.noise += OWN_NOISE * np.eye(len(rows))

    def compare(self, labels, others) -> _Comparison | None:
        """A partition with other ones; None where it is one with them."""
        same = [_groups_of(labels)] + [_groups_of(x) for x in others]
        members = np.concatenate(same)
        task = np.tile(np.arange(self.num_tasks), len(same))
        weight = np.r_[1.0, np.full(len(others), -1.0 / len(others))]
        weight = np.repeat(weight, self.num_tasks) / self.num_tasks
        # One row for each task and group, however often it is there.
        keys = np.concatenate([members, task[:, None]], axis=1)
        _, first, place = np.unique(
            keys, axis=0, return_index=True, return_inverse=True
        )
        weight = np.bincount(place.reshape(-1), weight)
        kept = np.abs(weight) > 1e-12
        if not kept.any():
            return None
        first, weight = first[kept], weight[kept]
        points = self._points(members[first].astype(bool), task[first])
        return _Comparison(
            weight * self.scale[points.task],
            self._covariance(self.points, points),
            self._covariance(points, points),
        )

    def _points(self, member, task) -> _Points:
        if self.affinity is None:
            return _Points(member, task, np.zeros(len(task)))
        feature = _features(np.asarray(self.affinity, np.float64), member, task)
        mean, deviation = self.spread
        return _Points(member, task, (feature - mean[task]) / deviation[task])

    def _covariance(self, a: _Points, b: _Points) -> _Covariance:
        """Of all points of a with all of b."""
        first, second = a.member.astype(float), b.member.astype(float)
        size_a, size_b = first.sum(axis=1), second.sum(axis=1)
        apart = size_a[:, None] + size_b[None] - 2.0 * first @ second.T
        own = a.task[:, None] == b.task[None]
        slope = np.outer(a.feature, b.feature)
        alike = np.exp(-apart / 2)
        total = SIZE * np.outer(np.log(size_a), np.log(size_b))
        total = total / max(np.log(self.num_tasks), 1e-12) ** 2 + SLOPE * slope
        total += own * (TASK + GROUP * alike + OWN_SLOPE * slope)
        return _Covariance(total, alike)


class _Posterior:
    """R[S, i] after all trainings, under one hypothesis."""

    def __init__(self, trained: _Trained, hypothesis: Hypothesis):
        self.hypothesis = hypothesis
        matrix = trained.covariance.under(hypothesis)
        self.factor = np.linalg.cholesky(matrix + hypothesis.noise * trained.noise)
        self.known = np.linalg.solve(self.factor, trained.standardized)
        # Less half of log 2 pi a number, which all hypotheses have.
        self.log_evidence = -0.5 * self.known @ self.known
        self.log_evidence -= np.log(np.diag(self.factor)).sum()

    def difference(self, comparison: _Comparison | None) -> tuple[float, float]:
        """Its mean and deviation."""
        if comparison is None:
            return 0.0, 0.0
        weight, with_trained, within = comparison
        half = np.linalg.solve(self.factor, with_trained.under(self.hypothesis))
        # Means of tasks cancel: every partition has each task once.
        mean = weight @ (half.T @ self.known)
        variance = weight @ within.under(self.hypothesis) @ weight
        variance -= np.sum((half @ weight) ** 2)
        return float(mean), float(np.sqrt(max(variance, 0.0)))


def _weigh_hypotheses(trained: _Trained) -> tuple[list[_Posterior], np.ndarray]:
    """The posterior under every hypothesis that counts; weights, which sum to 1."""
    posteriors = [_Posterior(trained, x) for x in HYPOTHESES]
    log_weight = np.array([x.log_evidence for x in posteriors])
    log_weight += np.log([x.prior for x in HYPOTHESES])
    weights = np.exp(log_weight - log_weight.max())
    weights /= weights.sum()
    kept = np.flatnonzero(weights >= LEAST_WEIGHT)
    return [posteriors[i] for i in kept], weights[kept] / weights[kept].sum()


def _features(affinity: np.ndarray, member: np.ndarray, task: np.ndarray) -> np.ndarray:
    """f_i(S), the mean of U_ij over the tasks j of S; [p]."""
    symmetric = 0.5 * (affinity + affinity.T)
    return np.sum(symmetric[task] * member, axis=1) / member.sum(axis=1)


def _feature_moments(affinity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of f_i(S) over subsets S with task i; [n] both."""
    n = len(affinity)
    if n <= 10:
        member = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1
    else:
        member = np.random.default_rng(0).random((1024, n)) < 0.5
    means, deviations = [], []
    for i in range(n):
        rows = member.copy()
        rows[:, i] = True
        values = _features(affinity, np.unique(rows, axis=0), np.array(i))
        means.append(values.mean())
        deviations.append(values.std())
    deviation = np.array(deviations)
    return np.array(means), np.where(deviation > 0, deviation, 1.0)


def _groups_of(labels: np.ndarray) -> np.ndarray:
    """The group of each task; 0/1 [n, n]."""
    labels = np.asarray(labels)
    return (labels[:, None] == labels[None]).astype(int)


def check_returns(
    subsets: ArrayLike, returns: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Subsets as bool [m, n] and the returns of their members as float64 [m, n].

    Raises:
      ValueError: shapes do not agree, or a member's return is not finite.
    """
    subsets = as_subset_matrix(subsets)
    returns = as_numbers("returns", returns, finite=False)
    if returns.shape != subsets.shape:
        raise ValueError(
            "subsets and returns must have one shape [m, n], got "
            f"{subsets.shape} and {returns.shape}"
        )
    bad = np.argwhere(~np.isfinite(returns) & subsets)
    if len(bad):
        row, task = bad[0]
        raise ValueError(
            f"returns must be finite for members; row {row}, task {task} is "
            f"{returns[row, task]}"
        )
    return subsets, returns


def _check(subsets, returns, labels, affinity):
    subsets, returns = check_returns(subsets, returns)
    n = subsets.shape[1]
    labels = as_labels("labels", labels, n)
    if affinity is not None and as_square("affinity", affinity).shape != (n, n):
        raise ValueError(
            f"affinity must have shape [n, n] = [{n}, {n}], got {np.shape(affinity)}"
        )
    missing = np.flatnonzero(~subsets.any(axis=0))
    if missing.size:
        raise ValueError(
            f"subsets must hold every task; {missing.tolist()} are in none"
        )
    return subsets, returns, labels
