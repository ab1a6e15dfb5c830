"""MAML: parameters from which a few policy-gradient steps on one task lead far.

Source: Finn, Abbeel and Levine, "Model-agnostic meta-learning for fast adaptation of
deep networks", 2017 (arXiv 1703.03400), algorithm 3; the estimator is that of Rothfuss
et al., "ProMP: Proximal meta-policy search", 2019 (arXiv 1810.06784). With row i a task
and K inner steps on trajectories of the policy adapted so far,

    phi_i^0 = theta,    phi_i^(j+1) = phi_i^j + alpha grad J_i^j(phi_i^j),
    J_i^j(phi) = mean_t pi_phi(a_t | s_t) / pi_phi_i^j_old(a_t | s_t) A_t,

theta ascends, by Adam in epochs of minibatches, the sum over its rows of PPO's clipped
objective of phi_i^K(theta) on trajectories of phi_i^K_old; _old are the policies that
acted. All K steps are computed anew from theta for each minibatch, and differentiated.

What is differentiated, and what is dropped. The objective is that of MAML, in which the
inner gradient is the expected one ("formulation II" of ProMP, section 4), so that how
theta changes the trajectories of the inner steps comes in by the Hessian of J. The
ratios give that Hessian with the products of a step's own score, which the derivative
of log pi A, in MAML's first code, lacks; products of the scores of different steps of a
trajectory are dropped (low variance curvature, ProMP section 5), as are derivatives of
the advantages. E-MAML's term, of sampling as exploration for the outer return, belongs
to another objective ("formulation I") and is left out. First order takes all inner
gradients as constants: the Jacobian of phi^K is then the identity.

Deviations. The critic is shared: inner steps leave it as it is, and it learns from all
trajectories, in place of a linear baseline fitted for each task. Advantages are
normalized in each row and inner step, so that alpha means the same for all tasks. The
inner ratios are clipped as the outer ones are, in place of ProMP's penalty on the
divergence of theta from the policy that acted: neither matters in the first minibatch,
whose ratios are all 1. Environments are divided among the K + 1 policies of a row and
stay with theirs, so that an episode is one policy's as far as updates go, and an update
takes as many steps as PPO's.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pgx_jax.arguments import as_integer, check_switch
from pgx_jax.envs.core import StepSuite, SuiteState
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.training.learning import (
    Batch,
    Metrics,
    make_optimizer,
    mean_over_rows,
    minimize,
)
from pgx_jax.training.losses import normalize_advantages
from pgx_jax.training.meshes import split_suite
from pgx_jax.training.policy_gradient import (
    PolicyGradient,
    inner_step,
    policy_metrics,
    row_policy_loss,
    row_value_loss,
)
from pgx_jax.training.ppo import TrainingState, flatten
from pgx_jax.training.ppo_config import PPOConfig
from pgx_jax.training.rollouts import Rollout, episode_metrics, map_rows, unroll
from pgx_jax.training.running_statistics import update_value_statistics
from pgx_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class MAML(PolicyGradient):
    """Trains for the return after `num_inner_steps` steps on the task of each row.

    Attributes:
      config: settings of PPO, of the outer loss; `num_inner_steps + 1` divides
        `num_envs`, and `num_minibatches` the steps of each part of them.
      actor_critic: the networks.
      num_updates: as of PPO.
      inner_learning_rate: alpha.
      num_inner_steps: K.
      first_order: whether inner gradients are taken as constants.

    Raises:
      ValueError: a setting is out of range, or does not divide the environments.
    """

    num_inner_steps: int = 1
    first_order: bool = False

    def __post_init__(self):
        super().__post_init__()
        as_integer("num_inner_steps", self.num_inner_steps, 1)
        check_switch("first_order", self.first_order)
        if problem := explain_division(self.config, self.num_inner_steps):
            field, allowed = problem
            raise ValueError(f"{field} {allowed}, got {getattr(self.config, field)}")

    def step(
        self, suite: StepSuite, state: TrainingState, key: jax.Array
    ) -> tuple[TrainingState, Metrics]:
        """One update, as `PPO.step`.

        Returns, lengths and successes are those of the adapted policies, and
        `episodes` counts theirs.
        """
        if suite.reward_shape:
            raise ValueError(
                f"suite must give one reward a task to MAML, {suite.name!r} gives "
                f"rewards of shape {list(suite.reward_shape)}"
            )
        act_key, learn_key = jax.random.split(key)
        suite_state, rollouts, batches, targets = self._act(suite, state, act_key)
        value_statistics = update_value_statistics(
            state.value_statistics,
            jnp.concatenate(targets, axis=1),
            self.config.value_decay,
        )
        shift, scale = value_statistics.mean[:, None], value_statistics.std[:, None]
        batch: Batch = jax.tree.map(
            lambda *parts: jnp.stack(parts, axis=1),
            *(
                part._replace(value_target=(target - shift) / scale)
                for part, target in zip(batches, targets, strict=True)
            ),
        )

        def loss(params, indices):
            return meta_loss(
                self.config,
                self.actor_critic,
                params,
                state.policy_ids,
                batch,
                indices,
                self.inner_learning_rate,
                first_order=self.first_order,
            )

        params, optimizer_state, metrics = minimize(
            self.config,
            loss,
            make_optimizer(self.config, self.num_updates),
            state.params,
            state.optimizer_state,
            batch.advantage.shape[2],
            learn_key,
        )
        rollout: Rollout = jax.tree.map(
            lambda *parts: jnp.concatenate(parts, axis=2), *rollouts
        )
        updated = self._updated(
            state, params, optimizer_state, suite_state, rollout, value_statistics
        )
        of_episodes = episode_metrics(suite, rollouts[-1])
        of_episodes["divergences"] = episode_metrics(suite, rollout)["divergences"]
        return self._keep_finished(state, updated, metrics | of_episodes)

    def _act(
        self, suite: StepSuite, state: TrainingState, key: jax.Array
    ) -> tuple[SuiteState, list[Rollout], list[Batch], list[jax.Array]]:
        """Acts in each part of the environments under the policies of its inner step.

        Returns:
          The environments, and of each part its rollout [r, time, envs, ...], samples
          [r, samples, ...] whose `value_target` is none yet, and returns [r, samples]
          to make those of.
        """
        ids, num_rows = state.policy_ids, state.policy_ids.shape[0]
        num_parts = self.num_inner_steps + 1
        suite = split_suite(suite, self.mesh)
        statistics = jax.tree.map(lambda x: x[ids], state.observation_statistics)
        policies = jax.tree.map(lambda x: x[ids], state.params["policy"])
        size = self.config.num_envs // num_parts
        suite_states, rollouts, batches, targets = [], [], [], []
        for part, part_key in enumerate(jax.random.split(key, num_parts)):
            suite_state, rollout = unroll(
                suite,
                self.actor_critic,
                policies,
                statistics,
                jnp.arange(num_rows),
                _part_of(state.suite_state, part * size, size),
                part_key,
                self.config.unroll_length,
            )
            observation, advantages, values = self._advantages(state, rollout)
            batch = Batch(
                observation=flatten(observation),
                action=flatten(rollout.action),
                log_prob=flatten(rollout.log_prob),
                advantage=normalize_advantages(flatten(advantages)),
                value_target=flatten(values),
            )
            suite_states.append(suite_state)
            rollouts.append(rollout)
            batches.append(batch)
            targets.append(flatten(advantages + values))
            if part < self.num_inner_steps:
                policies = jax.vmap(
                    lambda params, row: inner_step(
                        self.actor_critic,
                        params,
                        row,
                        self.inner_learning_rate,
                        self.config.clip_epsilon,
                    )
                )(policies, batch)
        return _join_parts(suite_states), rollouts, batches, targets


def meta_loss(
    config: PPOConfig,
    actor_critic: ActorCritic,
    params: PyTree,
    policy_ids: jax.Array,
    batch: Batch,
    indices: jax.Array,
    inner_learning_rate: float,
    *,
    first_order: bool,
) -> tuple[jax.Array, Metrics]:
    """The sum over policies of the mean loss over their rows, after inner steps.

    Args:
      config: settings of the outer loss.
      actor_critic: the networks.
      params: leaves of shape [k, ...].
      policy_ids: the policy of each row; int32 [r].
      batch: leaves of shape [r, K + 1, samples, ...], by the number of inner steps that
        the policy which acted had taken.
      indices: of the samples that the outer loss is of; int32 [minibatch].
      inner_learning_rate: alpha.
      first_order: whether inner gradients are taken as constants.

    Returns:
      The loss, float32 [], and its parts for every row, float32 [r].
    """

    def row_loss(params, row):
        policy = params["policy"]
        num_steps = row.advantage.shape[0] - 1
        for part in range(num_steps):
            policy = inner_step(
                actor_critic,
                policy,
                jax.tree.map(lambda x, part=part: x[part], row),
                inner_learning_rate,
                config.clip_epsilon,
                first_order=first_order,
            )
        minibatch = jax.tree.map(lambda x: jnp.take(x, indices, axis=1), row)
        after = jax.tree.map(lambda x: x[-1], minibatch)
        result, entropy = row_policy_loss(
            actor_critic, policy, after, config.clip_epsilon
        )
        value_loss = row_value_loss(actor_critic, params["value"], minibatch)
        loss = (
            result.loss + config.value_cost * value_loss - config.entropy_cost * entropy
        )
        metrics = policy_metrics(result, entropy) | {"value_loss": value_loss}
        return loss, metrics

    losses, metrics = map_rows(row_loss, params, policy_ids, batch)
    num_policies = jax.tree.leaves(params)[0].shape[0]
    return jnp.sum(mean_over_rows(losses, policy_ids, num_policies)), metrics


def explain_division(config: PPOConfig, num_inner_steps: int) -> tuple[str, str] | None:
    """The setting of PPO that inner steps do not go with, and what is allowed."""
    num_parts = num_inner_steps + 1
    if config.num_envs % num_parts:
        return (
            "num_envs",
            f"must be a multiple of num_inner_steps + 1 = {num_parts}, for a policy "
            "after each inner step",
        )
    samples = config.steps_per_update // num_parts
    if samples % config.num_minibatches:
        return (
            "num_minibatches",
            f"must divide num_envs * unroll_length / {num_parts} = {samples}, the "
            "steps of the policy after its inner steps",
        )
    return None


def _part_of(state: SuiteState, start: int, size: int) -> SuiteState:
    """Some environments of every row, with the pool of all."""

    def take(x):
        return jax.lax.slice_in_dim(x, start, start + size, axis=1)

    part = jax.tree.map(take, state._replace(pool=None))
    return part._replace(pool=state.pool)


def _join_parts(states: list[SuiteState]) -> SuiteState:
    """All environments of every row, with the pool of the last ones."""
    apart = [state._replace(pool=None) for state in states]
    joined = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *apart)
    return joined._replace(pool=states[-1].pool)
