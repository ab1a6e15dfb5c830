"""Least squares in the projected space, from sums over transitions.

With a squared loss in place of the logistic one, a task enters its regressions by two
sums over its transitions, whatever their number N: with features g~ centered per task,

    G_i = mean over t of g~_t g~_t^T                          [d, d]
    b_i = mean over t of A^_t g~_t                            [d]
    Delta_S = (sum over i of w_i G_i + ridge I)^-1  sum over i of w_i b_i,  w_i = 1/|S|
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

from pgx_jax.arguments import as_numbers, check_number
from pgx_jax.estimation.moments import TaskMoments, task_moments
from pgx_jax.estimation.ridge import noise_rows, score_rows, solve_rows
from pgx_jax.estimation.subsets import check_subsets
from pgx_jax.estimation.sums import TaskSums

__all__ = [
    "LeastSquaresScores",
    "TaskMoments",
    "least_squares_scores",
    "least_squares_steps",
    "task_moments",
]

RIDGE = 1.0
NUM_FOLDS = 2


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
    ridge: float | jax.Array = RIDGE,
    num_folds: int = NUM_FOLDS,
    normalize_advantages: bool = True,
    center_features: bool = True,
    batch_transitions: float | jax.Array | None = None,
) -> LeastSquaresScores:
    """The scores of subsets of tasks in closed form, cross-fitted over parts.

    Features are scaled to unit mean square, one factor for all tasks, so that the ridge
    means the same for every policy and d. Each subset is a Cholesky factorization of a
    d x d matrix for each fold.

    Args:
      sums: of n tasks in P parts.
      subsets: 0/1 matrix [m, n].
      weights: w_i of every task in the regression of every subset; [m, n], not
        negative. None for the mean over its tasks, 1 / |S| each.
      ridge: positive.
      num_folds: the parts are dealt out to so many folds; Delta_S is from all other
        folds and scored on each, and the scores are averaged. 1 scores on what was
        fitted.
      normalize_advantages: divide each task's advantages by their standard deviation,
        as PPO does; else scores are in squared units of reward.
      center_features: subtract each task's mean feature and mean advantage. Without it
        what advantages of one sign teach is kept, as of supervised data with advantage
        1 throughout.
      batch_transitions: N_b, transitions of a task in one batch of training. Its
        noise, of covariance Sigma_i / N_b in b_i, is expected to take
        trace(M G_i M sum over j of w_j^2 Sigma_j) / N_b off f_i(S), M being the inverse
        above; more for small groups. None leaves it out.

    Raises:
      ValueError: shapes do not agree, a weight is negative or not finite, the ridge is
        not positive, there are more folds than parts, a fold has no transition of a
        task, or the sums lack what the noise needs; the message names the argument.
    """
    subsets, weights = check_weights(sums, subsets, weights)
    check_settings(sums, ridge, num_folds, batch_transitions)
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
        center_features,
    )


def least_squares_steps(
    sums: TaskSums,
    subsets: jax.Array | np.ndarray,
    *,
    weights: jax.Array | np.ndarray | None = None,
    ridge: float | jax.Array = RIDGE,
    normalize_advantages: bool = True,
    center_features: bool = True,
) -> jax.Array:
    """Delta_S of subsets from all parts, in the units of P; float32 [m, d].

    The adapted policy is theta* + P Delta_S. Arguments and errors are those of
    `least_squares_scores`.
    """
    subsets, weights = check_weights(sums, subsets, weights)
    check_settings(sums, ridge, 1, None)
    ridge = jnp.asarray(ridge, jnp.float32)
    return _steps(sums, weights, ridge, normalize_advantages, center_features)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _steps(sums, weights, ridge, normalize_advantages, center_features) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        moments = task_moments(
            sums,
            normalize_advantages=normalize_advantages,
            center_features=center_features,
        )
        return solve_rows(moments, weights, ridge) / moments.scale


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def _scores(
    sums,
    subsets,
    weights,
    ridge,
    batch_transitions,
    num_folds,
    normalize_advantages,
    center_features,
) -> LeastSquaresScores:
    settings = (normalize_advantages, center_features)
    with jax.default_matmul_precision("highest"):
        times = jnp.ones(sums.num_parts, jnp.float32)
        found = fold_scores(sums, times, weights, ridge, num_folds, settings)
        noise = None
        if batch_transitions is not None:
            noise = batch_noise(sums, weights, ridge, settings) / batch_transitions
            noise = jnp.where(subsets, noise, 0.0)
    found = jnp.where(subsets, found, 0.0)
    return LeastSquaresScores(subsets, found.mean(axis=0), found, noise)


def fold_scores(
    sums: TaskSums,
    times: jax.Array,
    weights: jax.Array,
    ridge: jax.Array,
    num_folds: int,
    settings: tuple[bool, bool],
) -> jax.Array:
    """Scores of every fold at the solution from all others; float32 [folds, m, n].

    Args:
      sums: in P parts; part p is of fold p modulo `num_folds`.
      times: how often every part counts; [P].
      weights: float32 [m, n].
      ridge: float32 [].
      num_folds: 1 scores on what was fitted.
      settings: `normalize_advantages` and `center_features`.
    """
    normalize, center = settings
    fold = np.arange(sums.num_parts) % num_folds
    inside = jnp.asarray(fold == np.arange(num_folds)[:, None], jnp.float32)

    def score(inside):
        fitted = inside if num_folds == 1 else 1.0 - inside
        fit, held_out = (
            task_moments(
                sums,
                times * chosen,
                normalize_advantages=normalize,
                center_features=center,
            )
            for chosen in (fitted, inside)
        )
        return score_rows(held_out, solve_rows(fit, weights, ridge))

    return jax.lax.map(score, inside)


def batch_noise(
    sums: TaskSums, weights: jax.Array, ridge: jax.Array, settings: tuple[bool, bool]
) -> jax.Array:
    """`noise_rows` with the moments of all parts; float32 [m, n]."""
    normalize, center = settings
    moments = task_moments(
        sums, normalize_advantages=normalize, center_features=center, noise=True
    )
    return noise_rows(moments, weights, ridge)


def check_weights(sums, subsets, weights) -> tuple[jax.Array, jax.Array]:
    """Subsets as bool [m, n], and the weights of their tasks as float32 [m, n].

    Raises:
      ValueError: shapes do not agree, or a weight is negative or not finite.
    """
    if not isinstance(subsets, Tracer):
        subsets = np.asarray(subsets)
    check_subsets(subsets, sums.num_tasks)
    if weights is None:
        member = jnp.asarray(subsets).astype(jnp.float32)
        return jnp.asarray(subsets, bool), member / member.sum(axis=1, keepdims=True)
    if not isinstance(weights, Tracer):
        values = as_numbers("weights", weights, finite=False)
        bad = np.argwhere(~((values >= 0) & np.isfinite(values)))
        if len(bad):
            row, task = bad[0]
            raise ValueError(
                "weights must be finite and not negative; that of task "
                f"{task} in row {row} is {values[row, task]}"
            )
    if jnp.shape(weights) != subsets.shape:
        raise ValueError(
            f"weights must have the shape of subsets, {tuple(subsets.shape)}, got "
            f"{jnp.shape(weights)}"
        )
    return jnp.asarray(subsets, bool), jnp.asarray(weights, jnp.float32)


def check_settings(sums, ridge, num_folds, batch_transitions) -> None:
    """Refuses settings that are out of range, and sums that they cannot work on.

    Raises:
      ValueError: the message names the argument.
    """
    for name, value in (("ridge", ridge), ("batch_transitions", batch_transitions)):
        if value is not None:
            check_number(name, value)
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
            bad = np.argwhere(~np.isfinite(np.asarray(leaf)))[0]
            of = f" of task {bad[1]} in part {bad[0]}" if leaf.ndim > 1 else ""
            raise ValueError(f"sums must be finite; {name}{of} is not")
