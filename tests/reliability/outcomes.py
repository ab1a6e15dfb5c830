"""What a call does where one of its arguments has no meaning."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import pgx_jax as pge

PACKAGE = str(Path(pge.__file__).parent)


class Case(NamedTuple):
    """One argument of a call replaced.

    Attributes:
      function: its name in the table of calls.
      argument: that is replaced.
      name: that the message must give; one of these.
      value: in its place.
    """

    function: str
    argument: str
    name: tuple[str, ...]
    value: Any


def cases_of(refused: dict[str, dict[str, list[Any]]]) -> Iterator[Case]:
    """Those of a table by function and argument."""
    for function, arguments in refused.items():
        for argument, values in arguments.items():
            for value in values:
                yield Case(function, argument, (argument,), value)


def outcome(
    case: Case, calls: dict[str, tuple[Callable, dict[str, Any]]]
) -> tuple[str, str]:
    """What the call does, in a word and in its own words.

    Args:
      case: the call.
      calls: functions and arguments that work.

    Returns:
      "refused", or what is wrong: "raw" (an error of another package, or of another
      kind), "unnamed" (the message lacks the argument), "nan" or "accepted"; and the
      message.
    """
    function, arguments = calls[case.function]
    try:
        result = function(**{**arguments, case.argument: case.value})
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        inner = traceback.extract_tb(error.__traceback__)[-1].filename
        # NumPy's lines in C have no frame: those of this package raise on purpose only.
        line = traceback.extract_tb(error.__traceback__)[-1].line or ""
        own = inner.startswith(PACKAGE) and line.startswith("raise ")
        if not own or not isinstance(error, (ValueError, TypeError)):
            return "raw", message
        if not any(name in message for name in case.name):
            return "unnamed", message
        return "refused", message
    leaves = [
        np.asarray(x)
        for x in jax.tree.leaves(result)
        if hasattr(x, "dtype")
        and not jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
    ]
    leaves += [np.asarray(x) for x in jax.tree.leaves(result) if isinstance(x, float)]
    if any(x.dtype.kind == "f" and np.isnan(x).any() for x in leaves):
        return "nan", repr(result)[:200]
    return "accepted", repr(result)[:200]
