"""Groupings to compare with: at random, and by the similarity of task gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.gradients import task_gradients
from pgx_jax.estimation.projection import LogProbFn, PyTree
from pgx_jax.grouping.clustering import number_labels
from pgx_jax.types import Affinity, Grouping, Transitions


def random_grouping(key: jax.Array, num_tasks: int, num_groups: int) -> Grouping:
    """Partitions tasks at random into groups whose sizes differ by at most one.

    Raises:
      ValueError: num_groups is not in 1..num_tasks.
    """
    if not 1 <= num_groups <= num_tasks:
        raise ValueError(
            f"num_groups must be in 1..num_tasks = 1..{num_tasks}, got {num_groups}"
        )
    order = np.asarray(jax.random.permutation(key, num_tasks))
    labels = np.empty(num_tasks, int)
    labels[order] = np.arange(num_tasks) % num_groups
    return Grouping(labels=number_labels(labels), num_groups=num_groups)


def gradient_similarity(
    log_prob_fn: LogProbFn, params: PyTree, batch: Transitions
) -> Affinity:
    """The cosine of every pair of tasks' mean policy gradients, as an affinity.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`.
      params: pytree of float arrays.
      batch: transitions of n tasks.

    Returns:
      Cosines; float32 [n, n]. `pair_counts` is 1 throughout.
    """
    gradients = task_gradients(log_prob_fn, params, batch)
    norm = jnp.linalg.norm(gradients, axis=1, keepdims=True)
    unit = gradients / jnp.where(norm > 0, norm, 1.0)
    with jax.default_matmul_precision("highest"):
        matrix = unit @ unit.T
    return Affinity(matrix=matrix, pair_counts=jnp.ones(matrix.shape, jnp.int32))
