"""Suites of one environment function whose parameters differ by task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env

from pgx_jax.arguments import as_integer, as_key
from pgx_jax.envs.core import (
    ActionSpace,
    SuiteState,
    TaskEnvironment,
    TaskSuite,
    check_tasks,
    reset_episode,
    step_episode,
)
from pgx_jax.envs.dtypes import strengthen

PyTree = Any
MAX_NUMBERS = 3  # parameters with more numbers than that are left out of descriptions


@dataclasses.dataclass(frozen=True)
class FamilySuite(TaskSuite):
    """A suite of one environment function whose parameters differ by task.

    Attributes:
      make_env: `make_env(parameters) -> Env`; called inside jit and vmap with one
        task's parameters.
      parameters: pytree of arrays with a leading task axis; leaves of shape [n, ...].
      name: the suite's name.
      task_names: n names.
      observation_size: length of the observation vector.
      action_space: what a policy outputs.
      episode_length: steps after which an episode is truncated.
      planted_labels: the known group of each task (n integers), or None.
      pool_size: initial states per task that are drawn beforehand, for environments
        whose reset costs as much as a step; 0 to draw each reset on the spot, for every
        environment at every step.
      describe: `describe(parameters)` says what sets a task apart from the others, for
        captions; None for those of its parameters that differ.
      objective_names: of the K entries of a reward, where environments give vectors
        [K]; empty where they give one number.
    """

    make_env: Callable[[PyTree], Env]
    parameters: PyTree
    name: str
    task_names: tuple[str, ...]
    observation_size: int
    action_space: ActionSpace
    episode_length: int
    planted_labels: tuple[int, ...] | None = None
    pool_size: int = 0
    describe: Callable[[PyTree], str] | None = None
    objective_names: tuple[str, ...] = ()

    @property
    def num_tasks(self) -> int:
        return len(self.task_names)

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        num_envs = as_integer("num_envs", num_envs, 1)
        keys = jax.random.split(as_key(key), (self.num_tasks, num_envs))

        def reset_task(parameters, task_keys):
            env = self.make_env(parameters)
            names = self.objective_names
            return jax.vmap(lambda k: reset_episode(env, k, names))(task_keys)

        return self.refresh(_map_tasks(reset_task, self.parameters, keys))

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        return self._step(self.parameters, state, action)

    def refresh(self, state: SuiteState) -> SuiteState:
        if not self.pool_size:
            return state

        def draw(parameters, key):
            env = self.make_env(parameters)
            keys = jax.random.split(key, self.pool_size)
            return jax.tree.map(strengthen, jax.vmap(env.reset)(keys))

        # A key of its own, for which the key of the first environment moves on.
        keys = jax.vmap(jax.random.split)(state.key[:, 0])
        return state._replace(
            key=state.key.at[:, 0].set(keys[:, 0]),
            pool=_map_tasks(draw, self.parameters, keys[:, 1]),
        )

    @property
    def has_success(self) -> bool:
        def reset(parameters, key):
            return self.make_env(parameters).reset(key)

        state = jax.eval_shape(reset, self._parameters_of(0), jax.random.key(0))
        return "success" in state.metrics

    def select(self, tasks: Sequence[int] | np.ndarray) -> FamilySuite:
        indices = check_tasks(tasks, self.num_tasks)
        labels = self.planted_labels
        return dataclasses.replace(
            self,
            parameters=self._parameters_of(indices),
            task_names=tuple(self.task_names[i] for i in indices),
            planted_labels=(
                None if labels is None else tuple(labels[i] for i in indices)
            ),
        )

    def step_tasks(
        self, tasks: jax.Array, state: SuiteState, action: jax.Array
    ) -> SuiteState:
        return self._step(self._parameters_of(tasks), state, action)

    def task_environment(self, task: int) -> TaskEnvironment:
        task = as_integer("task", task, 0, self.num_tasks - 1)
        return TaskEnvironment(
            self.make_env, self._parameters_of(task), jnp.zeros((0,))
        )

    def describe_task(self, task: int) -> str:
        """The parameters that differ between tasks, as those of one task.

        Parameters of more than three numbers a task are left out. A suite with a
        `describe` of its own uses that.
        """
        if self.describe is not None:
            return self.describe(self._parameters_of(task))
        parts = []
        for path, leaf in jax.tree.leaves_with_path(self.parameters):
            values = np.asarray(leaf)
            of_task = values[task].ravel()
            if len(of_task) > MAX_NUMBERS or np.all(values == values[:1]):
                continue
            name = jax.tree_util.keystr(path[-1:], simple=True)
            if name and not name.isidentifier():  # an array inside a simulator's model
                continue
            numbers = ", ".join(f"{x:.3g}" for x in of_task.tolist())
            numbers = f"({numbers})" if len(of_task) > 1 else numbers
            numbers = numbers.replace("-", "\N{MINUS SIGN}")
            parts.append(f"{name.replace('_', ' ')} {numbers}".strip())
        return " · ".join(parts)

    def _parameters_of(self, tasks: int | np.ndarray | jax.Array) -> PyTree:
        return jax.tree.map(lambda x: jnp.asarray(x)[tasks], self.parameters)

    def _step(
        self, parameters: PyTree, state: SuiteState, action: jax.Array
    ) -> SuiteState:
        def step_task(parameters, task_state, task_action, task_pool):
            env = self.make_env(parameters)
            return jax.vmap(
                lambda s, a: step_episode(env, self.episode_length, s, a, task_pool)
            )(task_state, task_action)

        pool = state.pool
        new = _map_tasks(step_task, parameters, state._replace(pool=None), action, pool)
        return new._replace(pool=pool)


jax.tree_util.register_dataclass(
    FamilySuite,
    data_fields=["parameters"],
    meta_fields=[
        "make_env",
        "name",
        "task_names",
        "observation_size",
        "action_space",
        "episode_length",
        "planted_labels",
        "pool_size",
        "describe",
        "objective_names",
    ],
)


def _map_tasks(function: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """`jax.vmap` over tasks.

    Of one task the axis is dropped instead: XLA's code for a batch within a batch of
    one takes MJX almost three times as long on a CPU.
    """
    if jax.tree.leaves(args)[0].shape[0] > 1:
        return jax.vmap(function)(*args)
    result = function(*jax.tree.map(lambda x: x[0], args))
    return jax.tree.map(lambda x: x[None], result)
