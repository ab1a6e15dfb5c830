"""GradNorm: weights by which tasks that learn slowly get large gradients."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.arguments import check_number
from pgx_jax.optim.weighting import Weighting, mean_weights

SMALLEST = 1e-8
SMALLEST_WEIGHT = 1e-3


class GradNormState(NamedTuple):
    """State of `gradnorm`.

    Attributes:
      weights: of mean 1; float32 [n].
      first_losses: of the first gradients; float32 [n].
      count: gradients combined so far; int32 [].
    """

    weights: jax.Array  # shape=[n], dtype=float32
    first_losses: jax.Array  # shape=[n], dtype=float32
    count: jax.Array  # shape=[], dtype=int32


def gradnorm(learning_rate: float = 0.025, restoring_force: float = 1.5) -> Weighting:
    """Gradient normalization.

    With the norms G_i = w_i |g_i|, their mean G, and the relative inverse rates r_i of
    training, l_i(t) / l_i(0) over its mean, w takes a step against the gradient of
    sum_i |G_i - G r_i^alpha|, in which the target is a constant, and is scaled to
    sum to n. The gradient is the mean of w_i g_i, with the weights of before the step.

    Deviations: norms are of all parameters, not of the last layer that tasks share; and
    no weight falls below 0.001, since a negative one would ascend.

    Args:
      learning_rate: of w.
      restoring_force: alpha, how strongly slow tasks are favored.

    Raises:
      ValueError: `learning_rate` is not positive, or `restoring_force` negative.

    Source: Chen et al., "GradNorm: gradient normalization for adaptive loss balancing
    in deep multitask networks", 2018, arXiv 1711.02257, equation 2 and algorithm 1.
    Losses must be positive.
    """
    check_number("learning_rate", learning_rate)
    check_number("restoring_force", restoring_force, zero=True)

    def init(num_tasks, key):
        del key
        ones = jnp.ones((num_tasks,), jnp.float32)
        return GradNormState(ones, ones, jnp.zeros((), jnp.int32))

    def weigh(state, gram, losses, mask):
        mean = mean_weights(mask)
        losses = jnp.maximum(losses, SMALLEST)
        first = jnp.where(state.count == 0, losses, state.first_losses)
        ratios = losses / first
        rates = ratios / jnp.sum(mean * ratios)
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
        weighted = state.weights * norms
        target = jnp.sum(mean * weighted) * rates**restoring_force
        slope = jnp.sign(weighted - target) * norms
        moved = jnp.maximum(state.weights - learning_rate * slope, SMALLEST_WEIGHT)
        moved = moved / jnp.sum(mean * moved)
        new = GradNormState(moved, first, state.count + 1)
        return mean * state.weights, new

    return Weighting(init, weigh, needs_losses=True)
