"""Weighted logistic regressions of many subsets of tasks at once.

For a subset S of tasks, with features g of shape [d], weights w >= 0 and signs y:

    L_S(Delta) = mean over i in S of  mean over t of task i of
                     w_t log(1 + exp(-y_t g_t . Delta))   +  (l2 / 2) |Delta|^2

All that does not depend on S is computed once per task. Since sigma' <= 1/4, the
per-task matrices H_i = (1/4) mean w g g^T give H_S = mean of H_i over S, plus l2, which
bounds the Hessian of L_S everywhere. Each outer iteration minimises that quadratic
bound by conjugate gradients, where a product with H_S is n products with [d, d]
matrices for all subsets together, and takes a Nesterov step with restarts. No subset
needs a factorisation, a line search or its own d x d matrix.

Sources: PolicyGradEx (arXiv 2511.12779), section 3; Boehning and Lindsay,
"Monotonicity of quadratic-approximation algorithms", 1988; O'Donoghue and Candes,
"Adaptive restart for accelerated gradient schemes", 2015.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.checks import (
    as_advantage,
    as_integer,
    as_mask,
    as_samples,
    check_number,
    check_values,
    describe,
)
from pgx_jax.estimation.projection import BLOCK_ELEMENTS, map_blocks, working_dtype
from pgx_jax.estimation.sharding import call_with_auto_axes
from pgx_jax.estimation.subsets import as_subsets, pad_rows, round_up

# For features of unit mean square (or a mean squared norm of 400) and weights of unit
# mean.
L2 = 0.1
INNER_ITERATIONS = 10


class RegressionSolution(NamedTuple):
    """One solved regression per subset.

    Attributes:
      delta: the minimiser; float32 [m, d].
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


def solve_regressions(
    features: jax.Array,
    advantage: jax.Array,
    subsets: jax.Array,
    *,
    l2: float = L2,
    mask: jax.Array | None = None,
    initial: jax.Array | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    subset_block: int | None = None,
) -> RegressionSolution:
    """Solves the weighted, l2-regularised logistic regression of every subset.

    Args:
      features: projected gradients; float32 or float64 [n, N, d], in whose precision
        everything is computed.
      advantage: the label of a transition is its sign, the weight its size; float
        [n, N].
      subsets: 0/1 matrix [m, n].
      l2: strength of the ridge penalty, positive.
      mask: false where an entry is padding; bool [n, N], or None.
      initial: where to start from; float32 [m, d]. If None, from the minimiser of the
        quadratic bound at 0, which costs no pass over the transitions.
      tolerance: a subset has converged when its gradient norm is at most this share of
        the one at Delta = 0.
      max_iterations: outer iterations at most.
      subset_block: subsets solved at once; chosen so that their logits fit in 512 MiB
        if None.

    Returns:
      The solutions, in the order of `subsets`.

    Raises:
      ValueError: an argument is out of range, shapes do not agree, or a feature or an
        advantage is not finite; the message names the argument.
    """
    advantage = as_advantage(advantage)
    features = as_samples("features", features, advantage.shape)
    if getattr(features, "ndim", 0) != 3:
        raise ValueError(
            f"features must be one array of shape [n, N, d], got {describe(features)}"
        )
    mask = None if mask is None else as_mask(mask, advantage.shape)
    subsets = as_subsets(subsets, len(advantage))
    check_number("l2", l2)
    check_number("tolerance", tolerance, zero=True)
    max_iterations = as_integer("max_iterations", max_iterations, 0)
    if subset_block is not None:
        subset_block = as_integer("subset_block", subset_block, 1)
    if initial is not None:
        shape = (len(subsets), features.shape[2])
        if np.shape(initial) != shape:
            raise ValueError(
                f"initial must have shape [m, d] = {list(shape)}, got "
                f"{describe(initial)}"
            )
    check_values(None, {"features": features, "advantage": advantage}, mask)
    plan = plan_blocks(subsets, features.shape, subset_block)
    arrays = (features, advantage, mask, subsets, initial, l2, tolerance)
    return call_with_auto_axes(functools.partial(_solve, plan, max_iterations), arrays)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _solve(
    plan, max_iterations, features, advantage, mask, subsets, initial, l2, tolerance
) -> RegressionSolution:
    dtype = working_dtype(features)
    features, advantage, initial = jax.tree.map(
        lambda x: x.astype(dtype), (features, advantage, initial)
    )
    # In TF32, the default of recent GPUs, the gradient norm stalls near 3e-4.
    with jax.default_matmul_precision("highest"):
        return solve_planned(
            task_statistics(features, advantage, mask),
            subsets,
            plan,
            l2=l2,
            initial=initial,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )


class BlockPlan(NamedTuple):
    """Static sizes of the computation, known before it is traced.

    Attributes:
      block: subsets solved at once.
      most_subsets: at least the most subsets of a block that hold one task.
      most_tasks: at least the most tasks in a subset.
    """

    block: int
    most_subsets: int
    most_tasks: int


def plan_blocks(
    subsets: jax.Array | np.ndarray,
    feature_shape: tuple[int, int, int],
    block: int | None = None,
    num_shards: int = 1,
) -> BlockPlan:
    """Sizes that serve every block of `subsets`; the loosest ones inside jit.

    Args:
      subsets: 0/1 matrix [m, n].
      feature_shape: (n, N, d).
      block: subsets at once; such that their logits fit in 512 MiB if None.
      num_shards: equal parts of the subsets that are solved apart.
    """
    num_tasks, num_samples, dim = feature_shape
    per_task = max(num_samples, dim)
    shard = -(-subsets.shape[0] // num_shards)
    if isinstance(subsets, jax.core.Tracer):
        block = block or max(1, BLOCK_ELEMENTS // (num_tasks * per_task))
        block = min(block, shard)
        return BlockPlan(block, block, num_tasks)

    # Shards and blocks are filled up with copies of their first subset.
    values = pad_rows(np.asarray(subsets).astype(bool), shard * num_shards)
    shards = values.reshape(num_shards, shard, num_tasks)
    most_tasks = int(values.sum(axis=1).max())

    def most_subsets(block):
        return max(
            int(
                pad_rows(rows, -(-shard // block) * block)
                .reshape(-1, block, num_tasks)
                .sum(axis=1)
                .max()
            )
            for rows in shards
        )

    if block is None:
        # Where all tasks are in equally many subsets, this fits as it is.
        block = min(shard, max(1, BLOCK_ELEMENTS // (most_tasks * per_task)))
        while block > 1 and most_subsets(block) * num_tasks * per_task > (
            2 * BLOCK_ELEMENTS
        ):
            block = -(-block // 2)
    block = min(block, shard)
    # One more than where all tasks are in equally many, as draws of `sample_subsets`
    # have it, so that another draw needs no other program; coarse steps for others.
    most = most_subsets(block)
    balanced = math.ceil(values.mean() * block) + 1
    if most > balanced:
        balanced = round_up(most, 4)
    return BlockPlan(
        block, min(block, balanced), min(num_tasks, round_up(most_tasks, 8))
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


class Incidence(NamedTuple):
    """Which tasks are in which subsets of a block, as gathers both ways.

    A product of every subset with every task would spend most of its work on pairs that
    are not members; these indices keep only the members, padded to static sizes.

    Attributes:
      subset_of: the subsets that hold task i, then padding; int32 [n, c].
      share: 1 / |S| of those subsets, 0 at padding; of JAX's default float [n, c].
      task_of: the tasks in subset b, then padding; int32 [b, s].
      slot_of: where subset b stands in the row of that task; int32 [b, s].
      present: false at padding; bool [b, s].
    """

    subset_of: jax.Array
    share: jax.Array
    task_of: jax.Array
    slot_of: jax.Array
    present: jax.Array

    @classmethod
    def create(cls, subsets: jax.Array, plan: BlockPlan) -> Incidence:
        """Indexes the block `subsets`, bool [b, n]."""
        # Constants would be sorted while the program is compiled, which takes longer.
        subsets = jax.lax.optimization_barrier(subsets)
        size = jnp.sum(subsets, axis=1).astype(jnp.result_type(float))
        subset_of = jnp.argsort(~subsets, axis=0, stable=True)[: plan.most_subsets].T
        held = jnp.take_along_axis(subsets.T, subset_of, axis=1)
        task_of = jnp.argsort(~subsets, axis=1, stable=True)[:, : plan.most_tasks]
        slots = jnp.cumsum(subsets, axis=0) - 1
        return cls(
            subset_of=subset_of,
            share=jnp.where(held, 1.0 / size.astype(jnp.float32)[subset_of], 0.0),
            task_of=task_of,
            slot_of=jnp.take_along_axis(slots, task_of, axis=1),
            present=jnp.take_along_axis(subsets, task_of, axis=1),
        )

    def by_task(self, per_subset: jax.Array) -> jax.Array:
        """[b, ...] to [n, c, ...]: each task's copies of its subsets' values."""
        return per_subset[self.subset_of]

    def sum_over_tasks(self, per_task: jax.Array) -> jax.Array:
        """[n, c, ...] to [b, ...]: the sum over the tasks of each subset."""
        values = per_task[self.task_of, self.slot_of]
        present = self.present.reshape(*self.present.shape, *[1] * (values.ndim - 2))
        return jnp.sum(jnp.where(present, values, 0.0), axis=1)

    def members_to_matrix(self, per_member: jax.Array) -> jax.Array:
        """[b, s] to [b, n]: the value of every member, 0 elsewhere."""
        rows = jnp.arange(len(self.task_of))[:, None]
        matrix = jnp.zeros((len(self.task_of), len(self.subset_of)), per_member.dtype)
        return matrix.at[rows, self.task_of].add(
            jnp.where(self.present, per_member, 0.0)
        )

    def to_matrix(self, per_task: jax.Array) -> jax.Array:
        """[n, c] to [b, n]: each task's value in each of its subsets, 0 elsewhere."""
        return self.members_to_matrix(per_task[self.task_of, self.slot_of])


def _solve_block(
    statistics: TaskStatistics,
    preconditioner: jax.Array,
    incidence: Incidence,
    start: jax.Array | None,
    l2: float | jax.Array,
    tolerance: float | jax.Array,
    max_iterations: int,
) -> RegressionSolution:
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

    gradient_at_zero = incidence.sum_over_tasks(
        incidence.share[..., None] * statistics.gradient[:, None]
    )
    threshold = tolerance * jnp.linalg.norm(gradient_at_zero, axis=1)
    if start is None:
        start = -_conjugate_gradients(
            curvature_product, gradient_at_zero, preconditioner
        )

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
    _, delta, _, _, num_iterations, _, _ = jax.lax.while_loop(
        unfinished, iterate, carry
    )
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
