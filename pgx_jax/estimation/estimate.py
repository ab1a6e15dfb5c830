"""The estimate for every subset of tasks, in one call."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.blocks import BlockPlan, plan_blocks
from pgx_jax.estimation.checks import (
    as_integer,
    as_key,
    as_params,
    as_transitions,
    check_callable,
    check_values,
    is_traced,
    to_device,
)
from pgx_jax.estimation.evaluators import Evaluator
from pgx_jax.estimation.exact import exact_dim, exact_features
from pgx_jax.estimation.projection import (
    LogProbFn,
    Projection,
    back_project,
    global_norm,
    project_gradients,
    projection_gram,
    single_log_prob,
)
from pgx_jax.estimation.regression import L2
from pgx_jax.estimation.samples import (
    Sample,
    check_centering,
    check_held_out,
    check_runs,
    has_one_sign,
    split,
)
from pgx_jax.estimation.scoring import Problem, resample_problem, solve_and_score
from pgx_jax.estimation.settings import (
    PRECISIONS,
    Settings,
    check_settings,
    check_switches,
    find_distance,
    find_evaluator,
    find_projection,
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
from pgx_jax.types import PyTree, SubsetEstimates, Transitions

# Tolerance of the resamples' solutions, whose noise is far above it.
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
      resample_length: number of consecutive transitions that may depend on each other,
        where those of an episode are adjacent: they are resampled together (Kuensch,
        1989), and standard errors account for such runs.
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
    subsets = as_subsets(subsets, len(batch.advantage))
    evaluator = find_evaluator(evaluator)
    distance = find_distance(max_relative_distance, evaluator)
    check_settings(l2, distance, held_out_fraction, tolerance, feature_precision)
    check_switches(normalize_advantages, center_features, mesh)
    max_iterations = as_integer("max_iterations", max_iterations, 0)
    num_resamples = as_integer("num_resamples", num_resamples, 0)
    resample_length = as_integer("resample_length", resample_length, 1)
    projection = find_projection(projection, dim, params)
    # A new array is a tracer too inside of jit.
    traced = is_traced(params, batch, key, subsets, l2, distance, tolerance)
    if not traced:
        params, batch = to_device((params, batch))
    _check_batch(params, batch, held_out_fraction, center_features, resample_length)
    copies = None
    if isinstance(subsets, np.ndarray):
        subsets, copies = distinct_subsets(subsets)
    settings = Settings(
        projection=projection,
        evaluator=evaluator,
        held_out_fraction=float(held_out_fraction),
        normalize_advantages=normalize_advantages,
        center_features=center_features,
        max_iterations=max_iterations,
        feature_precision=feature_precision,
        plan=_plan(params, batch, subsets, projection, mesh),
        num_resamples=num_resamples,
        resample_length=resample_length,
        mesh=None if mesh is None else auto_mesh(mesh),
    )
    limit = np.inf if distance is None else distance
    arrays = (params, batch, key, subsets, copies, l2, limit, tolerance)
    function = functools.partial(_compiled(not traced), log_prob_fn, settings)
    estimates, faults = call_with_auto_axes(function, arrays, settings.mesh)
    return estimates if traced else check_faults(estimates, faults)


def _check_batch(
    params, batch, held_out_fraction, center_features, resample_length
) -> None:
    samples = batch._replace(mask=None)._asdict()
    check_values(params, samples, batch.mask, all_zero=False)
    check_held_out(batch, held_out_fraction)
    check_centering(batch, center_features)
    check_runs(batch, resample_length)


def _plan(
    params: PyTree,
    batch: Transitions,
    subsets: jax.Array | np.ndarray,
    projection: Projection | None,
    mesh: jax.sharding.Mesh | None,
) -> BlockPlan:
    """How many subsets are solved at once, on each device."""
    num_tasks, num_samples = batch.advantage.shape
    if projection is None:
        dim = exact_dim(params, num_tasks * num_samples)
    else:
        dim = projection.dim
    shards = 1 if mesh is None else mesh.size
    return plan_blocks(subsets, (num_tasks, num_samples, dim), num_shards=shards)


@functools.cache
def _compiled(outermost: bool) -> Callable[..., tuple[SubsetEstimates, TaskFaults]]:
    """`_estimate` under jit, with compiler options where JAX takes them."""
    options = compiler_options() if outermost else None
    return jax.jit(_estimate, static_argnums=(0, 1), compiler_options=options or None)


def _estimate(
    log_prob_fn, settings, params, batch, key, subsets, copies, l2, limit, tolerance
) -> tuple[SubsetEstimates, TaskFaults]:
    """The jitted part: the estimates, and the faults that were found."""
    batch = batch._replace(advantage=batch.advantage.astype(jnp.float32))
    l2, limit, tolerance = (jnp.asarray(x, jnp.float32) for x in (l2, limit, tolerance))
    projection_key, split_key, score_key, resample_key = jax.random.split(key, 4)
    with jax.default_matmul_precision(PRECISIONS[settings.feature_precision]):
        features, expand = _features(
            log_prob_fn, settings, params, batch, projection_key
        )

    with jax.default_matmul_precision("highest"):
        problem = _make_problem(
            settings, params, batch, features, projection_key, split_key, score_key
        )
        observation, action = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
        )
        log_prob = single_log_prob(log_prob_fn, params, observation, action)

        def solve_all(shared, subsets):
            problem, resample_key = shared

            def solve(problem, initial, tolerance):
                numbers = (l2, limit, tolerance)
                return solve_and_score(
                    problem, subsets, initial, settings, numbers, log_prob, expand
                )

            estimates, minimizer = solve(problem, None, tolerance)
            if not settings.num_resamples:
                return estimates

            def resampled_scores(key):
                drawn = resample_problem(problem, settings, key)
                return solve(drawn, minimizer, RESAMPLE_TOLERANCE)[0].scores

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
        features,
        problem.fitted,
        problem.scored,
        problem.centered,
        _rounding(settings, features),
    )
    valid_settings = (l2 > 0) & (l2 < jnp.inf) & (limit > 0)
    valid_settings &= (tolerance >= 0) & (tolerance < jnp.inf)
    valid_distance = (limit == jnp.inf) | (problem.norm > 0) & (problem.norm < jnp.inf)
    return with_status(estimates, faults, valid_settings, valid_distance), faults


def _make_problem(
    settings, params, batch, features, projection_key, split_key, score_key
) -> Problem:
    """What all subsets share."""
    gram = None
    if settings.projection is not None:
        gram = projection_gram(settings.projection, projection_key, params)
    fitted, scored = split(
        Sample(batch, features), settings.held_out_fraction, split_key
    )
    return Problem(
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


def _rounding(settings: Settings, features: jax.Array) -> jax.Array:
    """What squares of features that are zero may reach by rounding; float32 [n, N]."""
    eps = float(jnp.finfo(features.dtype).eps)
    num_tasks, num_samples, dim = features.shape
    squares = jnp.sum(jnp.square(features), axis=2)
    if settings.projection is None and dim == num_tasks * num_samples:
        # What the factor of the Gram matrix adds to its diagonal, with some room.
        return jnp.full_like(squares, 2 * eps * dim**0.5) * jnp.max(squares)
    return (16 * eps) ** 2 * squares
