"""Gradients of several tasks combined into one, as Optax transformations.

import optax
from pgx_jax.optim import combine_gradients, pcgrad

optimizer = optax.chain(
    combine_gradients(pcgrad(), num_tasks=10, key=jax.random.key(0)),
    optax.adam(1e-3),
)
"""

from pgx_jax.optim.cagrad import cagrad
from pgx_jax.optim.combination import CombinationState, combine_gradients
from pgx_jax.optim.famo import famo
from pgx_jax.optim.gradnorm import gradnorm
from pgx_jax.optim.nash_mtl import nash_mtl
from pgx_jax.optim.pcgrad import pcgrad
from pgx_jax.optim.uncertainty import uncertainty_weighting
from pgx_jax.optim.weighting import Weighting

__all__ = [
    "CombinationState",
    "Weighting",
    "cagrad",
    "combine_gradients",
    "famo",
    "gradnorm",
    "nash_mtl",
    "pcgrad",
    "uncertainty_weighting",
]
