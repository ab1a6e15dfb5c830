"""Uncertainty weighting: each task's loss over a variance that is learned with it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.arguments import check_number
from pgx_jax.optim.weighting import Weighting, mean_weights


class UncertaintyState(NamedTuple):
    """State of `uncertainty_weighting`: s_i = log sigma_i^2; float32 [n]."""

    log_variance: jax.Array  # shape=[n], dtype=float32


def uncertainty_weighting(learning_rate: float = 0.025) -> Weighting:
    """Homoscedastic uncertainty.

    Minimizes sum_i l_i / (2 sigma_i^2) + log sigma_i over the parameters and over
    s_i = log sigma_i^2, which steps against its gradient, 1/2 - exp(-s_i) l_i / 2.
    The gradient returned is the mean of exp(-s_i) g_i, twice the one of that loss over
    n, which is the mean gradient at the start.

    Deviation: s takes gradient steps of its own size, in place of those of the
    optimizer of the parameters.

    Args:
      learning_rate: of s.

    Raises:
      ValueError: `learning_rate` is not positive.

    Source: Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh
    losses for scene geometry and semantics", 2018, arXiv 1705.07115, equation 7.
    Losses must be positive.
    """
    check_number("learning_rate", learning_rate)

    def init(num_tasks, key):
        del key
        return UncertaintyState(jnp.zeros((num_tasks,), jnp.float32))

    def weigh(state, gram, losses, mask):
        del gram
        precision = jnp.exp(-state.log_variance)
        slope = 0.5 * (1.0 - precision * losses)
        new = UncertaintyState(state.log_variance - learning_rate * slope)
        return mean_weights(mask) * precision, new

    return Weighting(init, weigh, needs_losses=True)
