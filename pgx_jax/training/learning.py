"""What PPO does with the data of one update: its loss, and epochs of minibatches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from pgx_jax.estimation.sharding import REPLICATED
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.runtime import allow_promotion
from pgx_jax.training.gradients import CombinedState, combine_rows
from pgx_jax.training.losses import clipped_policy_loss, positive_losses
from pgx_jax.training.meshes import constrain, split_samples
from pgx_jax.training.ppo_config import PPOConfig
from pgx_jax.training.rollouts import map_rows
from pgx_jax.types import PyTree

Metrics = dict[str, jax.Array]


class Batch(NamedTuple):
    """Samples of every row; leaves of shape [r, samples, ...].

    Attributes:
      observation: normalized; float32.
      action: int32, or float32 with a last axis.
      log_prob: of the action when it was drawn; float32.
      advantage: of mean 0 and variance 1 in each row; float32.
      value_target: in units of each task's running statistics; float32, with a last
        axis of objectives where rewards are vectors.
    """

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    value_target: jax.Array


def make_optimizer(
    config: PPOConfig,
    num_updates: int | Sequence[int] | np.ndarray,
    learning_rates: Sequence[float] | np.ndarray | None = None,
) -> optax.GradientTransformation:
    """Adam on clipped gradients, for all policies at once.

    Args:
      config: settings.
      num_updates: what the learning rate is annealed over if the config says so; of all
        policies, or of every one, k integers.
      learning_rates: of every policy, k numbers; None for that of the settings.

    Returns:
      A transformation of leaves of shape [k, ...], of every policy by itself.
    """

    def of_policy(num_updates, learning_rate=config.learning_rate):
        steps = num_updates * config.num_epochs * config.num_minibatches

        def anneal(count):
            return learning_rate * (1 - jnp.minimum(count, steps) / steps)

        return optax.chain(
            optax.clip_by_global_norm(config.max_gradient_norm),
            optax.adam(
                anneal if config.anneal_learning_rate else learning_rate,
                eps=1e-5,
            ),
        )

    fixed, varying = {}, {}
    if isinstance(num_updates, int):
        fixed["num_updates"] = num_updates
    else:
        varying["num_updates"] = jnp.asarray(num_updates)
    if learning_rates is not None:
        varying["learning_rate"] = jnp.asarray(learning_rates, jnp.float32)

    def update(updates, state, params=None):
        return jax.vmap(lambda own, *policy: of_policy(**fixed, **own).update(*policy))(
            varying, updates, state, params
        )

    # The state that one starts from does not depend on the length.
    return optax.GradientTransformation(jax.vmap(of_policy(1).init), update)


def total_loss(
    config: PPOConfig,
    actor_critic: ActorCritic,
    params: PyTree,
    policy_ids: jax.Array,
    batch: Batch,
) -> tuple[jax.Array, Metrics]:
    """The sum over policies of the mean loss over each policy's rows.

    Args:
      config: settings.
      actor_critic: the networks.
      params: leaves of shape [k, ...].
      policy_ids: the policy of each row; int32 [r].
      batch: leaves of shape [r, samples, ...].

    Returns:
      The loss, float32 [], and its parts for every row, float32 [r].
    """

    losses, metrics = map_rows(
        functools.partial(row_loss, config, actor_critic), params, policy_ids, batch
    )
    num_policies = jax.tree.leaves(params)[0].shape[0]
    rows = jnp.zeros((num_policies,)).at[policy_ids].add(1.0)
    return jnp.sum(losses / rows[policy_ids]), metrics


def row_loss(
    config: PPOConfig, actor_critic: ActorCritic, params: PyTree, row: Batch
) -> tuple[jax.Array, Metrics]:
    """The loss of one row, and its parts; float32 [].

    Args:
      config: settings.
      actor_critic: the networks.
      params: of the row's policy.
      row: leaves of shape [samples, ...].
    """
    distribution = actor_critic.distribution(params["policy"], row.observation)
    log_prob = distribution.log_prob(row.action)
    value = actor_critic.value(params["value"], row.observation)
    # An extra last axis would silently be broadcast to [samples, samples].
    chex.assert_equal_shape([log_prob, row.log_prob, row.advantage])
    chex.assert_equal_shape([value, row.value_target])
    chex.assert_shape(value, (*log_prob.shape, ...))
    policy = clipped_policy_loss(
        log_prob, row.log_prob, row.advantage, config.clip_epsilon
    )
    value_loss = 0.5 * jnp.mean((value - row.value_target) ** 2)
    entropy = jnp.mean(distribution.entropy())
    loss = policy.loss + config.value_cost * value_loss - config.entropy_cost * entropy
    return loss, {
        "policy_loss": policy.loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approximate_kl": policy.approximate_kl,
        "clip_fraction": policy.clip_fraction,
    }


def compute_gradients(
    config: PPOConfig,
    actor_critic: ActorCritic,
    params: PyTree,
    optimizer_state: PyTree,
    policy_ids: jax.Array,
    batch: Batch,
) -> tuple[PyTree, PyTree, Metrics]:
    """The gradient of every policy, of the mean loss or as a method combines it.

    Args:
      config: settings.
      actor_critic: the networks.
      params: leaves of shape [k, ...].
      optimizer_state: a `CombinedState` where a method combines gradients.
      policy_ids: the policy of each row; int32 [r].
      batch: leaves of shape [r, samples, ...].

    Returns:
      Gradients, leaves of shape [k, ...], the optimizer state with that of the method,
      and metrics, float32 [r].
    """
    if not isinstance(optimizer_state, CombinedState):

        def loss(params):
            return total_loss(config, actor_critic, params, policy_ids, batch)

        gradients, metrics = jax.grad(loss, has_aux=True)(params)
        return gradients, optimizer_state, metrics
    gradient_of_row = jax.grad(
        functools.partial(row_loss, config, actor_critic), has_aux=True
    )
    stacked, metrics = map_rows(gradient_of_row, params, policy_ids, batch)
    losses = positive_losses(
        metrics["policy_loss"],
        metrics["value_loss"],
        batch.advantage,
        config.clip_epsilon,
    )
    gradients, state, diagnostics = combine_rows(
        config.gradients, optimizer_state, stacked, losses, policy_ids
    )
    return gradients, state, metrics | diagnostics


def learn(
    config: PPOConfig,
    actor_critic: ActorCritic,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    optimizer_state: PyTree,
    policy_ids: jax.Array,
    batch: Batch,
    key: jax.Array,
    mesh: Mesh | None = None,
) -> tuple[PyTree, PyTree, Metrics]:
    """All epochs of minibatches of one update. Pure.

    Args:
      config: settings.
      actor_critic: the networks.
      optimizer: of all policies.
      params: leaves of shape [k, ...].
      optimizer_state: leaves of shape [k, ...]; a `CombinedState` where a method
        combines gradients.
      policy_ids: the policy of each row; int32 [r].
      batch: leaves of shape [r, config.steps_per_update, ...].
      key: of the order of the samples.
      mesh: devices to split every minibatch over.

    Returns:
      New parameters and optimizer state, and means of the metrics over minibatches:
      float32 [r], and `gradient_norm`, float32 [k].
    """
    chex.assert_axis_dimension(batch.advantage, 1, config.steps_per_update)
    # Samples are drawn from all environments: once a copy of the batch is on every
    # device, each takes its share of every minibatch from there.
    batch = constrain(batch, mesh, REPLICATED)

    def differentiate(params, optimizer_state, indices):
        indices = split_samples(indices, mesh)
        minibatch = jax.tree.map(lambda x: jnp.take(x, indices, axis=1), batch)
        minibatch = split_samples(minibatch, mesh, axis=1)
        return compute_gradients(
            config, actor_critic, params, optimizer_state, policy_ids, minibatch
        )

    return take_epochs(
        config,
        differentiate,
        optimizer,
        params,
        optimizer_state,
        config.steps_per_update,
        key,
    )


def minimize(
    config: PPOConfig,
    loss: Callable[[PyTree, jax.Array], tuple[jax.Array, Metrics]],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    optimizer_state: PyTree,
    num_samples: int,
    key: jax.Array,
) -> tuple[PyTree, PyTree, Metrics]:
    """As `take_epochs`, of a loss of parameters and indices.

    Args:
      config: settings.
      loss: of parameters and of the indices of a minibatch; returns a scalar and
        metrics.
      optimizer: of all policies.
      params: leaves of shape [k, ...].
      optimizer_state: leaves of shape [k, ...].
      num_samples: a multiple of `config.num_minibatches`.
      key: of the order of the samples.
    """

    def differentiate(params, optimizer_state, indices):
        gradients, metrics = jax.grad(loss, has_aux=True)(params, indices)
        return gradients, optimizer_state, metrics

    return take_epochs(
        config, differentiate, optimizer, params, optimizer_state, num_samples, key
    )


def take_epochs(
    config: PPOConfig,
    differentiate: Callable[
        [PyTree, PyTree, jax.Array], tuple[PyTree, PyTree, Metrics]
    ],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    optimizer_state: PyTree,
    num_samples: int,
    key: jax.Array,
) -> tuple[PyTree, PyTree, Metrics]:
    """All epochs of minibatches of any gradients. Pure.

    Args:
      config: settings.
      differentiate: from parameters, the optimizer's state and the indices of a
        minibatch, int32 [num_samples / config.num_minibatches], gradients, a new state
        and metrics.
      optimizer: of all policies.
      params: leaves of shape [k, ...].
      optimizer_state: leaves of shape [k, ...].
      num_samples: a multiple of `config.num_minibatches`.
      key: of the order of the samples.

    Returns:
      New parameters and optimizer state, and means of the metrics over minibatches,
      `gradient_norm`, float32 [k], among them.
    """

    def learn_minibatch(carry, indices):
        params, optimizer_state = carry
        gradients, optimizer_state, metrics = differentiate(
            params, optimizer_state, indices
        )
        combines = isinstance(optimizer_state, CombinedState)
        inner = optimizer_state.optimizer if combines else optimizer_state
        with allow_promotion():
            updates, inner = optimizer.update(gradients, inner, params)
        if combines:
            optimizer_state = optimizer_state._replace(optimizer=inner)
        else:
            optimizer_state = inner
        metrics["gradient_norm"] = jax.vmap(optax.tree.norm)(gradients)
        return (optax.apply_updates(params, updates), optimizer_state), metrics

    def learn_epoch(carry, epoch_key):
        # Rows hold independent data, so they can share one permutation.
        order = jax.random.permutation(epoch_key, num_samples)
        return jax.lax.scan(
            learn_minibatch, carry, order.reshape(config.num_minibatches, -1)
        )

    (params, optimizer_state), metrics = jax.lax.scan(
        learn_epoch,
        (params, optimizer_state),
        jax.random.split(key, config.num_epochs),
    )
    metrics = jax.tree.map(lambda x: x.mean(axis=(0, 1)), metrics)
    return params, optimizer_state, metrics


def mean_over_rows(values: jax.Array, policy_ids: jax.Array, num_policies: int):
    """Of values [r, ...], the mean over the rows of each policy; [k, ...]."""
    rows = jnp.zeros((num_policies,)).at[policy_ids].add(1.0)
    totals = jnp.zeros((num_policies, *values.shape[1:]), values.dtype)
    totals = totals.at[policy_ids].add(values)
    return totals / rows.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
