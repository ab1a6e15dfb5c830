"""Ridge regressions of many weighted sums of moments, block by block.

A block of subsets is one matrix product with the moments of all tasks, a Cholesky
factorization for each subset, and one more product for the scores.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgx_jax.estimation.moments import TaskMoments

# Numbers of the matrices that are factorized at once: 256 MiB of float32, on a CPU 16.
BLOCK_ELEMENTS = 2**26
CPU_BLOCK_ELEMENTS = 2**22


def solve_rows(moments: TaskMoments, weights: jax.Array, ridge: jax.Array) -> jax.Array:
    """Delta of every row of weights.

    Args:
      moments: of n tasks.
      weights: float32 [m, n].
      ridge: float32 [].

    Returns:
      (sum over i of w_i G_i + ridge I)^-1 sum over i of w_i b_i; float32 [m, d].
    """

    def solve(rows):
        return _each(_solve, _matrices(moments, rows, ridge), rows @ moments.target)

    return _map_blocks(solve, weights, moments)


def score_rows(moments: TaskMoments, delta: jax.Array) -> jax.Array:
    """2 b_i . Delta - Delta^T G_i Delta of every Delta and task.

    Args:
      moments: of n tasks.
      delta: float32 [m, d].

    Returns:
      float32 [m, n].
    """

    def score(rows):
        image = jnp.einsum("nde,me->mnd", moments.gram, rows)
        quadratic = jnp.einsum("mnd,md->mn", image, rows)
        return 2.0 * rows @ moments.target.T - quadratic

    return _map_blocks(score, delta, moments)


def noise_rows(moments: TaskMoments, weights: jax.Array, ridge: jax.Array) -> jax.Array:
    """What noise of b of covariance Sigma_i takes off the scores of every row.

    Args:
      moments: of n tasks, with noise.
      weights: float32 [m, n].
      ridge: float32 [].

    Returns:
      trace(M G_i M sum over j of w_j^2 Sigma_j), M the inverse in `solve_rows`; float32
      [m, n].
    """
    covariances = moments.noise
    assert covariances is not None
    num_tasks, dim = moments.target.shape

    def lost(rows):
        flat = covariances.reshape(num_tasks, -1)
        covariance = (rows**2 @ flat).reshape(-1, dim, dim)
        both = _each(_sandwich, _matrices(moments, rows, ridge), covariance)
        return both.reshape(len(rows), -1) @ moments.gram.reshape(num_tasks, -1).T

    return _map_blocks(lost, weights, moments)


def _matrices(moments: TaskMoments, rows: jax.Array, ridge: jax.Array) -> jax.Array:
    """sum over i of w_i G_i + ridge I of every row; [b, d, d]."""
    num_tasks, dim = moments.target.shape
    matrices = rows @ moments.gram.reshape(num_tasks, -1)
    return matrices.reshape(-1, dim, dim) + ridge * jnp.eye(dim, dtype=rows.dtype)[None]


def _sandwich(factor: jax.Array, covariance: jax.Array) -> jax.Array:
    """M Sigma M."""
    return _solve(factor, _solve(factor, covariance).T)


def _solve(factor: jax.Array, target: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve((factor, True), target)


def _factor(matrix: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_factor(matrix, lower=True)[0]


def _each(function: Callable, matrices: jax.Array, targets: jax.Array) -> jax.Array:
    """`function` of the Cholesky factor of every matrix and of its target."""
    if jax.default_backend() != "cpu":
        return jax.vmap(function)(jax.vmap(_factor)(matrices), targets)

    # One after another: batched factorizations can wait for each other forever on a
    # busy CPU of few cores (jaxlib 0.10.2). Factors replace matrices so that these are
    # no constants of the loop: XLA would compute all of them anew in every step.
    def step(index, state):
        factors, found = state
        factor = _factor(factors[index])
        found = found.at[index].set(function(factor, found[index]))
        return factors.at[index].set(factor), found

    return jax.lax.fori_loop(0, len(targets), step, (matrices, targets))[1]


def _map_blocks(function: Callable, rows: jax.Array, moments: TaskMoments) -> jax.Array:
    """`function` of blocks of rows, as many at once as memory allows."""
    num_tasks, dim = moments.target.shape
    on_cpu = jax.default_backend() == "cpu"
    elements = CPU_BLOCK_ELEMENTS if on_cpu else BLOCK_ELEMENTS
    size = max(1, elements // (dim * max(num_tasks, dim)))
    num_rows = rows.shape[0]
    if num_rows <= size:
        return function(rows)
    num_blocks = -(-num_rows // size)
    size = -(-num_rows // num_blocks)
    filled = jnp.concatenate([rows, rows[: num_blocks * size - num_rows]])
    found = jax.lax.map(function, filled.reshape(num_blocks, size, -1))
    return found.reshape(num_blocks * size, -1)[:num_rows]
