"""The Optax transformation from stacked gradients of n tasks to one gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.arguments import as_integer, as_key, show
from pgx_jax.extras import needs_extra
from pgx_jax.optim.weighting import Weighting, measure_agreement, weigh_tasks
from pgx_jax.types import PyTree

with needs_extra("envs"):
    import optax


class CombinationState(NamedTuple):
    """State of `combine_gradients`: that of the method, and its diagnostics.

    Attributes:
      method: of the weighting.
      weights: that the last gradients were summed with; float32 [n].
      cosine: mean cosine of each task's gradient with the others'; float32 [n].
      conflicts: share of the others that each task conflicts with; float32 [n].
    """

    method: PyTree
    weights: jax.Array  # shape=[n], dtype=float32
    cosine: jax.Array  # shape=[n], dtype=float32
    conflicts: jax.Array  # shape=[n], dtype=float32


def combine_gradients(
    weighting: Weighting, num_tasks: int, key: jax.Array | int = 0
) -> optax.GradientTransformationExtraArgs:
    """Combines the gradients of n tasks; to be chained with an optimizer.

    `update(stacked, state, params, losses=...)` takes leaves of shape [n, ...], as
    `jax.vmap(jax.grad(loss), (None, 0))(params, batch)` returns them, and returns
    leaves of shape [...]. `losses`, float32 [n], are needed by the methods that weight
    by them (`famo`, `gradnorm`, `uncertainty_weighting`) and must be positive; `mask`,
    bool [n], leaves tasks out. Of a single task the gradient is returned as it is.
    Where a gradient, or a loss that is needed, is not finite, or that loss negative,
    the result is not finite. A task that is left out may have any.

    Args:
      weighting: the method, such as `pcgrad()`.
      num_tasks: n.
      key: of the methods that draw; kept in the state.

    Returns:
      A transformation whose state is a `CombinationState`.

    Raises:
      ValueError: `weighting`, `num_tasks` or `key` is not allowed; on `update`, a leaf
        has another leading axis, `losses` or `mask` another shape, or `losses` are
        missing.
    """
    if not isinstance(weighting, Weighting):
        raise ValueError(
            f"weighting must be a Weighting, such as pcgrad(), got {show(weighting)}"
        )
    num_tasks = as_integer("num_tasks", num_tasks, 1)
    key = as_key(key)

    def init(params):
        del params
        zeros = jnp.zeros((num_tasks,), jnp.float32)
        return CombinationState(weighting.init(num_tasks, key), zeros, zeros, zeros)

    def update(updates, state, params=None, *, losses=None, mask=None, **others):
        del params, others
        _check_updates(updates, num_tasks)
        if losses is None and weighting.needs_losses:
            raise ValueError(
                "losses must be given to update, one a task: the weights depend on them"
            )
        losses = _of_tasks("losses", 1.0 if losses is None else losses, jnp.float32)
        mask = _of_tasks("mask", True if mask is None else mask, bool)
        # What a task that is left out has, NaN included, does not count.
        flat = jnp.where(mask[:, None], flatten_tasks(updates), 0.0)
        gram = gram_matrix(flat)
        weights, method = weigh_tasks(weighting, state.method, gram, losses, mask)
        agreement = measure_agreement(gram, mask)
        combined = unflatten(weighted_sum(weights, flat), updates)
        return combined, CombinationState(method, weights, *agreement)

    def _of_tasks(name, given, dtype):
        try:
            array = jnp.asarray(given, dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be numbers, got {show(given)}") from error
        if array.ndim == 0:
            array = jnp.full((num_tasks,), array)
        if array.shape != (num_tasks,):
            raise ValueError(
                f"{name} must have shape [{num_tasks}], one a task, got "
                f"{list(array.shape)}"
            )
        return array

    return optax.GradientTransformationExtraArgs(init, update)


def _check_updates(updates: PyTree, num_tasks: int) -> None:
    """Refuses what are no gradients of n tasks."""
    leaves = jax.tree.leaves_with_path(updates)
    if not leaves:
        raise ValueError(f"updates must hold a gradient, got {show(updates)}")
    for path, leaf in leaves:
        shape = getattr(leaf, "shape", ())
        dtype = getattr(leaf, "dtype", bool)
        if shape[:1] != (num_tasks,) or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"updates{jax.tree_util.keystr(path)} must have shape "
                f"[{num_tasks}, ...], a gradient for each task, of floating-point "
                f"numbers, got {show(leaf)}"
            )


def flatten_tasks(stacked: PyTree) -> jax.Array:
    """All leaves of shape [n, ...] side by side, as float32 [n, p]."""
    leaves = jax.tree.leaves(stacked)
    num_tasks = leaves[0].shape[0]
    return jnp.concatenate(
        [x.reshape(num_tasks, -1).astype(jnp.float32) for x in leaves], axis=1
    )


def unflatten(flat: jax.Array, stacked: PyTree) -> PyTree:
    """Leaves of shape [...] from [p], in the dtypes of leaves of shape [n, ...]."""
    leaves, tree = jax.tree.flatten(stacked)
    out, begin = [], 0
    for leaf in leaves:
        size = leaf[0].size
        part = flat[..., begin : begin + size]
        shape = (*flat.shape[:-1], *leaf.shape[1:])
        out.append(part.reshape(shape).astype(leaf.dtype))
        begin += size
    return jax.tree.unflatten(tree, out)


def gram_matrix(flat: jax.Array) -> jax.Array:
    """Inner products of the rows of float32 [n, p]; float32 [n, n]."""
    return jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)


def weighted_sum(weights: jax.Array, flat: jax.Array) -> jax.Array:
    """The rows of float32 [n, p] summed by weights float32 [n]; float32 [p]."""
    return jnp.matmul(weights, flat, precision=jax.lax.Precision.HIGHEST)
