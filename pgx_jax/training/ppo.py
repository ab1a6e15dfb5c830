"""Multitask PPO: k policies on r rows of tasks, in one jitted program.

A row is a task and the policy that learns it. One policy for all tasks is k = 1; one
policy per group, every baseline beside it, and fine-tuning on many subsets are other
assignments of rows to policies, so that all of them train in the same program.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pgx_jax.envs.suite import SuiteState, TaskSuite
from pgx_jax.networks.mlp import ActorCritic
from pgx_jax.training.acting import Rollout, map_rows, unroll
from pgx_jax.training.losses import clipped_policy_loss, generalized_advantages
from pgx_jax.training.statistics import (
    RunningStatistics,
    update_observation_statistics,
    update_value_statistics,
)

PyTree = Any
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO.

    Attributes:
      num_envs: environments per row.
      unroll_length: steps of each environment per update.
      num_epochs: passes over the data of an update.
      num_minibatches: gradient steps per pass; divides num_envs * unroll_length.
      learning_rate: of Adam.
      anneal_learning_rate: decrease it linearly to zero over the run.
      discount: in [0, 1].
      gae_lambda: in [0, 1].
      clip_epsilon: of the probability ratio.
      entropy_cost: weight of the entropy bonus.
      value_cost: weight of the squared value error.
      max_gradient_norm: per policy.
      value_decay: weight of the past in the running statistics of returns.
    """

    num_envs: int = 16
    unroll_length: int = 64
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 1e-3
    anneal_learning_rate: bool = True
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip_epsilon: float = 0.2
    entropy_cost: float = 0.005
    value_cost: float = 0.5
    max_gradient_norm: float = 0.5
    value_decay: float = 0.9

    def __post_init__(self):
        for field in (
            "num_envs",
            "unroll_length",
            "num_epochs",
            "num_minibatches",
            "learning_rate",
            "clip_epsilon",
            "max_gradient_norm",
        ):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be positive, got {getattr(self, field)}")
        for field in ("discount", "gae_lambda", "value_decay"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(
                    f"{field} must be in [0, 1], got {getattr(self, field)}"
                )
        if self.steps_per_update % self.num_minibatches:
            raise ValueError(
                f"num_minibatches must divide num_envs * unroll_length = "
                f"{self.steps_per_update}, got {self.num_minibatches}"
            )

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one row per update."""
        return self.num_envs * self.unroll_length


class TrainingState(NamedTuple):
    """All that training needs to go on; one pytree that a checkpoint holds whole.

    Attributes:
      params: leaves of shape [k, ...].
      optimizer_state: leaves of shape [k, ...].
      observation_statistics: [k, observation_size].
      value_statistics: [r].
      policy_ids: the policy of each row; int32 [r].
      suite_state: leaves of shape [r, num_envs, ...].
      key: the key of the run, never used up: each update folds its number into it.
      num_updates: updates done; int32.
    """

    params: PyTree
    optimizer_state: PyTree
    observation_statistics: RunningStatistics
    value_statistics: RunningStatistics
    policy_ids: jax.Array
    suite_state: SuiteState
    key: jax.Array
    num_updates: jax.Array


class _Batch(NamedTuple):
    """Samples of every row; leaves of shape [r, samples, ...]."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    value_target: jax.Array


@dataclasses.dataclass(frozen=True)
class PPO:
    """The training step, and how its state is made.

    Attributes:
      config: settings.
      actor_critic: the networks.
      num_updates: length of the run, which the learning rate is annealed over.
    """

    config: PPOConfig
    actor_critic: ActorCritic
    num_updates: int

    @functools.partial(jax.jit, static_argnums=0)
    def init(self, suite: TaskSuite, key: jax.Array) -> TrainingState:
        """One policy, freshly drawn, for all tasks of the suite."""
        params_key, start_key = jax.random.split(key)
        params = jax.tree.map(lambda x: x[None], self.actor_critic.init(params_key))
        return self._start(
            suite,
            start_key,
            params,
            jnp.zeros((suite.num_tasks,), jnp.int32),
            RunningStatistics.create(1, (suite.observation_size,)),
            RunningStatistics.create(suite.num_tasks),
        )

    @functools.partial(jax.jit, static_argnums=0)
    def init_scratch(
        self, suite: TaskSuite, key: jax.Array, policies: jax.Array
    ) -> TrainingState:
        """Policies drawn anew, one per entry of `policies`, with the rows of `init_from`.

        Args:
          suite: r tasks.
          key: for the parameters and environments.
          policies: the policy of each row as a one-hot matrix; bool [k, r].
        """
        params_key, start_key = jax.random.split(key)
        num_policies = policies.shape[0]
        params = jax.vmap(self.actor_critic.init)(
            jax.random.split(params_key, num_policies)
        )
        return self._start(
            suite,
            start_key,
            params,
            jnp.argmax(policies, axis=0).astype(jnp.int32),
            RunningStatistics.create(num_policies, (suite.observation_size,)),
            RunningStatistics.create(suite.num_tasks),
        )

    @functools.partial(jax.jit, static_argnums=0)
    def init_from(
        self,
        suite: TaskSuite,
        key: jax.Array,
        params: PyTree,
        policy_ids: jax.Array,
        observation_statistics: RunningStatistics,
        value_statistics: RunningStatistics,
    ) -> TrainingState:
        """Policies that start from given parameters, with new environments.

        Args:
          suite: r tasks.
          key: for the environments and actions.
          params: leaves of shape [k, ...].
          policy_ids: the policy of each row; int32 [r].
          observation_statistics: [k, observation_size].
          value_statistics: [r].
        """
        return self._start(
            suite, key, params, policy_ids, observation_statistics, value_statistics
        )

    def step(
        self, suite: TaskSuite, state: TrainingState, key: jax.Array
    ) -> tuple[TrainingState, Metrics]:
        """One update: acts in every environment, then improves every policy.

        Pure. Metrics are per row, float32 [r], except `gradient_norm`, [k];
        `episodes` counts the episodes that ended and `return`, `length` and `success`
        are their means, NaN where none did.
        """
        act_key, learn_key = jax.random.split(key)
        suite_state, rollout = unroll(
            suite,
            self.actor_critic,
            state.params["policy"],
            state.observation_statistics,
            state.policy_ids,
            state.suite_state,
            act_key,
            self.config.unroll_length,
        )
        batch, value_statistics = self._prepare(state, rollout)
        params, optimizer_state, metrics = self._learn(state, batch, learn_key)

        # The statistics that the data was normalised by are the old ones throughout
        # this update, so that the first probability ratios are exactly one.
        old = state.observation_statistics
        raw = (
            rollout.observation * old.std[state.policy_ids][:, None, None]
            + old.mean[state.policy_ids][:, None, None]
        )
        state = state._replace(
            params=params,
            optimizer_state=optimizer_state,
            observation_statistics=update_observation_statistics(
                old, _flatten(raw), state.policy_ids
            ),
            value_statistics=value_statistics,
            suite_state=suite_state,
            num_updates=state.num_updates + 1,
        )
        return state, metrics | _episode_metrics(rollout)

    @functools.partial(jax.jit, static_argnums=(0, 3), donate_argnums=2)
    def run(
        self, suite: TaskSuite, state: TrainingState, num_updates: int
    ) -> tuple[TrainingState, Metrics]:
        """`num_updates` steps in one program; metrics get a leading axis of updates."""

        def update(state, _):
            return self.step(
                suite, state, jax.random.fold_in(state.key, state.num_updates)
            )

        return jax.lax.scan(update, state, None, num_updates)

    def _optimizer(self) -> optax.GradientTransformation:
        config = self.config
        learning_rate = config.learning_rate
        if config.anneal_learning_rate:
            steps = self.num_updates * config.num_epochs * config.num_minibatches
            learning_rate = optax.linear_schedule(learning_rate, 0.0, steps)
        return optax.chain(
            optax.clip_by_global_norm(config.max_gradient_norm),
            optax.adam(learning_rate, eps=1e-5),
        )

    def _start(
        self,
        suite,
        key,
        params,
        policy_ids,
        observation_statistics,
        value_statistics,
    ) -> TrainingState:
        reset_key, run_key = jax.random.split(key)
        state = TrainingState(
            params=params,
            optimizer_state=jax.vmap(self._optimizer().init)(params),
            observation_statistics=observation_statistics,
            value_statistics=value_statistics,
            policy_ids=policy_ids,
            suite_state=suite.reset(reset_key, self.config.num_envs),
            key=run_key,
            num_updates=jnp.zeros((), jnp.int32),
        )
        return jax.tree.map(_strengthen, state)

    def _prepare(
        self, state: TrainingState, rollout: Rollout
    ) -> tuple[_Batch, RunningStatistics]:
        """Advantages, normalised per row, and value targets, normalised per task."""
        scale = state.value_statistics.std[:, None, None]
        shift = state.value_statistics.mean[:, None, None]

        def value(observation):
            normalized = map_rows(
                self.actor_critic.value,
                state.params["value"],
                state.policy_ids,
                observation,
            )
            return normalized * scale + shift

        values = value(rollout.observation)
        time_first = functools.partial(jnp.moveaxis, source=1, destination=0)
        advantages = generalized_advantages(
            *map(
                time_first,
                (
                    rollout.reward,
                    values,
                    value(rollout.next_observation),
                    rollout.termination,
                    rollout.truncation,
                ),
            ),
            discount=self.config.discount,
            gae_lambda=self.config.gae_lambda,
        )
        advantages = jnp.moveaxis(advantages, 0, 1)
        targets = _flatten(advantages + values)
        statistics = update_value_statistics(
            state.value_statistics, targets, self.config.value_decay
        )
        advantages = _flatten(advantages)
        centred = advantages - advantages.mean(axis=1, keepdims=True)
        batch = _Batch(
            observation=_flatten(rollout.observation),
            action=_flatten(rollout.action),
            log_prob=_flatten(rollout.log_prob),
            advantage=centred / (advantages.std(axis=1, keepdims=True) + 1e-8),
            value_target=(targets - statistics.mean[:, None])
            / statistics.std[:, None],
        )
        return batch, statistics

    def _loss(
        self, params: PyTree, policy_ids: jax.Array, batch: _Batch
    ) -> tuple[jax.Array, Metrics]:
        """The sum over policies of the mean loss over each policy's rows."""
        config = self.config

        def row_loss(params, row):
            distribution = self.actor_critic.distribution(
                params["policy"], row.observation
            )
            policy = clipped_policy_loss(
                distribution.log_prob(row.action),
                row.log_prob,
                row.advantage,
                config.clip_epsilon,
            )
            value = self.actor_critic.value(params["value"], row.observation)
            value_loss = 0.5 * jnp.mean((value - row.value_target) ** 2)
            entropy = jnp.mean(distribution.entropy())
            loss = (
                policy.loss
                + config.value_cost * value_loss
                - config.entropy_cost * entropy
            )
            return loss, {
                "policy_loss": policy.loss,
                "value_loss": value_loss,
                "entropy": entropy,
                "approximate_kl": policy.approximate_kl,
                "clip_fraction": policy.clip_fraction,
            }

        losses, metrics = map_rows(row_loss, params, policy_ids, batch)
        num_policies = jax.tree.leaves(params)[0].shape[0]
        rows = jnp.zeros((num_policies,)).at[policy_ids].add(1.0)
        return jnp.sum(losses / rows[policy_ids]), metrics

    def _learn(
        self, state: TrainingState, batch: _Batch, key: jax.Array
    ) -> tuple[PyTree, PyTree, Metrics]:
        """All epochs of minibatches of one update; metrics are means over them."""
        config = self.config
        optimizer = self._optimizer()

        def learn_minibatch(carry, indices):
            params, optimizer_state = carry
            minibatch = jax.tree.map(lambda x: jnp.take(x, indices, axis=1), batch)
            gradients, metrics = jax.grad(self._loss, has_aux=True)(
                params, state.policy_ids, minibatch
            )
            updates, optimizer_state = jax.vmap(optimizer.update)(
                gradients, optimizer_state, params
            )
            metrics["gradient_norm"] = jax.vmap(optax.tree.norm)(gradients)
            return (optax.apply_updates(params, updates), optimizer_state), metrics

        def learn_epoch(carry, epoch_key):
            # Rows hold independent data, so they can share one permutation.
            order = jax.random.permutation(epoch_key, config.steps_per_update)
            return jax.lax.scan(
                learn_minibatch, carry, order.reshape(config.num_minibatches, -1)
            )

        (params, optimizer_state), metrics = jax.lax.scan(
            learn_epoch,
            (state.params, state.optimizer_state),
            jax.random.split(key, config.num_epochs),
        )
        metrics = jax.tree.map(lambda x: x.mean(axis=(0, 1)), metrics)
        return params, optimizer_state, metrics


def _flatten(x: jax.Array) -> jax.Array:
    """[r, time, num_envs, ...] to [r, time * num_envs, ...]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def _episode_metrics(rollout: Rollout) -> Metrics:
    done = rollout.done
    episodes = done.sum(axis=(1, 2)).astype(jnp.float32)

    def mean(x):
        total = jnp.sum(jnp.where(done, x, 0), axis=(1, 2))
        return jnp.where(episodes > 0, total / jnp.maximum(episodes, 1), jnp.nan)

    return {
        "episodes": episodes,
        "return": mean(rollout.episode_return),
        "length": mean(rollout.episode_length),
        "success": mean(rollout.episode_success),
    }


def _strengthen(x: jax.Array) -> jax.Array:
    """Drops a weak type, which would make the second call compile again."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x
    return jax.lax.convert_element_type(x, np.dtype(x.dtype))
