"""How the gradients of a policy's rows are combined, for k policies at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.optim import (
    Weighting,
    cagrad,
    famo,
    gradnorm,
    nash_mtl,
    pcgrad,
    uncertainty_weighting,
)
from pgx_jax.optim.combination import (
    flatten_tasks,
    gram_matrix,
    unflatten,
    weighted_sum,
)
from pgx_jax.optim.weighting import measure_agreement, weigh_tasks
from pgx_jax.training.ppo_config import GradientConfig
from pgx_jax.types import PyTree


class CombinedState(NamedTuple):
    """State of an optimizer whose gradients are combined by a method first.

    Attributes:
      members: the rows of each policy, -1 beyond its last; int32 [k, m].
      methods: state of the method for each part of the parameters; leaves [k, ...].
      optimizer: of the combined gradients; leaves [k, ...].
    """

    members: jax.Array
    methods: dict[str, PyTree]
    optimizer: PyTree


def make_weighting(config: GradientConfig) -> Weighting:
    """The method of some settings, which is not "mean"."""
    if config.method == "cagrad":
        return cagrad(config.radius)
    if config.method == "famo":
        return famo(config.learning_rate, config.decay)
    if config.method == "gradnorm":
        return gradnorm(config.learning_rate, config.restoring_force)
    if config.method == "uncertainty":
        return uncertainty_weighting(config.learning_rate)
    return {"pcgrad": pcgrad, "nash_mtl": nash_mtl}[config.method]()


def list_members(config: GradientConfig, policy_ids: np.ndarray) -> np.ndarray | None:
    """The rows of each policy, int32 [k, m]; None where there is nothing to combine.

    That is with the method "mean", and where no policy has two rows.
    """
    counts = np.bincount(policy_ids)
    if config.method == "mean" or counts.max() == 1:
        return None
    members = np.full((len(counts), counts.max()), -1, np.int32)
    for policy, row in enumerate(members):
        row[: counts[policy]] = np.flatnonzero(policy_ids == policy)
    return members


def start_combination(
    config: GradientConfig,
    params: PyTree,
    members: jax.Array,
    key: jax.Array,
    optimizer_state: PyTree,
) -> CombinedState:
    """The state to start from; of each part of the parameters, a dict, by itself."""
    weighting = make_weighting(config)
    num_policies, most = members.shape
    keys = jax.random.split(key, (len(params), num_policies))
    methods = {
        part: jax.vmap(lambda key: weighting.init(most, key))(keys[i])
        for i, part in enumerate(sorted(params))
    }
    return CombinedState(jnp.asarray(members), methods, optimizer_state)


def combine_rows(
    config: GradientConfig,
    state: CombinedState,
    gradients: dict[str, PyTree],
    losses: dict[str, jax.Array],
    policy_ids: jax.Array,
) -> tuple[dict[str, PyTree], CombinedState, dict[str, jax.Array]]:
    """Combines the gradients of each policy's rows.

    Actor and critic are combined each by itself, as papers do in RL: the gradient of
    one says nothing of the conflicts of the other.

    Args:
      config: of the method.
      state: of the method.
      gradients: by part of the parameters; leaves of shape [r, ...].
      losses: by part, positive; float32 [r].
      policy_ids: the policy of each row; int32 [r].

    Returns:
      Gradients of the policies, leaves of shape [k, ...]; the new state; and of the
      actor, float32 [r] each: `gradient_cosine`, with the other rows of the same
      policy, `gradient_conflicts`, the share of them that a row conflicts with, and
      `gradient_weight`, which is 1 where it is that of the mean.
    """
    weighting = make_weighting(config)
    num_policies = len(state.members)
    mask, at = state.members >= 0, jnp.maximum(state.members, 0)

    def of_rows(x):
        chosen = jnp.where(mask, x, 0.0)
        return jnp.zeros(policy_ids.shape, x.dtype).at[at].add(chosen)

    combined, methods, metrics = {}, {}, {}
    for part, stacked in gradients.items():
        flat = flatten_tasks(stacked)
        gram = gram_matrix(flat)[at[:, :, None], at[:, None, :]]
        weights, methods[part] = jax.vmap(
            lambda *policy: weigh_tasks(weighting, *policy)
        )(state.methods[part], gram, losses[part][at], mask)
        rows = of_rows(weights)
        if num_policies == 1:
            total = weighted_sum(rows, flat)[None]
        else:
            total = jax.ops.segment_sum(rows[:, None] * flat, policy_ids, num_policies)
        combined[part] = unflatten(total, stacked)
        if part == "policy":
            agreement = jax.vmap(measure_agreement)(gram, mask)
            count = jnp.sum(mask, axis=1, keepdims=True).astype(weights.dtype)
            metrics = {
                "gradient_cosine": of_rows(agreement.cosine),
                "gradient_conflicts": of_rows(agreement.conflicts),
                "gradient_weight": of_rows(weights * count),
            }
    return combined, state._replace(methods=methods), metrics
