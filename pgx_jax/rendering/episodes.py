"""Whole episodes of some tasks, played inside jit for videos."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.appearance import ACCENT, task_colors
from pgx_jax.envs import TaskSuite
from pgx_jax.envs.dtypes import strengthen
from pgx_jax.rendering.policies import Policies
from pgx_jax.rendering.scenes import recorder, to_numpy
from pgx_jax.training.rollouts import act
from pgx_jax.types import PyTree

if TYPE_CHECKING:
    from brax.envs.base import Env

MAX_TILES = 16


class Episode(NamedTuple):
    """One episode of one task, its start included; NumPy arrays.

    Attributes:
      state: what drawing needs of every state; leaves of shape [steps + 1, ...].
      episode_return: so far; float32 [steps + 1].
      success: whether the task has reported success so far; bool [steps + 1].
      terminated: whether the task's own rules ended it, rather than the time limit.
    """

    state: PyTree
    episode_return: np.ndarray
    success: np.ndarray
    terminated: bool

    @property
    def num_steps(self) -> int:
        return len(self.episode_return) - 1


class Tile(NamedTuple):
    """What is shown of one task.

    Attributes:
      name: of the task.
      details: the parameters that distinguish it from the others.
      color: of its group.
      env: made outside of jit.
      episodes: shown one after the other.
    """

    name: str
    details: str
    color: str
    env: Env
    episodes: list[Episode]

    @property
    def time_step(self) -> float | None:
        """In s, where the environment has one."""
        step = getattr(self.env, "dt", None)
        return None if step is None else float(step)


def find_tasks(suite: TaskSuite, names: str) -> list[int]:
    """Tasks by name or index, several separated by commas, or "all".

    Of more than 16 tasks, "all" takes 16 spread evenly.

    Raises:
      ValueError: there is no such task, or they are more than 16.
    """
    if names == "all":
        count = min(suite.num_tasks, MAX_TILES)
        return np.linspace(0, suite.num_tasks - 1, count).round().astype(int).tolist()
    tasks = []
    for name in map(str.strip, names.split(",")):
        if name in suite.task_names:
            tasks.append(suite.task_names.index(name))
        elif name.isdecimal() and int(name) < suite.num_tasks:
            tasks.append(int(name))
        else:
            raise ValueError(
                f"suite {suite.name!r} has no task {name!r}; it has "
                f"{', '.join(suite.task_names)}"
            )
    if len(tasks) > MAX_TILES:
        raise ValueError(f"at most {MAX_TILES} tasks fit a video, got {len(tasks)}")
    return tasks


def play_tasks(
    suite: TaskSuite,
    policies: Policies,
    tasks: Sequence[int],
    key: jax.Array,
    *,
    num_episodes: int = 1,
    deterministic: bool = True,
) -> list[Tile]:
    """Plays whole episodes of some tasks, each by its policy.

    Args:
      suite: n tasks.
      policies: of the n tasks.
      tasks: those to play.
      key: for the environments and the actions; task and episode are folded into it.
      num_episodes: per task.
      deterministic: take the most likely action, else sample.

    Raises:
      ValueError: `num_episodes` is below 1, or an environment cannot be drawn.
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes must be at least 1, got {num_episodes}")
    colors = _color_tasks(policies.policy_ids)
    tiles = []
    for task in tasks:
        make_env, parameters, task_id = suite.task_environment(task)
        policy_id = int(policies.policy_ids[task])
        policy = jax.tree.map(
            lambda x, i=policy_id: x[i : i + 1],
            (policies.params, policies.observation_statistics),
        )
        env = make_env(parameters)
        record = recorder(env)
        episodes = [
            _play(
                make_env,
                record,
                policies.actor_critic,
                suite.episode_length,
                deterministic,
                parameters,
                task_id,
                policy,
                None if suite.objectives is None else suite.objectives[task],
                jax.random.fold_in(jax.random.fold_in(key, task), episode),
            )
            for episode in range(num_episodes)
        ]
        name, details = suite.task_names[task], suite.describe_task(task)
        tiles.append(
            Tile(name, details, colors[task], env, [_trim(x) for x in episodes])
        )
    return tiles


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _play(
    make_env,
    record,
    actor_critic,
    length,
    deterministic,
    parameters,
    task_id,
    policy,
    objective,
    key,
) -> tuple[Episode, jax.Array]:
    """One episode, `length` steps long; from its end on nothing changes.

    Returned as well, for every state: whether it is after the episode's end.

    The environment is stepped here, not by its suite, which would give the first state
    of the next episode in place of the last one.
    """
    env = make_env(parameters)
    params, statistics = policy
    zero = jnp.zeros((1,), jnp.int32)

    def save(state, total, success, terminated, done):
        return Episode(record(state), total, success, terminated), done

    def take_step(carry, step_key):
        state, total, success, terminated, done = carry
        observation = jnp.concatenate([state.obs, task_id])[None, None]
        action, _ = act(
            actor_critic,
            params,
            statistics,
            zero,
            observation,
            step_key,
            deterministic=deterministic,
        )
        new = env.step(state, action[0, 0])
        reward = new.reward if objective is None else new.reward[objective]
        finite = jnp.all(jnp.isfinite(new.obs)) & jnp.isfinite(reward)
        moved = ~done & finite
        state = jax.tree.map(
            lambda new, old: jnp.where(moved, new, old).astype(old.dtype), new, state
        )
        total = total + jnp.where(moved, reward, 0.0).astype(jnp.float32)
        solved = new.metrics.get("success", jnp.zeros(())) > 0
        success = success | (moved & solved)
        terminated = terminated | (~done & (new.done.astype(bool) | ~finite))
        carry = (state, total, success, terminated, terminated)
        # The step that ends an episode is still one of it.
        return carry, save(state, total, success, terminated, done)

    reset_key, act_key = jax.random.split(key)
    start = jax.tree.map(strengthen, env.reset(reset_key))
    false = jnp.zeros((), bool)
    carry = (start, jnp.zeros(()), false, false, false)
    first = save(*carry)
    _, steps = jax.lax.scan(take_step, carry, jax.random.split(act_key, length))
    return jax.tree.map(
        lambda x, xs: jnp.concatenate([jnp.expand_dims(x, 0), xs]), first, steps
    )


def _trim(recorded: tuple[Episode, jax.Array]) -> Episode:
    """The states up to the end of the episode, as NumPy arrays."""
    episode, after = to_numpy(recorded)
    count = int(np.sum(~after))
    episode = jax.tree.map(lambda x: x[:count], episode)
    return episode._replace(terminated=bool(episode.terminated[-1]))


def _color_tasks(policy_ids: np.ndarray) -> list[str]:
    """Of every task's group, as in the report."""
    labels = policy_ids.tolist()
    if len(set(labels)) == 1:
        return [ACCENT] * len(labels)
    return task_colors(labels)
