"""Blocks of subsets of tasks, whose environments one suite of rows steps together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from pgx_jax.envs.core import SuiteState, TaskSuite
from pgx_jax.envs.wrappers import MembersView


class Block(NamedTuple):
    """b subsets of s tasks each, and the rows of a suite that step all of them.

    Attributes:
      suite: all n tasks.
      rows: the suite of R rows, R >= b s, that steps the tasks of every block.
      source: for every row, which of the b s tasks it steps; rows that a block has no
        use for repeat one; int32 [R].
      place: the row of every task; int32 [b, s].
      tasks: the tasks of every subset, ascending; int32 [b, s].
      indices: the number of every subset, which its key is folded from; int32 [b].
    """

    suite: TaskSuite
    rows: TaskSuite
    source: jax.Array
    place: jax.Array
    tasks: jax.Array
    indices: jax.Array


class BlockScores(NamedTuple):
    """The result of fine-tuning on the subsets of a block.

    Attributes:
      scores: of the tasks of every subset; float32 [b, s].
      finite: whether all parameters of a subset's policy are finite; bool [b].
      evaluation_steps: length of the longest episode; int32 [].
    """

    scores: jax.Array
    finite: jax.Array
    evaluation_steps: jax.Array


def lay_out(suite: TaskSuite, subsets: np.ndarray, indices: np.ndarray) -> list[Block]:
    """Blocks of subsets of one size, all stepped by the same rows.

    Rows hold every task as often as the block that has it most often: the order of
    tasks must be that of the rows, whatever the block, since the tasks of a suite may
    be different programs.

    Args:
      suite: n tasks.
      subsets: bool [m, n].
      indices: the subsets of every block, all of one size; int [blocks, b].
    """
    counts = subsets[indices].sum(axis=1)  # [blocks, n]
    most = counts.max(axis=0)
    rows = suite.select(np.repeat(np.arange(suite.num_tasks), most))
    first_row = np.cumsum(most) - most
    blocks = []
    for block in indices:
        tasks = np.stack([np.flatnonzero(subsets[b]) for b in block])
        flat = tasks.ravel()
        order = np.argsort(flat, kind="stable")
        count = np.bincount(flat, minlength=suite.num_tasks)
        within = np.empty(flat.size, int)
        within[order] = np.arange(flat.size) - np.repeat(
            np.cumsum(count) - count, count
        )
        place = first_row[flat] + within
        source = np.zeros(most.sum(), np.int32)
        source[place] = np.arange(flat.size)
        blocks.append(
            Block(
                suite,
                rows,
                *(
                    jnp.asarray(x, jnp.int32)
                    for x in (source, place.reshape(tasks.shape), tasks, block)
                ),
            )
        )
    return blocks


@dataclasses.dataclass(frozen=True)
class SubsetSuite(MembersView):
    """The tasks of one subset as a suite, to be used under `vmap` over subsets.

    The tasks of a suite may be different programs, so that they cannot be chosen by a
    traced index. Instead, a step under `vmap` is one step of the rows of the block.
    """

    suite: TaskSuite
    rows: TaskSuite
    source: jax.Array
    tasks: jax.Array
    place: jax.Array

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        return _step_rows(self.rows, self.source, self.place, state, action)

    def refresh(self, state: SuiteState) -> SuiteState:
        return _refresh_rows(self.rows, self.source, self.place, state)


jax.tree_util.register_dataclass(
    SubsetSuite,
    data_fields=["suite", "rows", "source", "tasks", "place"],
    meta_fields=[],
)


def _on_rows(method: Callable[..., SuiteState]) -> Callable[..., SuiteState]:
    """Applies a method to all rows, from the states of the tasks, and returns theirs.

    Args:
      method: `method(rows, *args)`, leaves of args and result of shape [R, ...].

    Returns:
      `call(rows, source, place, *args)`: rows is the suite of R rows, source int32 [R],
      place int32 [q], leaves of args and result are of shape [q, ...].
    """

    @custom_vmap
    def call(rows, source, place, *args):
        args = jax.tree.map(lambda x: x[source], args)
        return jax.tree.map(lambda x: x[place], method(rows, *args))

    @call.def_vmap
    def call_all(axis_size, in_batched, rows, source, *args):
        def flatten(x, is_batched):
            x = x if is_batched else jnp.broadcast_to(x, (axis_size, *x.shape))
            return x.reshape(axis_size * x.shape[1], *x.shape[2:])

        flat = jax.tree.map(flatten, args, tuple(in_batched[2:]))
        new = call(rows, source, *flat)
        new = jax.tree.map(lambda x: x.reshape(axis_size, -1, *x.shape[1:]), new)
        return new, jax.tree.map(lambda _: True, new)

    return call


_step_rows = _on_rows(lambda rows, state, action: rows.step(state, action))
_refresh_rows = _on_rows(lambda rows, state: rows.refresh(state))
