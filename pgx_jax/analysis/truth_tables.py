"""Tables of the value of every task under the policies trained on subsets of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.arguments import (
    as_host_array,
    as_integer,
    as_numbers,
    as_subset_matrix,
    is_real,
    show,
)

MOST_TASKS = 16
# Tasks whose subsets can be listed, and those that the bits of an integer can hold.
MOST_LISTED = 24
MOST_BITS = 62


class TruthTable(NamedTuple):
    """The value of every task under the policies trained on subsets that hold it.

    Attributes:
      subsets: bool NumPy array of shape [m, n].
      values: R, one row of the first axis for each training of all subsets; NaN where
        the task is not in the subset; float64 NumPy array of shape [replicates, m, n].
    """

    subsets: np.ndarray  # shape=[m, n], dtype=bool
    values: np.ndarray  # shape=[replicates, m, n], dtype=float64

    @classmethod
    def create(cls, subsets: ArrayLike, values: ArrayLike) -> TruthTable:
        """Checks a table.

        Args:
          subsets: 0/1 matrix [m, n], no row twice.
          values: [replicates, m, n], or [m, n] of one training; finite wherever the
            task is in the subset.

        Raises:
          ValueError: shapes do not agree, a subset is empty or repeated, there are
            more than 16 tasks, or the value of a member is not finite; the message
            names it.
        """
        subsets = as_subset_matrix(subsets)
        values = as_numbers("values", values, finite=False)
        if subsets.shape[1] > MOST_TASKS:
            raise ValueError(
                f"subsets must be of at most {MOST_TASKS} tasks, got {subsets.shape[1]}"
            )
        if values.ndim == 2:
            values = values[None]
        if values.ndim != 3 or values.shape[1:] != subsets.shape or not len(values):
            raise ValueError(
                "values must have shape [replicates, m, n] with [m, n] = "
                f"{list(subsets.shape)} of subsets, got {values.shape}"
            )
        codes = encode_subsets(subsets)
        first = np.unique(codes, return_index=True)[1]
        if len(first) < len(codes):
            row = np.setdiff1d(np.arange(len(codes)), first)[0]
            tasks = np.flatnonzero(subsets[row]).tolist()
            raise ValueError(f"subsets must differ; row {row}, tasks {tasks}, is again")
        bad = np.argwhere(~np.isfinite(values) & subsets)
        if len(bad):
            replicate, row, task = bad[0]
            raise ValueError(
                f"values must be finite for members; replicate {replicate}, subset "
                f"{np.flatnonzero(subsets[row]).tolist()}, task {task} is "
                f"{values[replicate, row, task]}"
            )
        return cls(subsets, np.where(subsets, values, np.nan))

    def check_replicates(self, name: str, replicates: Any) -> list[int]:
        """Numbers of trainings, with repetition allowed.

        Raises:
          ValueError: there are none, or one is no integer in 0..replicates - 1; the
            message gives `name`.
        """
        numbers = as_host_array(name, replicates)
        known = numbers.ndim == 1 and numbers.size and numbers.dtype.kind in "iu"
        if not known or not np.isin(numbers, np.arange(self.num_replicates)).all():
            raise ValueError(
                f"{name} must be a list of trainings, each in 0.."
                f"{self.num_replicates - 1}, got {show(replicates)}"
            )
        return numbers.tolist()

    @property
    def num_tasks(self) -> int:
        """n."""
        return self.subsets.shape[1]

    @property
    def num_replicates(self) -> int:
        """Trainings of every subset."""
        return len(self.values)

    def totals(self, replicates: Sequence[int] | np.ndarray | None = None):
        """The sum of R[S, i] over the tasks i of S, averaged over trainings.

        Args:
          replicates: the trainings to average over, with repetition allowed; all if
            None.

        Returns:
          float64 [2^n]; entry c is the subset of the tasks i with bit i of c set, and
          NaN where the table does not have it.
        """
        values = self.values
        if replicates is not None:
            values = values[self.check_replicates("replicates", replicates)]
        totals = np.full(2**self.num_tasks, np.nan)
        sums = np.where(self.subsets, values, 0.0).mean(axis=0).sum(axis=1)
        totals[encode_subsets(self.subsets)] = sums
        return totals


def encode_subsets(subsets: ArrayLike) -> np.ndarray:
    """Subsets as integers, bit i for task i; [..., n] to int64 [...].

    Raises:
      ValueError: there are no tasks or more than 62, or entries other than 0 and 1.
    """
    subsets = as_host_array("subsets", subsets)
    if subsets.ndim == 0 or not 1 <= subsets.shape[-1] <= MOST_BITS:
        raise ValueError(
            f"subsets must have shape [..., n] with n in 1..{MOST_BITS}, got "
            f"{subsets.shape}"
        )
    real = subsets.dtype == bool or is_real(subsets.dtype)
    if not real or not np.isin(subsets, (0, 1)).all():
        raise ValueError(f"subsets must hold only 0 and 1, got {show(subsets)}")
    return subsets.astype(np.int64) @ (1 << np.arange(subsets.shape[-1]))


def all_subsets(num_tasks: int) -> np.ndarray:
    """Every subset but the empty one, in the order of `encode_subsets`.

    Args:
      num_tasks: n, at most 24.

    Returns:
      bool [2^n - 1, n].

    Raises:
      ValueError: `num_tasks` is no integer in 1..24.
    """
    num_tasks = as_integer("num_tasks", num_tasks, 1, MOST_LISTED)
    codes = np.arange(1, 2**num_tasks)
    return (codes[:, None] >> np.arange(num_tasks)) & 1 == 1


def check_table(table: TruthTable) -> TruthTable:
    """The table, refused if it is none.

    Raises:
      ValueError: the message names `table`.
    """
    if not isinstance(table, TruthTable):
        raise ValueError(
            f"table must be a TruthTable, got {type(table).__name__}; "
            "TruthTable.create(subsets, values) makes one"
        )
    return table
