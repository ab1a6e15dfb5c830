"""Estimates of subsets by weighted logistic regressions over all transitions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_integer
from pgx_jax.estimation.blocks import BlockPlan, plan_blocks
from pgx_jax.estimation.checks import (
    as_params,
    as_transitions,
    check_callable,
    check_values,
    is_traced,
    repeat_samples,
    to_device,
)
from pgx_jax.estimation.exact import exact_dim, exact_features
from pgx_jax.estimation.parameters import global_norm
from pgx_jax.estimation.projection import (
    Projection,
    back_project,
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
from pgx_jax.estimation.sums import TaskSums, is_stream
from pgx_jax.runtime import compiler_options
from pgx_jax.types import PyTree, SubsetEstimates, Transitions

# Tolerance of the resamples' solutions, whose noise is far above it.
RESAMPLE_TOLERANCE = 1e-3


def estimate_logistic(
    log_prob_fn,
    params,
    batch,
    subsets,
    *,
    key,
    dim,
    projection,
    l2,
    max_relative_distance,
    evaluator,
    held_out_fraction,
    normalize_advantages,
    center_features,
    tolerance,
    max_iterations,
    feature_precision,
    num_resamples,
    resample_length,
    mesh,
) -> SubsetEstimates:
    """`estimate_subsets` by the logistic regression.

    Raises:
      ValueError: as `estimate_subsets`.
    """
    l2 = L2 if l2 is None else l2
    if isinstance(batch, TaskSums) or is_stream(batch):
        raise ValueError(
            "data must be one batch of Transitions for regression='logistic', which "
            "looks at all of them in every step; regression='least_squares' takes "
            f"streams and sums, got {type(batch).__name__}"
        )
    check_callable("log_prob_fn", log_prob_fn)
    params, batch = as_params(params), as_transitions(batch)
    subsets = as_subsets(subsets, len(batch.advantage))
    evaluator = find_evaluator(evaluator)
    distance = find_distance(max_relative_distance, evaluator)
    check_settings(l2, distance, held_out_fraction, tolerance, feature_precision)
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
    exact = projection is None
    dim = exact_dim(params, _num_rows(batch)) if exact else projection.dim
    shards = 1 if mesh is None else mesh.size
    return plan_blocks(subsets, (*batch.advantage.shape, dim), num_shards=shards)


def _num_rows(batch: Transitions) -> int:
    """The transitions whose gradients are computed: n N, or N that tasks share."""
    return math.prod(jax.tree.leaves(batch.action)[0].shape[:2])


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
        observation, action = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
        )
        log_prob = single_log_prob(log_prob_fn, params, observation, action)
        rounding = _rounding(settings, features, _num_rows(batch))
        observation, action = repeat_samples(
            (batch.observation, batch.action), len(batch.advantage)
        )
        batch = batch._replace(observation=observation, action=action)
        problem = _make_problem(
            settings, params, batch, features, projection_key, split_key, score_key
        )

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
        rounding,
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
    projection, valid = settings.projection, batch.valid
    observation, action = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
    )
    if projection is None:
        shared = _num_rows(batch) != valid.size
        rows = valid.any(axis=0) if shared else valid.ravel()
        values, expand = exact_features(log_prob_fn, params, observation, action, rows)
    else:

        def project(shared, samples):
            params, key = shared
            return project_gradients(
                log_prob_fn, params, *samples, key=key, projection=projection
            )

        values = shard(project, settings.mesh, (params, key), (observation, action))
        expand = functools.partial(back_project, projection, key, params)
    values = values.reshape(-1, valid.shape[1], values.shape[-1])
    return jnp.where(valid[..., None], values, 0.0), expand


def _rounding(settings: Settings, features: jax.Array, num_rows: int) -> jax.Array:
    """What squares of features that are zero may reach by rounding; float32 [n, N]."""
    eps = float(jnp.finfo(features.dtype).eps)
    dim = features.shape[2]
    squares = jnp.sum(jnp.square(features), axis=2)
    if settings.projection is None and dim == num_rows:
        # What the factor of the Gram matrix adds to its diagonal, with some room.
        return jnp.full_like(squares, 2 * eps * dim**0.5) * jnp.max(squares)
    return (16 * eps) ** 2 * squares
