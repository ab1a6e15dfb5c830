"""The dtypes of an environment's state, which stay those of its reset."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def strengthen(x: jax.Array) -> jax.Array:
    """Drops a weak type, which would make the second call compile again."""
    x = jnp.asarray(x)
    return cast(x, x.dtype)


def cast(x: jax.Array, dtype: Any) -> jax.Array:
    """The array in a dtype, never a weak one; keys are returned unchanged."""
    x = jnp.asarray(x)
    if is_key(x.dtype):
        return x
    return jax.lax.convert_element_type(x, np.dtype(dtype))


def is_key(dtype: Any) -> bool:
    """Whether an array of this type holds keys of the new style."""
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def check_types(before: PyTree, after: PyTree) -> None:
    """Refuses a step whose values the dtypes of the state before would not hold.

    Raises:
      ValueError: an array of `after` has values that the type of the same array of
        `before` does not hold, such as fractions kept in an integer.
    """
    pairs = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, x), y in pairs:
        after_type = type_beside(x, y)
        if not holds(x.dtype, after_type):
            raise ValueError(
                f"the environment's state{jax.tree_util.keystr(path)} is {x.dtype} "
                f"before a step and {after_type} after it: let reset give the type of "
                "step"
            )


def type_beside(x: Any, y: Any) -> Any:
    """The type of `y`; a weak one, as Python's numbers have, gives way to that of `x`.

    Args:
      x: an array, or its shape and type.
      y: another one.
    """
    if not y.weak_type:
        return y.dtype
    for abstract, scalar in ((jnp.floating, float), (jnp.integer, int)):
        if jnp.issubdtype(y.dtype, abstract):
            return jax.dtypes.canonicalize_dtype(_promote(x.dtype, scalar))
    return y.dtype


def _promote(one: Any, other: Any) -> Any:
    """The type that JAX converts both to where it is not set to refuse that."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(one, other)


def holds(dtype: Any, other: Any) -> bool:
    """Whether arrays of `dtype` keep the values of those of `other`.

    Floats hold smaller floats and the integers of as many bits at most, which are
    exact up to the precision of the float.
    """
    if dtype == other or is_key(dtype) or is_key(other):
        return dtype == other
    if not jnp.issubdtype(other, jnp.integer):
        return _promote(dtype, other) == dtype
    small = jnp.iinfo(other)
    if jnp.issubdtype(dtype, jnp.integer):
        wide = jnp.iinfo(dtype)
        return wide.min <= small.min and small.max <= wide.max
    return jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits >= small.bits


def common_type(one: Any, other: Any) -> Any | None:
    """The smallest type that holds the values of both; None where there is none."""
    if one == other:
        return one
    if is_key(one) or is_key(other):
        return None
    common = jax.dtypes.canonicalize_dtype(_promote(one, other))
    return common if holds(common, one) and holds(common, other) else None
