"""Small symmetric systems, solved without LAPACK or cuSOLVER.

Those are called for each matrix from the host, wait for each other on a busy CPU of few
cores (jaxlib 0.10.2), and take longer to start on a GPU than matrices of one row a task
take to solve.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Of the scaled diagonal: products in float32 may leave a matrix slightly indefinite.
RIDGE = 1e-6


def solve_positive(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solves a positive definite system by elimination, which needs no pivots.

    Solutions are those of Newton steps: descent matters, and their last digits do not.

    Args:
      matrix: symmetric and positive definite; float [n, n].
      right: right-hand sides; float [n, m].

    Returns:
      Solutions; float [n, m].
    """
    num = len(matrix)
    # A unit diagonal keeps barriers, which differ by many powers of ten, in range.
    scale = jax.lax.rsqrt(jnp.diagonal(matrix))[:, None]
    matrix = matrix * scale * scale.T + RIDGE * jnp.eye(num, dtype=matrix.dtype)
    system = jnp.concatenate([matrix, right * scale], axis=1)

    def eliminate(i, system):
        row = system[i] / system[i, i]
        factors = jnp.where(jnp.arange(num) == i, 0.0, system[:, i])
        system = system - factors[:, None] * row[None, :]
        return system.at[i].set(row)

    return scale * jax.lax.fori_loop(0, num, eliminate, system)[:, num:]
