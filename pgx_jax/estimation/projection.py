"""Random projections of the parameter space, and policy gradients projected by them.

A projection that exploits the structure of dense layers was left out: at d = 400 the
gradients themselves take half of the time in TF32 (benchmarks/results/features.md), so
that nothing applied to them could be more than twice as fast.

Source: PolicyGradEx (arXiv 2511.12779), section 3; Johnson and Lindenstrauss, 1984.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from pgx_jax.arguments import as_integer, as_key, as_numbers, check_choice, show
from pgx_jax.estimation.blocks import block_elements, bounded_elements, map_blocks
from pgx_jax.estimation.checks import (
    as_params,
    as_rows,
    check_callable,
    check_values,
    is_traced,
)
from pgx_jax.estimation.parameters import (
    count_params,
    flatten_rows,
    unflatten,
    working_dtype,
)
from pgx_jax.types import PyTree

LogProbFn = Callable[[PyTree, PyTree, PyTree], jax.Array]

# The largest P that is stored rather than drawn anew, in float32 numbers (2 GiB), and
# the largest block of gradients beside it.
STORED_ELEMENTS = 2**29
# Of the memory of a device of less than 16 GiB.
STORED_SHARE = 1 / 8
# Transitions whose gradients are taken at once; no faster beyond, on an H100.
GRADIENT_BLOCK = 1024


class Projection(Protocol):
    """A random matrix P of shape [p, d] with E[P P^T] = I, drawn column by column.

    A column is a function of its key alone, so that P gives the same numbers whether
    it is stored or drawn block by block.
    """

    @property
    def dim(self) -> int:
        """d, the number of columns."""
        ...

    def column(self, key: jax.Array, params: PyTree, index: jax.Array) -> PyTree:
        """Column `index` of P; a pytree of the shapes and dtypes of `params`."""
        ...


@dataclasses.dataclass(frozen=True)
class GaussianProjection:
    """Entries drawn from N(0, 1/d): the paper's choice.

    Attributes:
      dim: d, the number of columns, at least 1.

    Raises:
      ValueError: `dim` is no such integer.
    """

    dim: int = 400

    def __post_init__(self):
        object.__setattr__(self, "dim", as_integer("dim", self.dim, 1))

    def column(self, key: jax.Array, params: PyTree, index: jax.Array) -> PyTree:
        return _draw(jax.random.normal, self.dim, key, params, index)


@dataclasses.dataclass(frozen=True)
class RademacherProjection:
    """Entries of +-1/sqrt(d), each sign with probability one half.

    Source: Achlioptas, "Database-friendly random projections", 2003.

    Attributes:
      dim: d, the number of columns, at least 1.

    Raises:
      ValueError: `dim` is no such integer.
    """

    dim: int = 400

    def __post_init__(self):
        object.__setattr__(self, "dim", as_integer("dim", self.dim, 1))

    def column(self, key: jax.Array, params: PyTree, index: jax.Array) -> PyTree:
        return _draw(_random_signs, self.dim, key, params, index)


def check_projection(projection: Any) -> None:
    """Refuses what has no number of columns, or no way to draw one.

    Raises:
      ValueError: the message names `projection`.
    """
    column = getattr(projection, "column", None)
    is_class = isinstance(projection, type)
    if is_class or not hasattr(projection, "dim") or not callable(column):
        raise ValueError(
            "projection must have a dim and a method column, as GaussianProjection "
            f"does, got {show(projection)}"
        )
    as_integer("projection.dim", projection.dim, 1)


def _random_signs(key, shape, dtype) -> jax.Array:
    """`jax.random.rademacher`, which draws others where JAX has 64 bits."""
    positive = jax.random.bernoulli(key, jnp.float32(0.5), shape)
    return jnp.where(positive, 1.0, -1.0).astype(dtype)


def _draw(sampler, dim, key, params, index) -> PyTree:
    # One draw for all leaves: a draw each takes the compiler seconds.
    shape = (count_params(params),)
    column = sampler(jax.random.fold_in(key, index), shape, jnp.float32)
    column = unflatten(column / math.sqrt(dim), params)
    return jax.tree.map(lambda part, x: part.astype(x.dtype), column, params)


def draw_columns(projection: Projection, key: jax.Array, params: PyTree) -> PyTree:
    """The whole of P; a pytree like `params`, leaves with a leading axis of d."""
    return jax.vmap(lambda j: projection.column(key, params, j))(
        jnp.arange(projection.dim)
    )


def project_gradients(
    log_prob_fn: LogProbFn,
    params: PyTree,
    observation: PyTree,
    action: PyTree,
    *,
    key: jax.Array,
    projection: Projection | None = None,
    method: str = "auto",
    sample_block: int | None = None,
    column_block: int | None = None,
) -> jax.Array:
    """Projected policy gradients g~ = P^T grad log pi(a | s), one per transition.

    The matrix of all gradients, [N, p], is never formed. Two orders give the same
    numbers up to rounding:

    * "reverse": the gradient of each transition of a block, times a stored P; about
      2 N p d floating-point operations, memory for P and for one block of gradients;
    * "forward": Jacobian-vector products of the batched log-probability along the
      columns of P, which are drawn where they are used; about 4 N p d operations, and
      no memory that grows with p d.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`, of one
        transition or of a batch.
      params: pytree of float arrays; p numbers in all.
      observation: pytree, leaves of shape [N, ...].
      action: pytree, leaves of shape [N, ...].
      key: draws P.
      projection: the distribution of P; `GaussianProjection()` if None.
      method: "reverse", "forward", or "auto": reverse where P fits in 2 GiB.
      sample_block: transitions handled at once; chosen from p if None.
      column_block: columns handled at once by "forward"; chosen from N if None.

    Returns:
      float32 [N, d].

    Raises:
      ValueError: `method` is none of the three, `log_prob_fn` does not return one
        number per transition, another argument is out of range, or a parameter, an
        observation or an action is not finite; the message names it.
    """
    check_callable("log_prob_fn", log_prob_fn)
    params, key = as_params(params), as_key(key)
    observation = as_rows("observation", observation)
    action = as_rows("action", action)
    _check_rows(params, observation, action)
    if sample_block is not None:
        sample_block = as_integer("sample_block", sample_block, 1)
    if column_block is not None:
        column_block = as_integer("column_block", column_block, 1)
    projection = GaussianProjection() if projection is None else projection
    check_projection(projection)
    check_choice("method", method, ("auto", "reverse", "forward"))
    log_prob = single_log_prob(log_prob_fn, params, observation, action)
    num_params = count_params(params)
    num_samples = jax.tree.leaves(action)[0].shape[0]
    if method == "auto":
        stored = num_params * projection.dim <= stored_elements()
        method = "reverse" if stored else "forward"

    if method == "reverse":
        block = sample_block or gradient_block(num_params)
        project = _project_reverse(log_prob, params, key, projection)
    else:
        block = sample_block or min(num_samples, 2**15)
        width = max(1, max(x.size for x in jax.tree.leaves(params)) ** 0.5)
        num_columns = column_block or int(block_elements() // (block * width))
        project = _project_forward(log_prob, params, key, projection, num_columns)
    features = map_blocks(project, (observation, action), min(block, num_samples))
    return features.astype(jnp.float32)


def _project_reverse(
    log_prob: LogProbFn, params: PyTree, key: jax.Array, projection: Projection
) -> Callable[[PyTree, PyTree], jax.Array]:
    """P^T grad log pi of a block of transitions, times a stored P; [b, d]."""
    columns = draw_columns(projection, key, params)

    def project(obs, act):
        gradients = jax.vmap(jax.grad(log_prob), (None, 0, 0))(params, obs, act)
        products = jax.tree.map(_contract, gradients, columns)
        return functools.reduce(jnp.add, jax.tree.leaves(products))

    return project


def _project_forward(
    log_prob: LogProbFn,
    params: PyTree,
    key: jax.Array,
    projection: Projection,
    num_columns: int,
) -> Callable[[PyTree, PyTree], jax.Array]:
    """The same by derivatives along columns that are drawn where they are used."""

    def project(obs, act):
        def batch_log_prob(p):
            return jax.vmap(log_prob, (None, 0, 0))(p, obs, act)

        _, derivative = jax.linearize(batch_log_prob, params)
        features = jax.lax.map(
            lambda j: derivative(projection.column(key, params, j)),
            jnp.arange(projection.dim),
            batch_size=min(max(1, num_columns), projection.dim),
        )
        return features.T

    return project


def _check_rows(params: PyTree, observation: PyTree, action: PyTree) -> None:
    """Refuses transitions whose numbers differ, and values that are not finite."""
    lengths = [jax.tree.leaves(x)[0].shape[0] for x in (observation, action)]
    if lengths[0] != lengths[1]:
        raise ValueError(
            "observation and action must have one leading axis N, got lengths "
            f"{lengths[0]} and {lengths[1]}"
        )
    one_task = jax.tree.map(
        lambda x: x[None], {"observation": observation, "action": action}
    )
    check_values(params, one_task)


def projection_gram(
    projection: Projection, key: jax.Array, params: PyTree
) -> jax.Array:
    """P^T P, from which |P Delta|^2 = Delta^T P^T P Delta; float32 [d, d].

    P is drawn in blocks of columns, two blocks at a time, where it is too large to
    store.
    """
    dim, num_params = projection.dim, count_params(params)
    if num_params * dim <= stored_elements():
        columns = draw_columns(projection, key, params)
        # One product rather than one a leaf: XLA tunes each for seconds on a GPU.
        flat = flatten_rows(columns)
        return flat @ flat.T
    block = max(1, stored_elements() // (2 * num_params))
    indices = jnp.arange(dim)

    def rows(index):
        left = projection.column(key, params, index)

        def entry(other):
            right = projection.column(key, params, other)
            products = jax.tree.map(
                lambda a, b: jnp.vdot(a.astype(jnp.float32), b.astype(jnp.float32)),
                left,
                right,
            )
            return sum(jax.tree.leaves(products))

        return jax.lax.map(entry, indices, batch_size=block)

    return jax.lax.map(rows, indices, batch_size=block)


def back_project(
    projection: Projection, key: jax.Array, params: PyTree, delta: jax.Array
) -> PyTree:
    """P Delta, a change of the parameters.

    Args:
      projection: the distribution of P.
      key: the key that the features were drawn with.
      params: pytree of p numbers in all.
      delta: float32 [..., d].

    Returns:
      A pytree like `params`, leaves with the leading axes of `delta`; of float32 where
      those of `params` are of less precision.

    Raises:
      ValueError: an argument is not of that kind or shape, or not finite; the message
        names it.
    """
    check_projection(projection)
    params, key, delta = as_params(params), as_key(key), _as_delta(delta)
    if delta.ndim == 0 or delta.shape[-1] != projection.dim:
        raise ValueError(
            f"delta must have shape [..., d] with d = {projection.dim} of projection, "
            f"got {list(delta.shape)}"
        )
    leading = delta.shape[:-1]
    flat = jnp.asarray(delta).reshape(-1, projection.dim)

    def add(total, index):
        column = projection.column(key, params, index)
        coefficient = flat[:, index]

        def add_leaf(t, c):
            scaled = coefficient.reshape(-1, *[1] * c.ndim).astype(t.dtype)
            return t + scaled * c[None].astype(t.dtype)

        return jax.tree.map(add_leaf, total, column), None

    if count_params(params) * projection.dim <= stored_elements():
        columns = draw_columns(projection, key, params)

        def combine(c):
            dtype = working_dtype(c)
            return jnp.tensordot(flat.astype(dtype), c.astype(dtype), axes=1)

        change = jax.tree.map(combine, columns)
    else:
        zeros = jax.tree.map(
            lambda x: jnp.zeros((flat.shape[0], *x.shape), working_dtype(x)), params
        )
        change, _ = jax.lax.scan(add, zeros, jnp.arange(projection.dim))
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), change)


def _as_delta(delta: Any) -> jax.Array:
    """An array of real numbers, finite where they are known."""
    if not is_traced(delta):
        as_numbers("delta", delta)
    return jnp.asarray(delta)


def stored_elements() -> int:
    """The float32 numbers of the largest P that is stored on this device."""
    return bounded_elements(STORED_ELEMENTS, STORED_SHARE)


def gradient_block(num_params: int) -> int:
    """Transitions whose gradients, of p numbers each, are taken at once."""
    return min(GRADIENT_BLOCK, max(1, stored_elements() // num_params))


def single_log_prob(
    log_prob_fn: LogProbFn, params: PyTree, observation: PyTree, action: PyTree
) -> LogProbFn:
    """The user's log-probability as a function of one transition, of shape [].

    Args:
      log_prob_fn: of one transition, or of a batch only.
      params: pytree of parameters.
      observation: pytree, leaves of shape [N, ...]; only shapes are used.
      action: pytree, leaves of shape [N, ...]; only shapes are used.

    Raises:
      ValueError: `log_prob_fn` returns something else than one number per transition.
    """

    def first(x):
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

    def one_of_batch(p, obs, act):
        expand = lambda tree: jax.tree.map(lambda x: x[None], tree)  # noqa: E731
        return jnp.squeeze(log_prob_fn(p, expand(obs), expand(act)), axis=0)

    shapes = jax.tree.map(first, (observation, action))
    errors = []
    for function in (log_prob_fn, one_of_batch):
        try:
            out = jax.eval_shape(function, params, *shapes)
        except Exception as error:  # whatever the user's function raises
            errors.append(f"{type(error).__name__}: {error}")
            continue
        if getattr(out, "shape", None) == ():
            return function
        errors.append(f"it returned {out}")
    raise ValueError(
        "log_prob_fn(params, observation, action) must return one number per "
        f"transition; for one transition: {errors[0]}; for a batch of one: {errors[1]}"
    )


def fill_padding(tree: PyTree, mask: jax.Array) -> PyTree:
    """Puts the first valid entry in place of padding.

    Padding may hold anything, also what has no finite gradient, and 0 times NaN is NaN.

    Args:
      tree: leaves of shape [N, ...].
      mask: false at padding; bool [N].
    """
    index = jnp.where(mask, jnp.arange(len(mask)), jnp.argmax(mask))
    return jax.tree.map(lambda x: x[index], tree)


def _contract(left: jax.Array, right: jax.Array) -> jax.Array:
    """[a, ...] and [b, ...] to float32 [a, b], summed over all other axes."""
    axes = tuple(range(1, left.ndim))
    left, right = (x.astype(working_dtype(x)) for x in (left, right))
    return jnp.tensordot(left, right, axes=(axes, axes)).astype(jnp.float32)
