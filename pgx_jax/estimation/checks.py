"""What the estimator accepts: equivalent inputs are converted to one form.

Everything else is refused by name before any long work. Values are looked at
only where they are known: a traced array passes, and `SubsetEstimates.status` reports
what its values did.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pgx_jax.arguments import is_real
from pgx_jax.types import PyTree, Transitions


def is_traced(*trees: PyTree) -> bool:
    """Whether any leaf is traced, or the caller is, as every new array then is too."""
    leaves = jax.tree.leaves(trees)
    return any(isinstance(x, Tracer) for x in leaves) or isinstance(
        jax.device_put(0.0), Tracer
    )


def as_params(params: PyTree) -> PyTree:
    """The pytree of parameters with arrays for leaves.

    Raises:
      ValueError: there is none, or a leaf is no array of real floating-point numbers;
        the message names its path.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        dtype = _dtype(leaf)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} must be an array of "
                f"floating-point numbers, got {describe(leaf)}. Keep what is not "
                "learned out of params: close log_prob_fn over it"
            )
    if sum(np.size(leaf) for _, leaf in leaves) == 0:
        raise ValueError(f"params must hold at least one parameter, got {params!r}")
    return jax.tree.map(_as_array, params)


def as_transitions(batch: Any) -> Transitions:
    """The transitions with arrays for leaves, and a bool mask where there is one.

    Lists of numbers become arrays; a mask of the numbers 0 and 1 becomes bool. Samples
    stay shared, with a leading axis of 1, where all of them are.

    Raises:
      ValueError: shapes do not agree or a leaf holds no real numbers; the message names
        the field.
    """
    if isinstance(batch, Mapping) or not (
        isinstance(batch, (tuple, list)) and len(batch) in (3, 4)
    ):
        raise ValueError(
            "batch must be pge.Transitions(observation, action, advantage, mask), got "
            f"{type(batch).__name__}"
        )
    batch = Transitions(*batch)
    advantage = as_advantage(batch.advantage)
    shape = advantage.shape
    observation = as_samples("observation", batch.observation, shape, shared=True)
    action = as_samples("action", batch.action, shape, shared=True)
    if len({x.shape[0] for x in jax.tree.leaves((observation, action))}) > 1:
        observation, action = repeat_samples((observation, action), shape[0])
    return Transitions(
        observation,
        action,
        cast(jax.Array, advantage),  # or NumPy's, until `to_device`
        None if batch.mask is None else cast(jax.Array, as_mask(batch.mask, shape)),
    )


def repeat_samples(samples: PyTree, num_tasks: int) -> PyTree:
    """Samples that tasks share, [1, N, ...], as those of every task; [n, N, ...]."""

    def repeat(leaf):
        xp = np if isinstance(leaf, np.ndarray) else jnp
        return xp.broadcast_to(leaf, (num_tasks, *leaf.shape[1:]))

    return jax.tree.map(repeat, samples)


def as_advantage(advantage: Any) -> jax.Array | np.ndarray:
    """An array of floating-point numbers of shape [n, N].

    Raises:
      ValueError: it has another shape, or holds no real numbers.
    """
    advantage = _as_real("advantage", advantage)
    if not jnp.issubdtype(advantage.dtype, jnp.floating):
        advantage = advantage.astype(np.float32)
    if advantage.ndim != 2 or 0 in advantage.shape:
        raise ValueError(
            "advantage must have shape [n, N] with n, N >= 1, got "
            f"{tuple(advantage.shape)}"
        )
    return advantage


def as_samples(
    name: str,
    tree: PyTree,
    shape: tuple[int, ...],
    *,
    of: str = "advantage",
    shared: bool = False,
) -> PyTree:
    """A pytree of arrays that begin with the axes `shape`.

    Args:
      name: of the argument.
      tree: the arrays, or nested lists of numbers.
      shape: [n, N].
      of: the argument that has this shape.
      shared: whether [1, N], of samples that all tasks share, is allowed too.

    Raises:
      ValueError: they do not, or a leaf holds no real numbers.
    """
    tree = _lists_to_arrays(name, tree)
    leaves = jax.tree.leaves(tree)
    for leaf in leaves:
        allowed = {tuple(shape), (1, shape[1])} if shared else {tuple(shape)}
        if tuple(leaf.shape[:2]) not in allowed:
            or_shared = f" or [1, N] = [1, {shape[1]}]" if shared else ""
            raise ValueError(
                f"{name} must begin with the axes [n, N] = {list(shape)} of "
                f"{of}{or_shared}, got shape {tuple(leaf.shape)}"
            )
    if not leaves:
        raise ValueError(f"{name} must hold at least one array, got {tree!r}")
    return tree


def as_mask(
    mask: Any, shape: tuple[int, ...], *, name: str = "mask", of: str = "advantage"
) -> jax.Array | np.ndarray:
    """A mask of 0 and 1, of any dtype, as bool of the given shape.

    Args:
      mask: the values.
      shape: [n, N].
      name: of the argument.
      of: the argument that has this shape.

    Raises:
      ValueError: it has another shape, or other values.
    """
    mask = _as_real(name, mask)
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(
            f"{name} must have the shape [n, N] = {list(shape)} of {of}, got shape "
            f"{tuple(mask.shape)}"
        )
    if not jnp.issubdtype(mask.dtype, np.bool_) and not isinstance(mask, Tracer):
        values = jax.device_get(mask)
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} must hold only 0 and 1, or false and true")
        mask = values
    return mask.astype(bool)


def as_rows(name: str, tree: PyTree) -> PyTree:
    """A pytree of arrays that share their leading axis N >= 1.

    Raises:
      ValueError: they do not, or a leaf holds no real numbers.
    """
    tree = _lists_to_arrays(name, tree)
    lengths = {x.shape[0] if x.ndim else 0 for x in jax.tree.leaves(tree)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"{name} must hold arrays with one leading axis N >= 1, got shapes "
            f"{[tuple(x.shape) for x in jax.tree.leaves(tree)]}"
        )
    return tree


def check_callable(name: str, function: Any) -> None:
    """Refuses what cannot be called, or cannot be a static argument of `jax.jit`.

    Raises:
      ValueError: the message gives `name`.
    """
    if not callable(function):
        raise ValueError(f"{name} must be a function, got {describe(function)}")
    check_hashable(name, function)


def check_hashable(name: str, value: Any) -> None:
    """Refuses what cannot be a static argument of `jax.jit`.

    Raises:
      ValueError: the message gives `name`.
    """
    try:
        hash(value)
    except TypeError as error:
        raise ValueError(
            f"{name} must be hashable, as what is compiled depends on it, but "
            f"{error}. Pass a function defined by `def` in its place"
        ) from error


def to_device(tree: PyTree) -> PyTree:
    """Puts NumPy arrays on the default device, in the precision of JAX's settings.

    Numbers too large for it become infinite, which `check_values` refuses.
    """
    with np.errstate(over="ignore"):
        return jax.tree.map(
            lambda x: x if isinstance(x, jax.Array) else jax.device_put(x), tree
        )


def check_values(
    params: PyTree,
    samples: Mapping[str, PyTree],
    mask: jax.Array | np.ndarray | None = None,
    *,
    all_zero: bool = True,
) -> None:
    """Refuses values that are known and of which no estimate can be made.

    On the device this is one reduction of everything; details are looked for only where
    it found something.

    Args:
      params: as `as_params` returns them.
      samples: arrays with the axes [n, N, ...], or pytrees of them, by name.
      mask: false where an entry is padding, which may hold anything; bool [n, N].
      all_zero: whether all advantages of a task may be zero.

    Raises:
      ValueError: a parameter, or an entry that the mask does not leave out, is not
        finite, or a task has no transition. The message names the parameter, or the
        task and the transition.
    """
    traced = is_traced(params, samples, mask)
    if isinstance(mask, Tracer):
        samples, mask = {}, None
    known = jax.tree.map(
        lambda x: None if isinstance(x, Tracer) else x,
        (params, dict(samples), mask),
    )
    if traced:
        fault = _examine(np, all_zero, *known)
    else:
        fault = _compiled_examine(all_zero)(*to_device(known))
    if jax.device_get(fault):
        _explain(all_zero, *jax.device_get(known))


@functools.cache
def _compiled_examine(all_zero: bool):
    return jax.jit(functools.partial(_examine, jnp, all_zero))


def _examine(xp, all_zero: bool, params: PyTree, samples: PyTree, mask) -> Any:
    """Whether there is anything to refuse; bool []."""
    fault = xp.zeros((), bool)
    for leaf in jax.tree.leaves(params):
        fault = fault | ~_finite(xp, leaf).all()
    for leaf in jax.tree.leaves(samples):
        fault = fault | (~_finite(xp, leaf) & _over(mask, leaf)).any()
    if mask is not None:
        fault = fault | ~mask.any(axis=1).all()
    if not all_zero and samples.get("advantage") is not None:
        fault = fault | _flat(xp, samples["advantage"], mask).any()
    return fault


def _finite(xp, leaf):
    """Whether entries are finite in float32, the precision of the estimate."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return xp.ones(leaf.shape, bool)
    finite = xp.isfinite(leaf)
    if leaf.dtype == np.float64:
        finite = finite & (xp.abs(leaf) <= float(np.finfo(np.float32).max))
    return finite


def _flat(xp, advantage, mask):
    """Whether all advantages of a task are zero; bool [n]."""
    # Smaller ones are zero to most devices.
    some = xp.abs(advantage.astype(np.float32)) >= np.finfo(np.float32).tiny
    return ~(some if mask is None else some & mask).any(axis=1)


def _over(mask, leaf):
    """The mask with the number of axes of `leaf`."""
    if mask is None:
        return True
    return mask.reshape(*mask.shape, *[1] * (leaf.ndim - mask.ndim))


def _explain(all_zero: bool, params: PyTree, samples: PyTree, mask) -> None:
    """Raises the error that names what `_examine` found."""
    if mask is not None and not mask.any(axis=1).all():
        empty = np.flatnonzero(~mask.any(axis=1)).tolist()
        raise ValueError(f"mask leaves tasks {empty} without a transition")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        bad = ~_finite(np, leaf)
        if bad.any():
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} holds {bad.sum()} values that are "
                f"not finite in float32, the first at index {_first(bad)}"
            )
    for name, tree in samples.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            bad = ~_finite(np, leaf) & _over(mask, leaf)
            if bad.any():
                task, sample, *_ = _first(bad)
                raise ValueError(
                    f"{name}{jax.tree_util.keystr(path)} holds {bad.sum()} values that "
                    f"are not finite in float32, the first at task {task}, transition "
                    f"{sample}"
                )
    if not all_zero:
        tasks = np.flatnonzero(_flat(np, samples["advantage"], mask)).tolist()
        raise ValueError(
            f"advantage is zero throughout for tasks {tasks}: nothing can be estimated "
            "of them"
        )


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _lists_to_arrays(name: str, tree: PyTree) -> PyTree:
    """Nested lists of numbers become one array; other containers stay as they are."""

    def is_numbers(node):
        leaves = jax.tree.leaves(node)
        return (
            isinstance(node, (list, tuple))
            and len(leaves) > 0
            and all(isinstance(x, (bool, int, float, np.generic)) for x in leaves)
        )

    return jax.tree.map(lambda x: _as_real(name, x), tree, is_leaf=is_numbers)


def _as_real(name: str, value: Any) -> jax.Array | np.ndarray:
    """An array of real numbers or truth values."""
    try:
        array = _as_array(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be an array of numbers, but {error}") from error
    dtype = array.dtype
    if not (jnp.issubdtype(dtype, np.bool_) or is_real(dtype)):
        raise ValueError(f"{name} must hold real numbers, got {describe(array)}")
    return array


def _as_array(value: Any) -> jax.Array | np.ndarray:
    return value if isinstance(value, jax.Array) else np.asarray(value)


def _dtype(leaf: Any) -> Any:
    """The dtype of an array or of a Python number, None of anything else."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    if isinstance(leaf, (bool, int, float, complex)):
        return np.asarray(leaf).dtype
    return None


def describe(value: Any) -> str:
    """The dtype and shape of an array, the type and value of anything else."""
    dtype = _dtype(value)
    if dtype is None:
        return f"{type(value).__name__} {value!r}"[:80]
    return f"{dtype}{list(np.shape(value))}"
