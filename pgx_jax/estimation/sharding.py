"""Work spread over devices, whatever the types of a mesh's axes.

Axes of type Auto let the compiler place values. On axes of type Explicit JAX requires
an output sharding at every gather, and for those of type Manual there is none, so that
everything is computed under Auto axes of the same devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pgx_jax.estimation.checks import is_traced
from pgx_jax.types import PyTree

REPLICATED = PartitionSpec()


def shard(
    function: Callable[[PyTree, PyTree], PyTree],
    mesh: Mesh | None,
    shared: PyTree,
    arrays: PyTree,
) -> PyTree:
    """`function(shared, arrays)`, the leading axis of `arrays` split over devices.

    Results have that axis first. Meanwhile it is padded with copies of the first entry
    to a multiple of the number of devices.
    """
    if mesh is None:
        return function(shared, arrays)
    length = jax.tree.leaves(arrays)[0].shape[0]
    padded = jnp.arange(-(-length // mesh.size) * mesh.size)
    padded = jnp.where(padded < length, padded, 0)
    spec = PartitionSpec(mesh.axis_names)
    out = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(PartitionSpec(), spec),
        out_specs=spec,
        check_vma=False,
    )(shared, jax.tree.map(lambda x: jnp.asarray(x)[padded], arrays))
    return jax.tree.map(lambda x: x[:length], out)


def auto_mesh(mesh: Mesh) -> Mesh:
    """The same devices and names, every axis of type Auto."""
    types = (AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=types)


def call_with_auto_axes(
    function: Callable[..., PyTree],
    arrays: tuple,
    mesh: Mesh | None = None,
    specs: PyTree = REPLICATED,
) -> PyTree:
    """`function(*arrays)` under Auto axes, for arrays on meshes of any type.

    Outside of jit arrays are put on the device, or on those of `mesh`, explicitly.
    Where an axis of type Explicit was in play, results come back on its mesh.

    Args:
      function: of `arrays`; a function under `jax.jit`.
      arrays: pytrees of arrays and numbers.
      mesh: with Auto axes, over which `function` splits its work.
      specs: how results lie on an Explicit mesh; a `PartitionSpec` for each of their
        subtrees. By default every device has a copy.
    """
    if is_traced(arrays):
        outer = _explicit_mesh(jax.sharding.get_abstract_mesh(), *_meshes(arrays))
        if outer is None:
            return function(*arrays)
        with jax.sharding.use_abstract_mesh(outer):
            arrays = jax.tree.map(jnp.asarray, arrays)
            return jax.sharding.auto_axes(
                function, axes=outer.axis_names, out_sharding=specs
            )(*arrays)

    outer = _explicit_mesh(jax.sharding.get_mesh(), *_meshes(arrays))
    arrays = jax.tree.map(lambda x: _place(x, mesh), arrays)
    if outer is None:
        out = function(*arrays)
        if mesh is None or is_of_one_host(mesh):
            return out
        return _lay_out(out, mesh, specs)
    with jax.set_mesh(auto_mesh(outer) if mesh is None else mesh):
        out = function(*arrays)
    return _lay_out(out, outer, specs)


def is_of_one_host(mesh: Mesh) -> bool:
    """Whether this process reaches all devices of a mesh."""
    return NamedSharding(mesh, REPLICATED).is_fully_addressable


def _lay_out(arrays: PyTree, mesh: Mesh, specs: PyTree) -> PyTree:
    """Moves arrays on a mesh, between hosts too: each has what is replicated."""
    shardings = shardings_of(mesh, specs)
    if is_of_one_host(mesh):
        return jax.device_put(arrays, shardings)
    return jax.jit(_identity, out_shardings=shardings)(arrays)


def _identity(arrays: PyTree) -> PyTree:
    """One function for all calls, so that JAX compiles it once for each layout."""
    return arrays


def shardings_of(mesh: Mesh, specs: PyTree) -> PyTree:
    """The shardings on a mesh that `PartitionSpec`s stand for."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def specs_of(arrays: PyTree) -> PyTree:
    """How arrays lie on their meshes; a `PartitionSpec` for each leaf."""

    def spec_of(leaf):
        if not isinstance(leaf, jax.Array):
            return REPLICATED
        sharding = jax.typeof(leaf).sharding if is_traced(leaf) else leaf.sharding
        return sharding.spec if isinstance(sharding, NamedSharding) else REPLICATED

    return jax.tree.map(spec_of, arrays)


def _meshes(arrays: PyTree) -> list:
    """The meshes that arrays are on; abstract ones of tracers."""
    traced = is_traced(arrays)
    meshes = []
    for leaf in jax.tree.leaves(arrays):
        if not isinstance(leaf, jax.Array):
            continue
        sharding = jax.typeof(leaf).sharding if traced else leaf.sharding
        if isinstance(sharding, NamedSharding):
            meshes.append(sharding.mesh)
    return meshes


def _explicit_mesh(*meshes):
    """The first mesh with an axis of type Explicit, or None."""
    for mesh in meshes:
        if AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def _place(leaf: Any, mesh: Mesh | None) -> jax.Array:
    """An array or number on the devices of `mesh`; where it is if that is None."""
    sharding = leaf.sharding if isinstance(leaf, jax.Array) else None
    devices = None if mesh is None else mesh.devices.ravel().tolist()
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        own = sharding.mesh
        if mesh is None or own.devices.ravel().tolist() == devices:
            return jax.device_put(leaf, NamedSharding(auto_mesh(own), sharding.spec))
    if mesh is None:
        return jax.device_put(leaf)
    return put_on_mesh(leaf, mesh)


def put_on_mesh(arrays: PyTree, mesh: Mesh, specs: PyTree = REPLICATED) -> PyTree:
    """Arrays, keys and numbers on the devices of a mesh, of other hosts as well.

    Args:
      arrays: the same on every host.
      mesh: of any hosts.
      specs: a `PartitionSpec` for each subtree of `arrays`.
    """
    if is_of_one_host(mesh):
        return jax.device_put(arrays, shardings_of(mesh, specs))

    def put(leaf, spec):
        if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf), spec)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        value, sharding = np.asarray(leaf), NamedSharding(mesh, spec)
        return jax.make_array_from_callback(value.shape, sharding, value.__getitem__)

    return jax.tree.map(
        lambda spec, tree: jax.tree.map(lambda x: put(x, spec), tree), specs, arrays
    )
