"""Suites of different environments: one sub-program each, in the same jitted step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_integer, as_key
from pgx_jax.envs.core import (
    ActionSpace,
    SuiteState,
    TaskEnvironment,
    TaskSuite,
    check_tasks,
)
from pgx_jax.envs.dtypes import is_key

PyTree = Any


@dataclasses.dataclass(frozen=True)
class CollectionSuite(TaskSuite):
    """The tasks of several suites, whose environments need have nothing in common.

    Observations and actions have one size. What environments hold differs; so that it
    can be indexed by task all the same, it is kept as words of 32 bits, as many for
    every task as the largest needs. Pools of initial states are used where all members
    have one of the same size.

    Attributes:
      members: suites, each of one program.
      rows: the tasks that each member's are, in order of increasing index; together
        0..n-1.
      name: the suite's name.
    """

    members: tuple[TaskSuite, ...]
    rows: tuple[tuple[int, ...], ...]
    name: str = "collection"

    @classmethod
    def create(
        cls, members: Sequence[TaskSuite], name: str = "collection"
    ) -> CollectionSuite:
        """Concatenates the tasks of all members.

        Raises:
          ValueError: there is no member, or observation sizes, action spaces or
            objectives differ (the message names the tasks of each), or a member has
            preferences.
        """
        if not members:
            raise ValueError("members must hold at least one suite")
        _check_sizes("observations of size", members, lambda x: x.observation_size)
        _check_sizes("action space", members, lambda x: x.action_space)
        _check_sizes("list of objectives", members, lambda x: x.objective_names)
        if any(x.preferences is not None for x in members):
            raise ValueError(
                "members must have no preferences: make the PreferenceSuite of the "
                "collection, got one as a member"
            )
        ends = np.cumsum([x.num_tasks for x in members])
        rows = tuple(
            tuple(range(end - x.num_tasks, end))
            for end, x in zip(ends.tolist(), members, strict=True)
        )
        return cls(tuple(members), rows, name)

    @property
    def num_tasks(self) -> int:
        return sum(len(rows) for rows in self.rows)

    @property
    def task_names(self) -> tuple[str, ...]:
        return self._by_task([x.task_names for x in self.members])

    @property
    def planted_labels(self) -> tuple[int, ...] | None:
        """Known groups, where every member has them; members share none."""
        labels, first = [], 0
        for member in self.members:
            planted = member.planted_labels
            if planted is None:
                return None
            numbered = np.unique(np.asarray(planted), return_inverse=True)[1]
            labels.append((first + numbered).tolist())
            first += int(numbered.max()) + 1
        return self._by_task(labels)

    @property
    def has_success(self) -> bool:
        return all(member.has_success for member in self.members)

    @property
    def observation_size(self) -> int:
        return self.members[0].observation_size

    @property
    def action_space(self) -> ActionSpace:
        return self.members[0].action_space

    @property
    def objective_names(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> tuple[str, ...]:
        return self.members[0].objective_names

    @property
    def episode_length(self) -> int:
        """The longest of the members', each of which keeps its own time limit."""
        return max(x.episode_length for x in self.members)

    @property
    def episode_lengths(self) -> tuple[int, ...]:
        return self._by_task([x.episode_lengths for x in self.members])

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        keys = jax.random.split(as_key(key), len(self.members))
        return self._join(
            [x.reset(k, num_envs) for x, k in zip(self.members, keys, strict=True)]
        )

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        return self._join(
            [
                member.step(member_state, action[np.array(rows)])
                for member, member_state, rows in zip(
                    self.members, self._split(state), self.rows, strict=True
                )
            ]
        )

    def refresh(self, state: SuiteState) -> SuiteState:
        states = zip(self.members, self._split(state), strict=True)
        return self._join([member.refresh(x) for member, x in states])

    def select(self, tasks: Sequence[int] | np.ndarray) -> CollectionSuite:
        indices = check_tasks(tasks, self.num_tasks)
        members, rows = [], []
        for member, member_rows in zip(self.members, self.rows, strict=True):
            chosen = np.flatnonzero(np.isin(indices, member_rows))
            if chosen.size:
                local = np.searchsorted(member_rows, indices[chosen])
                members.append(member.select(local))
                rows.append(tuple(chosen.tolist()))
        return CollectionSuite(tuple(members), tuple(rows), self.name)

    def task_environment(self, task: int) -> TaskEnvironment:
        task = as_integer("task", task, 0, self.num_tasks - 1)
        member, place = self._find(task)
        return member.task_environment(place)

    def describe_task(self, task: int) -> str:
        member, place = self._find(task)
        return member.describe_task(place)

    def _find(self, task: int) -> tuple[TaskSuite, int]:
        """The member that has a task, and the task's place in it."""
        for member, rows in zip(self.members, self.rows, strict=True):
            if task in rows:
                return member, rows.index(task)
        raise ValueError(f"task must be in 0..{self.num_tasks - 1}, got {task}")

    def _by_task(self, values: Sequence[Any]) -> tuple[Any, ...]:
        flat = [x for member in values for x in member]
        return tuple(flat[i] for i in self._order())

    def _order(self) -> np.ndarray:
        """Where each task is among the members' tasks one after the other; [n]."""
        return np.argsort(np.concatenate(self.rows))

    def _join(self, states: Sequence[SuiteState]) -> SuiteState:
        """The members' states as one; leaves [n, num_envs, ...]."""
        order = self._order()

        def concatenate(*leaves):
            return jnp.concatenate(leaves)[order]

        opaque = [x._replace(env_state=None, pool=None) for x in states]
        joined = jax.tree.map(concatenate, *opaque)
        pools = [x.pool for x in states]
        sizes = {None if x is None else jax.tree.leaves(x)[0].shape[1] for x in pools}
        # All members have pools of one size, or none has one: they are one array.
        pooled = len(sizes) == 1 and None not in sizes
        return joined._replace(
            env_state=_pack_all([x.env_state for x in states])[order],
            pool=_pack_all(pools)[order] if pooled else None,
        )

    def _split(self, state: SuiteState) -> list[SuiteState]:
        """The state of every member; leaves [tasks of the member, num_envs, ...]."""
        # Some states hold keys, of the kind that the suite was reset with.
        key = jax.ShapeDtypeStruct(state.key.shape[2:], state.key.dtype)
        states = []
        for member, rows in zip(self.members, self.rows, strict=True):
            mine = jax.tree.map(lambda x, rows=rows: x[np.array(rows)], state)
            like = jax.eval_shape(lambda k, m=member: m.reset(k, 1), key)
            pool = None if mine.pool is None else _unpack(mine.pool, like.pool)
            states.append(
                mine._replace(
                    env_state=_unpack(mine.env_state, like.env_state), pool=pool
                )
            )
        return states


jax.tree_util.register_dataclass(
    CollectionSuite, data_fields=["members"], meta_fields=["rows", "name"]
)


def _check_sizes(what: str, members: Sequence[TaskSuite], size) -> None:
    sizes: dict[Any, list[str]] = {}
    for member in members:
        sizes.setdefault(size(member), []).extend(member.task_names)
    if len(sizes) > 1:
        listed = "; ".join(f"{x}: {', '.join(names)}" for x, names in sizes.items())
        raise ValueError(f"all tasks of a suite must have one {what}, got {listed}")


def _pack_all(trees: Sequence[PyTree]) -> jax.Array:
    """Trees of leaves [n_i, envs, ...] as uint32 [sum of n_i, envs, words]."""
    packed = [_pack(x) for x in trees]
    width = max(x.shape[-1] for x in packed)
    return jnp.concatenate(
        [jnp.pad(x, ((0, 0), (0, 0), (0, width - x.shape[-1]))) for x in packed]
    )


def _pack(tree: PyTree) -> jax.Array:
    words = [
        _to_words(x).reshape(*x.shape[:2], -1)
        for leaf in jax.tree.leaves(tree)
        for x in _to_numbers(leaf)
    ]
    return jnp.concatenate(words, axis=-1)


def _unpack(packed: jax.Array, like: PyTree) -> PyTree:
    """Undoes `_pack`.

    Args:
      packed: uint32 [tasks, envs, words].
      like: tree of the shapes and dtypes of other numbers of tasks and environments.
    """
    leaves, start = [], 0
    for leaf in jax.tree.leaves(like):
        numbers = []
        for x in jax.eval_shape(_to_numbers, leaf):
            parts = jax.eval_shape(_to_words, x).shape[2:]
            end = start + math.prod(parts)
            words = packed[..., start:end].reshape(*packed.shape[:2], *parts)
            numbers.append(_from_words(words, x.dtype))
            start = end
        leaves.append(_from_numbers(numbers, leaf))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _to_numbers(x: jax.Array) -> list[jax.Array]:
    """An array as one or two of real numbers."""
    if is_key(x.dtype):
        return [jax.random.key_data(x)]
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return [jnp.real(x), jnp.imag(x)]
    return [x]


def _from_numbers(numbers: list[jax.Array], like: jax.ShapeDtypeStruct) -> jax.Array:
    """Undoes `_to_numbers`."""
    if is_key(like.dtype):
        # What draws by a key is known of an array of keys, but not of its type.
        kinds = []
        jax.eval_shape(lambda x: kinds.append(jax.random.key_impl(x)), like)
        return jax.random.wrap_key_data(numbers[0], impl=kinds[0])
    return jax.lax.complex(*numbers) if len(numbers) == 2 else numbers[0]


def _to_words(x: jax.Array) -> jax.Array:
    """Real numbers as uint32: one each, or two (on a last axis) of 64 bits."""
    if x.dtype.itemsize >= 4:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = jax.lax.bitcast_convert_type(x, _unsigned(x.dtype))
    return x.astype(jnp.uint32)  # bool and small integers


def _from_words(words: jax.Array, dtype: Any) -> jax.Array:
    """Undoes `_to_words`."""
    if dtype.itemsize >= 4:
        return jax.lax.bitcast_convert_type(words, dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(words.astype(_unsigned(dtype)), dtype)
    return words.astype(dtype)


def _unsigned(dtype: Any) -> Any:
    """Integers of as many bits as a float."""
    return jnp.dtype(f"uint{jnp.finfo(dtype).bits}")
