"""PCGrad: each task's gradient loses what opposes the gradients of the others."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.optim.weighting import Weighting, mean_weights

MOST_UNROLLED = 16


class PCGradState(NamedTuple):
    """State of `pcgrad`.

    Attributes:
      seed: of the orders, drawn from the key; uint32 [2].
      count: gradients combined so far, folded into the seed; int32 [].
    """

    seed: jax.Array  # shape=[2], dtype=uint32
    count: jax.Array  # shape=[], dtype=int32


def pcgrad() -> Weighting:
    """Projecting conflicting gradients.

    Each g_i is changed one after another by every other g_j, in a random order of its
    own: where g_i . g_j < 0, g_i <- g_i - (g_i . g_j) / |g_j|^2 g_j. The changed
    gradients are summed. Every change adds a multiple of some g_j, so only the
    coefficients of the g_j are followed, [n, n] of them.

    Deviation: the mean in place of the sum, as the loss is the mean over tasks.

    Source: Yu et al., "Gradient surgery for multi-task learning", 2020,
    arXiv 2001.06782, algorithm 1.
    """

    def init(num_tasks, key):
        del num_tasks
        seed = jax.random.bits(key, (2,), jnp.uint32)
        return PCGradState(seed, jnp.zeros((), jnp.int32))

    def weigh(state, gram, losses, mask):
        del losses
        orders = draw_orders(state, len(mask))
        weights = mean_weights(mask) @ project(gram, orders)
        return weights, state._replace(count=state.count + 1)

    return Weighting(init, weigh)


def draw_orders(state: PCGradState, num_tasks: int) -> jax.Array:
    """In which order each task meets the tasks, itself included; int32 [n, n]."""
    key = jax.random.wrap_key_data(state.seed, impl="threefry2x32")
    uniform = jax.random.uniform(
        jax.random.fold_in(key, state.count), (num_tasks, num_tasks), jnp.float32
    )
    return jnp.argsort(uniform, axis=1)


def project(gram: jax.Array, orders: jax.Array) -> jax.Array:
    """The projected gradients in terms of the original ones.

    Args:
      gram: inner products; float32 [n, n].
      orders: the tasks that each gradient meets, in order; int32 [n, n].

    Returns:
      Coefficients C, so that the projected g_i is sum_j C_ij g_j; float32 [n, n].
    """
    num_tasks = len(gram)
    tasks = jnp.arange(num_tasks)
    squares = jnp.diagonal(gram)

    def meet(step, carry):
        coefficients, products = carry  # of the projected gradients with all g_j
        other = jax.lax.dynamic_index_in_dim(orders, step, 1, keepdims=False)
        product = products[tasks, other]
        conflicts = (product < 0.0) & (other != tasks) & (squares[other] > 0.0)
        factor = jnp.where(
            conflicts, product / jnp.where(conflicts, squares[other], 1.0), 0.0
        )[:, None]
        met = jax.nn.one_hot(other, num_tasks, dtype=gram.dtype)
        return coefficients - factor * met, products - factor * gram[other]

    start = jnp.eye(num_tasks, dtype=gram.dtype), gram
    unroll = min(num_tasks, MOST_UNROLLED)
    return jax.lax.fori_loop(0, num_tasks, meet, start, unroll=unroll)[0]
