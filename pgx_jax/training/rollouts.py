"""Acting in a task suite with one policy for each row of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.envs.core import StepSuite, SuiteState
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.training.objectives import own_objective
from pgx_jax.training.running_statistics import RunningStatistics
from pgx_jax.types import PyTree

OBSERVATION_LIMIT = 10.0


class Rollout(NamedTuple):
    """Steps of every environment; leaves of shape [r, time, num_envs, ...].

    Attributes:
      observation: what the policy acted on, not normalized; float32.
      next_observation: what the step led to, before any reset; float32.
      action: int32, or float32 with a last axis.
      log_prob: of the action; float32.
      reward: float32, with a last axis of objectives where rewards are vectors.
      termination: bool.
      truncation: bool.
      divergence: whether the step was not finite; bool.
      episode_return: of the episode so far; float32, of the shape of `reward`.
      episode_length: of the episode so far, in steps; int32.
      episode_success: whether the episode has met success so far; float32.
    """

    observation: jax.Array
    next_observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    termination: jax.Array
    truncation: jax.Array
    divergence: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    episode_success: jax.Array

    @property
    def done(self) -> jax.Array:
        """Whether the step ended its episode, either way; bool."""
        return self.termination | self.truncation


def map_rows(
    function: Callable[..., Any], params: PyTree, policy_ids: jax.Array, *args: Any
) -> Any:
    """Applies `function(params_of_row, *args_of_row)` to every row.

    Args:
      function: a pure function.
      params: leaves of shape [k, ...], one set per policy.
      policy_ids: the policy of each row; int32 [r].
      *args: leaves of shape [r, ...].
    """
    if jax.tree.leaves(params)[0].shape[0] == 1:
        # Shared weights stay one operand, so that all rows make one matrix product.
        shared = jax.tree.map(lambda x: x[0], params)
        return jax.vmap(lambda *row: function(shared, *row))(*args)
    return jax.vmap(function)(jax.tree.map(lambda x: x[policy_ids], params), *args)


def normalize_observation(
    observation: jax.Array, statistics: RunningStatistics, policy_ids: jax.Array
) -> jax.Array:
    """Normalizes observations by the statistics of each row's policy.

    Args:
      observation: float32 [r, ..., observation_size].
      statistics: [k, observation_size].
      policy_ids: the policy of each row; int32 [r].
    """
    axes = tuple(range(1, observation.ndim - 1))
    mean = jnp.expand_dims(statistics.mean[policy_ids], axes)
    std = jnp.expand_dims(statistics.std[policy_ids], axes)
    limit = OBSERVATION_LIMIT
    return jnp.clip((observation - mean) / std, -limit, limit)


def act(
    actor_critic: ActorCritic,
    policy_params: PyTree,
    statistics: RunningStatistics,
    policy_ids: jax.Array,
    observation: jax.Array,
    key: jax.Array,
    *,
    deterministic: bool | jax.Array = False,
    row_ids: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Chooses an action in every environment.

    Args:
      actor_critic: the networks.
      policy_params: leaves of shape [k, ...].
      statistics: observation statistics, [k, observation_size].
      policy_ids: the policy of each row; int32 [r].
      observation: not normalized; float32 [r, num_envs, observation_size].
      key: for the samples.
      deterministic: take the mode of the action distribution; may be traced.
      row_ids: rows of one id draw the same samples; int32 [r], 0..r-1 if None.

    Returns:
      Actions [r, num_envs, ...] and their log-probabilities, float32 [r, num_envs].
    """

    def act_in_row(params, observation, row_key):
        distribution = actor_critic.distribution(params, observation)
        action = jnp.where(
            deterministic, distribution.mode(), distribution.sample(row_key)
        )
        return action, distribution.log_prob(action)

    observation = normalize_observation(observation, statistics, policy_ids)
    if row_ids is None:
        row_ids = jnp.arange(policy_ids.shape[0])
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, row_ids)
    return map_rows(act_in_row, policy_params, policy_ids, observation, row_keys)


def unroll(
    suite: StepSuite,
    actor_critic: ActorCritic,
    policy_params: PyTree,
    statistics: RunningStatistics,
    policy_ids: jax.Array,
    state: SuiteState,
    key: jax.Array,
    length: int,
) -> tuple[SuiteState, Rollout]:
    """Takes `length` steps in every environment, with sampled actions.

    The suite's pool of initial states is drawn anew first, where it has one.

    Args:
      suite: r tasks.
      actor_critic: the networks.
      policy_params: leaves of shape [k, ...].
      statistics: observation statistics, [k, observation_size].
      policy_ids: the policy of each row; int32 [r].
      state: where to continue from; leaves of shape [r, num_envs, ...].
      key: for the actions.
      length: number of steps.

    Returns:
      The new state, and the steps with axes [r, time, num_envs].
    """

    def take_step(state, step_key):
        action, log_prob = act(
            actor_critic,
            policy_params,
            statistics,
            policy_ids,
            state.observation,
            step_key,
        )
        new = suite.step(state, action)
        steps = Rollout(
            observation=state.observation,
            next_observation=new.next_observation,
            action=action,
            log_prob=log_prob,
            reward=new.reward,
            termination=new.termination,
            truncation=new.truncation,
            divergence=new.divergence,
            episode_return=new.episode_return,
            episode_length=new.episode_length,
            episode_success=new.episode_success,
        )
        return new, steps

    state = suite.refresh(state)
    state, steps = jax.lax.scan(take_step, state, jax.random.split(key, length))
    return state, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), steps)


def episode_metrics(suite: StepSuite, rollout: Rollout) -> dict[str, jax.Array]:
    """Of the episodes that ended in a rollout; float32 [r] each.

    Returns of vector rewards are [r, K], or those of each row's own objective, [r].

    `episodes` is their number, and `return`, `length` and `success` their means, 0
    where there are none; `divergences` counts the steps that were not finite.
    """
    done = rollout.done
    episodes = done.sum(axis=(1, 2)).astype(jnp.float32)

    def mean(x):
        tail = [1] * (x.ndim - done.ndim)  # of objectives
        ended = jnp.where(done.reshape(*done.shape, *tail), x, 0)
        total = jnp.sum(ended, axis=(1, 2)).astype(jnp.float32)
        # No NaN where no episode ended: a run must pass under `jax_debug_nans`.
        return total / jnp.maximum(episodes, 1).reshape(-1, *tail)

    return {
        "episodes": episodes,
        "return": own_objective(mean(rollout.episode_return), suite.objectives),
        "length": mean(rollout.episode_length),
        "success": mean(rollout.episode_success),
        "divergences": rollout.divergence.sum(axis=(1, 2)).astype(jnp.float32),
    }
