"""Task suites: n tasks of one observation and one action size, stepped inside jit.

A suite is a pytree: what differs between its tasks are its leaves, so that a compiled
program serves every suite of the same structure and the same number of tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from pgx_jax.envs.dtypes import cast, check_types, is_key, strengthen

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ActionSpace:
    """What a policy puts out.

    Attributes:
      size: the number of actions where they are discrete, else the length of the action
        vector.
      discrete: whether an action is an integer in 0..size-1 (int32, shape []) or a
        vector (float32, shape [size]).
    """

    size: int
    discrete: bool


class SuiteState(NamedTuple):
    """One step of every environment; leaves of shape [n, num_envs, ...].

    Attributes:
      env_state: the Brax `State` to step from (already reset where the episode ended).
      observation: what the policy acts on next; float32 [..., observation_size].
      reward: of the step just taken; float32.
      termination: whether that step ended the episode by the task's own rules; bool.
      truncation: whether the time limit ended it, or its physics diverged; bool, never
        with termination.
      divergence: whether the step gave an observation, a reward or a success that is
        not finite; it then counts as a step of no reward and no success that stayed
        where it was, and its episode is truncated; bool.
      next_observation: the observation that the step led to, before any reset; what the
        value is bootstrapped from; float32 [..., observation_size].
      episode_return: the sum of rewards of the current episode, or of the one that has
        just ended; float32.
      episode_length: its number of steps; int32.
      episode_success: whether the task reported success at any of its steps
        (`metrics["success"]` of the environment, 0 where it has none); float32.
      key: the key that the next reset draws from.
      pool: initial states of the environment that ended episodes start from, leaves of
        shape [n, pool_size, ...], or None where every reset is drawn on the spot.
    """

    env_state: State
    observation: jax.Array
    reward: jax.Array
    termination: jax.Array
    truncation: jax.Array
    divergence: jax.Array
    next_observation: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    episode_success: jax.Array
    key: jax.Array
    pool: State | None = None

    @property
    def done(self) -> jax.Array:
        """Whether the step just taken ended the episode, either way; bool."""
        return self.termination | self.truncation


class TaskSuite(Protocol):
    """n tasks behind one pair of functions.

    `reset(key, num_envs)` gives a `SuiteState` with leaves [n, num_envs, ...];
    `step(state, action)` takes actions [n, num_envs, ...], and resets, from a fresh
    draw, every environment whose episode has ended. `select(tasks)` is the suite of
    those tasks in that order, with repetition allowed. Suites are pytrees.
    """

    name: str
    task_names: tuple[str, ...]
    observation_size: int
    action_space: ActionSpace
    episode_length: int

    @property
    def num_tasks(self) -> int: ...

    @property
    def episode_lengths(self) -> Sequence[int] | jax.Array:
        """The time limit of each task, in steps; n integers."""
        return (self.episode_length,) * self.num_tasks

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState: ...

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState: ...

    def select(self, tasks: Sequence[int]) -> TaskSuite: ...

    def refresh(self, state: SuiteState) -> SuiteState:
        """Draws the pool of initial states anew, where there is one.

        To be called once in a while, as training does before every unroll: between two
        calls, ended episodes start from one of the pool's states.
        """
        return state

    # What brings other environments in; `pgx_jax.envs.adapters` explains each.

    @staticmethod
    def from_brax(*args: Any, **kwargs: Any) -> TaskSuite:
        """See `pgx_jax.envs.adapters.from_brax`."""
        from pgx_jax.envs import adapters

        return adapters.from_brax(*args, **kwargs)

    @staticmethod
    def from_playground(*args: Any, **kwargs: Any) -> TaskSuite:
        """See `pgx_jax.envs.adapters.from_playground`."""
        from pgx_jax.envs import adapters

        return adapters.from_playground(*args, **kwargs)

    @staticmethod
    def from_functions(*args: Any, **kwargs: Any) -> TaskSuite:
        """See `pgx_jax.envs.adapters.from_functions`."""
        from pgx_jax.envs import adapters

        return adapters.from_functions(*args, **kwargs)


def reset_episode(env: Env, key: jax.Array) -> SuiteState:
    """Starts one episode of one Brax environment; leaves have no leading axes."""
    key, reset_key = jax.random.split(key)
    env_state = jax.tree.map(strengthen, env.reset(reset_key))
    return SuiteState(
        env_state=env_state,
        observation=env_state.obs,
        reward=jnp.zeros((), jnp.float32),
        termination=jnp.zeros((), bool),
        truncation=jnp.zeros((), bool),
        divergence=jnp.zeros((), bool),
        next_observation=env_state.obs,
        episode_return=jnp.zeros((), jnp.float32),
        episode_length=jnp.zeros((), jnp.int32),
        episode_success=jnp.zeros((), jnp.float32),
        key=key,
    )


def step_episode(
    env: Env,
    episode_length: int,
    state: SuiteState,
    action: jax.Array,
    pool: State | None = None,
) -> SuiteState:
    """Takes one step of one Brax environment, and resets it where the episode ends.

    The new episode starts from a fresh draw of the environment's own `reset`, or from a
    state of the pool. An episode that reaches `episode_length` steps is truncated, and
    so is one whose observation, reward or success is not finite: its task did not end,
    and a termination, worth 0, would be a gain where rewards are negative.

    Args:
      env: the environment.
      episode_length: in steps.
      state: leaves have no leading axes.
      action: of the environment.
      pool: initial states, leaves of shape [pool_size, ...], or None.

    Raises:
      ValueError: the step changes the type of an array of the state to one whose values
        the type of before does not hold.
    """
    stepped = jax.tree.map(jnp.asarray, env.step(state.env_state, action))
    check_types(state.env_state, stepped)
    # The statistics of an episode stay readable on its last step, so they are cleared
    # on the step after it.
    started = state.done
    length = jnp.where(started, 0, state.episode_length) + 1
    success = stepped.metrics.get("success", jnp.zeros(())).astype(jnp.float32)
    divergence = ~(
        jnp.all(jnp.isfinite(stepped.obs))
        & jnp.isfinite(stepped.reward)
        & jnp.isfinite(success)
    )
    reward = jnp.where(divergence, 0.0, stepped.reward.astype(jnp.float32))
    success = jnp.where(divergence, 0.0, success)
    termination = stepped.done.astype(bool) & ~divergence
    truncation = ((length >= episode_length) | divergence) & ~termination
    done = termination | truncation

    key, reset_key = jax.random.split(state.key)
    fresh = env.reset(reset_key) if pool is None else _draw_from(pool, reset_key)
    # In the types of the state before, so that a loop over steps compiles once.
    env_state = jax.tree.map(
        lambda new, old, like: jnp.where(
            done, cast(new, like.dtype), cast(old, like.dtype)
        ),
        fresh,
        stepped,
        state.env_state,
    )
    return SuiteState(
        env_state=env_state,
        observation=env_state.obs,
        reward=reward,
        termination=termination,
        truncation=truncation,
        divergence=divergence,
        next_observation=jnp.where(divergence, state.env_state.obs, stepped.obs),
        episode_return=jnp.where(started, 0.0, state.episode_return) + reward,
        episode_length=length,
        episode_success=jnp.maximum(
            jnp.where(started, 0.0, state.episode_success), success
        ),
        key=key,
    )


def _draw_from(pool: State, key: jax.Array) -> State:
    """One state of the pool, with keys of its own where it holds new-style ones."""
    index_key, number_key = jax.random.split(key)
    size = jax.tree.leaves(pool)[0].shape[0]
    index = jax.random.randint(index_key, (), 0, size)
    number = jax.random.bits(number_key, dtype=jnp.uint32)

    def draw(x):
        # Else two episodes that start alike would meet the same noise ever after.
        return jax.random.fold_in(x[index], number) if is_key(x.dtype) else x[index]

    return jax.tree.map(draw, pool)


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
      action_space: what a policy puts out.
      episode_length: steps after which an episode is truncated.
      planted_labels: the known group of each task (n integers), or None.
      pool_size: initial states per task that are drawn beforehand, for environments
        whose reset costs as much as a step; 0 to draw each reset on the spot, for every
        environment at every step.
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

    @property
    def num_tasks(self) -> int:
        return len(self.task_names)

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        keys = jax.random.split(key, (self.num_tasks, num_envs))

        def reset_task(parameters, task_keys):
            env = self.make_env(parameters)
            return jax.vmap(lambda k: reset_episode(env, k))(task_keys)

        return self.refresh(_map_tasks(reset_task, self.parameters, keys))

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        def step_task(parameters, task_state, task_action, task_pool):
            env = self.make_env(parameters)
            return jax.vmap(
                lambda s, a: step_episode(env, self.episode_length, s, a, task_pool)
            )(task_state, task_action)

        pool = state.pool
        new = _map_tasks(
            step_task, self.parameters, state._replace(pool=None), action, pool
        )
        return new._replace(pool=pool)

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

    def select(self, tasks: Sequence[int]) -> FamilySuite:
        tasks = check_tasks(tasks, self.num_tasks)
        labels = self.planted_labels
        return dataclasses.replace(
            self,
            parameters=jax.tree.map(lambda x: jnp.asarray(x)[tasks], self.parameters),
            task_names=tuple(self.task_names[i] for i in tasks),
            planted_labels=None if labels is None else tuple(labels[i] for i in tasks),
        )

    def gather(self, tasks: jax.Array) -> FamilySuite:
        """`select` by an index that may be traced; tasks lose their names."""
        return dataclasses.replace(
            self,
            parameters=jax.tree.map(lambda x: jnp.asarray(x)[tasks], self.parameters),
            task_names=("",) * tasks.shape[0],
            planted_labels=None,
        )


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


class SuiteView(TaskSuite):
    """What a suite that wraps another one, `self.suite`, has in common with it."""

    suite: TaskSuite

    name = property(lambda self: self.suite.name)
    observation_size = property(lambda self: self.suite.observation_size)
    action_space = property(lambda self: self.suite.action_space)
    episode_length = property(lambda self: self.suite.episode_length)


@dataclasses.dataclass(frozen=True)
class TaskIdSuite(SuiteView):
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

    task_names = property(lambda self: self.suite.task_names)
    episode_lengths = property(lambda self: self.suite.episode_lengths)
    num_tasks = property(lambda self: self.suite.num_tasks)
    planted_labels = property(lambda self: self.suite.planted_labels)

    @property
    def observation_size(self) -> int:
        return self.suite.observation_size + self.num_ids

    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        return self._extend(self.suite.reset(key, num_envs))

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        return self._extend(self.suite.step(state, action))

    def refresh(self, state: SuiteState) -> SuiteState:
        return self.suite.refresh(state)

    def select(self, tasks: Sequence[int]) -> TaskIdSuite:
        tasks = check_tasks(tasks, self.num_tasks)
        return TaskIdSuite(self.suite.select(tasks), self.task_ids[tasks], self.num_ids)

    @property
    def gather(self) -> Callable[[jax.Array], TaskIdSuite]:
        """`select` by an index that may be traced; there where the suite has it."""
        gather = self.suite.gather
        return lambda tasks: TaskIdSuite(
            gather(tasks), self.task_ids[tasks], self.num_ids
        )

    def _extend(self, state: SuiteState) -> SuiteState:
        def append(observation):
            one_hot = jax.nn.one_hot(self.task_ids, self.num_ids)[:, None]
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


def check_tasks(tasks: Sequence[int], num_tasks: int) -> np.ndarray:
    """The task indices as an int array of shape [len(tasks)].

    Raises:
      ValueError: `tasks` is empty or holds an index outside 0..num_tasks-1.
    """
    tasks = np.asarray(tasks)
    if tasks.ndim != 1 or tasks.size == 0 or not np.issubdtype(tasks.dtype, np.integer):
        raise ValueError(f"tasks must be a non-empty list of task indices, got {tasks}")
    if tasks.min() < 0 or tasks.max() >= num_tasks:
        raise ValueError(
            f"tasks must be indices in 0..{num_tasks - 1}, got {tasks.tolist()}"
        )
    return tasks
