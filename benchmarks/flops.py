"""Floating-point operations of a JAX program, counted from what it is traced to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

# One operation for each number that comes out, or that goes in.
_ELEMENTWISE = """
abs acos acosh add add_any asin asinh atan atan2 atanh cbrt ceil clamp cos cosh digamma
div erf erf_inv erfc exp exp2 expm1 floor integer_pow lgamma log log1p logistic max min
mul neg nextafter pow rem round rsqrt sign sin sinh sqrt square sub tan tanh
"""
_REDUCTIONS = """
argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_max reduce_min
reduce_prod reduce_sum
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
REDUCTIONS = frozenset(_REDUCTIONS.split())


def count_flops(
    function: Callable[..., Any], *args: Any, while_iterations: int | None = None
) -> int:
    """Counts the floating-point operations of `function(*args)` without running it.

    Walks the program that the function is traced to, before XLA simplifies it:

    * `dot_general`, convolution: 2 for each product that is summed;
    * element-wise arithmetic, roots and transcendental functions on floating-point
      numbers: 1 for each number that comes out; complex ones count as real ones;
    * reductions, cumulative sums and scatter-additions: 1 for each number that goes in;
    * LU, Cholesky, QR and triangular solves of n x n matrices: the leading term of the
      usual count (2 n^3 / 3, n^3 / 3, 4 n^3 / 3, and n^2 for each right-hand side);
    * `scan`: its body as often as it is run; `cond`: its most expensive branch;
      `while`: condition and body `while_iterations` times.

    Integers (random bits among them), comparisons, selections, copies, gathers and
    sorting count nothing, nor do other decompositions and kernels written by hand.

    XLA's own figure (`compiled_flops`) takes the body of a loop once, however often it
    is run, so that it cannot be used for programs with loops.

    Args:
      function: any JAX function.
      *args: arrays, or `jax.ShapeDtypeStruct`s; only shapes and dtypes are used.
      while_iterations: how often every `while` loop in the program goes round.

    Raises:
      ValueError: the program has a `while` loop and `while_iterations` is None.
    """
    closed = jax.make_jaxpr(function)(*args)
    return _count(closed.jaxpr, while_iterations)


def compiled_flops(function: Callable[..., Any], *args: Any) -> float:
    """XLA's own figure for the compiled program.

    It counts what is left after XLA has simplified the program, integers and
    comparisons too, transcendental functions not, and the body of a loop **once**.

    Args:
      function: any JAX function, jitted or not.
      *args: as `function` takes them.

    Raises:
      ValueError: the backend reports no such figure.
    """
    analysis = jax.jit(function).lower(*args).compile().cost_analysis()
    if isinstance(analysis, list):  # a dict per program, in older versions
        analysis = analysis[0] if analysis else None
    if not analysis or "flops" not in analysis:
        raise ValueError(
            f"the backend {jax.default_backend()!r} reports no flops for this program"
        )
    return float(analysis["flops"])


def _count(jaxpr: core.Jaxpr, while_iterations: int | None) -> int:
    return sum(_count_equation(eqn, while_iterations) for eqn in jaxpr.eqns)


def _count_equation(eqn: core.JaxprEqn, while_iterations: int | None) -> int:
    name = eqn.primitive.name
    inner = [_count(jaxpr, while_iterations) for jaxpr in _inner_jaxprs(eqn)]
    if name == "scan":
        return eqn.params["length"] * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "while":
        if while_iterations is None:
            raise ValueError(
                "the program has a while loop: while_iterations must say how often it "
                "goes round"
            )
        return while_iterations * sum(inner)
    if inner and not name.startswith(("reduce", "scatter", "arg", "cum")):
        return sum(inner)

    out, *_ = [*_avals(eqn.outvars), None]
    given = _avals(eqn.invars)
    if out is None or not jnp.issubdtype(getattr(out, "dtype", int), jnp.inexact):
        return 0
    if name == "dot_general":
        (contracting, _), _ = eqn.params["dimension_numbers"]
        left = given[0].shape
        return 2 * out.size * math.prod(left[i] for i in contracting)
    if name == "conv_general_dilated":
        kernel = given[1]
        channels_out = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        return 2 * out.size * kernel.size // channels_out
    if name in ELEMENTWISE:
        return out.size
    if name in REDUCTIONS:
        return given[0].size
    if name in ("scatter-add", "scatter_add", "scatter-mul", "scatter_mul"):
        return given[2].size
    return _count_decomposition(name, given)


def _avals(variables: Iterable[Any]) -> list[Any]:
    return [x.aval for x in variables]


def _count_decomposition(name: str, given: list[Any]) -> int:
    shape = given[0].shape
    if name in ("lu", "cholesky", "geqrf"):
        batch, (rows, columns) = math.prod(shape[:-2]), shape[-2:]
        least, most = min(rows, columns), max(rows, columns)
        thirds = {"lu": 1, "cholesky": 0.5, "geqrf": 2}[name]
        # n^2 (3 m - n) thirds: 2/3 n^3, 1/3 n^3 and 4/3 n^3 of square matrices.
        return round(batch * thirds * least**2 * (3 * most - least) / 3)
    if name == "triangular_solve":
        return shape[-1] * given[1].size
    return 0


def _inner_jaxprs(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The programs that an equation runs."""
    params = eqn.params
    if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        # The rules beside the function are not run.
        values = [params[key] for key in ("call_jaxpr", "fun_jaxpr") if key in params]
    elif eqn.primitive.name == "custom_vmap_call":
        values = [params["call"]]
    elif eqn.primitive.name == "custom_linear_solve":
        values = [params["jaxprs"].solve]
    else:
        values = list(params.values())
    for value in values:
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
