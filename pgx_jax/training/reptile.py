"""Reptile: every task trains a copy of the policy, which then moves to their mean.

Source: Nichol, Achiam and Schulman, "On first-order meta-learning algorithms", 2018
(arXiv 1803.02999), algorithm 2. With U the steps of an optimizer on task i alone:

    theta <- theta + epsilon mean_i (U_i(theta) - theta)

U is an update of PPO on the steps of that task: `num_epochs * num_minibatches` steps of
Adam, whose moments start at zero. epsilon falls from 1 to 0 over the run, as in the
paper's experiments, where `anneal_learning_rate` is set, and is 1 else; the learning
rate of Adam stays as it is.

Deviations: all tasks of a policy are in the batch of every update. Actor and critic
both are what moves; running statistics are those of all tasks, as of PPO.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pgx_jax.envs.core import StepSuite
from pgx_jax.training.learning import Metrics, learn, make_optimizer, mean_over_rows
from pgx_jax.training.policy_gradient import refuse_weights
from pgx_jax.training.ppo import PPO, TrainingState
from pgx_jax.training.rollouts import episode_metrics
from pgx_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class Reptile(PPO):
    """Trains parameters from which an update of PPO on one task leads far.

    The optimizer's part of the state is not used: every update starts Adam anew.

    Raises:
      ValueError: as of PPO, or gradients are combined or tasks weighted.
    """

    def __post_init__(self):
        super().__post_init__()
        refuse_weights(self.config)

    def step(
        self, suite: StepSuite, state: TrainingState, key: jax.Array
    ) -> tuple[TrainingState, Metrics]:
        """One update, as `PPO.step`; `gradient_norm` is the mean over rows."""
        act_key, learn_key = jax.random.split(key)
        suite_state, rollout = self._unroll(
            suite, state, act_key, self.config.unroll_length
        )
        batch, value_statistics = self._prepare(suite, state, rollout)
        config = dataclasses.replace(self.config, anneal_learning_rate=False)
        optimizer = make_optimizer(config, 1)
        copies = jax.tree.map(lambda x: x[state.policy_ids], state.params)
        adapted, _, metrics = learn(
            config,
            self.actor_critic,
            optimizer,
            copies,
            optimizer.init(copies),
            jnp.arange(len(state.policy_ids)),
            batch,
            learn_key,
            self.mesh,
        )
        num_policies = jax.tree.leaves(state.params)[0].shape[0]
        params = move(state.params, adapted, state.policy_ids, self._rate(state))
        metrics["gradient_norm"] = mean_over_rows(
            metrics["gradient_norm"], state.policy_ids, num_policies
        )
        updated = self._updated(
            state, params, state.optimizer_state, suite_state, rollout, value_statistics
        )
        return self._keep_finished(
            state, updated, metrics | episode_metrics(suite, rollout)
        )

    def _rate(self, state: TrainingState) -> jax.Array:
        """epsilon of every policy; float32 [k]."""
        num_policies = jax.tree.leaves(state.params)[0].shape[0]
        if not self.config.anneal_learning_rate:
            return jnp.ones((num_policies,))
        lengths = jnp.broadcast_to(jnp.asarray(self.num_updates), (num_policies,))
        left = jnp.maximum(lengths - state.num_updates, 0)
        return left.astype(jnp.float32) / lengths.astype(jnp.float32)


def move(
    params: PyTree, adapted: PyTree, policy_ids: jax.Array, rate: jax.Array
) -> PyTree:
    """Moves every policy towards the mean of what its rows were adapted to.

    Args:
      params: leaves of shape [k, ...].
      adapted: leaves of shape [r, ...].
      policy_ids: the policy of each row; int32 [r].
      rate: epsilon; float32 [k].
    """

    def move_leaf(x, rows):
        step = mean_over_rows(rows - x[policy_ids], policy_ids, len(x))
        return x + rate.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype) * step

    return jax.tree.map(move_leaf, params, adapted)
