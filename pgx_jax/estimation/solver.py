"""The solver of weighted logistic regressions that share their transitions.

All that does not depend on S is computed once per task. Since sigma' <= 1/4, the
per-task matrices H_i = (1/4) mean w g g^T give H_S = mean of H_i over S, plus l2, which
bounds the Hessian of L_S everywhere. Each outer iteration minimizes that quadratic
bound by conjugate gradients, where a product with H_S is n products with [d, d]
matrices for all subsets together, and takes a Nesterov step with restarts. No subset
needs a factorization, a line search or its own d x d matrix.

Sources: PolicyGradEx (arXiv 2511.12779), section 3; Boehning and Lindsay,
"Monotonicity of quadratic-approximation algorithms", 1988; O'Donoghue and Candes,
"Adaptive restart for accelerated gradient schemes", 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.estimation.blocks import BlockPlan, Incidence, map_blocks

INNER_ITERATIONS = 10


class RegressionSolution(NamedTuple):
    """One solved regression per subset.

    Attributes:
      delta: the minimizer; float32 [m, d].
      loss: L_S at it; float32 [m].
      gradient_norm: |grad L_S| at it; float32 [m].
      num_iterations: outer iterations until the tolerance was met; int32 [m].
      converged: whether it was met; bool [m].
    """

    delta: jax.Array  # shape=[m, d], dtype=float32
    loss: jax.Array  # shape=[m], dtype=float32
    gradient_norm: jax.Array  # shape=[m], dtype=float32
    num_iterations: jax.Array  # shape=[m], dtype=int32
    converged: jax.Array  # shape=[m], dtype=bool


class TaskStatistics(NamedTuple):
    """What the regressions of all subsets share.

    Attributes:
      signed: y_t g_t; float32 [n, N, d].
      weight: w_t over the number of transitions of its task; float32 [n, N].
      gradient: the gradient at Delta = 0, per task; float32 [n, d].
      curvature: H_i; float32 [n, d, d]. None where tasks have so few transitions that
        products with them are cheaper.
    """

    signed: jax.Array
    weight: jax.Array
    gradient: jax.Array
    curvature: jax.Array | None


def task_statistics(
    features: jax.Array, advantage: jax.Array, mask: jax.Array | None = None
) -> TaskStatistics:
    """Computes what the regressions of all subsets share.

    Args:
      features: projected gradients; float32 [n, N, d].
      advantage: y = sign(advantage), w = |advantage|; float32 [n, N].
      mask: false where an entry is padding; bool [n, N], or None.
    """
    weight = jnp.abs(advantage)
    if mask is None:
        weight = weight / weight.shape[1]
    else:
        count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1).astype(weight.dtype)
        weight = jnp.where(mask, weight, 0.0) / count
        features = jnp.where(mask[..., None], features, 0.0)
    signed = jnp.where(advantage >= 0, 1.0, -1.0)[..., None] * features
    weighted = weight[..., None] * signed
    _, num_samples, dim = signed.shape
    curvature = None
    if 2 * num_samples > dim:
        curvature = 0.25 * jnp.einsum("ntd,nte->nde", weighted, signed)
    return TaskStatistics(
        signed=signed,
        weight=weight,
        gradient=-0.5 * weighted.sum(axis=1),
        curvature=curvature,
    )


def solve_planned(
    statistics: TaskStatistics,
    subsets: jax.Array,
    plan: BlockPlan,
    *,
    l2: float | jax.Array,
    initial: jax.Array | None = None,
    tolerance: float | jax.Array = 1e-5,
    max_iterations: int = 100,
) -> RegressionSolution:
    """`solve_regressions` for given statistics and sizes; all arrays may be traced."""
    dim, dtype = statistics.gradient.shape[-1], statistics.gradient.dtype
    l2, tolerance = jnp.asarray(l2, dtype), jnp.asarray(tolerance, dtype)
    preconditioner = jnp.linalg.inv(
        _mean_curvature(statistics) + l2 * jnp.eye(dim, dtype=dtype)
    )

    def solve(block, start=None):
        incidence = Incidence.create(block, plan)
        incidence = incidence._replace(share=incidence.share.astype(dtype))
        return _solve_block(
            statistics, preconditioner, incidence, start, l2, tolerance, max_iterations
        )

    arrays = (subsets,) if initial is None else (subsets, initial)
    return map_blocks(solve, arrays, plan.block)


def _mean_curvature(statistics: TaskStatistics) -> jax.Array:
    """The mean of H_i over tasks; [d, d]."""
    if statistics.curvature is not None:
        return statistics.curvature.mean(axis=0)
    num_tasks, num_samples, dim = statistics.signed.shape
    signed = statistics.signed.reshape(num_tasks * num_samples, dim)
    weighted = signed * statistics.weight.reshape(-1, 1)
    return (0.25 / num_tasks) * (weighted.T @ signed)


def _objective(
    statistics: TaskStatistics, incidence: Incidence, l2: float | jax.Array
) -> tuple[Callable, Callable]:
    """`loss_and_gradient(delta)` and `curvature_product(direction)` of a block.

    Both take float32 [b, d]; they return L_S [b] with its gradient [b, d], and products
    with H_S, [b, d].
    """

    def loss_and_gradient(delta):
        logits = jnp.einsum("ntd,ncd->nct", statistics.signed, incidence.by_task(delta))
        scale = incidence.share[..., None] * statistics.weight[:, None]
        loss = jnp.sum(scale * jax.nn.softplus(-logits), axis=2)
        slope = -scale * jax.nn.sigmoid(-logits)
        gradient = jnp.einsum("nct,ntd->ncd", slope, statistics.signed)
        penalty = 0.5 * l2 * jnp.sum(delta**2, axis=1)
        return (
            incidence.sum_over_tasks(loss) + penalty,
            incidence.sum_over_tasks(gradient) + l2 * delta,
        )

    def curvature_product(direction):
        shared = incidence.share[..., None] * incidence.by_task(direction)
        if statistics.curvature is None:
            logits = jnp.einsum("ntd,ncd->nct", statistics.signed, shared)
            logits = 0.25 * statistics.weight[:, None] * logits
            products = jnp.einsum("nct,ntd->ncd", logits, statistics.signed)
        else:
            products = jnp.einsum("ncd,nde->nce", shared, statistics.curvature)
        return incidence.sum_over_tasks(products) + l2 * direction

    return loss_and_gradient, curvature_product


def _solve_block(
    statistics: TaskStatistics,
    preconditioner: jax.Array,
    incidence: Incidence,
    start: jax.Array | None,
    l2: float | jax.Array,
    tolerance: float | jax.Array,
    max_iterations: int,
) -> RegressionSolution:
    """The regressions of a block by accelerated steps on their quadratic bounds."""
    loss_and_gradient, curvature_product = _objective(statistics, incidence, l2)
    at_zero = incidence.sum_over_tasks(
        incidence.share[..., None] * statistics.gradient[:, None]
    )
    threshold = tolerance * jnp.linalg.norm(at_zero, axis=1)
    if start is None:
        start = -_conjugate_gradients(curvature_product, at_zero, preconditioner)

    def unfinished(carry):
        *_, done, iteration = carry
        return (iteration < max_iterations) & ~jnp.all(done)

    def iterate(carry):
        delta, lookahead, gradient, momentum, num_iterations, done, iteration = carry
        step = _conjugate_gradients(curvature_product, gradient, preconditioner)
        new = jnp.where(done[:, None], delta, lookahead - step)
        # Momentum that points uphill is dropped, subset by subset.
        uphill = jnp.sum(gradient * (new - delta), axis=1) > 0
        momentum = jnp.where(uphill, 1.0, momentum)
        new_momentum = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2))
        factor = jnp.where(uphill, 0.0, (momentum - 1.0) / new_momentum)
        new_lookahead = new + factor[:, None] * (new - delta)
        new_lookahead = jnp.where(done[:, None], lookahead, new_lookahead)
        _, new_gradient = loss_and_gradient(new_lookahead)
        new_gradient = jnp.where(done[:, None], gradient, new_gradient)
        num_iterations = num_iterations + (~done).astype(jnp.int32)
        done = done | (jnp.linalg.norm(new_gradient, axis=1) <= threshold)
        return (
            new,
            new_lookahead,
            new_gradient,
            new_momentum,
            num_iterations,
            done,
            iteration + 1,
        )

    _, gradient = loss_and_gradient(start)
    num_subsets = start.shape[0]
    carry = (
        start,
        start,
        gradient,
        jnp.ones((num_subsets,), start.dtype),
        jnp.zeros((num_subsets,), jnp.int32),
        jnp.linalg.norm(gradient, axis=1) <= threshold,
        jnp.zeros((), jnp.int32),
    )
    carry = jax.lax.while_loop(unfinished, iterate, carry)
    delta, num_iterations = carry[1], carry[4]
    loss, gradient = loss_and_gradient(delta)
    norm = jnp.linalg.norm(gradient, axis=1)
    # Infinity is at most infinity.
    converged = (norm <= threshold) & jnp.isfinite(norm) & jnp.isfinite(loss)
    return RegressionSolution(delta, loss, norm, num_iterations, converged)


def _conjugate_gradients(
    product, target: jax.Array, preconditioner: jax.Array
) -> jax.Array:
    """Solves A_b x_b = target_b for every subset b by a fixed number of steps.

    Args:
      product: `product(x)` gives A_b x_b for x of shape [b, d].
      target: float32 [b, d].
      preconditioner: an approximate inverse of every A_b; float32 [d, d].
    """

    def dot(a, b):
        return jnp.sum(a * b, axis=1, keepdims=True)

    def safe_divide(a, b):
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)

    def step(carry, _):
        x, residual, direction, rho = carry
        image = product(direction)
        alpha = safe_divide(rho, dot(direction, image))
        x = x + alpha * direction
        residual = residual - alpha * image
        preconditioned = residual @ preconditioner
        new_rho = dot(residual, preconditioned)
        direction = preconditioned + safe_divide(new_rho, rho) * direction
        return (x, residual, direction, new_rho), None

    first = target @ preconditioner
    carry = (jnp.zeros_like(target), target, first, dot(target, first))
    (x, *_), _ = jax.lax.scan(step, carry, None, INNER_ITERATIONS)
    return x
