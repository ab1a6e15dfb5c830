"""Blocks of subsets that train at once, in threads of a CPU or on devices of a mesh."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgx_jax.estimation.sharding import REPLICATED, put_on_mesh
from pgx_jax.evaluation.subset_blocks import Block, BlockScores
from pgx_jax.training.ppo import TrainingState

# What blocks of one size of subset do not have in common.
SHARES = ("source", "place", "tasks", "indices")
# From blocks, what trains some of them at once, and which are to be trained at once.
Training = tuple[Callable[[Sequence[Block]], list[BlockScores]], list[list[int]]]


class FineTuner(Protocol):
    """What trains and scores the subsets of a block; hashable."""

    def fine_tune(
        self, block: Block, meta: TrainingState, key: jax.Array
    ) -> BlockScores: ...


def compile_training(
    oracle: FineTuner,
    blocks: Sequence[Block],
    meta: TrainingState,
    key: jax.Array,
    mesh: Mesh | None,
) -> Training:
    """Compiles the training of blocks, one program for each of their shapes.

    Args:
      oracle: trains on a block.
      blocks: of subsets.
      meta: the meta-policy.
      key: of training and evaluation.
      mesh: of Auto axes; devices that train one block each. If None, one program at a
        time keeps an accelerator busy, and one a core a CPU.
    """
    if mesh is None:
        return _compile_for_threads(oracle, blocks, meta, key)
    return _compile_for_mesh(oracle, blocks, meta, key, mesh)


def _compile_for_threads(oracle, blocks, meta, key) -> Training:
    """One program for each shape of blocks; several run at once on a CPU."""
    programs = {
        shape: _fine_tune.lower(oracle, block, meta, key).compile()
        for shape, block in {x.place.shape: x for x in blocks}.items()
    }

    def train_one(block):
        return jax.device_get(programs[block.place.shape](block, meta, key))

    def train(some):
        with ThreadPoolExecutor(number) as threads:
            return list(threads.map(train_one, some))

    number = _num_threads()
    return train, _chunk(range(len(blocks)), number)


def _compile_for_mesh(oracle, blocks, meta, key, mesh: Mesh) -> Training:
    """One program for each shape of blocks, in which every device trains one."""
    meta = meta._replace(optimizer_state=(), suite_state=())
    meta, key = put_on_mesh((meta, key), mesh)

    def join(some):
        """Blocks of one shape; those that lack are copies of the last one."""
        padded = [*some, *[some[-1]] * (mesh.size - len(some))]
        block = some[0]._replace(
            **{name: np.stack([getattr(x, name) for x in padded]) for name in SHARES}
        )
        return put_on_mesh(block, mesh, _block_specs(mesh))

    programs = {
        shape: _fine_tune_on_mesh.lower(
            oracle, mesh, join([block]), meta, key
        ).compile()
        for shape, block in {x.place.shape: x for x in blocks}.items()
    }

    def train(some):
        program = programs[some[0].place.shape]
        scores = jax.device_get(program(join(some), meta, key))
        return [jax.tree.map(lambda x, i=i: x[i], scores) for i in range(len(some))]

    together = []
    for shape in programs:
        of_shape = [i for i, x in enumerate(blocks) if x.place.shape == shape]
        together += _chunk(of_shape, mesh.size)
    return train, together


@functools.partial(jax.jit, static_argnums=0)
def _fine_tune(oracle, block, meta, key) -> BlockScores:
    return oracle.fine_tune(block, meta, key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _fine_tune_on_mesh(oracle, mesh, blocks, meta, key) -> BlockScores:
    def fine_tune(blocks, meta, key):
        own = {name: getattr(blocks, name)[0] for name in SHARES}
        scores = oracle.fine_tune(blocks._replace(**own), meta, key)
        return jax.tree.map(lambda x: x[None], scores)

    scores = jax.shard_map(
        fine_tune,
        mesh=mesh,
        in_specs=(_block_specs(mesh), REPLICATED, REPLICATED),
        out_specs=PartitionSpec(mesh.axis_names),
        check_vma=False,
    )(blocks, meta, key)
    return jax.lax.with_sharding_constraint(scores, NamedSharding(mesh, REPLICATED))


def _block_specs(mesh: Mesh) -> Block:
    """How blocks, one for each device, lie on a mesh."""
    share = PartitionSpec(mesh.axis_names)
    return Block(REPLICATED, REPLICATED, *[share] * len(SHARES))  # pyright: ignore


def _chunk(numbers: Sequence[int], size: int) -> list[list[int]]:
    return [list(numbers[i : i + size]) for i in range(0, len(numbers), size)]


def _num_threads() -> int:
    """Programs that run at once: each keeps an accelerator busy, or one CPU core."""
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
