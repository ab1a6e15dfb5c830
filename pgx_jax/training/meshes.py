"""Environments split over the devices of a mesh.

Each device steps an equal share of every task's environments, by a program that waits
for no other device. What is left, policies and statistics of which every device has a
copy, is a matter of `jax.jit`, which adds up gradients and statistics over devices. The
axes of meshes are of type Auto here, which `call_with_auto_axes` sees to.
"""

from __future__ import annotations

import dataclasses

import jax
from jax.sharding import Mesh, PartitionSpec

from pgx_jax.arguments import show
from pgx_jax.envs.core import StepSuite, SuiteState
from pgx_jax.envs.wrappers import SuiteView
from pgx_jax.estimation.sharding import REPLICATED, shardings_of
from pgx_jax.types import PyTree


def make_mesh(num_devices: int | None) -> Mesh | None:
    """Of the first devices of this host, all if None; None for a mesh of one."""
    devices = jax.local_devices()[:num_devices]
    return Mesh(devices, ("devices",)) if len(devices) > 1 else None


def check_mesh(mesh: Mesh | None, **counts: int) -> None:
    """Refuses what is no mesh, or does not divide counts of environments.

    Args:
      mesh: of any axis types, or None.
      **counts: by the names of their settings.

    Raises:
      ValueError: the message names `mesh`, or the count and the number of devices.
    """
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh or None, got {show(mesh)}")
    for name, count in counts.items():
        if count % mesh.size:
            raise ValueError(
                f"{name} must be a multiple of the {mesh.size} devices of mesh, got "
                f"{count}"
            )


def environment_specs(mesh: Mesh) -> SuiteState:
    """How the environments of a suite lie on a mesh; the pool is on every device."""
    split = PartitionSpec(None, mesh.axis_names)
    number = len(SuiteState._fields) - 1
    return SuiteState(*[split] * number, pool=REPLICATED)  # pyright: ignore


def constrain(tree: PyTree, mesh: Mesh | None, specs: PyTree) -> PyTree:
    """Has the compiler lay arrays out on a mesh; to be called under `jax.jit`.

    Args:
      tree: of arrays.
      mesh: None leaves them as they are.
      specs: a `PartitionSpec` for each subtree.
    """
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, shardings_of(mesh, specs))


def split_samples(tree: PyTree, mesh: Mesh | None, axis: int = 0) -> PyTree:
    """Has the compiler split an axis of samples over all devices of a mesh."""
    if mesh is None:
        return tree
    spec = PartitionSpec(*[None] * axis, mesh.axis_names)
    return constrain(tree, mesh, spec)


def split_suite(suite: StepSuite, mesh: Mesh | None) -> StepSuite:
    """The same suite, of which every device of a mesh steps its own environments."""
    return suite if mesh is None else _SplitSuite(suite, mesh)


@dataclasses.dataclass(frozen=True)
class _SplitSuite(SuiteView):
    """A suite of whose environments each device steps its own.

    Under `jax.jit` alone, loops of a simulator that end at different times in different
    environments would make all devices wait for each other at every iteration.
    """

    suite: StepSuite
    mesh: Mesh

    @property
    def num_ids(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.suite.num_ids

    @property
    def num_tasks(self) -> int:
        return self.suite.num_tasks

    @property
    def episode_lengths(self):
        return self.suite.episode_lengths

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        return self.suite.reset(key, num_envs)

    def refresh(self, state: SuiteState) -> SuiteState:
        return self.suite.refresh(state)

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        if action.shape[1] % self.mesh.size:  # of a part of them, as MAML takes some
            return self.suite.step(state, action)

        def step_share(suite, pool, state, action):
            return suite.step(state._replace(pool=pool), action)._replace(pool=None)

        share = PartitionSpec(None, self.mesh.axis_names)
        new = jax.shard_map(
            step_share,
            mesh=self.mesh,
            in_specs=(REPLICATED, REPLICATED, share, share),
            out_specs=share,
            check_vma=False,
        )(self.suite, state.pool, state._replace(pool=None), action)
        return new._replace(pool=state.pool)
