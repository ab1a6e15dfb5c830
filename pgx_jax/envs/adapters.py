"""Adapters that make task suites of existing environments.

Each function returns a suite whose resets draw afresh, whose truncation by the time
limit is distinguished from termination, and whose step compiles once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State, Wrapper

from pgx_jax.envs.collection import CollectionSuite
from pgx_jax.envs.core import (
    ActionSpace,
    TaskSuite,
    check_reward,
    shape_of_rewards,
)
from pgx_jax.envs.dtypes import cast, common_type, type_beside
from pgx_jax.envs.family import FamilySuite

PyTree = Any
POOL_SIZE = 64


def from_brax(
    envs: str | Env | Mapping[str, Env] | Sequence[str | Env],
    *,
    episode_length: int = 1000,
    pool_size: int = POOL_SIZE,
    name: str = "brax",
    **env_kwargs: Any,
) -> TaskSuite:
    """A suite of Brax environments, one task each.

    Pass the environments without Brax's training wrappers: those truncate episodes
    themselves and restart each from the same state.

    Args:
      envs: one or more environments with continuous actions and a vector as
        observation: instances, or names that Brax knows. The keys of a mapping become
        the names of the tasks.
      episode_length: steps after which an episode is truncated.
      pool_size: initial states that are drawn beforehand; 0 to draw every reset on the
        spot, which costs about as much as a step.
      name: the suite's name.
      **env_kwargs: for environments given by name, such as `backend="mjx"`, the
        default.

    Raises:
      ValueError: there is no environment, no environment of a name, the sizes of
        observations or actions differ, or a step gives a state of other shapes than a
        reset, or of types that have none in common; the message names the tasks.
    """
    return _collect(
        {
            task: _load_brax(env, env_kwargs) if isinstance(env, str) else env
            for task, env in _named(envs).items()
        },
        episode_length,
        pool_size,
        name,
    )


def from_playground(
    envs: str | Any | Mapping[str, Any] | Sequence[str | Any],
    *,
    observation: str = "state",
    episode_length: int | None = None,
    pool_size: int = POOL_SIZE,
    name: str = "playground",
) -> TaskSuite:
    """A suite of MuJoCo Playground environments, one task each.

    Args:
      envs: one or more environments: instances of `mujoco_playground.MjxEnv`, or names
        in its registry, for which the package `playground` must be installed. The keys
        of a mapping become the names of the tasks.
      observation: which entry the policy sees where observations are dicts.
      episode_length: steps after which an episode is truncated; by default that of each
        environment's own config, or 1,000 where it has none.
      pool_size: as in `from_brax`.
      name: the suite's name.

    Raises:
      ImportError: an environment is given by name and Playground is not installed.
      ValueError: there is no environment, no environment of a name, an observation
        lacks the entry, or sizes differ; the message names the tasks.
    """
    members = []
    for task, env in _named(envs).items():
        env = _load_playground(env) if isinstance(env, str) else env
        config = getattr(env, "_config", {})
        length = episode_length or int(config.get("episode_length", 1000))
        env = _EntryOfObservation(task, env, observation)
        members.append(_collect({task: env}, length, pool_size, name))
    return members[0] if len(members) == 1 else CollectionSuite.create(members, name)


def from_functions(
    reset: Callable[[PyTree, jax.Array], tuple[PyTree, jax.Array]],
    step: Callable[..., tuple[PyTree, jax.Array, jax.Array, jax.Array]],
    parameters: PyTree,
    *,
    action_space: ActionSpace,
    episode_length: int,
    task_names: Sequence[str] | None = None,
    name: str = "functions",
    pool_size: int = 0,
    objective_names: Sequence[str] = (),
) -> FamilySuite:
    """A suite of tasks given by a pair of functions and the tasks' parameters.

    Args:
      reset: `reset(parameters, key) -> (state, observation)`, of one task and one
        environment: a pytree of arrays and a float32 vector.
      step: `step(parameters, state, action, key) -> (state, observation, reward,
        terminated)`, or a fifth result `success` after these: whether the task is
        solved at this step. `terminated` is for the task's own endings; the suite
        itself applies the time limit.
      parameters: pytree of arrays with a leading task axis; leaves [n, ...].
      action_space: what `step` takes.
      episode_length: steps after which an episode is truncated.
      task_names: n names; "task 1", "task 2", ... if None.
      name: the suite's name.
      pool_size: as in `from_brax`.
      objective_names: of the K entries of the reward, where `step` gives a vector [K].

    Raises:
      ValueError: the parameters' leaves have no common leading axis, there are not n
        names, the observation is no vector, the reward of `step` is not one number, or
        not one for each of `objective_names`, or `step` gives another number of
        results, or a state of other shapes than `reset` or of types that have none in
        common with those of `reset`.
    """
    axes = {jnp.shape(x)[:1] for x in jax.tree.leaves(parameters)}
    if len(axes) != 1 or () in axes:
        raise ValueError(
            "every leaf of parameters must have a leading axis of one length, the "
            f"number of tasks, got lengths {sorted(str(*x) or 'none' for x in axes)}"
        )
    ((num_tasks,),) = axes
    task_names = tuple(task_names or (f"task {i + 1}" for i in range(num_tasks)))
    if len(task_names) != num_tasks:
        raise ValueError(
            f"task_names must be {num_tasks} names, one for each row of parameters, "
            f"got {len(task_names)}"
        )
    one = jax.tree.map(lambda x: jnp.asarray(x)[0], parameters)
    key = jax.random.key(0)
    action = jax.ShapeDtypeStruct(
        () if action_space.discrete else (action_space.size,),
        jnp.int32 if action_space.discrete else jnp.float32,
    )
    state, observation = jax.eval_shape(reset, one, key)
    if len(observation.shape) != 1:
        raise ValueError(
            f"reset must give a vector as observation, got shape {observation.shape}"
        )
    results = jax.eval_shape(step, one, state, action, key)
    num_results = len(results)
    if num_results not in (4, 5):
        raise ValueError(f"step must give 4 or 5 results, got {num_results}")
    names = tuple(objective_names)
    reward_shape = shape_of_rewards(names)
    check_reward(results[2], "step", reward_shape)
    make_env = _MakeFunctional(
        reset, step, action_space, num_results == 5, reward_shape
    )
    env = make_env(one)
    start = jax.eval_shape(env.reset, key)
    types = _common_types(env, start, action)
    return FamilySuite(
        make_env=dataclasses.replace(make_env, types=types),
        parameters=jax.tree.map(jnp.asarray, parameters),
        name=name,
        task_names=task_names,
        observation_size=start.obs.shape[0],
        action_space=action_space,
        episode_length=episode_length,
        pool_size=pool_size,
        objective_names=names,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Constant:
    """Gives the same environment whatever the parameters."""

    env: Env

    def __call__(self, parameters: PyTree) -> Env:
        return self.env


@dataclasses.dataclass(frozen=True)
class _MakeFunctional:
    reset: Callable[..., Any]
    step: Callable[..., Any]
    action_space: ActionSpace
    has_success: bool
    reward_shape: tuple[int, ...]
    types: tuple[Any, ...] | None = None

    def __call__(self, parameters: PyTree) -> Env:
        env = _FunctionalEnv(self, parameters)
        return env if self.types is None else _TypedReset(env, self.types)


class _FunctionalEnv(Env):
    """A pair of functions as a Brax environment."""

    def __init__(self, functions: _MakeFunctional, parameters: PyTree):
        self.functions = functions
        self.parameters = parameters

    def reset(self, rng: jax.Array) -> State:
        key, step_key = jax.random.split(rng)
        state, observation = self.functions.reset(self.parameters, key)
        zero = jnp.zeros((), jnp.float32)
        return State(
            pipeline_state=state,
            obs=observation,
            reward=jnp.zeros(self.functions.reward_shape, jnp.float32),
            done=zero,
            metrics={"success": zero} if self.functions.has_success else {},
            info={"key": step_key},
        )

    def step(self, state: State, action: jax.Array) -> State:
        key, step_key = jax.random.split(state.info["key"])
        new, observation, reward, terminated, *success = self.functions.step(
            self.parameters, state.pipeline_state, action, step_key
        )
        metrics = {}
        if success:
            metrics["success"] = jnp.asarray(success[0], jnp.float32)
        return State(
            pipeline_state=new,
            obs=observation,
            reward=jnp.asarray(reward, jnp.float32),
            done=jnp.asarray(terminated, jnp.float32),
            metrics=metrics,
            info={"key": key},
        )

    @property
    def observation_size(self) -> int:
        return jax.eval_shape(self.reset, jax.random.key(0)).obs.shape[-1]

    @property
    def action_size(self) -> int:
        return self.functions.action_space.size

    @property
    def backend(self) -> str:
        return "jax"


class _TypedReset(Wrapper):
    """An environment whose reset gives the types that its steps give."""

    def __init__(self, env: Env, types: tuple[Any, ...]):
        super().__init__(env)
        self.types = types

    def reset(self, rng: jax.Array) -> State:
        leaves, structure = jax.tree.flatten(self.env.reset(rng))
        leaves = [cast(x, dtype) for x, dtype in zip(leaves, self.types, strict=True)]
        return jax.tree.unflatten(structure, leaves)


class _EntryOfObservation(Env):
    """An environment of which the policy sees one entry of the observation."""

    def __init__(self, task: str, env: Any, entry: str):
        self.env, self.entry = env, entry
        seen = jax.eval_shape(env.reset, jax.random.key(0)).obs
        self.is_dict = isinstance(seen, Mapping)
        if self.is_dict and entry not in seen:
            raise ValueError(
                f"observation {entry!r} does not exist in task {task!r}, which has "
                f"{', '.join(sorted(seen))}"
            )
        self.observation_shape = (seen[entry] if self.is_dict else seen).shape

    def reset(self, rng: jax.Array) -> State:
        return self._show(self.env.reset(rng))

    def step(self, state: State, action: jax.Array) -> State:
        return self._show(self.env.step(state.pipeline_state, action))

    def _show(self, state: Any) -> State:
        metrics = {k: v for k, v in state.metrics.items() if k == "success"}
        observation = state.obs[self.entry] if self.is_dict else state.obs
        return State(state, observation, state.reward, state.done, metrics)

    @property
    def observation_size(self) -> int:
        return self.observation_shape[-1]

    @property
    def action_size(self) -> int:
        return self.env.action_size

    @property
    def backend(self) -> str:
        return "mjx"


def _named(envs: Any) -> dict[str, Any]:
    """Environments by name of task."""
    if isinstance(envs, Mapping):
        named = dict(envs)
    else:
        several = isinstance(envs, Sequence) and not isinstance(envs, str)
        named = {}
        for env in envs if several else [envs]:
            task = env if isinstance(env, str) else type(env).__name__
            same = sum(x == task or x.startswith(f"{task} ") for x in named)
            named[f"{task} {same + 1}" if same else task] = env
    if not named:
        raise ValueError("envs must hold at least one environment")
    return named


def _load_brax(name: str, kwargs: Mapping[str, Any]) -> Env:
    from brax import envs

    try:
        return envs.get_environment(name, **{"backend": "mjx", **kwargs})
    except KeyError:
        known = ", ".join(sorted(envs._envs))
        raise ValueError(f"Brax has no environment {name!r}; it has {known}") from None


def _load_playground(name: str) -> Any:
    try:
        from mujoco_playground import registry
    except ImportError as error:
        raise ImportError(
            "environments given by name need MuJoCo Playground: pip install playground"
        ) from error
    if name not in registry.ALL_ENVS:
        known = ", ".join(sorted(registry.ALL_ENVS))
        raise ValueError(f"Playground has no environment {name!r}; it has {known}")
    config = registry.get_default_config(name)
    if "impl" in config:
        config.impl = "jax"  # the default needs Warp and a GPU
    return registry.load(name, config=config)


def _collect(
    envs: Mapping[str, Env], episode_length: int, pool_size: int, name: str
) -> TaskSuite:
    """One suite of one task each, put together."""
    members = []
    for task, env in envs.items():
        start = jax.eval_shape(env.reset, jax.random.key(0))
        if isinstance(start.obs, Mapping) or len(start.obs.shape) != 1:
            raise ValueError(
                f"task {task!r} must give a vector as observation, got "
                f"{jax.tree.map(lambda x: x.shape, start.obs)}"
            )
        action = jax.ShapeDtypeStruct((env.action_size,), jnp.float32)
        types = _common_types(env, start, action, f" of task {task!r}")
        members.append(
            FamilySuite(
                make_env=_Constant(env if types is None else _TypedReset(env, types)),
                parameters=jnp.zeros((1,)),
                name=name,
                task_names=(task,),
                observation_size=start.obs.shape[0],
                action_space=ActionSpace(size=env.action_size, discrete=False),
                episode_length=episode_length,
                pool_size=pool_size,
            )
        )
    return members[0] if len(members) == 1 else CollectionSuite.create(members, name)


def _common_types(
    env: Env, start: State, action: jax.ShapeDtypeStruct, where: str = ""
) -> tuple[Any, ...] | None:
    """The types that a state has after any number of steps; None for those of reset.

    Args:
      env: the environment.
      start: shapes and types of its reset's state.
      action: shape and type of an action.
      where: whose step it is, for the message.

    Raises:
      ValueError: a step's state has another structure or other shapes than a reset's,
        or an array of types that have none in common.
    """
    structure = jax.tree.structure(start)
    state, settled = start, False
    # A wider type of one array can widen that of another one at the next step.
    while not settled:
        after = jax.eval_shape(env.step, state, action)
        if jax.tree.structure(after) != structure:
            raise ValueError(
                f"step{where} must give a state of the structure of reset's, got "
                f"{jax.tree.structure(after)} after {structure}"
            )
        leaves, settled = [], True
        pairs = zip(
            jax.tree.leaves_with_path(state), jax.tree.leaves(after), strict=True
        )
        for (path, x), y in pairs:
            place = jax.tree_util.keystr(path)
            if x.shape != y.shape:
                raise ValueError(
                    f"step{where} must keep the shapes of reset's state, but {place} "
                    f"goes from {x.shape} to {y.shape}"
                )
            common = common_type(x.dtype, type_beside(x, y))
            if common is None:
                raise ValueError(
                    f"step{where} must keep the types of reset's state, but {place} "
                    f"goes from {x.dtype} to {y.dtype}"
                )
            settled &= common == x.dtype
            leaves.append(jax.ShapeDtypeStruct(x.shape, common))
        state = jax.tree.unflatten(structure, leaves)
    types = tuple(x.dtype for x in leaves)
    return None if types == tuple(x.dtype for x in jax.tree.leaves(start)) else types
