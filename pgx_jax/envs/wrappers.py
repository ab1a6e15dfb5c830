"""Suites that wrap another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_numbers
from pgx_jax.envs.core import (
    ActionSpace,
    StepSuite,
    SuiteState,
    TaskEnvironment,
    TaskSuite,
    check_tasks,
)


class SuiteView(StepSuite):
    """What a suite that wraps another one, `self.suite`, has in common with it."""

    suite: StepSuite

    @property
    def name(self) -> str:
        return self.suite.name

    @property
    def observation_size(self) -> int:
        return self.suite.observation_size

    @property
    def action_space(self) -> ActionSpace:
        return self.suite.action_space

    @property
    def episode_length(self) -> int:
        return self.suite.episode_length

    @property
    def objective_names(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> tuple[str, ...]:
        return self.suite.objective_names

    @property
    def preferences(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> jax.Array | None:
        return self.suite.preferences


class MembersView(SuiteView):
    """Some tasks, `self.tasks`, of another suite; resets are those of that suite."""

    tasks: jax.Array

    @property
    def num_ids(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.suite.num_ids

    @property
    def num_tasks(self) -> int:
        return self.tasks.shape[0]

    @property
    def episode_lengths(self) -> jax.Array:
        return jnp.asarray(self.suite.episode_lengths)[self.tasks]

    @property
    def preferences(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> jax.Array | None:
        weights = self.suite.preferences
        return None if weights is None else weights[self.tasks]

    @property
    def objectives(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> jax.Array | None:
        every = self.suite.objectives
        return None if every is None else every[self.tasks]

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        state = self.suite.reset(key, num_envs)
        return jax.tree.map(lambda x: x[self.tasks], state)


class TasksView(SuiteView, TaskSuite):
    """The tasks of another suite, all of them and in its order."""

    suite: TaskSuite

    @property
    def task_names(self) -> tuple[str, ...]:
        return self.suite.task_names

    @property
    def planted_labels(self) -> tuple[int, ...] | None:
        return self.suite.planted_labels

    @property
    def num_tasks(self) -> int:
        return self.suite.num_tasks

    @property
    def has_success(self) -> bool:
        return self.suite.has_success

    @property
    def episode_lengths(self) -> Sequence[int] | jax.Array:
        return self.suite.episode_lengths

    def refresh(self, state: SuiteState) -> SuiteState:
        return self.suite.refresh(state)

    def describe_task(self, task: int) -> str:
        return self.suite.describe_task(task)


class SameStepsView(TasksView):
    """A suite whose environments are those of the other one, as they are."""

    @property
    def num_ids(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.suite.num_ids

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        return self.suite.reset(key, num_envs)

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        return self.suite.step(state, action)

    def step_tasks(
        self, tasks: jax.Array, state: SuiteState, action: jax.Array
    ) -> SuiteState:
        return self.suite.step_tasks(tasks, state, action)

    def task_environment(self, task: int) -> TaskEnvironment:
        return self.suite.task_environment(task)


@dataclasses.dataclass(frozen=True)
class TaskIdSuite(TasksView):
    """A suite whose observations end in a one-hot task id.

    Attributes:
      suite: the suite underneath.
      task_ids: the id of each of its tasks; int32 array of shape [n].
      num_ids: length of the one-hot vector.
    """

    suite: TaskSuite
    task_ids: jax.Array
    num_ids: int

    @classmethod
    def create(cls, suite: TaskSuite) -> TaskIdSuite:
        """Numbers the tasks of `suite` 0..n-1."""
        return cls(suite, jnp.arange(suite.num_tasks), suite.num_tasks)

    @property
    def observation_size(self) -> int:
        return self.suite.observation_size + self.num_ids

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        return self._extend(self.suite.reset(key, num_envs), self.task_ids)

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        return self._extend(self.suite.step(state, action), self.task_ids)

    def step_tasks(
        self, tasks: jax.Array, state: SuiteState, action: jax.Array
    ) -> SuiteState:
        new = self.suite.step_tasks(tasks, state, action)
        return self._extend(new, self.task_ids[tasks])

    def select(self, tasks: Sequence[int] | np.ndarray) -> TaskIdSuite:
        indices = check_tasks(tasks, self.num_tasks)
        return TaskIdSuite(
            self.suite.select(indices), self.task_ids[indices], self.num_ids
        )

    def task_environment(self, task: int) -> TaskEnvironment:
        inner = self.suite.task_environment(task)
        one_hot = jax.nn.one_hot(self.task_ids[task], self.num_ids)
        return inner._replace(task_id=jnp.concatenate([inner.task_id, one_hot]))

    def _extend(self, state: SuiteState, task_ids: jax.Array) -> SuiteState:
        def append(observation):
            one_hot = jax.nn.one_hot(task_ids, self.num_ids)[:, None]
            shape = (*observation.shape[:-1], self.num_ids)
            return jnp.concatenate(
                [observation, jnp.broadcast_to(one_hot, shape)], axis=-1
            )

        return state._replace(
            observation=append(state.observation),
            next_observation=append(state.next_observation),
        )


jax.tree_util.register_dataclass(
    TaskIdSuite, data_fields=["suite", "task_ids"], meta_fields=["num_ids"]
)


@dataclasses.dataclass(frozen=True)
class PreferenceSuite(SameStepsView):
    """A suite of vector rewards, and what each of its tasks weighs the objectives by.

    Attributes:
      suite: the suite underneath, whose environments give rewards of shape [K].
      weights: its `preferences`; float32 [n, K].
    """

    suite: TaskSuite
    weights: jax.Array

    @property
    def preferences(self) -> jax.Array:
        return self.weights

    @classmethod
    def create(cls, suite: TaskSuite, preferences: Any) -> PreferenceSuite:
        """Weighs the objectives of every task.

        Args:
          suite: n tasks with `objective_names`.
          preferences: numbers that are not negative, of which each row has a positive
            one; [n, K], [K] for all tasks alike, or [r, K] where the suite has one
            task, which is then repeated r times, for r policies of one trade-off each.

        Raises:
          ValueError: the rewards of `suite` are single numbers, or `preferences` are
            not as above.
        """
        if not suite.objective_names:
            raise ValueError(
                "suite must have objective_names, whose rewards are vectors, got "
                f"{suite.name!r}, whose rewards are single numbers"
            )
        weights = as_numbers("preferences", preferences)
        num = len(suite.objective_names)
        rows = suite.num_tasks
        if weights.ndim not in (1, 2) or weights.shape[-1] != num:
            raise ValueError(
                f"preferences must have a last axis of {num}, one for each of "
                f"objective_names, got shape {list(weights.shape)}"
            )
        if weights.ndim == 1:
            weights = np.tile(weights, (rows, 1))
        if rows == 1 and len(weights) > 1:
            suite, rows = suite.select([0] * len(weights)), len(weights)
        if len(weights) != rows:
            raise ValueError(
                f"preferences must have a row for each of {rows} tasks, got "
                f"{len(weights)}"
            )
        if (weights < 0).any() or not (weights > 0).any(axis=1).all():
            raise ValueError(
                "preferences must not be negative, and one of every row positive, got "
                f"{weights.tolist()}"
            )
        return cls(suite, jnp.asarray(weights, jnp.float32))

    def select(self, tasks: Sequence[int] | np.ndarray) -> PreferenceSuite:
        indices = check_tasks(tasks, self.num_tasks)
        return PreferenceSuite(self.suite.select(indices), self.weights[indices])


jax.tree_util.register_dataclass(
    PreferenceSuite, data_fields=["suite", "weights"], meta_fields=[]
)


@dataclasses.dataclass(frozen=True)
class ObjectiveTasks(SameStepsView):
    """The objectives of one environment as tasks, whose policies share its samples.

    Every task has environments of its own, as in other suites, but each step of one
    gives the rewards of all objectives: of a policy for several tasks, all learn from
    each of its steps.

    Attributes:
      suite: the suite underneath: its one task, once for every objective.
      objectives: which one each task is; int32 array of shape [n].
    """

    suite: TaskSuite
    objectives: jax.Array

    @classmethod
    def create(cls, suite: TaskSuite) -> ObjectiveTasks:
        """One task for each of the K objectives.

        Raises:
          ValueError: `suite` has several tasks or preferences, or its rewards are
            single numbers.
        """
        num = len(suite.objective_names)
        if suite.num_tasks != 1 or not num or suite.preferences is not None:
            raise ValueError(
                "suite must have one task, with objective_names and without "
                f"preferences, got {suite.num_tasks} tasks and {num} objective_names"
            )
        return cls(suite.select([0] * num), jnp.arange(num))

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.objective_names[i] for i in np.asarray(self.objectives))

    @property
    def planted_labels(self) -> None:
        return None

    @property
    def has_success(self) -> bool:
        """False: successes are of no objective."""
        return False

    @property
    def preferences(self) -> None:
        return None

    @property
    def distinct(self) -> TaskSuite:
        return self.suite.select([0])

    def select(self, tasks: Sequence[int] | np.ndarray) -> ObjectiveTasks:
        indices = check_tasks(tasks, self.num_tasks)
        return ObjectiveTasks(self.suite.select(indices), self.objectives[indices])


jax.tree_util.register_dataclass(
    ObjectiveTasks, data_fields=["suite", "objectives"], meta_fields=[]
)


def as_tasks(suite: TaskSuite) -> TaskSuite:
    """The suite whose tasks are to be grouped: objectives, where rewards are vectors.

    Raises:
      ValueError: rewards are vectors and tasks are several.
    """
    if not suite.objective_names or suite.objectives is not None:
        return suite
    return ObjectiveTasks.create(suite)
