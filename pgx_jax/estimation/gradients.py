"""Exact policy gradients of tasks, with no projection."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.checks import (
    as_params,
    as_transitions,
    check_callable,
    check_values,
    is_traced,
    repeat_samples,
)
from pgx_jax.estimation.projection import LogProbFn, fill_padding, single_log_prob
from pgx_jax.estimation.sharding import call_with_auto_axes
from pgx_jax.types import PyTree, Transitions


def task_gradients(
    log_prob_fn: LogProbFn, params: PyTree, batch: Transitions
) -> jax.Array:
    """The mean policy gradient of every task, mean over t of A_t grad log pi(a_t|s_t).

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`; the
        program is compiled once for it, so that a new lambda compiles anew.
      params: pytree of p numbers in all.
      batch: transitions of n tasks.

    Returns:
      float32 [n, p], parameters flattened in the order of `jax.tree.leaves`.

    Raises:
      ValueError: shapes do not agree, a parameter or a transition is not finite, or,
        outside jit, the gradient of a task is not; the message names it.
    """
    check_callable("log_prob_fn", log_prob_fn)
    params, batch = as_params(params), as_transitions(batch)
    check_values(params, batch._replace(mask=None)._asdict(), batch.mask)
    function = functools.partial(_task_gradients, log_prob_fn)
    gradients, finite = call_with_auto_axes(function, (params, batch))
    if not is_traced(params, batch) and not jax.device_get(finite).all():
        raise ValueError(
            "log_prob_fn must have finite gradients in float32; those of tasks "
            f"{np.flatnonzero(~jax.device_get(finite)).tolist()} are not"
        )
    return gradients


@functools.partial(jax.jit, static_argnums=0)
def _task_gradients(log_prob_fn, params: PyTree, batch: Transitions) -> tuple:
    """The gradients, and whether those of each task are finite; bool [n]."""
    first_task = jax.tree.map(lambda x: x[0], (batch.observation, batch.action))
    log_prob = single_log_prob(log_prob_fn, params, *first_task)
    weight = batch.advantage.astype(jnp.float32)
    valid = batch.valid
    count = jnp.maximum(valid.sum(axis=1, keepdims=True), 1)
    weight = jnp.where(valid, weight, 0.0) / count.astype(weight.dtype)

    samples = repeat_samples((batch.observation, batch.action), len(weight))
    observation, action = jax.vmap(fill_padding)(samples, valid)

    def gradient(observation, action, task_weight):
        def objective(p):
            log_probs = jax.vmap(log_prob, (None, 0, 0))(p, observation, action)
            return jnp.sum(task_weight * log_probs.astype(task_weight.dtype))

        leaves = jax.tree.leaves(jax.grad(objective)(params))
        return jnp.concatenate([x.ravel().astype(jnp.float32) for x in leaves])

    gradients = jax.lax.map(lambda task: gradient(*task), (observation, action, weight))
    return gradients, jnp.isfinite(gradients).all(axis=1)
