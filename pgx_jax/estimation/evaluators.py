"""Policy evaluation: what the adapted policy theta_S is worth on each task.

An evaluator is a function `evaluator(adapted) -> scores` of an `Adapted`, with scores
f_i(S) of shape [m, n], higher is better. Any function of that signature can be passed
to `estimate_subsets`; those that exist by name are in `EVALUATORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.estimation.projection import BLOCK_ELEMENTS, map_blocks
from pgx_jax.types import Transitions


class Adapted(NamedTuple):
    """What an evaluator may look at.

    Attributes:
      subsets: bool [m, n].
      solution: the minimisers of the regressions; float32 [m, d].
      delta: the adaptations Delta_S: the minimisers, scaled back where they would move
        the parameters too far; float32 [m, d].
      batch: the transitions to evaluate on, advantages normalised; leaves [n, N, ...].
      features: their projected gradients; float32 [n, N, d].
      adapt: `adapt(delta)` gives theta_S = theta* + P Delta_S, a pytree like the
        parameters with the leading axes of `delta`.
    """

    subsets: jax.Array
    solution: jax.Array
    delta: jax.Array
    batch: Transitions
    features: jax.Array
    adapt: Callable


Evaluator = Callable[[Adapted], jax.Array]


def surrogate(adapted: Adapted) -> jax.Array:
    """How far the logistic loss of each task falls at the solution of the regression.

        f_i(S) = mean over t of task i of w_t (log 2 - log(1 + exp(-y_t g~_t . Delta)))

    It looks only at projected gradients: no network is run, and the solution is taken
    as it is, since the loss itself bounds how much a long step can claim.

    Returns:
      float32 [m, n].
    """
    advantage, mask = adapted.batch.advantage, adapted.batch.mask
    weight = jnp.abs(advantage)
    if mask is not None:
        weight = jnp.where(mask, weight, 0.0)
    count = advantage.shape[1] if mask is None else mask.sum(axis=1, keepdims=True)
    weight = weight / jnp.maximum(count, 1)
    sign = jnp.where(advantage >= 0, 1.0, -1.0)

    def score(delta):
        logits = jnp.einsum("ntd,bd->bnt", adapted.features, delta) * sign
        gains = jnp.log(2.0) - jax.nn.softplus(-logits)
        return jnp.einsum("bnt,nt->bn", gains, weight)

    block = max(1, BLOCK_ELEMENTS // advantage.size)
    return map_blocks(score, (adapted.solution,), block)


EVALUATORS: Mapping[str, Evaluator] = {"surrogate": surrogate}
