"""Estimates of subsets by least squares, in closed form from sums over transitions."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_integer
from pgx_jax.estimation.checks import as_params, is_traced
from pgx_jax.estimation.least_squares import (
    NUM_FOLDS,
    RIDGE,
    batch_noise,
    check_settings,
    check_weights,
    fold_scores,
)
from pgx_jax.estimation.moments import TaskMoments, task_moments
from pgx_jax.estimation.parameters import global_norm
from pgx_jax.estimation.projection import projection_gram
from pgx_jax.estimation.ridge import score_rows, solve_rows
from pgx_jax.estimation.scoring import relative_distance
from pgx_jax.estimation.settings import find_projection
from pgx_jax.estimation.status import check_estimates
from pgx_jax.estimation.subsets import as_subsets
from pgx_jax.estimation.sums import NUM_PARTS, TaskSums, accumulate
from pgx_jax.types import EstimateStatus, SubsetEstimates

# What the residual of a solution may be, relative to the target.
RESIDUAL = 1e-3


class ClosedForm(NamedTuple):
    """What is static of an estimate by least squares.

    Attributes:
      num_folds: see `least_squares_scores`.
      normalize_advantages: the same.
      center_features: the same.
      num_resamples: bootstrap samples of the parts.
      num_splits: times that the parts are split into halves.
    """

    num_folds: int
    normalize_advantages: bool
    center_features: bool
    num_resamples: int = 0
    num_splits: int = 0

    @property
    def scaling(self) -> tuple[bool, bool]:
        """What `fold_scores` calls settings."""
        return self.normalize_advantages, self.center_features


def estimate_least_squares(
    log_prob_fn,
    params,
    data,
    subsets,
    *,
    key,
    weights,
    ridge,
    num_folds,
    num_parts,
    num_splits,
    batch_transitions,
    dim,
    projection,
    normalize_advantages,
    center_features,
    feature_precision,
    num_resamples,
) -> SubsetEstimates:
    """`estimate_subsets` by least squares.

    Raises:
      ValueError: as `estimate_subsets`.
    """
    settings = ClosedForm(
        num_folds=as_integer(
            "num_folds", NUM_FOLDS if num_folds is None else num_folds, 1
        ),
        normalize_advantages=bool(normalize_advantages),
        center_features=center_features is not False,
        num_resamples=as_integer("num_resamples", num_resamples, 0),
        num_splits=as_integer("num_splits", num_splits, 0),
    )
    projection_key, _, _, resample_key = jax.random.split(key, 4)
    sums, gram = data, None
    if isinstance(data, TaskSums):
        _refuse_projection(dim, projection, feature_precision, num_parts)
    else:
        params = as_params(params)
        projection = find_projection(projection, dim, params)
        if projection is None:
            raise ValueError(
                "dim must be a number or 'auto' for regression='least_squares', whose "
                "sums are of projected gradients, got None"
            )
        sums = accumulate(
            log_prob_fn,
            params,
            data,
            projection_key,
            projection,
            num_parts=NUM_PARTS if num_parts is None else num_parts,
            noise=batch_transitions is not None,
            feature_precision=feature_precision,
        )
        gram = _gram(projection, projection_key, params)
    subsets = as_subsets(subsets, sums.num_tasks)
    estimates = _from_sums(
        sums,
        subsets,
        settings,
        key=resample_key,
        weights=weights,
        ridge=RIDGE if ridge is None else ridge,
        batch_transitions=batch_transitions,
    )
    if gram is None:
        return estimates
    distance = relative_distance(estimates.delta, gram, global_norm(params))
    return estimates._replace(relative_distance=distance)


@functools.partial(jax.jit, static_argnums=0)
def _gram(projection, key, params) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return projection_gram(projection, key, params)


def _refuse_projection(dim, projection, feature_precision, num_parts) -> None:
    """Refuses what says how gradients are projected where they have been."""
    given = {
        "dim": dim != "auto",
        "projection": projection is not None,
        "feature_precision": feature_precision != "float32",
        "num_parts": num_parts is not None,
    }
    for name, refused in given.items():
        if refused:
            raise ValueError(
                f"{name} is no argument where data are TaskSums: they have been "
                "projected and summed up"
            )


def _from_sums(
    sums: TaskSums,
    subsets: jax.Array | np.ndarray,
    settings: ClosedForm,
    *,
    key: jax.Array,
    weights: jax.Array | np.ndarray | None,
    ridge: float | jax.Array,
    batch_transitions: float | jax.Array | None,
) -> SubsetEstimates:
    """The estimates but for the relative distance, which is NaN."""
    subsets, weights = check_weights(sums, subsets, weights)
    check_settings(sums, ridge, settings.num_folds, batch_transitions)
    halves = None
    if settings.num_splits:
        halves = draw_halves(sums.num_parts, settings.num_splits)
    traced = is_traced(sums, subsets, weights, ridge, batch_transitions)
    if not traced:
        _check_tasks(sums, settings, halves is not None)
    noise_of = batch_transitions
    if noise_of is not None:
        noise_of = jnp.asarray(noise_of, jnp.float32)
    ridge = jnp.asarray(ridge, jnp.float32)
    estimates = _estimate(
        settings, sums, subsets, weights, ridge, noise_of, key, halves
    )
    return estimates if traced else check_estimates(estimates)


def draw_halves(num_parts: int, num_splits: int) -> np.ndarray:
    """Ways of splitting parts into halves; int32 [splits, 2, P / 2].

    The first one puts every other part into one half, so that what drifts along the
    parts is in both; the others are drawn, the same ones every time.

    Raises:
      ValueError: P is odd or below 4.
    """
    if num_parts < 4 or num_parts % 2:
        raise ValueError(
            "num_parts must be even and at least 4 where num_splits asks for halves "
            f"that are scored apart, got {num_parts}"
        )
    rng = np.random.default_rng(0)
    orders = [np.arange(num_parts).reshape(-1, 2).T.ravel()]
    orders += [rng.permutation(num_parts) for _ in range(num_splits - 1)]
    return np.sort(np.reshape(orders, (num_splits, 2, -1)), axis=2).astype(np.int32)


def _check_tasks(sums: TaskSums, settings: ClosedForm, every_part: bool) -> None:
    """Refuses tasks of which no estimate can be made, where values are known."""
    count = np.asarray(sums.count)
    if every_part and (count < 2).any():
        part, task = np.argwhere(count < 2)[0]
        raise ValueError(
            "num_splits needs at least 2 transitions of every task in every part of "
            f"data; task {task} has {count[part, task]:.0f} in part {part}"
        )
    total = jax.tree.map(
        lambda x: np.asarray(x, np.float64).sum(axis=0),
        (sums.count, sums.advantage, sums.squared_advantage, sums.product),
    )
    count, advantage, square, product = total
    square, mean = square / count, advantage / count
    if settings.center_features:
        flat = square - mean**2 <= 1e-6 * square
        word, hint = "constant", "; center_features=False keeps what they teach"
    else:
        flat, word, hint = square <= 0, "zero", ""
    if flat.any():
        raise ValueError(
            f"advantage is {word} throughout for tasks "
            f"{np.flatnonzero(flat).tolist()}: nothing can be estimated of them{hint}"
        )


@functools.partial(jax.jit, static_argnums=0)
def _estimate(
    settings, sums, subsets, weights, ridge, batch_transitions, key, halves
) -> SubsetEstimates:
    finite = _finite_tasks(sums)
    sums = _leave_out(sums, ~finite)
    with jax.default_matmul_precision("highest"):
        moments = _moments(sums, settings)
        delta = solve_rows(moments, weights, ridge)
        noise = jnp.zeros(subsets.shape, jnp.float32)
        if batch_transitions is not None:
            noise = batch_noise(sums, weights, ridge, settings.scaling)
            noise = noise / batch_transitions

        def scores(times):
            folds = fold_scores(
                sums, times, weights, ridge, settings.num_folds, settings.scaling
            )
            return _members(subsets, folds.mean(axis=0), noise)

        resampled = None
        if settings.num_resamples:
            draw = functools.partial(draw_times, sums.num_parts, settings.num_folds)
            keys = jax.random.split(key, settings.num_resamples)
            resampled = jax.lax.map(lambda k: scores(draw(k)), keys)
        half_scores = part_scores = None
        if halves is not None:
            half_scores, part_scores = jax.tree.map(
                lambda x: _members(subsets, x, noise),
                _split_scores(settings, sums, weights, ridge, halves),
            )
        estimates = _summarize(moments, subsets, weights, ridge, delta)._replace(
            scores=scores(jnp.ones(sums.num_parts, jnp.float32)),
            resampled_scores=resampled,
            half_scores=half_scores,
            part_scores=part_scores,
        )
    valid = (ridge > 0) & (ridge < jnp.inf)
    if batch_transitions is not None:
        valid &= (batch_transitions > 0) & (batch_transitions < jnp.inf)
    zero = _without_features(sums, settings)
    return _with_status(estimates, finite, zero, valid)


def _moments(sums: TaskSums, settings: ClosedForm, parts=None) -> TaskMoments:
    normalize, center = settings.scaling
    return task_moments(
        sums, parts, normalize_advantages=normalize, center_features=center
    )


def _members(subsets: jax.Array, scores: jax.Array, noise: jax.Array) -> jax.Array:
    """Scores [..., m, n] less what noise takes off, 0 outside the subsets."""
    lost = jnp.broadcast_to(noise, scores.shape)
    return jnp.where(jnp.broadcast_to(subsets, scores.shape), scores - lost, 0.0)


def draw_times(num_parts: int, num_folds: int, key: jax.Array) -> jax.Array:
    """How often every part counts in a resample, apart in every fold; [P].

    Weights of a Bayesian bootstrap (Rubin, 1981), which leave no part out. Its
    distribution, Dirichlet's, has the concentration at which a mean varies as much as
    that of c independent parts, (c - 2) / c in place of 1: the plain one varies too
    little where parts are few.
    """
    times = jnp.ones(num_parts, jnp.float32)
    for fold, fold_key in enumerate(jax.random.split(key, num_folds)):
        index = np.arange(num_parts)[fold::num_folds]
        count = len(index)
        concentration = max((count - 2) / count, 0.05)
        drawn = jax.random.loggamma(
            fold_key, jnp.float32(concentration), (count,), jnp.float32
        )
        times = times.at[index].set(count * jax.nn.softmax(drawn))
    return times


def _split_scores(settings, sums, weights, ridge, halves):
    """Scores of halves alone, and of their parts at what the other halves teach.

    Args:
      settings: what is static.
      sums: in P parts.
      weights: float32 [m, n].
      ridge: float32 [].
      halves: int32 [splits, 2, P / 2].

    Returns:
      float32 [splits, 2, m, n] and [splits, 2, P / 2, m, n].
    """
    count = halves.shape[2]

    def moments(index):
        times = jnp.zeros(sums.num_parts, jnp.float32).at[index].set(1.0)
        return _moments(sums, settings, times)

    def score(indices):
        half, other = indices
        first, second = (moments(half[i::2]) for i in (0, 1))
        crossed = [
            score_rows(held_out, solve_rows(fit, weights, ridge))
            for fit, held_out in ((first, second), (second, first))
        ]
        delta = solve_rows(moments(other), weights, ridge)
        parts = jax.lax.map(lambda i: score_rows(moments(i[None]), delta), half)
        return 0.5 * (crossed[0] + crossed[1]), parts

    flat = halves.reshape(-1, count), halves[:, ::-1].reshape(-1, count)
    found = jax.lax.map(score, flat)
    return jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:]), found)


def _summarize(moments, subsets, weights, ridge, delta) -> SubsetEstimates:
    """The solutions, what they leave and how exact they are; scores are to come."""
    image = jnp.einsum("nde,me->mnd", moments.gram, delta)
    target = weights @ moments.target
    gradient = jnp.einsum("mn,mnd->md", weights, image) + ridge * delta - target
    residual = jnp.linalg.norm(gradient, axis=1)
    loss = weights @ moments.variance - jnp.sum(target * delta, axis=1)
    return SubsetEstimates(
        subsets=subsets,
        scores=jnp.zeros(subsets.shape, jnp.float32),
        delta=delta / moments.scale,
        loss=loss,
        gradient_norm=2.0 * residual,
        num_iterations=jnp.ones(len(subsets), jnp.int32),
        converged=residual <= RESIDUAL * jnp.linalg.norm(target, axis=1),
        relative_distance=jnp.full(len(subsets), jnp.nan, jnp.float32),
    )


def _finite_tasks(sums: TaskSums) -> jax.Array:
    """Whether all sums of a task are finite; bool [n]."""
    leaves = jax.tree.leaves(sums._replace(fingerprint=None))
    axes = [tuple(i for i in range(x.ndim) if i != 1) for x in leaves]
    finite = [jnp.isfinite(x).all(axis=a) for x, a in zip(leaves, axes, strict=True)]
    return jnp.stack(finite).all(axis=0)


def _leave_out(sums: TaskSums, tasks: jax.Array) -> TaskSums:
    """Sums with one transition of zeros for some tasks, bool [n]."""

    def clean(x):
        return jnp.where(tasks.reshape(1, -1, *[1] * (x.ndim - 2)), 0.0, x)

    cleaned = jax.tree.map(clean, sums._replace(fingerprint=None))
    count = jnp.where(tasks[None], 1.0, cleaned.count)
    return cleaned._replace(count=count, fingerprint=sums.fingerprint)


def _without_features(sums: TaskSums, settings: ClosedForm) -> jax.Array:
    """Whether all features of a task are zero, up to rounding; bool [n]."""
    count, feature, outer = (
        x.sum(axis=0) for x in (sums.count, sums.feature, sums.outer)
    )
    square = jnp.trace(outer, axis1=1, axis2=2) / count
    if not settings.center_features:
        return square <= 0
    mean = jnp.sum(jnp.square(feature), axis=1) / count**2
    return square - mean <= 1e-5 * square


def _with_status(estimates, finite_tasks, zero, valid) -> SubsetEstimates:
    """The estimates with their status, and with no scores where it is not OK."""
    subsets = estimates.subsets
    finite = jnp.isfinite(estimates.loss) & jnp.isfinite(estimates.delta).all(axis=1)
    optional = (
        estimates.resampled_scores,
        estimates.half_scores,
        estimates.part_scores,
    )
    scores = [estimates.scores, *(x for x in optional if x is not None)]
    axes = [tuple(i for i in range(x.ndim) if i != x.ndim - 2) for x in scores]
    scored = [jnp.isfinite(x).all(axis=a) for x, a in zip(scores, axes, strict=True)]
    status = jnp.full(len(subsets), int(EstimateStatus.OK), jnp.int32)
    # The first of them that holds is what the others follow from.
    for value, fault in (
        (EstimateStatus.SCORES_NOT_FINITE, ~jnp.stack(scored).all(axis=0)),
        (EstimateStatus.SOLUTION_NOT_FINITE, ~finite),
        (EstimateStatus.FEATURES_ZERO, (subsets & zero[None]).any(axis=1)),
        (
            EstimateStatus.FEATURES_NOT_FINITE,
            (subsets & ~finite_tasks[None]).any(axis=1),
        ),
        (EstimateStatus.SETTINGS_OUT_OF_RANGE, ~valid),
    ):
        status = jnp.where(fault, jnp.int32(value), status)
    ok = status == int(EstimateStatus.OK)

    def hide(scores):
        failed = jnp.broadcast_to(subsets & ~ok[:, None], scores.shape)
        return jnp.where(failed, jnp.nan, scores)

    hidden = jax.tree.map(hide, optional)
    return estimates._replace(
        status=status,
        converged=estimates.converged & ok,
        scores=hide(estimates.scores),
        resampled_scores=hidden[0],
        half_scores=hidden[1],
        part_scores=hidden[2],
    )
