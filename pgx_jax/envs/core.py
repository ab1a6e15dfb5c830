"""Task suites: n tasks of one observation and one action size, stepped inside jit.

A suite is a pytree: what differs between its tasks are its leaves, so that a compiled
program serves every suite of the same structure and the same number of tasks.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from pgx_jax.arguments import as_integer, check_switch
from pgx_jax.envs.dtypes import cast, check_types, is_key, strengthen

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ActionSpace:
    """What a policy outputs.

    Attributes:
      size: the number of actions where they are discrete, else the length of the action
        vector.
      discrete: whether an action is an integer in 0..size-1 (int32, shape []) or a
        vector (float32, shape [size]).

    Raises:
      ValueError: `size` is no integer of at least 1, or `discrete` no bool.
    """

    size: int
    discrete: bool

    def __post_init__(self):
        object.__setattr__(self, "size", as_integer("size", self.size, 1))
        check_switch("discrete", self.discrete)


class SuiteState(NamedTuple):
    """One step of every environment; leaves of shape [n, num_envs, ...].

    Attributes:
      env_state: the Brax `State` to step from (already reset where the episode ended).
      observation: what the policy acts on next; float32 [..., observation_size].
      reward: of the step just taken; float32, with a last axis of objectives where the
        suite has `objective_names`.
      termination: whether that step ended the episode by the task's own rules; bool.
      truncation: whether the time limit ended it, or its physics diverged; bool, never
        with termination.
      divergence: whether the step gave an observation, a reward or a success that is
        not finite; it then counts as a step of no reward and no success that stayed
        where it was, and its episode is truncated; bool.
      next_observation: the observation that the step led to, before any reset; what the
        value is bootstrapped from; float32 [..., observation_size].
      episode_return: the sum of rewards of the current episode, or of the one that has
        just ended; float32, of the shape of `reward`.
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


class TaskEnvironment(NamedTuple):
    """The environment of one task, to be made and stepped outside of its suite.

    Attributes:
      make_env: `make_env(parameters)` is the environment; one function for all tasks of
        a program, so that it may be static under jit.
      parameters: of the task; pytree of arrays without a task axis.
      task_id: what the suite appends to observations of the environment; float32 [k],
        where k is 0 if it appends nothing.
    """

    make_env: Callable[[PyTree], Env]
    parameters: PyTree
    task_id: jax.Array


class StepSuite(abc.ABC):
    """What resets and steps n tasks: all that rollouts and training ask of a suite.

    Suites are pytrees.

    Attributes:
      name: of the suite.
      observation_size: length of the observation vector.
      action_space: what a policy outputs.
      episode_length: steps after which an episode is truncated; of several time limits
        the longest.
      num_ids: length of the one-hot task id that observations end in; 0 if they end in
        none.
      objective_names: of the K entries of a reward, where environments give vectors
        [K]; empty where they give one number.
      preferences: what each task weighs the objectives by in training; float32 [n, K],
        or None where all count alike.
      objectives: which one each task is, where tasks are objectives of one environment
        (`ObjectiveTasks`); int32 [n], else None. A policy then learns all objectives of
        its tasks in the environments of each of them.
    """

    name: str
    observation_size: int
    action_space: ActionSpace
    episode_length: int
    num_ids: int = 0
    objective_names: tuple[str, ...] = ()
    preferences: jax.Array | None = None
    objectives: jax.Array | None = None

    @property
    @abc.abstractmethod
    def num_tasks(self) -> int:
        """n."""

    @property
    def reward_shape(self) -> tuple[int, ...]:
        """Of one step of one environment: [K] of K objectives, else []."""
        return shape_of_rewards(self.objective_names)

    @property
    def episode_lengths(self) -> Sequence[int] | jax.Array:
        """The time limit of each task, in steps; n integers."""
        return (self.episode_length,) * self.num_tasks

    @abc.abstractmethod
    def reset(self, key: jax.Array, num_envs: int) -> SuiteState:
        """Starts an episode in every environment; leaves [n, num_envs, ...].

        Args:
          key: for the initial states of all tasks and environments.
          num_envs: environments of each task.

        Raises:
          ValueError: `key` is no key or seed, or `num_envs` no positive integer.
        """

    @abc.abstractmethod
    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        """Takes one step, and resets every environment whose episode has ended.

        Args:
          state: of `reset` or `step`; leaves [n, num_envs, ...].
          action: int32 [n, num_envs] where actions are discrete, else float32
            [n, num_envs, size].
        """

    def refresh(self, state: SuiteState) -> SuiteState:
        """Draws a new pool of initial states, where there is one.

        Call it from time to time, as training does before every unroll: between two
        calls, ended episodes start from one of the pool's states.
        """
        return state


class TaskSuite(StepSuite):
    """n tasks of one observation and one action size behind one pair of functions.

    Attributes:
      task_names: n names.
      planted_labels: the known group of each task (n integers), or None.
    """

    task_names: tuple[str, ...]
    planted_labels: tuple[int, ...] | None = None

    @property
    def distinct(self) -> TaskSuite:
        """The tasks with environments of their own: all, or one for all objectives."""
        return self

    @property
    @abc.abstractmethod
    def has_success(self) -> bool:
        """Whether every task reports success, by `metrics["success"]`."""

    @abc.abstractmethod
    def select(self, tasks: Sequence[int] | np.ndarray) -> TaskSuite:
        """The suite of some tasks in the order given, with repetition allowed.

        Raises:
          ValueError: `tasks` is empty or holds an index outside 0..n-1.
        """

    def step_tasks(
        self, tasks: jax.Array, state: SuiteState, action: jax.Array
    ) -> SuiteState:
        """Takes one step of some tasks, each at most once; their index may be traced.

        By default all n tasks are stepped, from states of zeros where a task is not
        among them, and the results of these are dropped. Suites that can step some of
        their tasks by themselves do so.

        Args:
          tasks: indices in 0..n-1; int32 [s].
          state: of those tasks; leaves [s, num_envs, ...].
          action: of those tasks; [s, num_envs, ...].
        """
        num_tasks = self.num_tasks

        def scatter(x):
            return jnp.zeros((num_tasks, *x.shape[1:]), x.dtype).at[tasks].set(x)

        new = self.step(*jax.tree.map(scatter, (state, action)))
        return jax.tree.map(lambda x: x[tasks], new)

    @abc.abstractmethod
    def task_environment(self, task: int) -> TaskEnvironment:
        """The environment of one task by itself, as drawings need it."""

    def describe_task(self, task: int) -> str:
        """What sets the task apart from the others, for captions; may be empty."""
        del task
        return ""


def reset_episode(
    env: Env, key: jax.Array, objective_names: tuple[str, ...] = ()
) -> SuiteState:
    """Starts one episode of one Brax environment; leaves have no leading axes.

    Raises:
      ValueError: the environment's reward is not one number for each of
        `objective_names`, or one number where there are none.
    """
    key, reset_key = jax.random.split(key)
    env_state = jax.tree.map(strengthen, env.reset(reset_key))
    shape = shape_of_rewards(objective_names)
    check_reward(env_state.reward, "the environment's reset", shape)
    return SuiteState(
        env_state=env_state,
        observation=env_state.obs,
        reward=jnp.zeros(shape, jnp.float32),
        termination=jnp.zeros((), bool),
        truncation=jnp.zeros((), bool),
        divergence=jnp.zeros((), bool),
        next_observation=env_state.obs,
        episode_return=jnp.zeros(shape, jnp.float32),
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
        the type of before does not hold, or the shape of the reward.
    """
    stepped = jax.tree.map(jnp.asarray, env.step(state.env_state, action))
    check_types(state.env_state, stepped)
    check_reward(stepped.reward, "the environment's step", state.reward.shape)
    # The statistics of an episode stay readable on its last step, so they are cleared
    # on the step after it.
    started = state.done
    length = jnp.where(started, 0, state.episode_length) + 1
    success = stepped.metrics.get("success", jnp.zeros(())).astype(jnp.float32)
    divergence = ~(
        jnp.all(jnp.isfinite(stepped.obs))
        & jnp.all(jnp.isfinite(stepped.reward))
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


def shape_of_rewards(objective_names: tuple[str, ...]) -> tuple[int, ...]:
    """[K] of K objectives, else []."""
    return (len(objective_names),) if objective_names else ()


def check_reward(reward: Any, function: str, shape: tuple[int, ...]) -> None:
    """Refuses a reward of another shape, by the name of the function that gave it."""
    if reward.shape != shape:
        raise ValueError(
            f"the reward of {function} must have shape {list(shape)}, one number "
            f"{'for each of objective_names' if shape else 'a step'}, got "
            f"{list(reward.shape)}"
        )


def _draw_from(pool: State, key: jax.Array) -> State:
    """One state of the pool, with keys of its own where it holds new-style ones."""
    index_key, number_key = jax.random.split(key)
    size = jax.tree.leaves(pool)[0].shape[0]
    index = jax.random.randint(index_key, (), 0, size)
    number = jax.random.bits(number_key, dtype=jnp.uint32)

    def draw(x):
        # Otherwise two episodes that start alike would see the same noise throughout.
        return jax.random.fold_in(x[index], number) if is_key(x.dtype) else x[index]

    return jax.tree.map(draw, pool)


def check_tasks(tasks: Sequence[int] | np.ndarray, num_tasks: int) -> np.ndarray:
    """The task indices as an int array of shape [len(tasks)].

    Raises:
      ValueError: `tasks` is empty or holds an index outside 0..num_tasks-1.
    """
    indices = np.asarray(tasks)
    is_integer = np.issubdtype(indices.dtype, np.integer)
    if indices.ndim != 1 or indices.size == 0 or not is_integer:
        raise ValueError(
            f"tasks must be a non-empty list of task indices, got {indices}"
        )
    if indices.min() < 0 or indices.max() >= num_tasks:
        raise ValueError(
            f"tasks must be indices in 0..{num_tasks - 1}, got {indices.tolist()}"
        )
    return indices
