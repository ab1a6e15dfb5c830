"""The whole way from transitions to groups, in one call."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np

from pgx_jax.estimation.checks import as_key
from pgx_jax.estimation.estimate import estimate_subsets
from pgx_jax.estimation.evaluators import Evaluator
from pgx_jax.estimation.projection import LogProbFn, PyTree
from pgx_jax.estimation.subsets import sample_subsets
from pgx_jax.grouping.affinity import task_affinity
from pgx_jax.grouping.clustering import cluster_tasks
from pgx_jax.types import Affinity, Grouping, SubsetEstimates, Transitions

# The most subsets that are estimated, where their number is not given.
MOST_SUBSETS = 1000


class TaskGroups(NamedTuple):
    """The result of `group_tasks`: the groups, and what they follow from.

    Attributes:
      grouping: the groups.
      affinity: of every pair of tasks.
      estimates: of every subset.
    """

    grouping: Grouping
    affinity: Affinity
    estimates: SubsetEstimates


def group_tasks(
    log_prob_fn: LogProbFn,
    params: PyTree,
    batch: Transitions,
    *,
    key: jax.Array,
    num_groups: int | None = None,
    num_subsets: int | None = None,
    subset_size: int | None = None,
    dim: int | str | None = "auto",
    l2: float = 0.1,
    evaluator: str | Evaluator = "surrogate",
    score: str = "standardized",
    num_resamples: int = 0,
) -> TaskGroups:
    """Groups tasks by what fine-tuning on subsets of them is estimated to do.

    Calls `sample_subsets`, `estimate_subsets`, `task_affinity` and `cluster_tasks` in
    turn; call them yourself for their other settings.

        groups = pge.group_tasks(log_prob_fn, params, batch, key=jax.random.key(0))
        groups.grouping.labels  # the group of each task; int32 [n]

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`.
      params: pytree of float arrays, p numbers in all.
      batch: transitions of n tasks, collected under `params`; leaves [n, N, ...].
      key: of all random draws.
      num_groups: k in 1..n; chosen from the affinity if None.
      num_subsets: m; all subsets of the size, or 1,000 if there are more, if None.
      subset_size: tasks in a subset; 3, or n if that is smaller, if None.
      dim: d, the projected dimension, at most p; "auto" for the smaller of 400 and p,
        None for no projection.
      l2: ridge penalty of the regressions.
      evaluator: a name in `pgx_jax.estimation.evaluators.EVALUATORS`, or a function.
      score: "standardized", "mean" or "transfer_gain"; see `task_affinity`.
      num_resamples: bootstrap samples of the transitions, behind intervals of the
        affinity; 0 leaves them out.

    Returns:
      The groups, the affinity and the estimates.

    Raises:
      ValueError: a setting or an array is not allowed; the message names it.

    Source: PolicyGradEx (arXiv 2511.12779), algorithm 1.
    """
    num_tasks = np.shape(batch.advantage)[0]
    if num_tasks < 2:
        raise ValueError(f"batch must be of at least 2 tasks, got {num_tasks}")
    if subset_size is None:
        subset_size = min(3, num_tasks)
    if num_subsets is None:
        num_subsets = min(math.comb(num_tasks, subset_size), MOST_SUBSETS)
    subset_key, estimate_key, affinity_key = jax.random.split(as_key(key), 3)
    subsets = sample_subsets(
        subset_key,
        num_tasks,
        num_subsets,
        subset_size,
        singletons=score == "transfer_gain",
    )
    estimates = estimate_subsets(
        log_prob_fn,
        params,
        batch,
        subsets,
        key=estimate_key,
        dim=dim,
        l2=l2,
        evaluator=evaluator,
        num_resamples=num_resamples,
    )
    affinity = task_affinity(
        estimates, score=score, key=affinity_key if num_resamples else None
    )
    return TaskGroups(cluster_tasks(affinity, num_groups), affinity, estimates)
