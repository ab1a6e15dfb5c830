"""Policy gradients with no projection: coordinates that keep every inner product.

The regression of a subset sees gradients only through their inner products, and its
solution lies in their span. So any features with the same Gram matrix K = G G^T give
the same answer as the gradients G, [N, p], themselves: G where p <= N, and the factor L
of K = L L^T, [N, N], where p > N. The latter are off by about 3e-3 of the largest in
float32, the square root of its rounding: a multiple of the identity is added to K, the
least that lets it be factored. An eigendecomposition would cost a hundred times more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.estimation.blocks import map_blocks
from pgx_jax.estimation.parameters import count_params, flatten_rows, unflatten
from pgx_jax.estimation.projection import (
    LogProbFn,
    fill_padding,
    gradient_block,
    single_log_prob,
)
from pgx_jax.types import PyTree

# Beyond, a matrix of this many rows squared takes more than 1 GiB, and so does each
# task's curvature.
MAX_EXACT_DIM = 2**14
# Four times the shift each; what is not finite never ends otherwise.
MAX_TRIES = 10


class ExactFeatures(NamedTuple):
    """Gradients in coordinates of their span.

    Attributes:
      values: float32 [N, r], r = min(N, p).
      expand: `expand(delta)` is the change of the parameters that `delta`, of shape
        [..., r], stands for: a pytree like the parameters, with the leading axes of
        `delta`. Lengths are the same on both sides.
    """

    values: jax.Array
    expand: Callable[[jax.Array], PyTree]


def exact_dim(params: PyTree, num_samples: int) -> int:
    """r = min(N, p).

    Raises:
      ValueError: it is too large to do without a projection.
    """
    dim = min(count_params(params), num_samples)
    if dim > MAX_EXACT_DIM:
        raise ValueError(
            f"dim=None does without a projection, which takes at most {MAX_EXACT_DIM} "
            f"transitions or parameters; there are {num_samples} transitions of all "
            f"tasks and {count_params(params)} parameters. Pass dim, or fewer "
            "transitions"
        )
    return dim


def exact_features(
    log_prob_fn: LogProbFn,
    params: PyTree,
    observation: PyTree,
    action: PyTree,
    mask: jax.Array,
) -> ExactFeatures:
    """Policy gradients of all transitions in coordinates of their span.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`, of one
        transition or of a batch.
      params: pytree of float arrays; p numbers in all.
      observation: pytree, leaves of shape [N, ...].
      action: pytree, leaves of shape [N, ...].
      mask: false where a gradient is to count as zero; bool [N].
    """
    log_prob = single_log_prob(log_prob_fn, params, observation, action)
    num_params, num_samples = count_params(params), len(mask)
    block = min(gradient_block(num_params), num_samples)
    observation, action = fill_padding((observation, action), mask)
    samples = (observation, action, mask)

    def gradients(observation, action, mask):
        rows = jax.vmap(jax.grad(log_prob), (None, 0, 0))(params, observation, action)
        rows = flatten_rows(rows)
        return jnp.where(mask[:, None], rows, 0.0)

    if num_params <= num_samples:
        values = map_blocks(gradients, samples, block)
        return ExactFeatures(values, functools.partial(unflatten, params=params))

    def gram_rows(*rows):
        left = gradients(*rows)
        products = map_blocks(lambda *other: gradients(*other) @ left.T, samples, block)
        return products.T

    gram = map_blocks(gram_rows, samples, block)
    # One gradient that is not finite would take all coordinates with it.
    size = jnp.diagonal(gram)
    bad = ~jnp.isfinite(size)
    gram = jnp.where(bad[:, None] | bad[None, :], 0.0, gram)
    factor = _factor(0.5 * (gram + gram.T))
    # The factor of a gradient of zero is what was added to the diagonal.
    values = jnp.where((size == 0)[:, None], 0.0, factor)
    values = jnp.where(bad[:, None], jnp.nan, values)

    def combine(delta):
        """G^T L^-T delta, as the gradient of a weighted log-probability."""
        weight = jax.scipy.linalg.solve_triangular(
            factor, delta.reshape(-1, num_samples).T, trans="T", lower=True
        ).T
        flat = jnp.where(mask, weight, 0.0)

        def objective(p, weight):
            log_probs = jax.vmap(log_prob, (None, 0, 0))(p, observation, action)
            return jnp.sum(log_probs.astype(weight.dtype) * weight)

        change = jax.lax.map(lambda w: jax.grad(objective)(params, w), flat)
        return jax.tree.map(
            lambda x: x.reshape(*delta.shape[:-1], *x.shape[1:]), change
        )

    return ExactFeatures(values, combine)


def _factor(gram: jax.Array) -> jax.Array:
    """L with L L^T = K + c I, of the least c that rounding allows; [N, N]."""
    eps = float(jnp.finfo(gram.dtype).eps)
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    least = eps * len(gram) ** 0.5 * jnp.max(jnp.diagonal(gram))

    def attempt(shift):
        return jnp.linalg.cholesky(gram + shift * identity, symmetrize_input=False)

    def failed(carry):
        factor, _, tries = carry
        return ~jnp.all(jnp.isfinite(factor)) & (tries < MAX_TRIES)

    def again(carry):
        _, shift, tries = carry
        return attempt(4.0 * shift), 4.0 * shift, tries + 1

    shift = jnp.maximum(least, jnp.finfo(gram.dtype).tiny)
    factor, _, _ = jax.lax.while_loop(
        failed, again, (attempt(shift), shift, jnp.zeros((), jnp.int32))
    )
    return factor
