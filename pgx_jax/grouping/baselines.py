"""Groupings to compare with: at random, and by the similarity of task gradients."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_host_array, as_integer, as_key, check_switch, show
from pgx_jax.estimation.checks import as_transitions
from pgx_jax.estimation.gradients import task_gradients
from pgx_jax.estimation.projection import LogProbFn
from pgx_jax.estimation.samples import check_centering, has_one_sign
from pgx_jax.estimation.sharding import call_with_auto_axes
from pgx_jax.grouping.clustering import check_num_groups, number_labels
from pgx_jax.types import Affinity, Grouping, PyTree, Transitions


def random_grouping(
    key: jax.Array,
    num_tasks: int,
    num_groups: int | None = None,
    *,
    sizes: Sequence[int] | np.ndarray | None = None,
) -> Grouping:
    """Partitions tasks at random into groups of given or of nearly equal sizes.

    A grouping is compared fairly with random ones of the same sizes,
    `sizes=np.bincount(grouping.labels)`: sizes alone change what policies can learn.

    Args:
      key: of the draw.
      num_tasks: n.
      num_groups: k, of groups whose sizes differ by at most one.
      sizes: of every group, in place of `num_groups`; positive integers that add up to
        n.

    Raises:
      ValueError: num_groups is no integer in 1..num_tasks, sizes are no positive
        integers of that sum, or not exactly one of both is given.
    """
    num_tasks = as_integer("num_tasks", num_tasks, 1)
    if num_groups is not None and sizes is None:
        num_groups = check_num_groups(num_groups, num_tasks, "num_tasks")
        group = np.arange(num_tasks) % num_groups
    elif sizes is not None and num_groups is None:
        counts = as_host_array("sizes", sizes)
        integers = counts.ndim == 1 and np.issubdtype(counts.dtype, np.integer)
        whole = integers and counts.size
        if not whole or counts.min() < 1 or counts.sum() != num_tasks:
            raise ValueError(
                f"sizes must be positive integers that add up to num_tasks = "
                f"{num_tasks}, got {show(sizes)}"
            )
        group = np.repeat(np.arange(len(counts)), counts)
    else:
        raise ValueError(
            "exactly one of num_groups and sizes must be given, got num_groups="
            f"{num_groups!r} and sizes={sizes!r}"
        )
    labels = np.empty(num_tasks, int)
    labels[jax.device_get(jax.random.permutation(as_key(key), num_tasks))] = group
    labels = number_labels(labels)
    return Grouping(labels=labels, num_groups=int(labels.max()) + 1)


def gradient_similarity(
    log_prob_fn: LogProbFn,
    params: PyTree,
    batch: Transitions,
    *,
    center_features: bool | None = False,
) -> Affinity:
    """The cosine of every pair of tasks' mean policy gradients, as an affinity.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`.
      params: pytree of float arrays.
      batch: transitions of n tasks.
      center_features: subtract each task's mean of grad log pi, as `estimate_subsets`
        does, so that a mean advantage other than 0 adds no noise. It is the same to
        subtract each task's mean advantage. None: unless the advantages of a task all
        have one sign, so that their mean is what there is to learn.

    Returns:
      Cosines; float32 [n, n]. `pair_counts` is 1 throughout.

    Raises:
      ValueError: shapes do not agree, or, outside jit, a number is not finite or
        features are to be centered although the advantages of a task have one sign.
    """
    check_switch("center_features", center_features, none=True)
    batch = as_transitions(batch)
    check_centering(batch, center_features)
    if center_features is not False:
        center = _center if center_features else _center_mixed_signs
        advantage = call_with_auto_axes(center, (batch.advantage, batch.mask))
        batch = batch._replace(advantage=advantage)
    gradients = task_gradients(log_prob_fn, params, batch)
    return call_with_auto_axes(_cosines, (gradients,))


@jax.jit
def _cosines(gradients: jax.Array) -> Affinity:
    norm = jnp.linalg.norm(gradients, axis=1, keepdims=True)
    unit = gradients / jnp.where(norm > 0, norm, 1.0)
    with jax.default_matmul_precision("highest"):
        matrix = unit @ unit.T
    return Affinity(matrix=matrix, pair_counts=jnp.ones(matrix.shape, jnp.int32))


@jax.jit
def _center(advantage: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Advantages less the mean of each task's valid ones; [n, N]."""
    valid = jnp.ones(advantage.shape, bool) if mask is None else mask
    total = jnp.where(valid, advantage, 0.0).sum(axis=1, keepdims=True)
    count = jnp.maximum(valid.sum(axis=1, keepdims=True), 1)
    return advantage - total / count.astype(advantage.dtype)


@jax.jit
def _center_mixed_signs(advantage: jax.Array, mask: jax.Array | None) -> jax.Array:
    """`_center`, unless the advantages of a task all have one sign; [n, N]."""
    one_sign = has_one_sign(Transitions((), (), advantage, mask))
    return jnp.where(jnp.any(one_sign), advantage, _center(advantage, mask))
