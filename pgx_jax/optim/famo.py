"""FAMO: weights by which all losses decrease at the same relative rate."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.arguments import check_number
from pgx_jax.extras import needs_extra
from pgx_jax.optim.weighting import Weighting
from pgx_jax.runtime import allow_promotion
from pgx_jax.types import PyTree

with needs_extra("envs"):
    import optax

SMALLEST_LOSS = 1e-8


class FAMOState(NamedTuple):
    """State of `famo`.

    Attributes:
      logits: xi, of the tasks; float32 [n].
      log_losses: of the gradients before; float32 [n].
      count: gradients combined so far; int32 [].
      optimizer: Adam's, of the logits.
    """

    logits: jax.Array  # shape=[n], dtype=float32
    log_losses: jax.Array  # shape=[n], dtype=float32
    count: jax.Array  # shape=[], dtype=int32
    optimizer: PyTree


def famo(learning_rate: float = 0.025, decay: float = 1e-3) -> Weighting:
    """Fast adaptive multitask optimization.

    With z = softmax(xi), the weights are w_i = c z_i / l_i with c such that they sum to
    one. After a step, xi <- xi - beta (J^T (log l_t - log l_{t+1}) + gamma xi), where J
    is the Jacobian of the softmax: the task whose loss decreased least gains weight.
    Where all gradients but the losses are left out, no gradient of a single task is
    needed: here the Gram matrix is not used.

    As in the authors' code, Adam takes the steps of xi. Deviation: log l_{t+1} is the
    loss that comes with the next gradients, of the next samples where these are drawn
    anew, in place of another pass over the same ones.

    Args:
      learning_rate: beta.
      decay: gamma.

    Raises:
      ValueError: `learning_rate` is not positive, or `decay` negative.

    Source: Liu et al., "FAMO: fast adaptive multitask optimization", 2023,
    arXiv 2306.03792, algorithm 1. Losses must be positive.
    """
    check_number("learning_rate", learning_rate)
    check_number("decay", decay, zero=True)
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.adam(learning_rate))

    def init(num_tasks, key):
        del key
        zeros = jnp.zeros((num_tasks,), jnp.float32)
        return FAMOState(zeros, zeros, jnp.zeros((), jnp.int32), optimizer.init(zeros))

    def weigh(state, gram, losses, mask):
        del gram
        losses = jnp.maximum(losses, SMALLEST_LOSS)
        log_losses = jnp.log(losses)
        shares = jax.nn.softmax(state.logits, where=mask)
        decrease = state.log_losses - log_losses
        slope = shares * (decrease - jnp.sum(shares * decrease))
        with allow_promotion():
            change, moved = optimizer.update(slope, state.optimizer, state.logits)
        is_first = state.count == 0
        logits, moments = jax.tree.map(
            lambda new, old: jnp.where(is_first, old, new),
            (state.logits + change, moved),
            (state.logits, state.optimizer),
        )
        parts = jax.nn.softmax(logits, where=mask) / losses
        new = FAMOState(logits, log_losses, state.count + 1, moments)
        return parts / jnp.sum(parts), new

    return Weighting(init, weigh, needs_losses=True)
