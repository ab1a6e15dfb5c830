"""The estimate for every subset of tasks, in one call."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.evaluators import EVALUATORS, Adapted, Evaluator
from pgx_jax.estimation.projection import (
    GaussianProjection,
    LogProbFn,
    Projection,
    PyTree,
    back_project,
    project_gradients,
    projection_gram,
)
from pgx_jax.estimation.regression import (
    BlockPlan,
    check_l2,
    plan_blocks,
    solve_planned,
    task_statistics,
)
from pgx_jax.estimation.subsets import check_subsets
from pgx_jax.types import SubsetEstimates, Transitions

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32"}


def estimate_subsets(
    log_prob_fn: LogProbFn,
    params: PyTree,
    batch: Transitions,
    subsets: jax.Array | np.ndarray,
    *,
    key: jax.Array,
    dim: int = 400,
    projection: Projection | None = None,
    l2: float = 0.1,
    max_relative_distance: float | None = 0.01,
    evaluator: str | Evaluator = "surrogate",
    held_out_fraction: float = 0.0,
    normalize_advantages: bool = True,
    center_features: bool = True,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    feature_precision: str = "float32",
) -> SubsetEstimates:
    """Estimates what adapting the policy to each subset of tasks would do.

    Projects the policy gradient of every transition, solves a weighted logistic
    regression per subset in the projected space, limits how far each solution moves
    the parameters, and scores the adapted policy on every task of its subset.

    The features are divided by their root mean square before the regression, so that
    `l2` means the same for every policy; `delta` is in the units of P all the same, so
    that theta_S = theta* + P delta.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`, of one
        transition or of a batch.
      params: theta*, any pytree of float arrays.
      batch: transitions of n tasks, collected under theta*.
      subsets: 0/1 matrix [m, n].
      key: draws the projection and the split into fitted and held-out transitions.
      dim: d, the projected dimension.
      projection: the distribution of P; a `GaussianProjection(dim)` if None.
      l2: ridge penalty, for features of unit mean square and weights of unit mean.
      max_relative_distance: the most that |P delta| / |theta*| may be for any subset;
        if one is beyond it, all are scaled back by the same factor. None for no limit.
        The first-order approximation was within 2% at 0.01 and within 10% at 0.05
        (paper, section 3).
      evaluator: a name in `pgx_jax.estimation.evaluators.EVALUATORS`, or a function of
        the same signature.
      held_out_fraction: share of each task's transitions that is kept out of the
        regression and scored on; 0 scores on the transitions that were fitted.
      normalize_advantages: divide each task's advantages by their mean absolute value,
        so that no task weighs more for the scale of its rewards.
      center_features: subtract each task's mean feature. grad log pi has mean zero
        under the policy itself, so that this takes out sampling noise only, and a
        constant feature could no longer act as an intercept. On the planted suites it
        made the groups recoverable at small steps, and the choice of k reliable.
      tolerance: see `solve_regressions`.
      max_iterations: see `solve_regressions`.
      feature_precision: "float32", or "tf32": about four times faster on a recent GPU,
        features off by about 7e-4 relative.

    Returns:
      The estimates, in the order of `subsets`.

    Raises:
      ValueError: an argument is out of range, shapes do not agree, an advantage is not
        finite, or a task has only zero advantages; the message names the argument.

    Source: PolicyGradEx (arXiv 2511.12779), section 3, algorithm 1.
    """
    batch = Transitions(*batch)
    num_tasks = _check_batch(batch)
    check_subsets(subsets, num_tasks)
    _check_settings(l2, max_relative_distance, held_out_fraction, dim)
    if feature_precision not in PRECISIONS:
        raise ValueError(
            f"feature_precision must be one of {', '.join(PRECISIONS)}, got "
            f"{feature_precision!r}"
        )
    if isinstance(evaluator, str):
        if evaluator not in EVALUATORS:
            raise ValueError(
                f"evaluator must be a function or one of {', '.join(EVALUATORS)}, got "
                f"{evaluator!r}"
            )
        evaluator = EVALUATORS[evaluator]
    if not isinstance(subsets, jax.core.Tracer):
        subsets = np.asarray(subsets)
    subsets = subsets.astype(bool)
    projection = GaussianProjection(dim) if projection is None else projection
    num_fitted, num_samples = _split_sizes(batch, held_out_fraction)
    settings = _Settings(
        projection=projection,
        evaluator=evaluator,
        num_fitted=num_fitted,
        num_scored=num_samples - num_fitted,
        normalize_advantages=normalize_advantages,
        center_features=center_features,
        max_iterations=max_iterations,
        feature_precision=feature_precision,
        plan=plan_blocks(subsets, (num_tasks, num_fitted, projection.dim)),
    )
    limit = np.inf if max_relative_distance is None else max_relative_distance
    return _estimate(
        log_prob_fn, settings, params, batch, key, subsets, l2, limit, tolerance
    )


class _Settings(NamedTuple):
    """All that is static, so that the call compiles once for it."""

    projection: Projection
    evaluator: Evaluator
    num_fitted: int
    num_scored: int
    normalize_advantages: bool
    center_features: bool
    max_iterations: int
    feature_precision: str
    plan: BlockPlan


@functools.partial(jax.jit, static_argnums=(0, 1))
def _estimate(
    log_prob_fn, settings, params, batch, key, subsets, l2, limit, tolerance
) -> SubsetEstimates:
    projection = settings.projection
    projection_key, split_key = jax.random.split(key)
    if settings.normalize_advantages:
        batch = batch._replace(advantage=_normalize(batch.advantage, batch.mask))

    num_tasks, num_samples = batch.advantage.shape
    flatten = functools.partial(
        jax.tree.map, lambda x: x.reshape(num_tasks * num_samples, *x.shape[2:])
    )
    with jax.default_matmul_precision(PRECISIONS[settings.feature_precision]):
        features = project_gradients(
            log_prob_fn,
            params,
            flatten(batch.observation),
            flatten(batch.action),
            key=projection_key,
            projection=projection,
        ).reshape(num_tasks, num_samples, projection.dim)

    with jax.default_matmul_precision("highest"):
        if settings.center_features:
            features = _center(features, batch.mask)
        where = None if batch.mask is None else batch.mask[..., None]
        if where is not None:
            features = jnp.where(where, features, 0.0)
        scale = jnp.sqrt(jnp.mean(features**2, where=where))
        # Rows are independent draws, so that one split serves all tasks.
        order = jax.random.permutation(split_key, num_samples)
        fitted, scored = order[: settings.num_fitted], order[-settings.num_scored :]
        if settings.num_scored == 0:
            scored = fitted

        def take(tree, index):
            return jax.tree.map(lambda x: x[:, index], tree)

        fit = take(batch, fitted)
        solution = solve_planned(
            task_statistics(features[:, fitted] / scale, fit.advantage, fit.mask),
            subsets,
            settings.plan,
            l2=l2,
            tolerance=tolerance,
            max_iterations=settings.max_iterations,
        )
        delta = solution.delta / scale
        gram = projection_gram(projection, projection_key, params)
        squares = jax.tree.map(lambda x: jnp.sum(jnp.square(x)), params)
        norm = jnp.sqrt(sum(jax.tree.leaves(squares)))
        distance = jnp.sqrt(jnp.sum((delta @ gram) * delta, axis=1)) / norm
        # One factor for all subsets: a factor each would make the step of a subset
        # whose tasks disagree, which is short, as long as any other.
        shrink = jnp.minimum(1.0, limit / jnp.maximum(jnp.max(distance), 1e-30))
        delta = delta * shrink

        def adapt(change):
            step = back_project(projection, projection_key, params, change)
            return jax.tree.map(jnp.add, params, step)

        scores = settings.evaluator(
            Adapted(
                subsets=subsets,
                solution=solution.delta / scale,
                delta=delta,
                batch=take(batch, scored),
                features=features[:, scored],
                adapt=adapt,
            )
        )
    return SubsetEstimates(
        subsets=subsets,
        scores=jnp.where(subsets, scores, 0.0),
        delta=delta,
        loss=solution.loss,
        gradient_norm=solution.gradient_norm,
        num_iterations=solution.num_iterations,
        converged=solution.converged,
        relative_distance=distance * shrink,
    )


def _normalize(advantage: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Divides each task's advantages by their mean absolute value."""
    size = jnp.mean(jnp.abs(advantage), axis=1, keepdims=True, where=mask)
    return advantage / jnp.where(size > 0, size, 1.0)


def _center(features: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Subtracts each task's mean over its transitions."""
    where = None if mask is None else mask[..., None]
    return features - jnp.mean(features, axis=1, keepdims=True, where=where)


def _split_sizes(batch: Transitions, held_out_fraction: float) -> tuple[int, int]:
    num_samples = batch.advantage.shape[1]
    num_fitted = round(num_samples * (1.0 - held_out_fraction))
    if num_fitted == 0 or (held_out_fraction > 0 and num_fitted == num_samples):
        raise ValueError(
            f"held_out_fraction={held_out_fraction} leaves no transition to "
            f"{'score' if num_fitted else 'fit'} out of {num_samples} per task"
        )
    return num_fitted, num_samples


def _check_batch(batch: Transitions) -> int:
    """Refuses transitions that cannot be estimated from; returns n."""
    shape = jnp.shape(batch.advantage)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"advantage must have shape [n, N] with n, N >= 1, got {tuple(shape)}"
        )
    for name in ("observation", "action", "mask"):
        for leaf in jax.tree.leaves(getattr(batch, name)):
            if tuple(leaf.shape[:2]) != tuple(shape):
                raise ValueError(
                    f"{name} must begin with the axes [n, N] = {list(shape)} of "
                    f"advantage, got shape {tuple(leaf.shape)}"
                )
    if any(isinstance(x, jax.core.Tracer) for x in (batch.advantage, batch.mask)):
        return shape[0]
    advantage = np.asarray(batch.advantage)
    mask = np.ones(shape, bool) if batch.mask is None else np.asarray(batch.mask)
    if not mask.any(axis=1).all():
        tasks = np.flatnonzero(~mask.any(axis=1)).tolist()
        raise ValueError(f"mask leaves tasks {tasks} without a transition")
    bad = np.argwhere(~np.isfinite(advantage) & mask)
    if len(bad):
        task, sample = bad[0]
        raise ValueError(
            f"advantage holds {len(bad)} values that are not finite, the first at task "
            f"{task}, transition {sample}"
        )
    flat = np.flatnonzero((np.where(mask, advantage, 0.0) == 0).all(axis=1))
    if len(flat):
        raise ValueError(
            f"advantage is zero throughout for tasks {flat.tolist()}: nothing can be "
            "estimated of them"
        )
    return shape[0]


def _check_settings(l2, max_relative_distance, held_out_fraction, dim) -> None:
    check_l2(l2)
    limit = max_relative_distance
    if not (limit is None or isinstance(limit, jax.core.Tracer) or limit > 0):
        raise ValueError(
            f"max_relative_distance must be positive or None, got "
            f"{max_relative_distance}"
        )
    if not 0 <= held_out_fraction < 1:
        raise ValueError(
            f"held_out_fraction must be in [0, 1), got {held_out_fraction}"
        )
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}")
