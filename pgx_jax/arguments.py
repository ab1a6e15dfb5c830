"""What arguments may be, one function a kind; each message names the argument.

Equivalent values are converted to one form. Everything else is refused before any work,
with what was given and what is allowed.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# Of an int32, which programs, steps and updates count in.
MOST = 2**31 - 1


def as_integer(name: str, value: Any, least: int, most: int = MOST) -> int:
    """`value` as an int of at least `least` and at most `most`.

    Raises:
      ValueError: it is no whole number, or out of range; the message gives `name`.
    """
    whole = None
    if not isinstance(value, (bool, np.bool_, str)):
        try:
            whole = operator.index(value)
        except TypeError:
            if isinstance(value, (float, np.floating)) and float(value).is_integer():
                whole = int(value)
    if whole is None:
        raise ValueError(f"{name} must be an integer, got {show(value)}")
    if whole < least:
        raise ValueError(f"{name} must be at least {least}, got {whole}")
    if whole > most:
        raise ValueError(f"{name} must be at most {most}, got {whole}")
    return whole


def as_seed(seed: Any) -> int:
    """A seed of NumPy's generator, an integer of at least 0.

    Raises:
      ValueError: it is none.
    """
    return as_integer("seed", seed, 0, 2**128 - 1)


def as_key(key: Any, name: str = "key") -> jax.Array:
    """A JAX key, of either style, from a key or an integer seed of 32 bits.

    Raises:
      ValueError: `key` is neither; the message gives `name`.
    """
    if _is_seed(key):
        # Others are taken modulo 2^32, so that two of them would be one.
        return jax.random.key(as_integer(name, key, 0, 2**32 - 1))
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if typed and key.shape == ():
        return key
    if not typed and dtype == np.uint32 and len(key.shape) == 1:
        # A function of its own each time: what JAX has traced before may be of another
        # default kind of keys.
        with contextlib.suppress(TypeError):
            jax.eval_shape(lambda data: jax.random.wrap_key_data(data), key)
            return key
    raise ValueError(
        f"{name} must be one key, such as jax.random.key(0), or an integer seed, got "
        f"{show(getattr(key, 'aval', key))}"
    )


def _is_seed(key: Any) -> bool:
    return isinstance(key, (int, np.integer)) and not isinstance(key, bool)


def check_number(name: str, value: Any, *, zero: bool = False) -> None:
    """Refuses what is not one finite positive real number; a traced one passes.

    Args:
      name: of the argument.
      value: of the argument.
      zero: whether 0 is allowed too.

    Raises:
      ValueError: the message gives `name`.
    """
    allowed = "at least 0 and finite" if zero else "positive and finite"
    if isinstance(value, Tracer):
        if value.shape != () or not is_real(value.dtype):
            raise ValueError(f"{name} must be one real number, got {value.aval}")
        return
    number = _one_number(name, value)
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name} must be {allowed}, got {value}")


def as_share(name: str, value: Any, most: float = 1.0) -> float:
    """A number between 0 and `most`, without either.

    Raises:
      ValueError: it is none; the message gives `name`.
    """
    number = _one_number(name, value)
    if not 0.0 < number < most:
        raise ValueError(f"{name} must be in (0, {most:g}), got {value}")
    return number


def _one_number(name: str, value: Any) -> float:
    if isinstance(value, jax.Array):
        value = jax.device_get(value)
    number = None
    with contextlib.suppress(ValueError):  # nested lists of several lengths
        number = np.asarray(value)
    if number is None or number.shape != () or not is_real(number.dtype):
        raise ValueError(f"{name} must be one real number, got {show(value)}")
    return float(number)


def check_switch(name: str, value: Any, *, none: bool = False) -> None:
    """Refuses what would be taken for true or false.

    Args:
      name: of the argument.
      value: of the argument.
      none: whether None is allowed too.

    Raises:
      ValueError: the message gives `name`.
    """
    if isinstance(value, (bool, np.bool_)) or (none and value is None):
        return
    allowed = "True, False or None" if none else "True or False"
    raise ValueError(f"{name} must be {allowed}, got {show(value)}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuses what is none of some names.

    Raises:
      ValueError: the message gives `name`.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(choices)}, got {show(value)}"
        )


def as_path(name: str, value: Any) -> str:
    """The path of a file or directory as text.

    Raises:
      ValueError: it is none; the message gives `name`.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"{name} must be a path, got {shorten(value)}")
    return path


def as_numbers(name: str, value: Any, *, finite: bool = True) -> np.ndarray:
    """An array of real numbers or truth values on the host; float64.

    Args:
      name: of the argument.
      value: an array, or nested lists.
      finite: whether all must be finite.

    Raises:
      ValueError: it is none; the message gives `name`.
    """
    array = as_host_array(name, value)
    if not is_real(array.dtype) and array.dtype != bool and array.size:
        raise ValueError(f"{name} must hold real numbers, got {show(value)}")
    array = array.astype(np.float64)
    if finite and not np.isfinite(array).all():
        index = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"{name} must be finite; entry {index} is {array[index]}")
    return array


def as_square(name: str, value: Any) -> np.ndarray:
    """A matrix of finite real numbers; float64 [n, n], n >= 1.

    Raises:
      ValueError: it is none; the message gives `name`.
    """
    matrix = as_numbers(name, value, finite=False)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"{name} must have shape [n, n], got {matrix.shape}")
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(
            f"{name} must be finite; that of tasks {i} and {j} is {matrix[i, j]}"
        )
    return matrix


def as_labels(name: str, value: Any, num_tasks: int | None = None) -> np.ndarray:
    """The group of each task, any integers; int64 [n].

    Args:
      name: of the argument.
      value: the labels.
      num_tasks: n; any number of at least 1 if None.

    Raises:
      ValueError: they are none; the message gives `name`.
    """
    labels = as_host_array(name, value)
    whole = labels.dtype.kind in "iub" and labels.ndim == 1 and labels.size
    if not whole or num_tasks not in (None, len(labels)):
        length = "n" if num_tasks is None else num_tasks
        raise ValueError(
            f"{name} must have shape [n] = [{length}], one integer a task, got "
            f"{show(value)}"
        )
    return labels.astype(np.int64)


def as_subset_matrix(
    subsets: Any, num_tasks: int | None = None, *, empty: bool = False
) -> np.ndarray:
    """A 0/1 matrix of subsets; bool [m, n].

    Args:
      subsets: that matrix, of any dtype of numbers.
      num_tasks: n; any number if None.
      empty: whether a subset may be empty.

    Raises:
      ValueError: it is none; the message names `subsets`.
    """
    matrix = as_host_array("subsets", subsets)
    wrong = matrix.ndim != 2 or 0 in matrix.shape
    if wrong or num_tasks not in (None, matrix.shape[1]):
        n = "n" if num_tasks is None else f"n = {num_tasks} tasks"
        raise ValueError(
            f"subsets must be a 0/1 matrix of shape [m, n] with {n}, got shape "
            f"{matrix.shape}"
        )
    real = is_real(matrix.dtype) or matrix.dtype == bool
    if not real or not np.isin(matrix, (0, 1)).all():
        raise ValueError(f"subsets must hold only 0 and 1, got {show(subsets)}")
    matrix = matrix.astype(bool)
    if not empty and not matrix.any(axis=1).all():
        row = int(np.argmin(matrix.any(axis=1)))
        raise ValueError(f"subsets must not be empty; row {row} is")
    return matrix


def as_host_array(name: str, value: Any) -> np.ndarray:
    """A NumPy array of an array or of nested lists.

    Raises:
      ValueError: rows are of several lengths.
    """
    if isinstance(value, Tracer):
        raise ValueError(f"{name} must be known outside of jit, got {value.aval}")
    try:
        return np.asarray(jax.device_get(value))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be an array of numbers, but {error}") from error


def is_real(dtype: Any) -> bool:
    """Whether a dtype is of real numbers, bfloat16 among them."""
    return any(jnp.issubdtype(dtype, x) for x in (jnp.floating, jnp.integer))


def show(value: Any) -> str:
    """Dtype and shape of an array, else the value itself; one short line."""
    if getattr(value, "shape", ()) != () and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return shorten(value)


def shorten(value: Any, most: int = 80) -> str:
    """A value as messages show it, on one line and not at full length."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to write integers of thousands of digits
        text = "an integer of thousands of digits"
    return text if len(text) <= most else f"{text[: most - 3]}..."
