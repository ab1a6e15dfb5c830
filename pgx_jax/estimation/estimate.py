"""The estimate for every subset of tasks, in one call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.checks import (
    as_integer,
    as_key,
    as_params,
    as_transitions,
    check_callable,
    check_hashable,
    check_number,
    check_values,
    is_traced,
    to_device,
)
from pgx_jax.estimation.evaluators import (
    EVALUATORS,
    Adapted,
    Evaluation,
    Evaluator,
    default_distance,
)
from pgx_jax.estimation.exact import exact_dim, exact_features
from pgx_jax.estimation.projection import (
    GaussianProjection,
    LogProbFn,
    Projection,
    PyTree,
    add_change,
    back_project,
    count_params,
    global_norm,
    project_gradients,
    projection_gram,
    single_log_prob,
)
from pgx_jax.estimation.regression import (
    L2,
    BlockPlan,
    plan_blocks,
    solve_planned,
    task_statistics,
)
from pgx_jax.estimation.samples import (
    Sample,
    center,
    check_centering,
    check_held_out,
    check_runs,
    has_one_sign,
    normalize,
    resample,
    run_length,
    split,
)
from pgx_jax.estimation.sharding import auto_mesh, call_with_auto_axes, shard
from pgx_jax.estimation.status import (
    TaskFaults,
    check_faults,
    find_faults,
    with_status,
)
from pgx_jax.estimation.subsets import as_subsets, distinct_subsets
from pgx_jax.runtime import compiler_options
from pgx_jax.types import SubsetEstimates, Transitions

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32"}
# The projected dimension of the paper.
DIM = 400
# The mean squared norm that features are scaled to.
SQUARED_NORM = 400.0
# Where the solutions of resamples end: their noise is far above it.
RESAMPLE_TOLERANCE = 1e-3


def estimate_subsets(
    log_prob_fn: LogProbFn,
    params: PyTree,
    batch: Transitions,
    subsets: jax.Array | np.ndarray,
    *,
    key: jax.Array,
    dim: int | str | None = "auto",
    projection: Projection | None = None,
    l2: float = L2,
    max_relative_distance: float | str | None = "auto",
    evaluator: str | Evaluator = "surrogate",
    held_out_fraction: float = 0.0,
    normalize_advantages: bool = True,
    center_features: bool | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    feature_precision: str = "float32",
    num_resamples: int = 0,
    resample_length: int = 1,
    mesh: jax.sharding.Mesh | None = None,
) -> SubsetEstimates:
    """Estimates what adapting the policy to each subset of tasks would do.

    Projects the policy gradient of every transition, solves a weighted logistic
    regression per subset in the projected space, limits how far each solution moves
    the parameters, and scores the adapted policy on every task of its subset.

    The features are scaled to a mean squared norm of 400 before the regression (to unit
    mean square at d = 400), so that `l2` means the same for every policy and
    every `dim`; `delta` is in the units of P all the same, so that
    theta_S = theta* + P delta.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`, of one
        transition or of a batch. The program is compiled once for it, so that a new
        lambda, or a new bound method of a new object, compiles anew.
      params: theta*, any pytree of float arrays.
      batch: transitions of n tasks, collected under theta*.
      subsets: 0/1 matrix [m, n]. Outside of jit a subset that comes several times is
        solved and scored once, unless few do.
      key: draws the projection, the split into fitted and held-out transitions, and
        what the evaluator and the resamples draw.
      dim: d, the projected dimension, at most the number p of parameters; "auto" for
        the smaller of 400 (the paper's choice) and p. None for no projection, which is
        exact and takes a few thousand transitions or parameters at most. d is then the
        smaller of the two numbers, and `delta` is in coordinates of the span of the
        gradients.
      projection: the distribution of P, in place of `GaussianProjection(dim)`.
      l2: ridge penalty, for features scaled as above and weights of unit mean.
      max_relative_distance: the most that |P delta| / |theta*| may be for any subset;
        if one is beyond it, all are scaled back by the same factor, and scored there.
        None for no limit; "auto" for none with the evaluator "surrogate", which runs
        no network, and otherwise for the evaluator's own attribute of this name, where
        it has one, or 0.01. The first-order approximation was within 2% at 0.01 and
        within 10% at 0.05 (paper, section 3).
      evaluator: a name in `pgx_jax.estimation.evaluators.EVALUATORS`, or a function of
        the same signature.
      held_out_fraction: share of each task's valid transitions that is kept out of the
        regression and scored on, at least one; 0 scores on the transitions that were
        fitted.
      normalize_advantages: divide each task's advantages by their mean absolute value,
        so that no task weighs more for the scale of its rewards.
      center_features: subtract each task's mean feature. grad log pi has mean zero
        under the policy itself, so that this takes out sampling noise only, and a
        constant feature could no longer act as an intercept. On the planted suites it
        made the groups recoverable at small steps, and the choice of k reliable. Where
        the advantages of a task all have one sign, as for supervised data with
        advantage 1 throughout, its mean feature is what there is to learn. None: center
        unless there is such a task.
      tolerance: see `solve_regressions`.
      max_iterations: see `solve_regressions`.
      feature_precision: "float32", or "tf32": about four times faster on a recent GPU,
        features off by about 7e-4 relative.
      num_resamples: also estimate everything from this many bootstrap samples of the
        transitions, for the intervals of `task_affinity`; memory for as many [m, n].
      resample_length: so many consecutive transitions may depend on each other, where
        those of an episode stand side by side: they are resampled together (Kuensch,
        1989), and standard errors are those of runs of them.
      mesh: devices to split transitions and subsets over, along all its axes, of
        whatever type.

    Returns:
      The estimates, in the order of `subsets`.

    Raises:
      ValueError: an argument is out of range, shapes do not agree, a number is not
        finite, a task has only zero advantages, or what follows from them is not finite
        or zero throughout; the message names the argument, and the task and transition
        or the parameter. Inside jit, where values are not known, `status` of the result
        reports the same.

    Source: PolicyGradEx (arXiv 2511.12779), section 3, algorithm 1.
    """
    check_callable("log_prob_fn", log_prob_fn)
    params, batch, key = as_params(params), as_transitions(batch), as_key(key)
    num_tasks, num_samples = batch.advantage.shape
    subsets = as_subsets(subsets, num_tasks)
    evaluator = _find_evaluator(evaluator)
    if isinstance(max_relative_distance, str) and max_relative_distance == "auto":
        max_relative_distance = default_distance(evaluator)
    _check_settings(
        l2, max_relative_distance, held_out_fraction, tolerance, feature_precision
    )
    max_iterations = as_integer("max_iterations", max_iterations, 0)
    num_resamples = as_integer("num_resamples", num_resamples, 0)
    resample_length = as_integer("resample_length", resample_length, 1)
    projection = _find_projection(projection, dim, params)
    # A new array is a tracer too inside of jit.
    traced = is_traced(
        params, batch, key, subsets, l2, max_relative_distance, tolerance
    )
    if not traced:
        params, batch = to_device((params, batch))
    check_values(
        params, batch._replace(mask=None)._asdict(), batch.mask, all_zero=False
    )
    check_held_out(batch, held_out_fraction)
    check_centering(batch, center_features)
    check_runs(batch, resample_length)
    copies = None
    if isinstance(subsets, np.ndarray):
        subsets, copies = distinct_subsets(subsets)
    if projection is None:
        dim = exact_dim(params, num_tasks * num_samples)
    else:
        dim = projection.dim
    settings = _Settings(
        projection=projection,
        evaluator=evaluator,
        held_out_fraction=float(held_out_fraction),
        normalize_advantages=normalize_advantages,
        center_features=center_features,
        max_iterations=max_iterations,
        feature_precision=feature_precision,
        plan=plan_blocks(
            subsets,
            (num_tasks, num_samples, dim),
            num_shards=1 if mesh is None else mesh.size,
        ),
        num_resamples=num_resamples,
        resample_length=resample_length,
        mesh=None if mesh is None else auto_mesh(mesh),
    )
    limit = np.inf if max_relative_distance is None else max_relative_distance
    arrays = (params, batch, key, subsets, copies, l2, limit, tolerance)
    function = functools.partial(_compiled(not traced), log_prob_fn, settings)
    estimates, faults = call_with_auto_axes(function, arrays, settings.mesh)
    return estimates if traced else check_faults(estimates, faults)


@functools.cache
def _compiled(outermost: bool) -> Callable[..., tuple[SubsetEstimates, TaskFaults]]:
    """`_estimate` under jit, with compiler options where JAX takes them."""
    options = compiler_options() if outermost else None
    return jax.jit(_estimate, static_argnums=(0, 1), compiler_options=options or None)


class _Settings(NamedTuple):
    """All that is static, so that the call compiles once for it."""

    projection: Projection | None
    evaluator: Evaluator
    held_out_fraction: float
    normalize_advantages: bool
    center_features: bool | None
    max_iterations: int
    feature_precision: str
    plan: BlockPlan
    num_resamples: int
    resample_length: int
    mesh: jax.sharding.Mesh | None


class _Problem(NamedTuple):
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


def _estimate(
    log_prob_fn, settings, params, batch, key, subsets, copies, l2, limit, tolerance
) -> tuple[SubsetEstimates, TaskFaults]:
    projection = settings.projection
    batch = batch._replace(advantage=batch.advantage.astype(jnp.float32))
    l2, limit, tolerance = (jnp.asarray(x, jnp.float32) for x in (l2, limit, tolerance))
    projection_key, split_key, score_key, resample_key = jax.random.split(key, 4)
    with jax.default_matmul_precision(PRECISIONS[settings.feature_precision]):
        features, expand = _features(
            log_prob_fn, settings, params, batch, projection_key
        )

    with jax.default_matmul_precision("highest"):
        gram = None
        if projection is not None:
            gram = projection_gram(projection, projection_key, params)
        fitted, scored = split(
            Sample(batch, features), settings.held_out_fraction, split_key
        )
        problem = _Problem(
            fitted=fitted,
            scored=scored,
            params=params,
            centered=(
                ~jnp.any(has_one_sign(batch))
                if settings.center_features is None
                else jnp.asarray(settings.center_features)
            ),
            norm=global_norm(params),
            gram=gram,
            key=score_key,
        )
        observation, action = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
        )
        log_prob = single_log_prob(log_prob_fn, params, observation, action)

        def solve_all(shared, subsets):
            problem, resample_key = shared

            def solve(problem, initial, tolerance):
                return _solve_and_score(
                    problem,
                    subsets,
                    initial,
                    settings,
                    (l2, limit, tolerance),
                    log_prob,
                    expand,
                )

            estimates, minimiser = solve(problem, None, tolerance)
            if not settings.num_resamples:
                return estimates

            def resampled_scores(key):
                drawn = _resample(problem, settings, key)
                return solve(drawn, minimiser, RESAMPLE_TOLERANCE)[0].scores

            keys = jax.random.split(resample_key, settings.num_resamples)
            scores = jax.lax.map(resampled_scores, keys)
            return estimates._replace(resampled_scores=jnp.moveaxis(scores, 0, 1))

        estimates = shard(solve_all, settings.mesh, (problem, resample_key), subsets)
    if copies is not None:
        estimates = jax.tree.map(lambda x: x[copies], estimates)
    if estimates.resampled_scores is not None:
        scores = jnp.moveaxis(estimates.resampled_scores, 1, 0)
        estimates = estimates._replace(resampled_scores=scores)
    faults = find_faults(
        features, fitted, scored, problem.centered, _rounding(settings, features)
    )
    valid_settings = (l2 > 0) & (l2 < jnp.inf) & (tolerance >= 0) & (limit > 0)
    valid_distance = (limit == jnp.inf) | (problem.norm > 0) & (problem.norm < jnp.inf)
    return with_status(estimates, faults, valid_settings, valid_distance), faults


def _features(
    log_prob_fn, settings, params, batch, key
) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """Features [n, N, d], and the map from them back to the parameters."""
    shape, projection = batch.advantage.shape, settings.projection
    valid = batch.valid
    observation, action = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
    )
    if projection is None:
        values, expand = exact_features(
            log_prob_fn, params, observation, action, valid.ravel()
        )
    else:

        def project(shared, samples):
            params, key = shared
            return project_gradients(
                log_prob_fn, params, *samples, key=key, projection=projection
            )

        values = shard(project, settings.mesh, (params, key), (observation, action))
        expand = functools.partial(back_project, projection, key, params)
    values = jnp.where(valid[..., None], values.reshape(*shape, -1), 0.0)
    return values, expand


def _solve_and_score(
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
      The estimates, and the minimisers before they were limited.
    """
    l2, limit, tolerance = numbers
    fitted, scored = problem.fitted, problem.scored
    if settings.center_features is not False:
        centered = problem.centered
        fitted, scored = (
            center(fitted, fitted, centered),
            center(scored, fitted, centered),
        )
    if settings.normalize_advantages:
        fitted, scored = normalize(fitted, fitted), normalize(scored, fitted)
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
    minimiser = solution.delta / scale
    image = solution.delta
    if problem.gram is not None:
        image = image @ problem.gram
    # Where features are very small or large, the squares of the minimiser do not fit.
    squares = jnp.maximum(jnp.sum(image * solution.delta, axis=1), 0.0)
    distance = _divide(jnp.sqrt(squares) / scale, problem.norm)
    farthest = jnp.max(distance)
    if settings.mesh is not None:
        farthest = jax.lax.pmax(farthest, settings.mesh.axis_names)
    # One factor for all subsets: a factor each would make the step of a subset whose
    # tasks disagree, which is short, as long as any other.
    shrink = jnp.minimum(1.0, limit / jnp.maximum(farthest, 1e-30))
    shrink = jnp.where(limit == jnp.inf, 1.0, shrink)
    delta = minimiser * shrink
    evaluation = settings.evaluator(
        Adapted(
            subsets=subsets,
            solution=minimiser,
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
    if not isinstance(evaluation, Evaluation):
        evaluation = Evaluation(evaluation)
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
    return estimates, minimiser


def _rounding(settings: _Settings, features: jax.Array) -> jax.Array:
    """What squares of features that are zero may come to; float32 [n, N]."""
    eps = float(jnp.finfo(features.dtype).eps)
    num_tasks, num_samples, dim = features.shape
    squares = jnp.sum(jnp.square(features), axis=2)
    if settings.projection is None and dim == num_tasks * num_samples:
        # What the factor of the Gram matrix adds to its diagonal, with some room.
        return jnp.full_like(squares, 2 * eps * dim**0.5) * jnp.max(squares)
    return (16 * eps) ** 2 * squares


def _divide(length: jax.Array, norm: jax.Array) -> jax.Array:
    """length / norm; 0 where nothing moved, infinite where only the norm is zero."""
    ratio = length / jnp.where(norm > 0, norm, 1.0)
    return jnp.where((norm > 0) | (length == 0), ratio, jnp.inf)


def _resample(problem: _Problem, settings: _Settings, key: jax.Array) -> _Problem:
    """The transitions of every task drawn anew, with replacement."""
    fitted_key, scored_key, score_key = jax.random.split(key, 3)
    length, fraction = settings.resample_length, settings.held_out_fraction
    fitted_length = run_length(length, 1.0 - fraction)
    fitted = scored = resample(problem.fitted, fitted_length, fitted_key)
    if fraction > 0:
        scored = resample(problem.scored, run_length(length, fraction), scored_key)
    return problem._replace(fitted=fitted, scored=scored, key=score_key)


def _find_evaluator(evaluator: str | Evaluator) -> Evaluator:
    if callable(evaluator):
        check_hashable("evaluator", evaluator)
        return evaluator
    if not isinstance(evaluator, str) or evaluator not in EVALUATORS:
        raise ValueError(
            f"evaluator must be a function or one of {', '.join(EVALUATORS)}, got "
            f"{evaluator!r}; for rollouts, pass a "
            "pgx_jax.evaluation.rollouts.RolloutEvaluator of your suite"
        )
    return EVALUATORS[evaluator]


def _find_projection(
    projection: Projection | None, dim: int | str | None, params: PyTree
) -> Projection | None:
    """The projection that the arguments ask for, None for none."""
    num_params = count_params(params)
    if projection is None and dim is None:
        return None
    if isinstance(dim, str) and dim == "auto":
        dim = min(DIM, num_params)
    if projection is None:
        projection = GaussianProjection(as_integer("dim", dim, 1))
    elif not hasattr(projection, "dim") or not hasattr(projection, "column"):
        raise ValueError(
            "projection must have a dim and a method column, as GaussianProjection "
            f"does, got {projection!r}"
        )
    check_hashable("projection", projection)
    if as_integer("projection.dim", projection.dim, 1) > num_params:
        raise ValueError(
            f"dim must be at most the number of parameters, p = {num_params}, got "
            f"{projection.dim}. dim=None does without a projection, which is exact"
        )
    return projection


def _check_settings(
    l2, max_relative_distance, held_out_fraction, tolerance, feature_precision
) -> None:
    check_number("l2", l2)
    check_number("tolerance", tolerance, zero=True)
    limit = max_relative_distance
    if isinstance(limit, str):
        raise ValueError(
            f"max_relative_distance must be a number, 'auto' or None, got {limit!r}"
        )
    if limit is not None:
        check_number("max_relative_distance", limit)
    if isinstance(held_out_fraction, jax.core.Tracer):
        raise ValueError(
            "held_out_fraction must be known outside of jit, as shapes depend on it, "
            f"got {held_out_fraction.aval}"
        )
    check_number("held_out_fraction", held_out_fraction, zero=True)
    if held_out_fraction >= 1:
        raise ValueError(
            f"held_out_fraction must be in [0, 1), got {held_out_fraction}"
        )
    if feature_precision not in PRECISIONS:
        raise ValueError(
            f"feature_precision must be one of {', '.join(PRECISIONS)}, got "
            f"{feature_precision!r}"
        )
