"""Whole episodes: the first one of fresh environments, under fixed policies."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from pgx_jax.arguments import as_integer, as_key, check_switch
from pgx_jax.envs.core import StepSuite, TaskSuite
from pgx_jax.estimation.sharding import auto_mesh, call_with_auto_axes
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.training.meshes import (
    check_mesh,
    constrain,
    environment_specs,
    split_suite,
)
from pgx_jax.training.objectives import own_objective
from pgx_jax.training.rollouts import act
from pgx_jax.training.running_statistics import RunningStatistics
from pgx_jax.types import PyTree

# What a policy can be scored by, and where `Episodes` has it.
METRICS = {"return": "episode_return", "success": "episode_success"}


class Episodes(NamedTuple):
    """The first episode of every environment.

    Attributes:
      episode_return: sum of rewards, in which an episode that diverged is charged for
        the steps that it misses, each the lowest reward of any step played, or 0 if
        that is positive: else divergence would pay where rewards are negative; float32
        [r, num_episodes], with a last axis of objectives where rewards are vectors and
        no task is one of them.
      episode_length: in steps; int32 [r, num_episodes].
      episode_success: whether success was met at any step; float32 [r, num_episodes].
    """

    episode_return: jax.Array
    episode_length: jax.Array
    episode_success: jax.Array


def evaluate(
    suite: StepSuite,
    actor_critic: ActorCritic,
    policy_params: PyTree,
    observation_statistics: RunningStatistics,
    policy_ids: jax.Array | np.ndarray,
    key: jax.Array,
    num_episodes: int,
    *,
    deterministic: bool = True,
    row_ids: jax.Array | None = None,
    tasks: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Episodes:
    """Plays `num_episodes` whole episodes of every row, side by side.

    With `tasks`, policies are compared on common random numbers: rows of one task start
    from the same states, and draw the same numbers in their environments and for their
    actions. What the draws have in common cancels where their returns are compared.
    Where tasks are objectives, rows of one policy have their episodes in common.

    Args:
      suite: r tasks, or a `TaskSuite` of those that `tasks` counts.
      actor_critic: the networks.
      policy_params: leaves of shape [k, ...].
      observation_statistics: [k, observation_size].
      policy_ids: the policy of each row; int32 [r].
      key: for the environments and the actions.
      num_episodes: episodes per row, each in an environment of its own, so that short
        episodes count no more often than long ones.
      deterministic: take the mode of the action distribution, else sample it.
      row_ids: rows of one id draw the same random numbers for their actions; int32 [r].
        If None, `tasks`, or 0..r-1 where there are none.
      tasks: the task of every row, an index of `suite`'s; NumPy int [r]. If None, row i
        is task i.
      mesh: devices to split the episodes over, as of `PPO`; their number divides
        `num_episodes`.

    Raises:
      ValueError: `num_episodes`, `key`, `deterministic` or `mesh` is none, `policy_ids`
        is not of length r, or there are `tasks` but not a `TaskSuite` to select them
        from.
    """
    num_episodes = as_integer("num_episodes", num_episodes, 1)
    check_mesh(mesh, num_episodes=num_episodes)
    key = as_key(key)
    if not isinstance(deterministic, Tracer):
        check_switch("deterministic", deterministic)
    policy_ids = jnp.asarray(policy_ids, jnp.int32)
    num_rows = suite.num_tasks if tasks is None else len(tasks)
    if policy_ids.shape != (num_rows,):
        raise ValueError(
            f"policy_ids must have shape ({num_rows},), one policy for each row, got "
            f"{policy_ids.shape}"
        )
    rows, places = suite, None
    objectives, place = suite.objectives, None
    if tasks is not None:
        if not isinstance(suite, TaskSuite):
            raise ValueError(
                f"suite must be a TaskSuite where tasks are given, got {type(suite)}"
            )
        if suite.objectives is not None:
            objectives, suite = suite.objectives[tasks], suite.distinct
            policy_ids, place = np.unique(policy_ids, return_inverse=True)
            tasks, row_ids = np.zeros(len(policy_ids), int), None
        # Only tasks that are played are reset, so that rows hold what resets return.
        played, places = np.unique(tasks, return_inverse=True)
        suite, rows = suite.select(played), suite.select(tasks)
        row_ids = jnp.asarray(tasks, jnp.int32) if row_ids is None else row_ids
    mesh = None if mesh is None else auto_mesh(mesh)
    return call_with_auto_axes(
        functools.partial(_evaluate, mesh, actor_critic, num_episodes),
        (
            suite,
            rows,
            places,
            policy_params,
            observation_statistics,
            policy_ids,
            row_ids,
            key,
            deterministic,
            place,
            objectives,
        ),
        mesh,
    )


def count_steps(
    suite: TaskSuite, episodes: Episodes, policy_ids: jax.Array | np.ndarray
) -> int:
    """Environment steps of what `evaluate(tasks=...)` has played."""
    lengths = np.asarray(episodes.episode_length)
    if suite.objectives is not None:
        lengths = lengths[np.unique(policy_ids, return_index=True)[1]]
    return int(lengths.sum())


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _evaluate(
    mesh,
    actor_critic,
    num_episodes,
    suite,
    rows,
    places,
    policy_params,
    observation_statistics,
    policy_ids,
    row_ids,
    key,
    deterministic,
    place,
    objectives,
) -> Episodes:
    reset_key, act_key = jax.random.split(key)
    state = suite.reset(reset_key, num_episodes)
    if places is not None:
        state = jax.tree.map(lambda x: x[places], state)
    if mesh is not None:
        state = constrain(state, mesh, environment_specs(mesh))
        rows = split_suite(rows, mesh)
    shape = (rows.num_tasks, num_episodes)
    episodes = Episodes(
        jnp.zeros((*shape, *rows.reward_shape)),
        jnp.zeros(shape, jnp.int32),
        jnp.zeros(shape),
    )

    def like_rewards(x):
        """With an axis of one where rewards have that of objectives."""
        return x.reshape(*x.shape, *[1] * len(rows.reward_shape))

    def unfinished(carry):
        _, finished, *_ = carry
        return ~jnp.all(finished)

    def take_step(carry):
        state, finished, diverged, lowest, episodes, time = carry
        action, _ = act(
            actor_critic,
            policy_params,
            observation_statistics,
            policy_ids,
            state.observation,
            jax.random.fold_in(act_key, time),
            deterministic=deterministic,
            row_ids=row_ids,
        )
        state = rows.step(state, action)
        ends = state.done & ~finished
        episodes = Episodes(
            jnp.where(
                like_rewards(ends), state.episode_return, episodes.episode_return
            ),
            jnp.where(ends, state.episode_length, episodes.episode_length),
            jnp.where(ends, state.episode_success, episodes.episode_success),
        )
        # A step that diverged has no reward, which is as good as leaving it out here.
        played = jnp.where(like_rewards(finished), 0.0, state.reward)
        lowest = jnp.minimum(lowest, jnp.min(played, axis=(0, 1)))
        diverged |= ends & state.divergence
        return state, finished | state.done, diverged, lowest, episodes, time + 1

    never = jnp.zeros(shape, bool)
    # Every suite truncates at its episode length, so this ends.
    lowest = jnp.zeros(rows.reward_shape)
    start = (state, never, never, lowest, episodes, jnp.zeros((), jnp.int32))
    _, _, diverged, lowest, episodes, _ = jax.lax.while_loop(
        unfinished, take_step, start
    )
    limits = jnp.asarray(rows.episode_lengths)[:, None]
    missed = (limits - episodes.episode_length + 1).astype(lowest.dtype)
    lowest = lowest.reshape(1, 1, *rows.reward_shape)
    charge = jnp.where(like_rewards(diverged), like_rewards(missed) * lowest, 0.0)
    charged = episodes.episode_return + charge
    episodes = episodes._replace(episode_return=charged)
    if place is not None:
        episodes = jax.tree.map(lambda x: x[place], episodes)
    returns = own_objective(episodes.episode_return, objectives)
    return episodes._replace(episode_return=returns)
