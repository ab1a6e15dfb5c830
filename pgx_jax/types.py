"""The pytrees that pass from one stage to the next.

Axes are always in the order [subset, task, sample, feature]; the letters are those of
the paper (arXiv 2511.12779): n tasks, m subsets, N transitions per task, d projected
dimensions.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


class Transitions(NamedTuple):
    """Transitions of n tasks, collected under the meta-policy.

    Attributes:
      observation: pytree of arrays, each of shape [n, N, ...]; or, where tasks are
        rewards of the same samples, each of shape [1, N, ...].
      action: pytree of arrays, of the same leading axes. Where both are shared,
        gradients are computed once for all tasks.
      advantage: float array of shape [n, N]; an estimate (such as GAE) under the
        meta-policy.
      mask: bool array of shape [n, N], false where an entry is padding, or None where
        every task has N transitions.
    """

    observation: PyTree  # leaves of shape=[n, N, ...] or [1, N, ...]
    action: PyTree  # leaves of shape=[n, N, ...] or [1, N, ...]
    advantage: jax.Array  # shape=[n, N], dtype=float
    mask: jax.Array | None = None  # shape=[n, N], dtype=bool

    @property
    def valid(self) -> jax.Array:
        """The mask, true throughout where there is none; bool array of shape [n, N]."""
        if self.mask is None:
            return jnp.ones(self.advantage.shape, bool)
        return self.mask


class EstimateStatus(enum.IntEnum):
    """The status of a subset's estimate; with all but OK its scores are NaN.

    Attributes:
      OK: everything is finite.
      SETTINGS_OUT_OF_RANGE: a traced `l2`, `tolerance`, `max_relative_distance` or
        `ridge` is.
      FEATURES_NOT_FINITE: the gradient of a transition of a task of the subset, or its
        square, is not finite.
      FEATURES_ZERO: all features that are fitted are zero, after centering, or all
        that a task of the subset is scored on.
      DISTANCE_UNDEFINED: the parameters are zero or overflow, so that a limit of the
        distance relative to them is undefined.
      SOLUTION_NOT_FINITE: the regression's solution is not finite.
      SCORES_NOT_FINITE: the evaluator's scores are not finite.
    """

    OK = 0
    SETTINGS_OUT_OF_RANGE = 1
    FEATURES_NOT_FINITE = 2
    FEATURES_ZERO = 3
    DISTANCE_UNDEFINED = 4
    SOLUTION_NOT_FINITE = 5
    SCORES_NOT_FINITE = 6


class SubsetEstimates(NamedTuple):
    """What adapting the meta-policy to each of m subsets of tasks is estimated to do.

    Attributes:
      subsets: the subsets S as a 0/1 matrix; bool array of shape [m, n].
      scores: f_i(S), higher is better; float32 array of shape [m, n], 0 where task i is
        not in S, NaN where it is and `status` is not OK.
      delta: the adaptation Delta_S in the projected space, at which the scores were
        taken; float32 of shape [m, d].
      loss: the regression's objective at its solution; float32 of shape [m].
      gradient_norm: Euclidean norm of the regression's gradient at its solution;
        float32 of shape [m].
      num_iterations: solver iterations taken; int32 of shape [m].
      converged: whether the gradient norm reached the tolerance, and `status` is OK;
        bool of shape [m].
      relative_distance: |P Delta_S| / |theta*| at which the scores were taken; float32
        of shape [m]. Infinite where the parameters are all zero, NaN where they are not
        known.
      standard_error: of the scores, with the solutions held fixed, over the transitions
        (in runs of `resample_length`) or episodes that were scored; float32 of shape
        [m, n], or None where the evaluator does not report it.
      effective_sample_size: the number of independent transitions or episodes behind
        each score; float32 of shape [m, n], or None where it is not reported.
      resampled_scores: the scores from transitions resampled with replacement, once
        per resample; float32 of shape [resamples, m, n], or None where not asked for.
      half_scores: the scores from each half of the transitions alone, for so many ways
        of splitting them; float32 of shape [splits, 2, m, n], or None where not asked
        for.
      part_scores: the scores on each part of a half, at solutions from the other half;
        float32 of shape [splits, 2, parts, m, n], or None.
      status: an `EstimateStatus`; int32 of shape [m], or None if unknown. Outside
        jit `estimate_subsets` raises an error for all but OK; after jit
        `check_estimates` does.
    """

    subsets: jax.Array  # shape=[m, n], dtype=bool
    scores: jax.Array  # shape=[m, n], dtype=float32
    delta: jax.Array  # shape=[m, d], dtype=float32
    loss: jax.Array  # shape=[m], dtype=float32
    gradient_norm: jax.Array  # shape=[m], dtype=float32
    num_iterations: jax.Array  # shape=[m], dtype=int32
    converged: jax.Array  # shape=[m], dtype=bool
    relative_distance: jax.Array  # shape=[m], dtype=float32
    standard_error: jax.Array | None = None  # shape=[m, n], dtype=float32
    effective_sample_size: jax.Array | None = None  # shape=[m, n], dtype=float32
    resampled_scores: jax.Array | None = None  # shape=[resamples, m, n]
    half_scores: jax.Array | None = None  # shape=[splits, 2, m, n]
    part_scores: jax.Array | None = None  # shape=[splits, 2, parts, m, n]
    status: jax.Array | None = None  # shape=[m], dtype=int32


class ScoredSubsets(Protocol):
    """The scores f_i(S) of m subsets of n tasks: an estimate, or the truth.

    Attributes:
      subsets: 0/1 matrix [m, n].
      scores: f_i(S), higher is better, looked at for members only; float [m, n].
    """

    @property
    def subsets(self) -> jax.Array | np.ndarray: ...

    @property
    def scores(self) -> jax.Array | np.ndarray: ...


class Affinity(NamedTuple):
    """How much each pair of tasks gains from being learned together.

    Attributes:
      matrix: U; float32 array of shape [n, n], larger is better together.
      pair_counts: the number of subsets that contain both tasks; int32 array of shape
        [n, n].
      lower: lower end of the 95% bootstrap interval of each entry; float32 array of
        shape [n, n], or None where no resamples were asked for.
      upper: its upper end.
      resamples: U of every resample; float32 array of shape [resamples, n, n], or None.
      alone: what a task alone is worth on the scale of U, so that groups can be
        compared with single tasks; float32 array of shape [n], zeros where U is a gain
        over training alone, or None where U has no such scale.
      includes_transitions: whether the intervals cover the noise in transitions beside
        the choice of subsets, or the latter only, which is often half as wide; bool
        [], or None where there are none.
    """

    matrix: jax.Array  # shape=[n, n], dtype=float32
    pair_counts: jax.Array  # shape=[n, n], dtype=int32
    lower: jax.Array | None = None  # shape=[n, n], dtype=float32
    upper: jax.Array | None = None  # shape=[n, n], dtype=float32
    resamples: jax.Array | None = None  # shape=[resamples, n, n], dtype=float32
    alone: jax.Array | None = None  # shape=[n], dtype=float32
    includes_transitions: jax.Array | None = None  # shape=[], dtype=bool


class Grouping(NamedTuple):
    """A partition of n tasks into k groups.

    Attributes:
      labels: the group of each task, numbered 0..k-1 in the order of each group's first
        task; int32 NumPy array of shape [n].
      num_groups: k.
      relaxation: the solution X of the semidefinite program; float64 NumPy array of
        shape [n, n], or None where the grouping did not come from one.
      objective: the sum over groups g of sum_{i, j in g} U_ij / |g|, or None.
      bound: the value of the semidefinite program, an upper bound of the objective over
        all partitions, or None.
      p_value: where the number of groups was chosen, how often affinities without
        groups gain as much by groups as this one does; else None.
    """

    labels: Any  # shape=[n], dtype=int32
    num_groups: int
    relaxation: Any | None = None  # shape=[n, n], dtype=float64
    objective: float | None = None
    bound: float | None = None
    p_value: float | None = None


class GroupingStability(NamedTuple):
    """How stable a grouping is when the affinity behind it is resampled.

    Attributes:
      co_assignment: the share of resamples that put two tasks in one group; float64
        NumPy array of shape [n, n].
      nmi: normalized mutual information of every resample's groups with the grouping;
        float64 NumPy array of shape [resamples].
    """

    co_assignment: Any  # shape=[n, n], dtype=float64
    nmi: Any  # shape=[resamples], dtype=float64
