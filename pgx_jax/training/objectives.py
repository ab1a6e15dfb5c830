"""Advantages of several objectives, and one advantage for all of them.

Summed as they are, rewards lose what sets them apart: rollouts that earn (1, 0) and
(1, 1) beside one that earns (0, 0) get the same advantage in groups of two. Each
objective is normalized by itself first, so that its unit does not count either.

Source: GDPO (Liu et al., "Group reward-decoupled normalization policy optimization",
2026, arXiv 2601.05242).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pgx_jax.training.losses import generalized_advantages


def decoupled_advantages(
    advantages: jax.Array, preferences: Any = None, *, epsilon: float = 1e-8
) -> jax.Array:
    """Normalizes every objective by itself, then takes the weighted sum.

    With mean m_k and sample standard deviation s_k of objective k over the N samples,

        A = sum_k w_k (A_k - m_k) / (s_k + epsilon).

    An objective that is the same in all samples counts for nothing. GDPO then whitens A
    over the batch, all groups together, so that its scale does not grow with the number
    of objectives, as `normalize_advantages` does for every row.

    Args:
      advantages: of every objective, or rewards of whole rollouts; float
        [..., N, K], normalized over N >= 2 samples, such as the rollouts of one prompt.
      preferences: w; float [..., K], ones if None.
      epsilon: keeps the division finite.

    Returns:
      A; float [..., N].

    Raises:
      ValueError: `advantages` have fewer than two axes or samples, or `preferences` no
        last axis of length K.
    """
    advantages = jnp.asarray(advantages)
    if advantages.ndim < 2 or advantages.shape[-2] < 2:
        raise ValueError(
            "advantages must have shape [..., N, K] of N >= 2 samples and K "
            f"objectives, got {list(advantages.shape)}"
        )
    num = advantages.shape[-1]
    if preferences is None:
        preferences = jnp.ones((num,), advantages.dtype)
    preferences = jnp.asarray(preferences, advantages.dtype)
    batch = advantages.shape[:-2]
    if preferences.shape not in ((num,), (*batch, num)):
        raise ValueError(
            f"preferences must have shape {[num]} or {[*batch, num]}, one weight for "
            f"each objective of advantages, got {list(preferences.shape)}"
        )
    centered = advantages - advantages.mean(axis=-2, keepdims=True)
    std = advantages.std(axis=-2, ddof=1, keepdims=True)
    normalized = centered / (std + epsilon)
    weights = jnp.broadcast_to(preferences, (*batch, num))[..., None, :]
    return jnp.sum(normalized * weights, axis=-1)


def policy_preferences(
    objectives: jax.Array, policy_ids: jax.Array, num_objectives: int
) -> jax.Array:
    """One for every objective that a row of the same policy is, else zero.

    Args:
      objectives: of every row, in 0..K-1; int32 [r].
      policy_ids: of every row; int32 [r].
      num_objectives: K.

    Returns:
      float32 [r, K].
    """
    same_policy = policy_ids[:, None] == policy_ids[None]
    of_rows = jax.nn.one_hot(objectives, num_objectives, dtype=bool)
    return jnp.any(same_policy[:, :, None] & of_rows[None], axis=1).astype(jnp.float32)


def own_objective(values: jax.Array, objectives: jax.Array | None) -> jax.Array:
    """Of the values of all objectives those of each row's own; all as they are if None.

    Args:
      values: [r, ..., K].
      objectives: of every row; int32 [r], or None.

    Returns:
      [r, ...].
    """
    if objectives is None:
        return values
    return jax.vmap(lambda x, k: x[..., k])(values, objectives)


def objective_advantages(
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
    """`generalized_advantages` of every objective by itself.

    Args:
      reward: float32 [time, ..., K].
      value: V_k(s_t); float32 [time, ..., K].
      next_value: V_k(s'_t); float32 [time, ..., K].
      termination: bool [time, ...].
      truncation: bool [time, ...].
      divergence: bool [time, ...].
      discount: in [0, 1].
      gae_lambda: in [0, 1].

    Returns:
      Advantages; float32 [time, ..., K].
    """
    function = functools.partial(
        generalized_advantages, discount=discount, gae_lambda=gae_lambda
    )
    return jax.vmap(function, (-1, -1, -1, None, None, None), -1)(
        reward, value, next_value, termination, truncation, divergence
    )
