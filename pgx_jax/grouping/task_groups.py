"""The whole way from transitions to groups, in one call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from pgx_jax.analysis.truth_tables import all_subsets
from pgx_jax.arguments import as_integer, as_key, check_choice, show
from pgx_jax.estimation.checks import as_advantage
from pgx_jax.estimation.estimate import estimate_subsets
from pgx_jax.estimation.evaluators import Evaluator
from pgx_jax.estimation.projection import LogProbFn, PyTree
from pgx_jax.estimation.subsets import sample_subsets
from pgx_jax.estimation.sums import TaskSums, is_stream
from pgx_jax.grouping.affinity import SCORES, task_affinity
from pgx_jax.grouping.clustering import check_num_groups, cluster_tasks
from pgx_jax.grouping.expected_gain import GroupingGain, grouping_gain
from pgx_jax.types import Affinity, Grouping, SubsetEstimates, Transitions

# The most subsets that are estimated, where their number is not given.
MOST_SUBSETS = 1000
# Tasks of which least squares scores every subset.
MOST_TASKS = 12
NUM_SPLITS = 4


class TaskGroups(NamedTuple):
    """The result of `group_tasks`: the groups, and what they follow from.

    Attributes:
      grouping: the groups.
      affinity: of every pair of tasks.
      estimates: of every subset.
      gain: what grouping is expected to gain, or None for the logistic regression.
    """

    grouping: Grouping
    affinity: Affinity
    estimates: SubsetEstimates
    gain: GroupingGain | None = None


def group_tasks(
    log_prob_fn: LogProbFn | None,
    params: PyTree,
    data: Transitions | Iterable[Transitions] | TaskSums,
    *,
    key: jax.Array,
    num_groups: int | None = None,
    regression: str = "logistic",
    num_subsets: int | None = None,
    subset_size: int | None = None,
    dim: int | str | None = "auto",
    l2: float | None = None,
    ridge: float | None = None,
    batch_transitions: float | None = None,
    evaluator: str | Evaluator = "surrogate",
    score: str = "standardized",
    num_resamples: int = 0,
) -> TaskGroups:
    """Groups tasks by what fine-tuning on subsets of them is estimated to do.

    With regression="logistic" it calls `sample_subsets`, `estimate_subsets`,
    `task_affinity` and `cluster_tasks` in turn; with "least_squares" it estimates every
    subset, and `grouping_gain` finds the best partition and whether it pays. Call them
    yourself for their other settings.

        groups = pge.group_tasks(log_prob_fn, params, batch, key=jax.random.key(0))
        groups.grouping.labels  # the group of each task; int32 [n]

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`.
      params: pytree of float arrays, p numbers in all.
      data: transitions of n tasks, collected under `params`; leaves [n, N, ...]. For
        least squares, of at most 12 tasks, also a stream of batches or `TaskSums`; see
        `estimate_subsets`.
      key: of all random draws.
      num_groups: k in 1..n; chosen from the affinity, or by `grouping_gain`, if None.
      regression: "logistic" or "least_squares".
      num_subsets: logistic only. m; all subsets of the size, or 1,000 if there are
        more, if None.
      subset_size: logistic only. Tasks in a subset; 3, or n if that is smaller, if
        None.
      dim: d, the projected dimension, at most p; "auto" for the smaller of 400 and p,
        None for no projection.
      l2: logistic only. Ridge penalty of the regressions, 0.1 if None.
      ridge: least squares only. Theirs, 1 if None.
      batch_transitions: least squares only. Transitions of a task in one batch of
        training, whose noise costs small groups more; None leaves it out.
      evaluator: logistic only. A name in `pgx_jax.estimation.evaluators.EVALUATORS`, or
        a function.
      score: of the affinity: "standardized", "mean" or "transfer_gain"; see
        `task_affinity`.
      num_resamples: bootstrap samples of the transitions, behind intervals of the
        affinity; 0 leaves them out.

    Returns:
      The groups, the affinity and the estimates; for least squares also the gain.

    Raises:
      ValueError: a setting or an array is not allowed; the message names it.

    Source: PolicyGradEx (arXiv 2511.12779), algorithm 1.
    """
    check_choice("regression", regression, ("logistic", "least_squares"))
    check_choice("score", score, SCORES)
    num_resamples = as_integer("num_resamples", num_resamples, 0)
    data, num_tasks = _count_tasks(data)
    if num_tasks < 2:
        raise ValueError(f"data must be of at least 2 tasks, got {num_tasks}")
    if num_groups is not None:
        num_groups = check_num_groups(num_groups, num_tasks, "the tasks of data")
    subset_key, estimate_key, affinity_key = jax.random.split(as_key(key), 3)
    settings: dict[str, Any] = {
        "regression": regression,
        "dim": dim,
        "l2": l2,
        "ridge": ridge,
        "batch_transitions": batch_transitions,
        "evaluator": evaluator,
        "num_resamples": num_resamples,
    }
    if regression == "least_squares":
        subsets = _every_subset(num_tasks, num_subsets, subset_size)
        settings["num_splits"] = NUM_SPLITS
    else:
        if subset_size is None:
            subset_size = min(3, num_tasks)
        subset_size = as_integer("subset_size", subset_size, 2, num_tasks)
        if num_subsets is None:
            num_subsets = min(math.comb(num_tasks, subset_size), MOST_SUBSETS)
        subsets = sample_subsets(
            subset_key,
            num_tasks,
            num_subsets,
            subset_size,
            singletons=score == "transfer_gain",
        )
    estimates = estimate_subsets(
        log_prob_fn, params, data, subsets, key=estimate_key, **settings
    )
    affinity = task_affinity(
        estimates, score=score, key=affinity_key if num_resamples else None
    )
    if regression == "least_squares":
        gain = grouping_gain(estimates, num_groups)
        return TaskGroups(gain.grouping, affinity, estimates, gain)
    return TaskGroups(cluster_tasks(affinity, num_groups), affinity, estimates)


def _count_tasks(data: Any) -> tuple[Any, int]:
    """The data, and the number of their tasks; of a stream that of its first batch."""
    if isinstance(data, TaskSums):
        return data, data.num_tasks
    if not is_stream(data):
        return data, _tasks_of(data)
    batches = iter(data)
    waiting = [batch for batch in [next(batches, None)] if batch is not None]
    if not waiting:
        raise ValueError("data must have at least one batch, the stream has none")
    num_tasks = _tasks_of(waiting[0])

    def again() -> Iterator[Transitions]:
        yield waiting.pop()  # Kept by nobody once it has been looked at.
        yield from batches

    return again(), num_tasks


def _tasks_of(batch: Any) -> int:
    if not isinstance(batch, (tuple, list)) or len(batch) < 3:
        raise ValueError(
            "data must be pge.Transitions(observation, action, advantage, mask), a "
            f"stream of them or TaskSums, got {show(batch)}"
        )
    return len(as_advantage(batch[2]))


def _every_subset(num_tasks, num_subsets, subset_size) -> np.ndarray:
    for name, value in (("num_subsets", num_subsets), ("subset_size", subset_size)):
        if value is not None:
            raise ValueError(
                f"{name} is no argument of regression='least_squares', which scores "
                f"every subset, got {value!r}"
            )
    if num_tasks > MOST_TASKS:
        raise ValueError(
            f"data must be of at most {MOST_TASKS} tasks for regression="
            f"'least_squares', which scores every subset, got {num_tasks}; "
            "best_partition asks a function for the subsets it needs"
        )
    return all_subsets(num_tasks)
