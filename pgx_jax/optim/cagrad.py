"""CAGrad: the direction near the mean gradient that the worst task gains most from."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.arguments import check_number
from pgx_jax.optim.linear import solve_positive
from pgx_jax.optim.weighting import Weighting, mean_weights

NUM_STEPS = 20
FIRST_BARRIER, BARRIER_FACTOR, LAST_BARRIER = 1.0, 0.3, 1e-7
# Of the gradients' size: where g_w is smaller, it counts as this long.
SMOOTHING = 1e-4
STEP_SIZES = 8
RESOLUTION = 1e-6


def cagrad(radius: float = 0.4) -> Weighting:
    """Conflict-averse gradient descent.

    With g_0 the mean gradient, it returns the d with |d - g_0| <= c |g_0| whose least
    product with any g_i is largest. By duality d = g_0 + c |g_0| g_w / |g_w|, where
    g_w = sum_i w_i g_i and w minimizes g_w . g_0 + c |g_0| |g_w| over the simplex.

    The minimum is found by an interior-point method in place of SciPy's SLSQP.
    Deviation: |g_w| is rounded off below 1e-4 of the gradients' size, so that d
    stays defined where g_w = 0.

    Args:
      radius: c; 0 is the mean gradient. Below 1 the mean loss converges.

    Raises:
      ValueError: `radius` is no number of at least 0.

    Source: Liu et al., "Conflict-averse gradient descent for multi-task learning",
    2021, arXiv 2110.14048, equation 3 and algorithm 1.
    """
    check_number("radius", radius, zero=True)

    def init(num_tasks, key):
        del num_tasks, key
        return ()

    def weigh(state, gram, losses, mask):
        del losses
        mean = mean_weights(mask)
        size = gram.trace() / jnp.maximum(mask.sum(), 1).astype(gram.dtype)
        gram = gram / jnp.where(size > 0.0, size, 1.0)
        length = radius * jnp.sqrt(jnp.maximum(mean @ gram @ mean, 0.0))
        least = _minimize(gram, gram @ mean, length, mask)
        return mean + length * least / _norm(gram, least), state

    return Weighting(init, weigh)


def _norm(gram: jax.Array, weights: jax.Array) -> jax.Array:
    """|g_w| for weights [..., n]."""
    square = jnp.sum((weights @ gram) * weights, axis=-1)
    return jnp.sqrt(jnp.maximum(square, 0.0) + SMOOTHING**2)


def _minimize(
    gram: jax.Array, products: jax.Array, length: jax.Array, mask: jax.Array
) -> jax.Array:
    """Minimizes w . products + length |g_w| over the simplex; float32 [n].

    Newton's method on a logarithmic barrier that gives way, with the best of some step
    sizes at each step.
    """
    inside = mask.astype(gram.dtype)
    outside = jnp.diag(1.0 - inside)
    sizes = 0.5 ** jnp.arange(STEP_SIZES, dtype=gram.dtype)
    sizes = jnp.append(sizes, 0.0)  # where no step descends

    def barrier(weights):
        return -jnp.log(weights) @ inside

    def objective(weights):
        return weights @ products + length * _norm(gram, weights)

    def step(i, weights):
        power = jnp.asarray(BARRIER_FACTOR, gram.dtype) ** i
        strength = jnp.maximum(FIRST_BARRIER * power, LAST_BARRIER)
        norm = _norm(gram, weights)
        image = gram @ weights
        gradient = products + length * image / norm - strength / weights
        curvature = gram - image[:, None] * image[None, :] / norm**2
        hessian = length * curvature / norm + jnp.diag(inside * strength / weights**2)
        # Changes sum to zero, so that neither term matters but to rounding.
        hessian = hessian + inside[:, None] * inside[None, :]
        gradient = gradient - jnp.sum(weights * gradient * inside)
        right = jnp.stack([gradient * inside, inside], axis=1)
        solved = solve_positive(hessian + outside, right)
        change = -solved[:, 0] + solved[:, 1] * (
            jnp.sum(solved[:, 0] * inside) / jnp.sum(solved[:, 1] * inside)
        )
        change = jnp.where(jnp.all(jnp.isfinite(change)), change, 0.0) * inside
        shrinks = jnp.where(mask, -change / weights, 0.0)
        largest = jnp.minimum(1.0, 0.95 / jnp.maximum(shrinks.max(), 1e-6))
        tried = weights[None, :] + (largest * sizes)[:, None] * change[None, :]
        merit = objective(tried) + strength * barrier(tried)
        # The largest that does not ascend beyond what float32 resolves.
        now = objective(weights) + strength * barrier(weights)
        best = tried[jnp.argmax(merit <= now + RESOLUTION)]
        total = jnp.sum(best * inside)
        return jnp.where(mask, best / total, 1.0)

    start = jnp.where(mask, mean_weights(mask), 1.0)
    weights = jax.lax.fori_loop(0, NUM_STEPS, step, start)
    return weights * inside
