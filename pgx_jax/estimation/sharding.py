"""The work of the estimate spread over devices."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgx_jax.estimation.projection import PyTree


def shard(
    function: Callable[[PyTree, PyTree], PyTree],
    mesh: jax.sharding.Mesh | None,
    shared: PyTree,
    arrays: PyTree,
) -> PyTree:
    """`function(shared, arrays)`, the leading axis of `arrays` split over devices.

    What comes back has that axis first; it is filled up with copies of the first entry
    to a multiple of the number of devices meanwhile.
    """
    if mesh is None:
        return function(shared, arrays)
    length = jax.tree.leaves(arrays)[0].shape[0]
    padded = jnp.arange(-(-length // mesh.size) * mesh.size)
    padded = jnp.where(padded < length, padded, 0)
    spec = jax.sharding.PartitionSpec(mesh.axis_names)
    out = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(jax.sharding.PartitionSpec(), spec),
        out_specs=spec,
        check_vma=False,
    )(shared, jax.tree.map(lambda x: jnp.asarray(x)[padded], arrays))
    return jax.tree.map(lambda x: x[:length], out)
