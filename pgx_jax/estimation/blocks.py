"""Blocks of a leading axis, one after another, so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pgx_jax.estimation.subsets import pad_rows, round_up
from pgx_jax.memory import memory_limit
from pgx_jax.types import PyTree

# Bounds the arrays that a block of samples or of columns makes: 2**26 float32 numbers
# are 256 MiB, several of which fit a 16 GB card. No faster beyond.
BLOCK_ELEMENTS = 2**26
# A block is at most this share of the memory of a smaller device.
BLOCK_SHARE = 1 / 64
Output = TypeVar("Output")


def bounded_elements(most: int, share: float) -> int:
    """The float32 numbers of an array, at most a share of the device's memory.

    Args:
      most: where the device has room for them, or does not report how much it has.
      share: of the memory that programs may take.

    Returns:
      `most`, or a smaller power of 2.
    """
    limit = memory_limit()
    if limit is None:
        return most
    return min(most, 1 << max(0, int(limit * share / 4).bit_length() - 1))


def block_elements() -> int:
    """The float32 numbers of a block's arrays."""
    return bounded_elements(BLOCK_ELEMENTS, BLOCK_SHARE)


def map_blocks(function: Callable[..., Output], arrays: PyTree, block: int) -> Output:
    """Applies a batched function to blocks of the leading axis, one after another.

    Args:
      function: takes the arrays of `arrays`, with a leading axis of `block`.
      arrays: tuple of pytrees with a common leading axis N.
      block: size of a block; the last one is padded with copies of the first entry.

    Returns:
      What `function` returns, with a leading axis of N.
    """
    num = jax.tree.leaves(arrays)[0].shape[0]
    if block >= num:
        return function(*arrays)
    num_blocks = -(-num // block)
    indices = jnp.arange(num_blocks * block)
    indices = jnp.where(indices < num, indices, 0).reshape(num_blocks, block)
    arrays = jax.tree.map(jnp.asarray, arrays)
    out = jax.lax.map(
        lambda i: function(*jax.tree.map(lambda x: x[i], arrays)), indices
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num], out)


class BlockPlan(NamedTuple):
    """Static sizes of the computation, known before it is traced.

    Attributes:
      block: subsets solved at once.
      most_subsets: at least the most subsets of a block that hold one task.
      most_tasks: at least the most tasks in a subset.
    """

    block: int
    most_subsets: int
    most_tasks: int


def plan_blocks(
    subsets: jax.Array | np.ndarray,
    feature_shape: tuple[int, ...],
    block: int | None = None,
    num_shards: int = 1,
) -> BlockPlan:
    """Sizes that serve every block of `subsets`; the loosest ones inside jit.

    Args:
      subsets: 0/1 matrix [m, n].
      feature_shape: (n, N, d).
      block: subsets at once; such that their logits fit in 512 MiB, or less on a device
        of less than 16 GiB, if None.
      num_shards: equal parts of the subsets that are solved apart.
    """
    num_tasks, num_samples, dim = feature_shape
    per_task = max(num_samples, dim)
    shard = -(-subsets.shape[0] // num_shards)
    if isinstance(subsets, Tracer):
        size = min(block or max(1, block_elements() // (num_tasks * per_task)), shard)
        return BlockPlan(size, size, num_tasks)

    # Shards and blocks are filled up with copies of their first subset.
    values = pad_rows(np.asarray(subsets).astype(bool), shard * num_shards)
    shards = values.reshape(num_shards, shard, num_tasks)
    most_tasks = int(values.sum(axis=1).max())

    def most_subsets(size: int) -> int:
        return max(
            int(
                pad_rows(rows, -(-shard // size) * size)
                .reshape(-1, size, num_tasks)
                .sum(axis=1)
                .max()
            )
            for rows in shards
        )

    if block is None:
        # Where all tasks are in equally many subsets, this fits as it is.
        size = min(shard, max(1, block_elements() // (most_tasks * per_task)))
        most_elements = 2 * block_elements()
        while size > 1 and most_subsets(size) * num_tasks * per_task > most_elements:
            size = -(-size // 2)
    else:
        size = min(block, shard)
    # One more than where all tasks are in equally many, as draws of `sample_subsets`
    # have it, so that another draw needs no other program; coarse steps for others.
    most = most_subsets(size)
    balanced = math.ceil(values.mean() * size) + 1
    if most > balanced:
        balanced = round_up(most, 4)
    return BlockPlan(size, min(size, balanced), min(num_tasks, round_up(most_tasks, 8)))


class Incidence(NamedTuple):
    """Which tasks are in which subsets of a block, as gathers both ways.

    A product of every subset with every task would spend most of its work on pairs that
    are not members; these indices keep only the members, padded to static sizes.

    Attributes:
      subset_of: the subsets that hold task i, then padding; int32 [n, c].
      share: 1 / |S| of those subsets, 0 at padding; of JAX's default float [n, c].
      task_of: the tasks in subset b, then padding; int32 [b, s].
      slot_of: where subset b stands in the row of that task; int32 [b, s].
      present: false at padding; bool [b, s].
    """

    subset_of: jax.Array
    share: jax.Array
    task_of: jax.Array
    slot_of: jax.Array
    present: jax.Array

    @classmethod
    def create(cls, subsets: jax.Array, plan: BlockPlan) -> Incidence:
        """Indexes the block `subsets`, bool [b, n]."""
        # Constants would be sorted while the program is compiled, which takes longer.
        subsets = jax.lax.optimization_barrier(subsets)
        size = jnp.sum(subsets, axis=1).astype(jnp.result_type(float))
        subset_of = jnp.argsort(~subsets, axis=0, stable=True)[: plan.most_subsets].T
        held = jnp.take_along_axis(subsets.T, subset_of, axis=1)
        task_of = jnp.argsort(~subsets, axis=1, stable=True)[:, : plan.most_tasks]
        slots = jnp.cumsum(subsets, axis=0) - 1
        return cls(
            subset_of=subset_of,
            share=jnp.where(held, 1.0 / size.astype(jnp.float32)[subset_of], 0.0),
            task_of=task_of,
            slot_of=jnp.take_along_axis(slots, task_of, axis=1),
            present=jnp.take_along_axis(subsets, task_of, axis=1),
        )

    def by_task(self, per_subset: jax.Array) -> jax.Array:
        """[b, ...] to [n, c, ...]: each task's copies of its subsets' values."""
        return per_subset[self.subset_of]

    def sum_over_tasks(self, per_task: jax.Array) -> jax.Array:
        """[n, c, ...] to [b, ...]: the sum over the tasks of each subset."""
        values = per_task[self.task_of, self.slot_of]
        present = self.present.reshape(*self.present.shape, *[1] * (values.ndim - 2))
        return jnp.sum(jnp.where(present, values, 0.0), axis=1)

    def members_to_matrix(self, per_member: jax.Array) -> jax.Array:
        """[b, s] to [b, n]: the value of every member, 0 elsewhere."""
        rows = jnp.arange(len(self.task_of))[:, None]
        matrix = jnp.zeros((len(self.task_of), len(self.subset_of)), per_member.dtype)
        return matrix.at[rows, self.task_of].add(
            jnp.where(self.present, per_member, 0.0)
        )

    def to_matrix(self, per_task: jax.Array) -> jax.Array:
        """[n, c] to [b, n]: each task's value in each of its subsets, 0 elsewhere."""
        return self.members_to_matrix(per_task[self.task_of, self.slot_of])
