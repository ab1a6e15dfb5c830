"""What a way of weighting task gradients is, and how it is applied to some tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.types import PyTree


class Weighting(NamedTuple):
    """A way to weight the gradients of n tasks, given their inner products.

    All methods here return sum_i w_i g_i, and w depends on the gradients by their Gram
    matrix alone, so that a step costs one product of [n, p] with its transpose,
    whatever the method then does with [n, n] numbers.

    The scale of all is that of the mean gradient, which is w_i = 1 / n.

    Attributes:
      init: `init(num_tasks, key)` returns the state to start from, a pytree.
      weigh: `weigh(state, gram, losses, mask)` returns the weights and the new state;
        of the Gram matrix float32 [n, n], the tasks' losses float32 [n], and which
        tasks there are, bool [n]. Of others the products are 0, and the weights do not
        matter.
      needs_losses: whether weights depend on the losses. They are NaN where one of
        these is negative or not finite, as the sum is where a gradient is not.
    """

    init: Callable[[int, jax.Array], PyTree]
    weigh: Callable[[PyTree, jax.Array, jax.Array, jax.Array], tuple[jax.Array, PyTree]]
    needs_losses: bool = False


class Agreement(NamedTuple):
    """How the gradients of tasks relate.

    Attributes:
      cosine: of each task, its mean cosine with the other tasks, 1 where it has none;
        float32 [n].
      conflicts: of each task, the share of other tasks whose gradient has a negative
        product with its own; float32 [n].
    """

    cosine: jax.Array
    conflicts: jax.Array


def weigh_tasks(
    weighting: Weighting,
    state: PyTree,
    gram: jax.Array,
    losses: jax.Array,
    mask: jax.Array,
) -> tuple[jax.Array, PyTree]:
    """Weights of the tasks that there are: of one alone 1, of those left out 0.

    Args:
      weighting: the method.
      state: of the method.
      gram: inner products of the tasks' gradients; float32 [n, n].
      losses: float32 [n].
      mask: which tasks there are; bool [n].

    Returns:
      Weights, float32 [n], and the new state.
    """
    gram = jnp.where(mask[:, None] & mask[None, :], gram, 0.0)
    losses = jnp.where(mask, losses, 1.0)
    weights, state = weighting.weigh(state, gram, losses, mask)
    weights = jnp.where(mask.sum() == 1, 1.0, weights)
    if weighting.needs_losses:
        allowed = jnp.all(jnp.isfinite(losses) & (losses >= 0.0))
        weights = jnp.where(allowed, weights, jnp.nan)
    return jnp.where(mask, weights, 0.0), state


def measure_agreement(gram: jax.Array, mask: jax.Array) -> Agreement:
    """Cosines and conflicts from the Gram matrix float32 [n, n]; mask bool [n].

    The cosine with a gradient of zero is 0.
    """
    norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
    product = norms[:, None] * norms[None, :]
    cosines = jnp.where(product > 0.0, gram / jnp.where(product > 0.0, product, 1), 0.0)
    others = mask[:, None] & mask[None, :] & ~jnp.eye(len(mask), dtype=bool)
    count = others.sum(axis=1).astype(gram.dtype)
    total = jnp.sum(jnp.where(others, cosines, 0.0), axis=1)
    negative = jnp.sum(others & (gram < 0.0), axis=1).astype(gram.dtype)
    some = jnp.maximum(count, 1.0)
    return Agreement(jnp.where(count > 0, total / some, 1.0), negative / some)


def mean_weights(mask: jax.Array) -> jax.Array:
    """Equal weights of the tasks that there are; float32 [n]."""
    count = jnp.maximum(mask.sum(), 1).astype(jnp.float32)
    return mask.astype(jnp.float32) / count
