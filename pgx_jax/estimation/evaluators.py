"""Policy evaluation: what the adapted policy theta_S is worth on each task.

An evaluator is a function of an `Adapted` that returns an `Evaluation`, or the scores
f_i(S) alone: float32 [m, n], higher is better. Any function of that signature can be
passed to `estimate_subsets`; those that exist by name are in `EVALUATORS`. Returns in
real environments are scored by `pgx_jax.evaluation.rollouts.RolloutEvaluator`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgx_jax.estimation.blocks import (
    BlockPlan,
    Incidence,
    block_elements,
    map_blocks,
)
from pgx_jax.estimation.parameters import count_params
from pgx_jax.estimation.projection import LogProbFn
from pgx_jax.estimation.samples import error_of_mean, has_one_sign
from pgx_jax.types import PyTree, Transitions

CLIP = 0.2


class Adapted(NamedTuple):
    """The inputs of an evaluator.

    Attributes:
      subsets: bool [m, n].
      solution: the minimizers of the regressions; float32 [m, d].
      delta: the adaptations Delta_S: the minimizers, scaled back where they would move
        the parameters too far; float32 [m, d].
      batch: the transitions to evaluate on, advantages normalized; leaves [n, N, ...].
      features: their projected gradients; float32 [n, N, d].
      adapt: `adapt(delta)` returns theta_S = theta* + P Delta_S, a pytree like the
        parameters with the leading axes of `delta`.
      log_prob_fn: the policy, of one transition.
      params: theta*.
      key: for evaluators that draw.
      plan: static sizes that hold for `subsets`.
      run_length: number of consecutive transitions that may depend on each other, for
        standard errors.
    """

    subsets: jax.Array
    solution: jax.Array
    delta: jax.Array
    batch: Transitions
    features: jax.Array
    adapt: Callable
    log_prob_fn: LogProbFn
    params: PyTree
    key: jax.Array
    plan: BlockPlan
    run_length: int = 1


class Evaluation(NamedTuple):
    """Scores, and how far they can be trusted; entries of non-members are ignored.

    Attributes:
      scores: f_i(S); float32 [m, n].
      standard_error: of the scores; float32 [m, n], or None.
      effective_sample_size: transitions or episodes behind them; float32 [m, n], or
        None.
    """

    scores: jax.Array
    standard_error: jax.Array | None = None
    effective_sample_size: jax.Array | None = None


Evaluator = Callable[[Adapted], Evaluation | jax.Array]


def surrogate(adapted: Adapted) -> Evaluation:
    """How far the logistic loss of each task falls at the solution of the regression.

        f_i(S) = mean over t of task i of w_t (log 2 - log(1 + exp(-y_t g~_t . Delta)))

    It looks only at projected gradients: no network is run. So its solutions are not
    limited unless `max_relative_distance` is a number: the loss itself bounds how much
    a long step can claim.
    """
    advantage, valid = adapted.batch.advantage, adapted.batch.valid
    count = valid.sum(axis=1).astype(jnp.float32)
    weight = jnp.where(valid, jnp.abs(advantage), 0.0)
    sign = jnp.where(advantage >= 0, 1.0, -1.0)

    def score(subsets, delta):
        incidence = Incidence.create(subsets, adapted.plan)
        logits = jnp.einsum("ntd,ncd->nct", adapted.features, incidence.by_task(delta))
        gains = weight[:, None] * _loss_fall(sign[:, None] * logits)
        mean = jnp.sum(gains, axis=2) / count[:, None]
        spread = jnp.where(valid[:, None], gains - mean[..., None], 0.0)
        error = jax.vmap(error_of_mean, (0, 0, None))(spread, valid, adapted.run_length)
        return incidence.to_matrix(mean), incidence.to_matrix(error)

    scores, error = map_blocks(
        score, (adapted.subsets, adapted.delta), adapted.plan.block
    )
    size = jnp.broadcast_to(count, scores.shape)
    return Evaluation(scores, error, size)


def _loss_fall(margin: jax.Array) -> jax.Array:
    """log 2 - log(1 + exp(-margin)), whose difference would lose small margins."""
    # Beyond, exp(-margin) is all there is of the sum, and would overflow.
    bounded = jnp.maximum(margin, -30.0)
    return jnp.where(
        margin < -30.0,
        margin + math.log(2.0),
        -jnp.log1p(0.5 * jnp.expm1(-bounded)),
    )


def off_policy(adapted: Adapted) -> Evaluation:
    """PPO's clipped objective of the real network at theta_S, from the transitions.

        f_i(S) = mean over t of task i of min(r_t A_t, clip(r_t, 0.8, 1.2) A_t) - A_t

    with the exact ratio r_t = pi_theta_S(a_t | s_t) / pi_theta*(a_t | s_t), and A_t
    less its mean over the task, which leaves the expectation as it is and removes most
    of the noise; unless all advantages of the task have one sign, where nothing would
    be left of the signal. The effective sample size is that of the ratios,
    (sum r)^2 / sum r^2 (Kish, 1965).

    Raises:
      ValueError: a parameter has fewer than 32 bits: rounded to its type, theta_S would
        differ from theta* by the rounding more than by the adaptation.

    Source: Schulman et al., "Proximal policy optimization algorithms", 2017.
    """
    _check_precision("off_policy", adapted.params)
    batch, valid = adapted.batch, adapted.batch.valid
    mean = jnp.mean(batch.advantage, axis=1, keepdims=True, where=valid)
    mean = jnp.where(has_one_sign(batch)[:, None], 0.0, mean)
    advantage = jnp.where(valid, batch.advantage - mean, 0.0)

    def clipped_gain(log_ratio, advantage):
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1.0 - CLIP, 1.0 + CLIP)
        return jnp.minimum(ratio * advantage, clipped * advantage) - advantage

    def effective_size(log_ratio, valid):
        ratio = jnp.where(valid, jnp.exp(log_ratio), 0.0)
        return jnp.sum(ratio) ** 2 / jnp.sum(ratio**2)

    return _score_network(adapted, advantage, clipped_gain, effective_size)


def logistic_loss(adapted: Adapted) -> Evaluation:
    """How far the logistic loss of each task falls at theta_S, of the real network.

        f_i(S) = mean over t of task i of w_t (log 2 - log(1 + exp(-y_t m_t))),
        m_t = log pi_theta_S(a_t | s_t) - log pi_theta*(a_t | s_t)

    What `surrogate` is to first order in the step. Of preference pairs, whose
    log-probability is a `PreferenceLogProb`, the fall of DPO's loss on them.

    Raises:
      ValueError: a parameter has fewer than 32 bits, as for `off_policy`.

    Source: DPO (arXiv 2305.18290), equation 7.
    """
    _check_precision("logistic_loss", adapted.params)

    def loss_fall(log_ratio, advantage):
        sign = jnp.where(advantage >= 0, 1.0, -1.0)
        return jnp.abs(advantage) * _loss_fall(sign * log_ratio)

    def count(log_ratio, valid):
        return valid.sum().astype(log_ratio.dtype)

    advantage = jnp.where(adapted.batch.valid, adapted.batch.advantage, 0.0)
    return _score_network(adapted, advantage, loss_fall, count)


def _check_precision(name: str, params: PyTree) -> None:
    """Refuses parameters to whose type a short step would be rounded away."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.dtype.itemsize < 4:
            raise ValueError(
                f"params must be of float32 or float64 for the evaluator {name!r}, "
                f"whose adaptations {leaf.dtype} would round away; that at "
                f"{jax.tree_util.keystr(path)} is {leaf.dtype}. Cast them, or use "
                "'surrogate'"
            )


def _score_network(
    adapted: Adapted,
    advantage: jax.Array,
    gain: Callable[[jax.Array, jax.Array], jax.Array],
    effective_size: Callable[[jax.Array, jax.Array], jax.Array],
) -> Evaluation:
    """Means over transitions of what the network at theta_S gains; [m, n].

    Args:
      adapted: the inputs of the evaluator.
      advantage: 0 at padding; float32 [n, N].
      gain: from log pi_theta_S - log pi_theta* and advantages, [N], to gains [N].
      effective_size: from the former and the mask, [N], to a number [].
    """
    batch, valid = adapted.batch, adapted.batch.valid
    log_prob = jax.vmap(adapted.log_prob_fn, (None, 0, 0))
    old = jax.vmap(log_prob, (None, 0, 0))(
        adapted.params, batch.observation, batch.action
    ).astype(jnp.float32)
    tasks = (batch.observation, batch.action, advantage, old, valid)

    def score_one(params, task):
        observation, action, advantage, old, valid = jax.tree.map(
            lambda x: x[task], tasks
        )
        new = log_prob(params, observation, action).astype(jnp.float32)
        gains = gain(new - old, advantage)
        count = valid.sum()
        mean = jnp.sum(gains, where=valid) / count.astype(gains.dtype)
        spread = jnp.where(valid, gains - mean, 0.0)
        return Evaluation(
            mean,
            error_of_mean(spread, valid, adapted.run_length),
            effective_size(new - old, valid),
        )

    def score(subsets, delta):
        incidence = Incidence.create(subsets, adapted.plan)
        params = adapted.adapt(delta)
        by_member = jax.vmap(jax.vmap(score_one, (None, 0)))(params, incidence.task_of)
        return jax.tree.map(incidence.members_to_matrix, by_member)

    # As wide as the activations of one transition are likely to be.
    num_params, num_samples = count_params(adapted.params), batch.advantage.shape[1]
    width = max(x.shape[-1] if x.ndim else 1 for x in jax.tree.leaves(adapted.params))
    cost = adapted.plan.most_tasks * num_samples * width + num_params
    block = min(max(1, block_elements() // cost), adapted.plan.block)
    return map_blocks(score, (adapted.subsets, adapted.delta), block)


def default_distance(evaluator: Evaluator) -> float | None:
    """The limit that `max_relative_distance="auto"` stands for, None for no limit.

    That of the evaluator's own attribute of this name, where it has one, and 0.01, at
    which the first-order approximation was within 2% (paper, section 3), for others.
    """
    if evaluator is surrogate:
        return None
    return getattr(evaluator, "max_relative_distance", 0.01)


EVALUATORS: Mapping[str, Evaluator] = {
    "surrogate": surrogate,
    "off_policy": off_policy,
    "logistic_loss": logistic_loss,
}
