"""The trace of the Hessian of a loss, from Hessian-vector products.

Sources: Hutchinson, "A stochastic estimator of the trace of the influence matrix",
1989; Meyer et al., "Hutch++: optimal stochastic trace estimation", 2021 (arXiv
2010.09649).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from pgx_jax.arguments import as_integer, as_key, check_choice
from pgx_jax.types import PyTree

METHODS = ("hutchinson", "hutch++")
# Products with random vectors; Hutch++ takes a third of them for each of its parts.
FEWEST_PRODUCTS = {"hutchinson": 2, "hutch++": 6}

LossFn = Callable[[Any], jax.Array]


class HessianTrace(NamedTuple):
    """An estimate of a trace.

    Attributes:
      value: the trace; float [].
      standard_error: that of the random vectors, not of the samples that the loss is a
        mean over; float [].
    """

    value: jax.Array  # shape=()
    standard_error: jax.Array  # shape=()


def hessian_vector_product(loss_fn: LossFn, params: PyTree, vector: PyTree) -> PyTree:
    """H v, the derivative of the gradient along v; a pytree like `params`.

    Args:
      loss_fn: `loss_fn(params) -> loss`, a float []; twice differentiable.
      params: pytree of float arrays, of one dtype.
      vector: like `params`.
    """
    return jax.jvp(jax.grad(loss_fn), (params,), (vector,))[1]


def hessian_trace(
    loss_fn: LossFn,
    params: PyTree,
    key: jax.Array | int,
    *,
    num_products: int = 60,
    method: str = "hutchinson",
) -> HessianTrace:
    """Estimates the trace of the Hessian of a loss without its entries. Pure.

    * "hutchinson": the mean of v . H v over vectors v of random signs. Its variance is
      twice the sum of squares of the entries off the diagonal, over their number.
    * "hutch++": exact within the span Q of a third of the products with random vectors,
      where the large eigenvalues are, and Hutchinson's outside of it. It pays where few
      eigenvalues make up most of the sum of squares.

    Both are without bias. Two of the products with p parameters are held at a time,
    and by Hutch++ its span as well, num_products / 3 of them.

    Args:
      loss_fn: `loss_fn(params) -> loss`, a float []; twice differentiable.
      params: pytree of float arrays, of one dtype, p numbers in all.
      key: for the random vectors.
      num_products: products H v; at least 2, or 6 for "hutch++", which leaves out what
        is no multiple of 3.
      method: "hutchinson" or "hutch++".

    Raises:
      ValueError: there is no such method, `num_products` is too small, `key` is none,
        or, outside jit, the estimate is not finite.
    """
    check_choice("method", method, METHODS)
    least = FEWEST_PRODUCTS[method]
    num_products = as_integer("num_products", num_products, least)
    multiply, size, dtype = _flat_product(loss_fn, params)
    span_key, signs_key = jax.random.split(as_key(key))
    inside = jnp.zeros((), dtype)
    count, basis = num_products, None
    if method == "hutch++":
        count = num_products // 3
        signs = jax.random.rademacher(span_key, (count, size), dtype)
        basis = jnp.linalg.qr(jax.lax.map(multiply, signs).T)[0].T
        inside = jnp.sum(basis * jax.lax.map(multiply, basis))

    def outside(signs):
        if basis is not None:
            signs = signs - (basis @ signs) @ basis
        return jnp.vdot(signs, multiply(signs))

    with jax.default_matmul_precision("highest"):
        signs = jax.random.rademacher(signs_key, (count, size), dtype)
        values = jax.lax.map(outside, signs)
    error = jnp.std(values, ddof=1) / count**0.5
    found = HessianTrace(inside + jnp.mean(values), error)
    if not isinstance(found.value, Tracer) and not jnp.isfinite(found.value):
        raise ValueError(
            "loss_fn must have finite second derivatives at params; the trace is "
            f"{found.value}"
        )
    return found


def exact_hessian_trace(loss_fn: LossFn, params: PyTree) -> jax.Array:
    """The trace itself, by one product for each of the p parameters; float [].

    Args:
      loss_fn: `loss_fn(params) -> loss`, a float []; twice differentiable.
      params: pytree of float arrays, of one dtype, p numbers in all.
    """
    multiply, size, dtype = _flat_product(loss_fn, params)

    def entry(total, i):
        unit = jnp.zeros(size, dtype).at[i].set(1.0)
        return total + multiply(unit)[i], None

    return jax.lax.scan(entry, jnp.zeros((), dtype), jnp.arange(size))[0]


def _flat_product(loss_fn: LossFn, params: PyTree) -> tuple[Any, int, Any]:
    """v [p] -> H v [p], p, and the dtype of both."""
    flat, restore = ravel_pytree(params)

    def multiply(vector):
        return hessian_vector_product(lambda x: loss_fn(restore(x)), flat, vector)

    return multiply, flat.size, flat.dtype
