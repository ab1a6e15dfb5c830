"""Steps of the plain policy gradient: what MAML adapts by, and a trainer of them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pgx_jax.arguments import check_number
from pgx_jax.envs.core import StepSuite
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.training.learning import (
    Batch,
    Metrics,
    make_optimizer,
    mean_over_rows,
    minimize,
)
from pgx_jax.training.losses import PolicyLoss, clipped_policy_loss
from pgx_jax.training.ppo import PPO, TrainingState
from pgx_jax.training.ppo_config import PPOConfig
from pgx_jax.training.rollouts import episode_metrics, map_rows
from pgx_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class PolicyGradient(PPO):
    """One step of gradient ascent an update, by the steps that MAML adapts with.

    All samples of an update give one step of every policy, by the mean over its rows.
    The critic learns as PPO's does, in epochs of minibatches with Adam.

    Attributes:
      config: settings of PPO; those of clipping and of Adam are the critic's only.
      actor_critic: the networks.
      num_updates: as of PPO.
      inner_learning_rate: of the steps.

    Raises:
      ValueError: `num_updates` is as PPO refuses it, `inner_learning_rate` is no
        positive number, or gradients are combined or tasks weighted.
    """

    inner_learning_rate: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        refuse_weights(self.config)
        check_number("inner_learning_rate", self.inner_learning_rate)

    def step(
        self, suite: StepSuite, state: TrainingState, key: jax.Array
    ) -> tuple[TrainingState, Metrics]:
        """One update, as `PPO.step`."""
        act_key, learn_key = jax.random.split(key)
        suite_state, rollout = self._unroll(
            suite, state, act_key, self.config.unroll_length
        )
        batch, value_statistics = self._prepare(suite, state, rollout)
        gradients, metrics = map_rows(
            lambda params, row: policy_gradient(
                self.actor_critic, params, row, self.config.clip_epsilon
            ),
            state.params["policy"],
            state.policy_ids,
            batch,
        )
        num_policies = jax.tree.leaves(state.params)[0].shape[0]
        policy = jax.tree.map(
            lambda x, g: (
                x
                - self.inner_learning_rate
                * mean_over_rows(g, state.policy_ids, num_policies)
            ),
            state.params["policy"],
            gradients,
        )

        def value_loss(params, indices):
            losses = map_rows(
                lambda params, row: row_value_loss(self.actor_critic, params, row),
                params["value"],
                state.policy_ids,
                jax.tree.map(lambda x: jnp.take(x, indices, axis=1), batch),
            )
            means = mean_over_rows(losses, state.policy_ids, num_policies)
            return self.config.value_cost * jnp.sum(means), {"value_loss": losses}

        params, optimizer_state, critic_metrics = minimize(
            self.config,
            value_loss,
            make_optimizer(self.config, self.num_updates),
            state.params,
            state.optimizer_state,
            self.config.steps_per_update,
            learn_key,
        )
        updated = self._updated(
            state,
            {**params, "policy": policy},
            optimizer_state,
            suite_state,
            rollout,
            value_statistics,
        )
        return self._keep_finished(
            state, updated, metrics | critic_metrics | episode_metrics(suite, rollout)
        )


def refuse_weights(config: PPOConfig) -> None:
    """Refuses combined gradients and weights from returns, which PPO alone has.

    Raises:
      ValueError: the config has some.
    """
    if config.gradients.method != "mean":
        raise ValueError(
            "config.gradients.method must be 'mean' for learners other than PPO, got "
            f"{config.gradients.method!r}"
        )
    if config.return_weights.name != "none":
        raise ValueError(
            "config.return_weights.name must be 'none' for learners other than PPO, "
            f"got {config.return_weights.name!r}"
        )


def policy_gradient(
    actor_critic: ActorCritic, params: PyTree, batch: Batch, clip_epsilon: float
) -> tuple[PyTree, Metrics]:
    """The gradient of the clipped surrogate's loss over one row, and its metrics.

    Where the samples are those of the policy itself all ratios are 1, nothing is
    clipped, and it is the policy gradient. Differentiated once more, the ratios give

        E[sum_t (nabla^2 log pi + nabla log pi nabla log pi^T) A_t],

    the Hessian of the expected return but for the products of the scores of different
    steps (low variance curvature; Rothfuss et al., "ProMP: Proximal meta-policy
    search", 2019, section 5). The derivative of log pi A, in place of the ratios, lacks
    the second summand.

    Args:
      actor_critic: the networks.
      params: of one policy.
      batch: leaves of shape [samples, ...].
      clip_epsilon: as of PPO.

    Returns:
      The gradient of what is to be minimized, and the parts of the loss, float32 [].
    """

    def loss(params):
        result, entropy = row_policy_loss(actor_critic, params, batch, clip_epsilon)
        return result.loss, policy_metrics(result, entropy)

    return jax.grad(loss, has_aux=True)(params)


def inner_step(
    actor_critic: ActorCritic,
    params: PyTree,
    batch: Batch,
    learning_rate: float,
    clip_epsilon: float,
    *,
    first_order: bool = False,
) -> PyTree:
    """One step of gradient descent on the loss of one row, to be differentiated.

    Args:
      actor_critic: the networks.
      params: of one policy.
      batch: of that policy, or of one that is near; leaves of shape [samples, ...].
      learning_rate: of the step.
      clip_epsilon: as of PPO.
      first_order: whether the gradient is a constant to whoever differentiates.
    """
    gradient, _ = policy_gradient(actor_critic, params, batch, clip_epsilon)
    if first_order:
        gradient = jax.lax.stop_gradient(gradient)
    return jax.tree.map(lambda x, g: x - learning_rate * g, params, gradient)


def row_policy_loss(
    actor_critic: ActorCritic, params: PyTree, batch: Batch, clip_epsilon: float
) -> tuple[PolicyLoss, jax.Array]:
    """The clipped loss of one row and the entropy of its policy."""
    distribution = actor_critic.distribution(params, batch.observation)
    log_prob = distribution.log_prob(batch.action)
    loss = clipped_policy_loss(log_prob, batch.log_prob, batch.advantage, clip_epsilon)
    return loss, jnp.mean(distribution.entropy())


def row_value_loss(
    actor_critic: ActorCritic, params: PyTree, batch: Batch
) -> jax.Array:
    """Half the mean squared error of the critic over one row."""
    value = actor_critic.value(params, batch.observation)
    return 0.5 * jnp.mean((value - batch.value_target) ** 2)


def policy_metrics(result: PolicyLoss, entropy: jax.Array) -> Metrics:
    """What is logged of the policy of each row."""
    return {
        "policy_loss": result.loss,
        "entropy": entropy,
        "approximate_kl": result.approximate_kl,
        "clip_fraction": result.clip_fraction,
    }
