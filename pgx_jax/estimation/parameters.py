"""Pytrees of parameters: their number, norm, flattened rows and changes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.types import PyTree


def working_dtype(x: jax.Array) -> Any:
    """The dtype of float arrays, float32 at least: sums in half precision go wrong."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32


def global_norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm of all leaves together; float32 []."""
    leaves = [x.astype(working_dtype(x)) for x in jax.tree.leaves(tree)]
    # Squares of entries near the ends of the range would not fit in it.
    largest = functools.reduce(
        jnp.maximum, [jnp.max(jnp.abs(x)).astype(jnp.float32) for x in leaves if x.size]
    )
    unit = jnp.where(largest > 0, largest, 1.0)
    squares = [
        jnp.sum(jnp.square((x / unit.astype(x.dtype)).astype(jnp.float32)))
        for x in leaves
    ]
    return largest * jnp.sqrt(sum(squares))


def add_change(params: PyTree, change: PyTree) -> PyTree:
    """theta* + P Delta, added in float32 at least and returned in theta*'s dtypes.

    Args:
      params: theta*.
      change: leaves with further leading axes.
    """

    def add(x, c):
        dtype = working_dtype(x)
        whole = jnp.broadcast_to(x.astype(dtype), c.shape) + c.astype(dtype)
        return whole.astype(x.dtype)

    return jax.tree.map(add, params, change)


def flatten_rows(tree: PyTree) -> jax.Array:
    """Leaves of shape [b, ...] side by side; float32 [b, p]."""
    leaves = [
        x.reshape(x.shape[0], -1).astype(jnp.float32) for x in jax.tree.leaves(tree)
    ]
    return jnp.concatenate(leaves, axis=1)


def unflatten(flat: jax.Array, params: PyTree) -> PyTree:
    """[..., p] as a pytree like `params`, leaves with the same leading axes."""
    leaves, treedef = jax.tree.flatten(params)
    ends = np.cumsum([x.size for x in leaves])
    parts = jnp.split(flat, ends[:-1], axis=-1)
    return jax.tree.unflatten(
        treedef,
        [
            part.reshape(*flat.shape[:-1], *x.shape)
            for part, x in zip(parts, leaves, strict=True)
        ],
    )


def count_params(params: PyTree) -> int:
    """p, the number of parameters."""
    return sum(x.size for x in jax.tree.leaves(params))
