"""Advantage estimation and the PPO loss."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


def generalized_advantages(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    termination: jax.Array,
    truncation: jax.Array,
    divergence: jax.Array,
    *,
    discount: float,
    gae_lambda: float,
) -> jax.Array:
    """Generalized advantage estimation, distinguishing truncation from termination.

    With the one-step error e_t = r_t + discount (1 - termination_t) V(s'_t) - V(s_t),
    the advantage is A_t = e_t + discount lambda (1 - done_t) A_{t+1}, where done is
    either ending: a truncated episode is bootstrapped from the state it was cut at, and
    nothing flows back from the episode after it.

    Ending an episode by numbers that are not finite must never pay. What led to such a
    step is credited as if the episode had been truncated just before it. The step
    itself is credited with a return of 0, as if its task had ended, or with the lowest
    return A_t + V(s_t) of all other steps where that is below 0: no other action has a
    smaller advantage in the same state.

    Args:
      reward: float32 [time, ...]; all steps of one task.
      value: V(s_t); float32 [time, ...].
      next_value: V(s'_t), s'_t being the state that step t led to before any reset;
        float32 [time, ...].
      termination: bool [time, ...].
      truncation: bool [time, ...].
      divergence: bool [time, ...]; such a step is also a truncation.
      discount: in [0, 1].
      gae_lambda: in [0, 1].

    Returns:
      Advantages; float32 [time, ...]. Add `value` for the value targets.

    Source: Schulman et al., "High-dimensional continuous control using generalized
    advantage estimation", 2016, equation 16.
    """
    # Of other shapes they would silently be broadcast.
    chex.assert_equal_shape(
        [reward, value, next_value, termination, truncation, divergence]
    )
    errors = reward + discount * jnp.where(termination, 0.0, next_value) - value
    errors = jnp.where(divergence, 0.0, errors)
    carry_on = jnp.where(termination | truncation, 0.0, discount * gae_lambda)

    def accumulate(advantage, step):
        error, factor = step
        advantage = error + factor * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(
        accumulate, jnp.zeros_like(errors[0]), (errors, carry_on), reverse=True
    )
    lowest = jnp.min(advantages + value, where=~divergence, initial=0.0)
    return jnp.where(divergence, lowest - value, advantages)


def normalize_advantages(advantages: jax.Array) -> jax.Array:
    """Mean 0 and standard deviation 1 within each row of [r, B]; 0 where all are equal.

    Tasks that pay in other units then have steps of one size.
    """
    centered = advantages - advantages.mean(axis=1, keepdims=True)
    return centered / (advantages.std(axis=1, keepdims=True) + 1e-8)


def weight_advantages(
    advantages: jax.Array, weights: jax.Array, policy_ids: jax.Array
) -> jax.Array:
    """Advantages whose mean gradient over a policy's rows is that of sum_i w_i J_i.

    Centered within each row, but scaled by one number for all rows of a policy, so that
    tasks count by their weights and the units of their returns.

    Args:
      advantages: in units of reward; float32 [r, B].
      weights: float32 [r].
      policy_ids: the policy of each row; int32 [r].
    """
    centered = advantages - advantages.mean(axis=1, keepdims=True)
    variance = jnp.mean(centered**2, axis=1)
    rows = jax.ops.segment_sum(jnp.ones_like(variance), policy_ids, len(variance))
    total = jax.ops.segment_sum(variance, policy_ids, len(variance))
    scale = jnp.sqrt(total / jnp.maximum(rows, 1.0))[policy_ids]
    return centered * (weights / (scale + 1e-8))[:, None]


class PolicyLoss(NamedTuple):
    """The clipped objective and its diagnostics; each of shape []."""

    loss: jax.Array
    approximate_kl: jax.Array
    clip_fraction: jax.Array


def clipped_policy_loss(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    clip_epsilon: float,
) -> PolicyLoss:
    """PPO's clipped surrogate, negated, over samples of shape [B].

    Source: Schulman et al., "Proximal policy optimization algorithms", 2017, equation
    7; the KL estimate is k3 of Schulman, "Approximating KL divergence", 2020.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    log_ratio = log_prob - old_log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - clip_epsilon, 1.0 + clip_epsilon)
    return PolicyLoss(
        loss=-jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage)),
        approximate_kl=jnp.mean(ratio - 1.0 - log_ratio),
        clip_fraction=jnp.mean(jnp.abs(ratio - 1.0) > clip_epsilon),
    )


def positive_losses(
    policy_loss: jax.Array,
    value_loss: jax.Array,
    advantage: jax.Array,
    clip_epsilon: float,
) -> dict[str, jax.Array]:
    """Losses by which tasks can be weighted, for actor and critic.

    The actor's is by how much the clipped surrogate is above the least value that it
    could take on these samples: where ratios are at most 1 + epsilon for advantages
    above 0, and at least 1 - epsilon for those below. PPO's own loss is near 0 and of
    either sign, and has no logarithm and no rate of decrease. The entropy bonus, which
    has no least value for continuous actions, is left out.

    Args:
      policy_loss: of `clipped_policy_loss`, for every row; float32 [r].
      value_loss: float32 [r].
      advantage: float32 [r, samples].
      clip_epsilon: as for the loss.

    Returns:
      "policy" and "value"; float32 [r], at least 0.
    """
    reach = jnp.where(advantage > 0.0, 1.0 + clip_epsilon, 1.0 - clip_epsilon)
    best = jnp.mean(reach * advantage, axis=1)
    return {"policy": jnp.maximum(policy_loss + best, 0.0), "value": value_loss}
