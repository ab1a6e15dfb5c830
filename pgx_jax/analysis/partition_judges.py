"""Scores of many partitions on one truth table.

The score of `pgx_jax.analysis.partitions` takes the best and the mean value of all
partitions into k groups. Both are kept here, since ways of choosing are many.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis.partitions import (
    best_partitions,
    mean_partition_value,
    stirling_number,
)
from pgx_jax.analysis.truth_tables import TruthTable, check_table, encode_subsets
from pgx_jax.arguments import as_labels


class PartitionJudge:
    """Values and scores of partitions of one table's tasks.

    Attributes:
      table: has every subset.
    """

    def __init__(self, table: TruthTable):
        self.table = check_table(table)
        self._totals = functools.cache(lambda trainings: table.totals(trainings))
        self._extremes = functools.cache(self._find_extremes)

    def value(self, labels: ArrayLike, trainings: Sequence[int] | None = None) -> float:
        """The mean return of all tasks, over trainings, over all of them if None."""
        labels = as_labels("labels", labels, self.table.num_tasks)
        totals = self._totals(self._key(trainings))
        groups = [encode_subsets(labels == g) for g in np.unique(labels)]
        return float(totals[groups].sum()) / self.table.num_tasks

    def score(
        self,
        labels: ArrayLike,
        trainings: Sequence[int] | None = None,
        *,
        any_number: bool = False,
    ) -> float:
        """100 (v - mean) / (best - mean) over partitions into as many groups.

        Args:
          labels: the group of each task; [n].
          trainings: that the values are means over; all if None.
          any_number: take best and mean over partitions into any number of groups.

        Returns:
          The score; NaN where all partitions are worth the same.
        """
        labels = as_labels("labels", labels, self.table.num_tasks)
        num_groups = None if any_number else len(np.unique(labels))
        mean, best = self._extremes(num_groups, self._key(trainings))
        if best - mean <= 1e-12 * max(1.0, abs(best)):
            return float("nan")
        return 100.0 * (self.value(labels, trainings) - mean) / (best - mean)

    def others(self, training: int) -> list[int]:
        """All trainings but one: what judges a choice that was made by that one."""
        return [r for r in range(self.table.num_replicates) if r != training]

    def _key(self, trainings: Sequence[int] | None) -> tuple[int, ...]:
        if trainings is None:
            return tuple(range(self.table.num_replicates))
        return tuple(self.table.check_replicates("trainings", trainings))

    def _find_extremes(self, num_groups, trainings) -> tuple[float, float]:
        totals, n = self._totals(trainings), self.table.num_tasks
        ks = range(1, n + 1) if num_groups is None else [num_groups]
        best = best_partitions(totals, num_groups)
        values = [self.value(best[k], trainings) for k in ks]
        means = [mean_partition_value(totals, k) for k in ks]
        weights = [float(stirling_number(n, k)) for k in ks]
        return float(np.average(means, weights=weights)), max(values)
