"""Least squares in the projected space, from sums over transitions.

With a squared loss in place of the logistic one, a task enters its regressions by two
sums over its transitions, whatever their number N: with features g~ centered per task,

    G_i = mean over t of g~_t g~_t^T                          [d, d]
    b_i = mean over t of A^_t g~_t                            [d]
    Delta_S = (sum over i of w_i G_i + ridge I)^-1  sum over i of w_i b_i
    f_i(S) = 2 b_i . Delta_S - Delta_S^T G_i Delta_S

f_i(S) is what the step Delta_S takes off the squared error of predicting task i's
advantages; 1 is all of it. Delta_S is a damped natural-gradient step: along
sum w_i b_i, the projected policy gradient, as the ridge grows.

Sums of further transitions add up, and come in parts that are kept apart: with Delta_S
from some parts and the score from the others, f_i(S) has no bias from fitting noise.

Sources: PolicyGradEx (arXiv 2511.12779), section 3, for the projected regressions;
A*-PO (arXiv 2505.20686) for the squared loss, linearized here; target-aggregation
(arXiv 2406.07991) for bias against variance as the price of small groups.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pgx_jax.estimation.subsets import check_subsets
from pgx_jax.estimation.sums import TaskSums

# Numbers of the matrices that are factorized at once (256 MiB of float32).
BLOCK_ELEMENTS = 2**26


class LeastSquaresScores(NamedTuple):
    """The scores of m subsets of n tasks by least squares.

    Attributes:
      subsets: bool array of shape [m, n].
      scores: f_i(S), the mean over folds; 1 is all of the variance of task i's
        advantages; float32 of shape [m, n], 0 where task i is not in S.
      fold_scores: of every fold; float32 of shape [folds, m, n].
      noise: what the noise of a training batch is expected to take off the scores;
        `scores` are before it; float32 of shape [m, n], or None where not asked for.
    """

    subsets: jax.Array  # shape=[m, n], dtype=bool
    scores: jax.Array  # shape=[m, n], dtype=float32
    fold_scores: jax.Array  # shape=[folds, m, n], dtype=float32
    noise: jax.Array | None = None  # shape=[m, n], dtype=float32


def least_squares_scores(
    sums: TaskSums,
    subsets: jax.Array | np.ndarray,
    *,
    weights: jax.Array | np.ndarray | None = None,
    ridge: float | jax.Array = 1.0,
    num_folds: int = 2,
    normalize_advantages: bool = True,
    batch_transitions: float | jax.Array | None = None,
) -> LeastSquaresScores:
    """The scores of subsets of tasks in closed form, cross-fitted over parts.

    Features are scaled to unit mean square, one factor for all tasks, so that the ridge
    means the same for every policy and d. Each subset is a Cholesky factorization of a
    d x d matrix for each fold.

    Args:
      sums: of n tasks in P parts.
      subsets: 0/1 matrix [m, n].
      weights: w_i of every task in the regression of every subset, in place of 1 for
        its tasks and 0 for others; [m, n], not negative.
      ridge: positive.
      num_folds: the parts are dealt out to so many folds; Delta_S is from all other
        folds and scored on each, and the scores are averaged. 1 scores on what was
        fitted.
      normalize_advantages: divide each task's advantages by their standard deviation,
        as PPO does; else scores are in squared units of reward.
      batch_transitions: N_b, transitions of a task in one batch of training. Its
        noise, of covariance Sigma_i / N_b in b_i, is expected to take
        trace(M G_i M sum over j of w_j^2 Sigma_j) / N_b off f_i(S), M being the inverse
        above; more for small groups at weights 1 / |S|. None leaves it out.

    Raises:
      ValueError: shapes do not agree, a weight is negative or not finite, the ridge is
        not positive, there are more folds than parts, a fold has no transition of a
        task, or the sums lack what the noise needs; the message names the argument.
    """
    subsets, weights = _check_weights(sums, subsets, weights)
    _check_settings(sums, ridge, num_folds, batch_transitions)
    return _scores(
        sums,
        subsets,
        weights,
        jnp.asarray(ridge, jnp.float32),
        None
        if batch_transitions is None
        else jnp.asarray(batch_transitions, jnp.float32),
        num_folds,
        normalize_advantages,
    )


def least_squares_steps(
    sums: TaskSums,
    subsets: jax.Array | np.ndarray,
    *,
    weights: jax.Array | np.ndarray | None = None,
    ridge: float | jax.Array = 1.0,
    normalize_advantages: bool = True,
) -> jax.Array:
    """Delta_S of subsets from all parts, in the units of P; float32 [m, d].

    The adapted policy is theta* + P Delta_S. Arguments and errors are those of
    `least_squares_scores`.
    """
    subsets, weights = _check_weights(sums, subsets, weights)
    _check_settings(sums, ridge, 1, None)
    ridge = jnp.asarray(ridge, jnp.float32)
    return _steps(sums, weights, ridge, normalize_advantages)


class TaskMoments(NamedTuple):
    """Means over transitions of centered features, scaled to unit mean square.

    Attributes:
      gram: G_i; float32 [n, d, d].
      target: b_i; float32 [n, d].
      noise: Sigma_i, the covariance of A^ g~ over transitions; float32 [n, d, d], or
        None.
      scale: what features were divided by; float32 [].
    """

    gram: jax.Array
    target: jax.Array
    noise: jax.Array | None
    scale: jax.Array


def task_moments(
    sums: TaskSums,
    parts: np.ndarray | None = None,
    *,
    normalize_advantages: bool = True,
    noise: bool = False,
) -> TaskMoments:
    """Centered and scaled moments of the transitions of some parts.

    Scales are those of all parts, so that moments of different parts compare.

    Args:
      sums: in P parts.
      parts: which of them; bool [P], all if None.
      normalize_advantages: divide by each task's standard deviation of advantages.
      noise: also the covariance of A^ g~.
    """
    numbers = sums._replace(fingerprint=None)
    every = jax.tree.map(lambda x: x.sum(axis=0), numbers)
    chosen = every
    if parts is not None:
        index = np.flatnonzero(parts)
        chosen = jax.tree.map(lambda x: x[index].sum(axis=0), numbers)
    scale = jnp.sqrt(jnp.mean(jnp.trace(_gram(every), axis1=1, axis2=2)))
    scale = scale / jnp.sqrt(float(sums.feature.shape[-1]))
    scale = jnp.where(scale > 0, scale, 1.0)
    spread = jnp.ones(sums.num_tasks, every.count.dtype)
    if normalize_advantages:
        mean = every.advantage / every.count
        variance = every.squared_advantage / every.count - mean**2
        spread = jnp.sqrt(jnp.maximum(variance, 0.0))
        spread = jnp.where(spread > 0, spread, 1.0)
    count = chosen.count[:, None]
    mean = chosen.feature / count
    advantage = (chosen.advantage / chosen.count)[:, None]
    target = (chosen.product / count - advantage * mean) / spread[:, None] / scale
    covariance = None
    if noise:
        covariance = _second_moment(chosen) / jnp.square(spread * scale)[:, None, None]
        covariance = covariance - target[:, :, None] * target[:, None, :]
    return TaskMoments(_gram(chosen) / scale**2, target, covariance, scale)


def _gram(total: TaskSums) -> jax.Array:
    """The covariance of features; [n, d, d]."""
    count = total.count[:, None]
    mean = total.feature / count
    return total.outer / count[..., None] - mean[:, :, None] * mean[:, None, :]


def _second_moment(total: TaskSums) -> jax.Array:
    """The mean of A^^2 g~ g~^T with features centered; [n, d, d]."""
    count = total.count[:, None]
    mean = total.feature / count
    if total.squared_product is None or total.noise_outer is None:
        raise ValueError(
            "noise needs sums with noise, as accumulate(..., noise=True) makes them"
        )
    cross = total.squared_product / count
    square = (total.squared_advantage / total.count)[:, None, None]
    mixed = cross[:, :, None] * mean[:, None, :]
    second = total.noise_outer / count[..., None] - mixed - jnp.swapaxes(mixed, 1, 2)
    return second + square * mean[:, :, None] * mean[:, None, :]


def _solve(moments: TaskMoments, weights: jax.Array, ridge: jax.Array):
    """The Cholesky factor and Delta of one row of weights, [n]."""
    dim = moments.target.shape[-1]
    identity = jnp.eye(dim, dtype=weights.dtype)
    matrix = jnp.tensordot(weights, moments.gram, axes=1) + ridge * identity
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    return factor, jax.scipy.linalg.cho_solve(factor, weights @ moments.target)


@functools.partial(jax.jit, static_argnums=3)
def _steps(sums, weights, ridge, normalize_advantages) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        moments = task_moments(sums, normalize_advantages=normalize_advantages)
        delta = _map_rows(lambda row: _solve(moments, row, ridge)[1], weights, sums)
        return delta / moments.scale


@functools.partial(jax.jit, static_argnums=(5, 6))
def _scores(
    sums, subsets, weights, ridge, batch_transitions, num_folds, normalize_advantages
) -> LeastSquaresScores:
    def moments_of(parts, noise=False):
        return task_moments(
            sums, parts, normalize_advantages=normalize_advantages, noise=noise
        )

    def fold_scores(fit, score):
        def score_row(row):
            _, delta = _solve(fit, row, ridge)
            image = jnp.einsum("nde,e->nd", score.gram, delta)
            return 2.0 * score.target @ delta - image @ delta

        return _map_rows(score_row, weights, sums)

    with jax.default_matmul_precision("highest"):
        number = np.arange(sums.num_parts) % num_folds
        if num_folds == 1:
            every = moments_of(None)
            found = fold_scores(every, every)[None]
        else:
            found = jnp.stack(
                [
                    fold_scores(moments_of(number != f), moments_of(number == f))
                    for f in range(num_folds)
                ]
            )
        noise = None
        if batch_transitions is not None:
            every = moments_of(None, noise=True)
            covariances = every.noise
            assert covariances is not None

            def row_noise(row):
                factor, _ = _solve(every, row, ridge)
                covariance = jnp.tensordot(row**2, covariances, axes=1)
                half = jax.scipy.linalg.cho_solve(factor, covariance)
                both = jax.scipy.linalg.cho_solve(factor, half.T)
                return jnp.einsum("nde,de->n", every.gram, both) / batch_transitions

            noise = jnp.where(subsets, _map_rows(row_noise, weights, sums), 0.0)
    found = jnp.where(subsets, found, 0.0)
    return LeastSquaresScores(subsets, found.mean(axis=0), found, noise)


def _map_rows(function, weights: jax.Array, sums: TaskSums) -> jax.Array:
    """`function` of every row of weights, as many at once as memory allows."""
    if jax.default_backend() == "cpu":
        # One after another: batched factorizations can wait for each other forever on
        # a busy CPU of few cores (jaxlib 0.10.2).
        return jax.lax.map(function, weights)
    block = max(1, BLOCK_ELEMENTS // sums.feature.shape[-1] ** 2)
    return jax.lax.map(function, weights, batch_size=min(block, weights.shape[0]))


def _check_weights(sums, subsets, weights) -> tuple[jax.Array, jax.Array]:
    if not isinstance(subsets, Tracer):
        subsets = np.asarray(subsets)
    check_subsets(subsets, sums.num_tasks)
    if weights is None:
        return jnp.asarray(subsets, bool), jnp.asarray(subsets, jnp.float32)
    if jnp.shape(weights) != subsets.shape:
        raise ValueError(
            f"weights must have the shape of subsets, {tuple(subsets.shape)}, got "
            f"{jnp.shape(weights)}"
        )
    if not isinstance(weights, Tracer):
        values = np.asarray(weights)
        bad = np.argwhere(~((values >= 0) & np.isfinite(values)))
        if len(bad):
            row, task = bad[0]
            raise ValueError(
                "weights must be finite and not negative; that of task "
                f"{task} in row {row} is {values[row, task]}"
            )
    return jnp.asarray(subsets, bool), jnp.asarray(weights, jnp.float32)


def _check_settings(sums, ridge, num_folds, batch_transitions) -> None:
    for name, value in (("ridge", ridge), ("batch_transitions", batch_transitions)):
        if value is None or isinstance(value, Tracer):
            continue
        if not (np.ndim(value) == 0 and np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value!r}")
    if not 1 <= num_folds <= sums.num_parts:
        raise ValueError(
            f"num_folds must be in 1..{sums.num_parts}, the parts of sums, got "
            f"{num_folds}"
        )
    if batch_transitions is not None and sums.noise_outer is None:
        raise ValueError(
            "batch_transitions needs sums with noise, as accumulate(..., noise=True) "
            "makes them"
        )
    if isinstance(sums.count, Tracer):
        return
    count = np.asarray(sums.count)
    for fold in range(num_folds):
        empty = np.flatnonzero(count[fold::num_folds].sum(axis=0) <= 0)
        if empty.size:
            raise ValueError(
                f"sums have no transition of tasks {empty.tolist()} in fold {fold} of "
                f"num_folds = {num_folds}"
            )
    for name, leaf in sums._asdict().items():
        if leaf is not None and not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(f"sums must be finite; {name} is not")
