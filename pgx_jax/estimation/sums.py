"""Sums over transitions of the projected policy gradients of tasks.

They are all that `pgx_jax.estimation.least_squares` needs of the transitions, whatever
their number: n d^2 numbers for each part of them. Sums of further transitions add up.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pgx_jax.arguments import as_integer, as_key, check_switch
from pgx_jax.estimation.checks import (
    as_params,
    as_transitions,
    check_callable,
    check_values,
    is_traced,
    to_device,
)
from pgx_jax.estimation.parameters import count_params
from pgx_jax.estimation.projection import (
    GaussianProjection,
    LogProbFn,
    Projection,
    check_projection,
    draw_columns,
    project_gradients,
    stored_elements,
)
from pgx_jax.estimation.settings import PRECISIONS, check_precision
from pgx_jax.types import PyTree, Transitions

FINGERPRINT_COLUMNS = 4
# Parts that sums are kept in, where their number is left to us.
NUM_PARTS = 8


class TaskSums(NamedTuple):
    """Sums over the transitions of n tasks, in P parts that are kept apart.

    `a + b` are the sums over the transitions of both, part by part; they must be of one
    policy and one projection.

    Attributes:
      count: transitions; float32 [P, n].
      feature: sum of g~; float32 [P, n, d].
      outer: sum of g~ g~^T; float32 [P, n, d, d].
      advantage: sum of A^; float32 [P, n].
      squared_advantage: sum of A^^2; float32 [P, n].
      product: sum of A^ g~; float32 [P, n, d].
      squared_product: sum of A^^2 g~; float32 [P, n, d], or None where the noise of a
        batch is not asked for.
      noise_outer: sum of A^^2 g~ g~^T; float32 [P, n, d, d], or None.
      fingerprint: what another policy or projection would not give; float32 [4].
    """

    count: jax.Array
    feature: jax.Array
    outer: jax.Array
    advantage: jax.Array
    squared_advantage: jax.Array
    product: jax.Array
    squared_product: jax.Array | None
    noise_outer: jax.Array | None
    fingerprint: jax.Array

    @property
    def num_parts(self) -> int:
        """P."""
        return self.count.shape[0]

    @property
    def num_tasks(self) -> int:
        """n."""
        return self.count.shape[1]

    def __add__(self, other: TaskSums) -> TaskSums:
        """The sums over the transitions of both.

        Raises:
          TypeError: `other` are no sums.
          ValueError: shapes differ, or, outside jit, the sums are of other policies or
            projections.
        """
        if not isinstance(other, TaskSums):
            raise TypeError(
                f"other must be TaskSums to be added, got {type(other).__name__}"
            )
        shapes = [jax.tree.map(jnp.shape, x._asdict()) for x in (self, other)]
        if shapes[0] != shapes[1]:
            name = next(k for k in self._fields if shapes[0][k] != shapes[1][k])
            raise ValueError(
                "other must be sums of the same shapes to be added; their "
                f"{name} is of {shapes[0][name]} and {shapes[1][name]}"
            )
        prints = (self.fingerprint, other.fingerprint)
        if not any(isinstance(x, Tracer) for x in prints):
            first, second = map(np.asarray, prints)
            if not np.allclose(first, second, rtol=1e-4, atol=1e-6):
                raise ValueError(
                    "other must be sums of the same policy and projection to be "
                    f"added; fingerprints differ: {first.tolist()} and "
                    f"{second.tolist()}"
                )
        added = jax.tree.map(jnp.add, self, other)
        return added._replace(fingerprint=self.fingerprint)


def accumulate(
    log_prob_fn: LogProbFn,
    params: PyTree,
    data: Transitions | Iterable[Transitions],
    key: jax.Array,
    projection: Projection | None = None,
    *,
    num_parts: int = NUM_PARTS,
    noise: bool = True,
    feature_precision: str = "float32",
) -> TaskSums:
    """Projects the policy gradients of transitions, and sums them up.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`.
      params: theta*, pytree of float arrays.
      data: N transitions of n tasks, or a stream of them: an iterator, or a list, of
        batches, of which one is held at a time; those of one shape share a program.
        Each task's transitions of a batch are cut into parts as they stand, so that
        those of one episode, side by side, stay in one part. Where environments go on
        from one batch to the next, let each batch have them in the same order.
      key: draws P; the same for sums that are to be added. Of a stream P is drawn once
        and stored, where it fits in 2 GiB.
      projection: the distribution of P; `GaussianProjection()` if None.
      num_parts: P, at most N.
      noise: also sum up what the noise of a training batch needs.
      feature_precision: as for `estimate_subsets`.

    Raises:
      ValueError: `num_parts` is not in 1..N, an array has another shape or holds
        numbers that are not finite, batches are of different numbers of tasks, or the
        stream has none; the message names it, and the batch.
    """
    check_callable("log_prob_fn", log_prob_fn)
    params, key = as_params(params), as_key(key)
    check_precision(feature_precision)
    num_parts = as_integer("num_parts", num_parts, 1)
    check_switch("noise", noise)
    projection = GaussianProjection() if projection is None else projection
    check_projection(projection)
    static = (log_prob_fn, projection, num_parts, noise, feature_precision)
    if not is_stream(data):
        batch = _check_batch(params, data, num_parts)
        return _accumulate(static, params, batch, key, None, None)
    columns = None
    if count_params(params) * projection.dim <= stored_elements():
        columns = _draw_columns(projection, params, key)
    total = None
    for index, batch in enumerate(data):
        try:
            batch = _check_batch(params, batch, num_parts)
            if total is not None and len(batch.advantage) != total.num_tasks:
                raise ValueError(
                    f"advantage must be of n = {total.num_tasks} tasks, as that of the "
                    f"first batch, got {len(batch.advantage)}"
                )
        except ValueError as error:
            raise ValueError(f"batch {index} of data: {error}") from error
        total = _accumulate(static, params, batch, key, columns, total)
        del batch  # The next one may need its memory.
    if total is None:
        raise ValueError("data must have at least one batch, the stream has none")
    return total


def is_stream(data: object) -> bool:
    """Whether data are several batches: an iterable that is no batch itself."""
    if isinstance(data, (Transitions, TaskSums, Mapping, str)):
        return False
    if isinstance(data, (tuple, list)):
        return len(data) != 0 and all(isinstance(x, Transitions) for x in data)
    return isinstance(data, Iterable) and not hasattr(data, "shape")


def _check_batch(params: PyTree, batch: Any, num_parts: int) -> Transitions:
    batch = as_transitions(batch)
    num_samples = batch.advantage.shape[1]
    if num_parts > num_samples:
        raise ValueError(
            f"num_parts must be in 1..N = 1..{num_samples} transitions of a task, got "
            f"{num_parts}"
        )
    if not is_traced(params, batch):
        batch = to_device(batch)
    check_values(params, batch._replace(mask=None)._asdict(), batch.mask)
    return batch


@functools.partial(jax.jit, static_argnums=0)
def _draw_columns(projection, params, key) -> PyTree:
    return draw_columns(projection, key, params)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=5)
def _accumulate(static, params, batch, key, columns, total) -> TaskSums:
    """The sums of a batch, added to `total` where there is one."""
    log_prob_fn, projection, num_parts, noise, feature_precision = static
    observation, action = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
    )
    drawn = projection
    if columns is not None:
        drawn = StoredProjection(projection.dim, columns)
    with jax.default_matmul_precision(PRECISIONS[feature_precision]):
        features = project_gradients(
            log_prob_fn, params, observation, action, key=key, projection=drawn
        )
    shape = batch.advantage.shape
    features = features.reshape(-1, shape[1], features.shape[-1])
    sums = sum_transitions(
        jnp.broadcast_to(features, (*shape, features.shape[-1])),
        batch.advantage,
        batch.valid,
        num_parts=num_parts,
        noise=noise,
        fingerprint=projection_fingerprint(projection, key, params),
    )
    if total is None:
        return sums
    added = jax.tree.map(jnp.add, total, sums)
    return added._replace(fingerprint=sums.fingerprint)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredProjection:
    """P as it was drawn, so that no step of a loop draws it again.

    Attributes:
      dim: d.
      columns: P, as `draw_columns` returns it.
    """

    dim: int
    columns: PyTree

    def column(self, key: jax.Array, params: PyTree, index: jax.Array) -> PyTree:
        return jax.tree.map(lambda x: x[index], self.columns)


def sum_transitions(
    features: jax.Array,
    advantage: jax.Array,
    mask: jax.Array,
    *,
    num_parts: int,
    noise: bool,
    fingerprint: jax.Array,
) -> TaskSums:
    """Sums of features that are there already. Pure.

    Args:
      features: float32 [n, N, d].
      advantage: float32 [n, N].
      mask: false where an entry is padding; bool [n, N].
      num_parts: P; runs of ceil(N / P) transitions each.
      noise: as for `accumulate`.
      fingerprint: from `projection_fingerprint`; float32 [4].
    """
    num_samples = advantage.shape[1]
    pad = -num_samples % num_parts

    def cut(x):
        x = jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0.0)
        x = jnp.pad(x, ((0, 0), (0, pad), *[(0, 0)] * (x.ndim - 2)))
        return x.reshape(x.shape[0], num_parts, -1, *x.shape[2:]).astype(jnp.float32)

    g, a, one = (
        cut(features),
        cut(advantage),
        cut(jnp.ones(advantage.shape, jnp.float32)),
    )
    with jax.default_matmul_precision("highest"):

        def outer(left):
            return jnp.einsum("nptd,npte->pnde", left, g)

        def weighted(weight):
            return jnp.einsum("npt,nptd->pnd", weight, g)

        return TaskSums(
            count=one.sum(axis=2).T,
            feature=weighted(one),
            outer=outer(g),
            advantage=a.sum(axis=2).T,
            squared_advantage=jnp.square(a).sum(axis=2).T,
            product=weighted(a),
            squared_product=weighted(jnp.square(a)) if noise else None,
            noise_outer=outer(jnp.square(a)[..., None] * g) if noise else None,
            fingerprint=fingerprint,
        )


def projection_fingerprint(
    projection: Projection, key: jax.Array, params: PyTree
) -> jax.Array:
    """A few numbers that distinguish policies and projections; float32 [4]."""

    def entry(index):
        column = projection.column(key, params, index % projection.dim)
        products = jax.tree.map(lambda c, x: jnp.sum(c * (x + 1.0)), column, params)
        return sum(jax.tree.leaves(products))

    numbers = jax.lax.map(entry, jnp.arange(FINGERPRINT_COLUMNS))
    return numbers.astype(jnp.float32)


def weigh_parts(sums: TaskSums, times: jax.Array | Sequence[float]) -> TaskSums:
    """Counts every part as often as given, as a bootstrap over parts does.

    Args:
      sums: in P parts.
      times: [P], not negative.
    """
    times = jnp.asarray(times, jnp.float32)
    weighed = jax.tree.map(
        lambda x: x * times.reshape(-1, *[1] * (x.ndim - 1)),
        sums._replace(fingerprint=None),
    )
    return weighed._replace(fingerprint=sums.fingerprint)
