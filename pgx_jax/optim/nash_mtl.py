"""Nash-MTL: the direction that the tasks would agree on in a bargaining game."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.optim.linear import solve_positive
from pgx_jax.optim.weighting import Weighting

# Of the cosines' matrix: keeps weights finite where gradients cancel.
RIDGE = 1e-6
MOST_STEPS = 100
TOLERANCE = 1e-4


def nash_mtl() -> Weighting:
    """The Nash bargaining solution of the tasks' gradients.

    With G the matrix of gradients, d = G w is the direction of a ball that maximizes
    sum_i log(g_i . d); its weights solve G^T G w = 1 / w, w > 0.

    That is the stationary point of |G w|^2 / 2 - sum_i log w_i, which is convex and
    self-concordant, and is found by damped Newton steps in place of the paper's
    sequence of convex programs. As in the authors' code, G^T G is divided by its
    Frobenius norm, so that d grows with the gradients: without it |d| is sqrt(n)
    everywhere. Deviations: a ridge of 1e-6 on the matrix of cosines, since there is no
    solution where a combination of gradients is zero; and division by n, by which d is
    the mean gradient where all gradients are equal.

    Source: Navon et al., "Multi-task learning as a bargaining game", 2022,
    arXiv 2202.01017, claim 3.1 and algorithm 1.
    """

    def init(num_tasks, key):
        del num_tasks, key
        return ()

    def weigh(state, gram, losses, mask):
        del losses
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
        norms = jnp.where(norms > 0.0, norms, 1.0)
        # Gains do not depend on units, and cosines are all of one size.
        weights = solve_bargaining(gram / norms[:, None] / norms[None, :]) / norms
        # In two parts, since squares of small products are zero in float32.
        total = jnp.maximum(gram.trace(), jnp.finfo(gram.dtype).tiny)
        size = jnp.sqrt(total) * jnp.sqrt(jnp.linalg.norm(gram / total))
        return weights * size / jnp.maximum(mask.sum(), 1).astype(gram.dtype), state

    return Weighting(init, weigh)


def solve_bargaining(cosines: jax.Array) -> jax.Array:
    """Solves (M + ridge) w = 1 / w for w > 0.

    Args:
      cosines: M, symmetric and positive semidefinite, with 1 on the diagonal, or 0
        where there is no gradient, whose weight is then 1; float32 [n, n].

    Returns:
      w; float32 [n].
    """
    diagonal = jnp.diagonal(cosines)
    matrix = cosines + jnp.diag(jnp.where(diagonal > 0.0, RIDGE, 1.0))

    def unfinished(carry):
        _, decrement, steps = carry
        return (decrement > TOLERANCE) & (steps < MOST_STEPS)

    def step(carry):
        weights, _, steps = carry
        gradient = matrix @ weights - 1.0 / weights
        hessian = matrix + jnp.diag(1.0 / weights**2)
        change = -solve_positive(hessian, gradient[:, None])[:, 0]
        decrement = jnp.sqrt(jnp.maximum(-gradient @ change, 0.0))
        # In this range full steps converge quadratically and stay positive.
        size = jnp.where(decrement < 0.25, 1.0, 1.0 / (1.0 + decrement))
        return weights + size * change, decrement, steps + 1

    start = jnp.ones_like(diagonal)
    first = (start, jnp.asarray(jnp.inf, diagonal.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, first)[0]
