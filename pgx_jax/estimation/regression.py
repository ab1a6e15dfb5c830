"""Weighted logistic regressions of many subsets of tasks at once.

For a subset S of tasks, with features g of shape [d], weights w >= 0 and signs y:

    L_S(Delta) = mean over i in S of  mean over t of task i of
                     w_t log(1 + exp(-y_t g_t . Delta))   +  (l2 / 2) |Delta|^2

The solver is that of `pgx_jax.estimation.solver`.

Source: PolicyGradEx (arXiv 2511.12779), section 3.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from pgx_jax.arguments import as_integer, as_numbers, check_number
from pgx_jax.estimation.blocks import plan_blocks
from pgx_jax.estimation.checks import (
    as_advantage,
    as_mask,
    as_samples,
    check_values,
    describe,
    is_traced,
)
from pgx_jax.estimation.parameters import working_dtype
from pgx_jax.estimation.sharding import call_with_auto_axes
from pgx_jax.estimation.solver import (
    RegressionSolution,
    solve_planned,
    task_statistics,
)
from pgx_jax.estimation.subsets import as_subsets

# For features of unit mean square (or a mean squared norm of 400) and weights of unit
# mean.
L2 = 0.1


def solve_regressions(
    features: jax.Array | np.ndarray,
    advantage: jax.Array | np.ndarray,
    subsets: jax.Array | np.ndarray,
    *,
    l2: float = L2,
    mask: jax.Array | np.ndarray | None = None,
    initial: jax.Array | np.ndarray | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    subset_block: int | None = None,
) -> RegressionSolution:
    """Solves the weighted, l2-regularized logistic regression of every subset.

    Args:
      features: projected gradients; float32 or float64 [n, N, d], in whose precision
        everything is computed.
      advantage: the label of a transition is its sign, the weight its size; float
        [n, N].
      subsets: 0/1 matrix [m, n].
      l2: strength of the ridge penalty, positive.
      mask: false where an entry is padding; bool [n, N], or None.
      initial: where to start from; float32 [m, d]. If None, from the minimizer of the
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
    if getattr(features, "ndim", 0) != 3 or features.shape[2] == 0:
        raise ValueError(
            "features must be one array of shape [n, N, d], d >= 1, got "
            f"{describe(features)}"
        )
    mask = None if mask is None else as_mask(mask, advantage.shape)
    subsets = as_subsets(subsets, len(advantage))
    check_number("l2", l2)
    check_number("tolerance", tolerance, zero=True)
    max_iterations = as_integer("max_iterations", max_iterations, 0)
    if subset_block is not None:
        subset_block = as_integer("subset_block", subset_block, 1)
    if initial is not None:
        if not is_traced(initial):
            as_numbers("initial", initial)
        shape = (len(subsets), features.shape[2])
        if np.shape(initial) != shape:
            raise ValueError(
                f"initial must have shape [m, d] = {list(shape)}, got "
                f"{describe(initial)}"
            )
    check_values(None, {"features": features, "advantage": advantage}, mask)
    plan = plan_blocks(subsets, (*advantage.shape, features.shape[2]), subset_block)
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
