"""Advantages from the rewards of several samples of one prompt or state.

With a KL penalty of strength beta to the reference policy pi_ref, the optimal policy is
pi*(y | x) = pi_ref(y | x) exp((r(x, y) - V*(x)) / beta) with the value

    V*(x) = beta log E_{y ~ pi_ref} exp(r(x, y) / beta),

so that beta log(pi* / pi_ref) is r - V*, the optimal advantage. A*-PO fits beta
log(pi_theta / pi_ref) to it by squared error. Linearized at theta* = pi_ref, that is
`estimate_subsets(..., regression="least_squares", center_features=False,
normalize_advantages=False)` with these advantages, up to the scale of Delta.

Source: Brantley et al., "Accelerating RL for LLM reasoning with optimal advantage
regression" (A*-PO, arXiv 2505.20686), section 3.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_host_array, as_numbers, check_number, show
from pgx_jax.estimation.checks import is_traced


def optimal_value(
    reward: jax.Array | np.ndarray,
    *,
    beta: float | jax.Array,
    mask: jax.Array | np.ndarray | None = None,
) -> jax.Array:
    """V* of every prompt, beta log mean_k exp(r_k / beta), from samples of pi_ref.

    The mean of the rewards for large beta, the largest one for small beta. The
    logarithm of a mean of few samples lies below V* in expectation.

    Args:
      reward: of K samples of the reference policy; float [..., K].
      beta: strength of the KL penalty, in units of reward; positive.
      mask: false where an entry is padding; bool [..., K], or None.

    Returns:
      float32, or float64 where rewards are; [...].

    Raises:
      ValueError: `beta` is not positive, a reward is not finite, a prompt has no
        sample, or shapes differ; the message names the argument.

    Source: A*-PO (arXiv 2505.20686), section 3.
    """
    check_number("beta", beta)
    return _value(*_as_rewards("reward", reward, mask), beta)


def optimal_advantages(
    reward: jax.Array | np.ndarray,
    *,
    beta: float | jax.Array,
    reference_reward: jax.Array | np.ndarray | None = None,
    mask: jax.Array | np.ndarray | None = None,
) -> jax.Array:
    """r - V* of every sample: the advantages of A*-PO.

    Args:
      reward: of K samples of every prompt; float [..., K].
      beta: strength of the KL penalty, in units of reward; positive.
      reference_reward: of other samples of the reference policy, from which V* is
        estimated; float [..., M]. None for V* from `reward` itself, which must then be
        of samples of the reference policy.
      mask: false where an entry of what V* is estimated from is padding; bool, of its
        shape, or None.

    Returns:
      float32, or float64 where rewards are; [..., K].

    Raises:
      ValueError: as `optimal_value`; the message names the argument.

    Source: A*-PO (arXiv 2505.20686), section 3.
    """
    check_number("beta", beta)
    if reference_reward is None:
        reward, valid = _as_rewards("reward", reward, mask)
        return reward - _value(reward, valid, beta)[..., None]
    reward, _ = _as_rewards("reward", reward, None)
    reference, valid = _as_rewards("reference_reward", reference_reward, mask)
    if reference.shape[:-1] != reward.shape[:-1]:
        raise ValueError(
            "reference_reward must have the axes of reward but for the last one, "
            f"{list(reward.shape[:-1])}, got {show(reference)}"
        )
    return reward - _value(reference, valid, beta)[..., None].astype(reward.dtype)


def _value(reward: jax.Array, valid: jax.Array, beta: float | jax.Array) -> jax.Array:
    """beta log mean exp(r / beta) over the last axis, where valid."""
    beta = jnp.asarray(beta, reward.dtype)
    count = valid.sum(axis=-1).astype(reward.dtype)
    total = jax.nn.logsumexp(reward / beta, axis=-1, where=valid)
    return beta * (total - jnp.log(count))


def _as_rewards(name: str, reward: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
    """Rewards, 0 at padding, and their mask; both [..., K]."""
    shape = np.shape(reward if is_traced(reward) else as_host_array(name, reward))
    if not shape or 0 in shape:
        raise ValueError(
            f"{name} must have shape [..., K] with K >= 1, got {show(reward)}"
        )
    if mask is not None and np.shape(mask) != shape:
        raise ValueError(
            f"mask must have the shape of {name}, {list(shape)}, got {show(mask)}"
        )
    if not is_traced(reward, mask):
        _check_values(name, reward, mask)
    double = getattr(reward, "dtype", None) == np.float64
    reward = jnp.asarray(reward, float if double else jnp.float32)
    valid = jnp.ones(shape, bool) if mask is None else jnp.asarray(mask).astype(bool)
    return jnp.where(valid, reward, 0.0), valid


def _check_values(name: str, reward: Any, mask: Any) -> None:
    """Refuses rewards that are not finite, and prompts without a sample."""
    known = as_numbers(name, reward, finite=mask is None)
    if mask is None:
        return
    valid = as_numbers("mask", mask)
    if not np.isin(valid, (0, 1)).all():
        raise ValueError(f"mask must hold only 0 and 1, got {show(mask)}")
    as_numbers(name, np.where(valid == 1, known, 0.0))
    if not valid.any(axis=-1).all():
        empty = np.argwhere(~valid.any(axis=-1))[0].tolist()
        raise ValueError(f"mask leaves no sample of the prompt at {empty}")
