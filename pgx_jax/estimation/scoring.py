"""Regressions of subsets of tasks, their limited solutions, and what these score."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import is_real, show
from pgx_jax.estimation.evaluators import Adapted, Evaluation
from pgx_jax.estimation.parameters import add_change
from pgx_jax.estimation.samples import (
    Sample,
    center,
    normalize,
    resample,
    run_length,
)
from pgx_jax.estimation.settings import Settings
from pgx_jax.estimation.solver import (
    RegressionSolution,
    solve_planned,
    task_statistics,
)
from pgx_jax.types import PyTree, SubsetEstimates

# The mean squared norm that features are scaled to.
SQUARED_NORM = 400.0


class Problem(NamedTuple):
    """What the regressions and scores of all subsets share.

    Attributes:
      fitted: the transitions that the regressions see.
      scored: those that the evaluator sees.
      params: theta*.
      centered: whether each task's mean feature is subtracted; bool [].
      norm: |theta*|; float32 [].
      gram: P^T P, or None where it is the identity; float32 [d, d].
      key: for the evaluator.
    """

    fitted: Sample
    scored: Sample
    params: PyTree
    centered: jax.Array
    norm: jax.Array
    gram: jax.Array | None
    key: jax.Array


def solve_and_score(
    problem, subsets, initial, settings, numbers, log_prob, expand
) -> tuple[SubsetEstimates, jax.Array]:
    """Regressions, their limited solutions and scores of some of the subsets.

    Args:
      problem: what all subsets share.
      subsets: bool [m, n].
      initial: where to start from, in the units of P; float32 [m, d], or None.
      settings: what is static.
      numbers: l2, max_relative_distance and tolerance.
      log_prob: the policy, of one transition.
      expand: P Delta from Delta.

    Returns:
      The estimates, and the minimizers before they were limited.
    """
    l2, limit, tolerance = numbers
    fitted, scored = _prepare(problem, settings)
    solution, scale = _solve(
        fitted, subsets, initial, settings, l2=l2, tolerance=tolerance
    )
    minimizer = solution.delta / scale
    distance = _distance(problem, solution.delta, scale)
    farthest = jnp.max(distance)
    if settings.mesh is not None:
        farthest = jax.lax.pmax(farthest, settings.mesh.axis_names)
    # One factor for all subsets: a factor each would make the step of a subset whose
    # tasks disagree, which is short, as long as any other.
    shrink = jnp.minimum(1.0, limit / jnp.maximum(farthest, 1e-30))
    shrink = jnp.where(limit == jnp.inf, 1.0, shrink)
    delta = minimizer * shrink
    evaluation = settings.evaluator(
        Adapted(
            subsets=subsets,
            solution=minimizer,
            delta=delta,
            batch=scored.batch,
            features=scored.features,
            adapt=lambda change: add_change(problem.params, expand(change)),
            log_prob_fn=log_prob,
            params=problem.params,
            key=problem.key,
            plan=settings.plan,
            run_length=run_length(
                settings.resample_length, settings.held_out_fraction or 1.0
            ),
        )
    )
    evaluation = _as_evaluation(evaluation, subsets.shape)
    scores, error, size = jax.tree.map(
        lambda x: jnp.where(subsets, x, 0.0), tuple(evaluation)
    )
    estimates = SubsetEstimates(
        subsets=subsets,
        scores=scores,
        delta=delta,
        loss=solution.loss,
        gradient_norm=solution.gradient_norm,
        num_iterations=solution.num_iterations,
        converged=solution.converged,
        relative_distance=jnp.where(jnp.isinf(distance), distance, distance * shrink),
        standard_error=error,
        effective_sample_size=size,
    )
    return estimates, minimizer


def _as_evaluation(returned: Any, shape: tuple[int, ...]) -> Evaluation:
    """What an evaluator returned, as an `Evaluation`.

    Raises:
      ValueError: it is neither that nor an array, or not of one number a subset and
        task.
    """
    evaluation = returned if isinstance(returned, Evaluation) else Evaluation(returned)
    for name, value in evaluation._asdict().items():
        if value is None and name != "scores":
            continue
        array = value if isinstance(value, (jax.Array, np.ndarray)) else None
        real = array is not None and (is_real(array.dtype) or array.dtype == bool)
        if array is None or not real or array.shape != shape:
            raise ValueError(
                f"evaluator must return {name} of real numbers, of the shape [m, n] = "
                f"{list(shape)} of subsets, got {show(value)}"
            )
    return evaluation


def _prepare(problem: Problem, settings: Settings) -> tuple[Sample, Sample]:
    """What is fitted and what is scored, centered and normalized."""
    fitted, scored = problem.fitted, problem.scored
    if settings.center_features is not False:
        centered = problem.centered
        fitted, scored = (
            center(fitted, fitted, centered),
            center(scored, fitted, centered),
        )
    if settings.normalize_advantages:
        fitted, scored = normalize(fitted, fitted), normalize(scored, fitted)
    return fitted, scored


def _solve(
    fitted: Sample,
    subsets: jax.Array,
    initial: jax.Array | None,
    settings: Settings,
    *,
    l2: jax.Array,
    tolerance: jax.Array,
) -> tuple[RegressionSolution, jax.Array]:
    """The regressions in scaled features, and the scale that these were divided by."""
    where = None if fitted.batch.mask is None else fitted.batch.mask[..., None]
    squares = jnp.mean(jnp.sum(fitted.features**2, axis=2, keepdims=True), where=where)
    scale = jnp.sqrt(squares / SQUARED_NORM)
    scale = jnp.where(scale > 0, scale, 1.0)
    solution = solve_planned(
        task_statistics(
            fitted.features / scale, fitted.batch.advantage, fitted.batch.mask
        ),
        subsets,
        settings.plan,
        l2=l2,
        initial=None if initial is None else initial * scale,
        tolerance=tolerance,
        max_iterations=settings.max_iterations,
    )
    return solution, scale


def relative_distance(
    delta: jax.Array, gram: jax.Array | None, norm: jax.Array
) -> jax.Array:
    """|P delta| over |theta*| of every subset.

    Args:
      delta: float32 [m, d].
      gram: P^T P, or None where it is the identity; float32 [d, d].
      norm: |theta*|; float32 [].

    Returns:
      float32 [m].
    """
    return _divide(_length(delta, gram), norm)


def _distance(problem: Problem, delta: jax.Array, scale: jax.Array) -> jax.Array:
    """|P delta / scale| over |theta*| of every subset; float32 [m]."""
    # Where features are very small or large, the squares of the minimizer do not fit.
    return _divide(_length(delta, problem.gram) / scale, problem.norm)


def _length(delta: jax.Array, gram: jax.Array | None) -> jax.Array:
    image = delta if gram is None else delta @ gram
    return jnp.sqrt(jnp.maximum(jnp.sum(image * delta, axis=1), 0.0))


def _divide(length: jax.Array, norm: jax.Array) -> jax.Array:
    """length / norm; 0 where nothing moved, infinite where only the norm is zero."""
    ratio = length / jnp.where(norm > 0, norm, 1.0)
    return jnp.where((norm > 0) | (length == 0), ratio, jnp.inf)


def resample_problem(problem: Problem, settings: Settings, key: jax.Array) -> Problem:
    """Resamples the transitions of every task, with replacement."""
    fitted_key, scored_key, score_key = jax.random.split(key, 3)
    length, fraction = settings.resample_length, settings.held_out_fraction
    fitted_length = run_length(length, 1.0 - fraction)
    fitted = scored = resample(problem.fitted, fitted_length, fitted_key)
    if fraction > 0:
        scored = resample(problem.scored, run_length(length, fraction), scored_key)
    return problem._replace(fitted=fitted, scored=scored, key=score_key)
