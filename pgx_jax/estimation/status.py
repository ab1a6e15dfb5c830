"""Faults of an estimate that only computing it reveals.

Inside jit nothing can be raised: there `SubsetEstimates.status` reports them, subset
by subset, and the scores of such a subset are NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_host_array, show
from pgx_jax.estimation.checks import is_traced
from pgx_jax.estimation.samples import Sample, center
from pgx_jax.types import EstimateStatus, SubsetEstimates

REASONS = {
    EstimateStatus.SETTINGS_OUT_OF_RANGE: (
        "l2 must be positive and finite, tolerance at least 0 and finite, and "
        "max_relative_distance positive, in float32"
    ),
    EstimateStatus.FEATURES_NOT_FINITE: (
        "log_prob_fn must have gradients that are finite and whose squares are, in "
        "float32"
    ),
    EstimateStatus.FEATURES_ZERO: (
        "log_prob_fn must have gradients that differ between the transitions of a task "
        "(or, with center_features=False, that are not zero); is there a stop_gradient "
        "in it, or a single transition?"
    ),
    EstimateStatus.DISTANCE_UNDEFINED: (
        "params must have a norm that is finite and not zero for max_relative_distance "
        "to be a share of it; pass max_relative_distance=None, or other parameters"
    ),
    EstimateStatus.SOLUTION_NOT_FINITE: (
        "advantage and l2 must be of a size for which the regressions stay finite in "
        "float32"
    ),
    EstimateStatus.SCORES_NOT_FINITE: "evaluator must return finite scores",
}


class TaskFaults(NamedTuple):
    """Tasks of which no estimate can be made.

    Attributes:
      not_finite: whether any feature is not finite, or its square; bool [n].
      transition: the first transition of that kind; int32 [n].
      zero_fitted: whether all features that are fitted are zero, up to rounding;
        bool [n].
      zero_scored: the same of those that are scored; bool [n].
    """

    not_finite: jax.Array
    transition: jax.Array
    zero_fitted: jax.Array
    zero_scored: jax.Array


def find_faults(
    features: jax.Array,
    fitted: Sample,
    scored: Sample,
    centered: jax.Array,
    rounding: jax.Array,
) -> TaskFaults:
    """Looks for tasks of which no estimate can be made.

    Args:
      features: of all transitions, 0 at padding; float32 [n, N, d].
      fitted: the transitions that the regressions see, before they are centered.
      scored: those that the evaluator sees, before they are centered.
      centered: whether each task's mean feature will be subtracted; bool [].
      rounding: what the squared norm of features of zero may come to; float32 [n, N].
    """
    bad = ~jnp.isfinite(jnp.sum(jnp.square(features), axis=2))

    def is_zero(sample):
        left = jnp.square(center(sample, fitted, centered).features).sum(axis=2)
        mean = jnp.mean(left, axis=1, where=sample.batch.mask)
        return mean <= rounding.max(axis=1)

    return TaskFaults(
        not_finite=bad.any(axis=1),
        transition=jnp.argmax(bad, axis=1).astype(jnp.int32),
        zero_fitted=is_zero(fitted),
        zero_scored=is_zero(scored),
    )


def with_status(
    estimates: SubsetEstimates,
    faults: TaskFaults,
    valid_settings: jax.Array,
    valid_distance: jax.Array,
) -> SubsetEstimates:
    """The estimates with their status, and with scores of NaN where it is not OK.

    Args:
      estimates: of m subsets.
      faults: of the tasks.
      valid_settings: whether the numbers among the settings are in range; bool [].
      valid_distance: whether relative distances are defined, or not needed; bool [].
    """
    subsets = estimates.subsets
    # One task that shows something is enough to fit; none may be scored on nothing.
    without_features = (subsets & faults.zero_scored[None]).any(axis=1) | (
        ~subsets | faults.zero_fitted[None]
    ).all(axis=1)
    finite_solution = (
        jnp.isfinite(estimates.loss)
        & jnp.isfinite(estimates.gradient_norm)
        & jnp.isfinite(estimates.delta).all(axis=1)
        & ~jnp.isnan(estimates.relative_distance)
    )
    finite_scores = jnp.isfinite(estimates.scores).all(axis=1)
    if estimates.resampled_scores is not None:
        finite_scores &= jnp.isfinite(estimates.resampled_scores).all(axis=(0, 2))
    status = jnp.full(len(subsets), int(EstimateStatus.OK), jnp.int32)
    # The first of them that holds is what the others follow from.
    for value, fault in reversed(
        [
            (EstimateStatus.SETTINGS_OUT_OF_RANGE, ~valid_settings),
            (
                EstimateStatus.FEATURES_NOT_FINITE,
                (subsets & faults.not_finite[None]).any(axis=1),
            ),
            (EstimateStatus.FEATURES_ZERO, without_features),
            (EstimateStatus.DISTANCE_UNDEFINED, ~valid_distance),
            (EstimateStatus.SOLUTION_NOT_FINITE, ~finite_solution),
            (EstimateStatus.SCORES_NOT_FINITE, ~finite_scores),
        ]
    ):
        status = jnp.where(fault, jnp.int32(value), status)
    ok = status == int(EstimateStatus.OK)

    def hide(scores):
        return jnp.where(subsets & ~ok[:, None], jnp.nan, scores)

    return estimates._replace(
        status=status,
        converged=estimates.converged & ok,
        scores=hide(estimates.scores),
        resampled_scores=jax.tree.map(hide, estimates.resampled_scores),
    )


def check_estimates(estimates: SubsetEstimates) -> SubsetEstimates:
    """Refuses estimates with a status that is not OK; for those made inside jit.

    Args:
      estimates: as `estimate_subsets` returns them; not traced.

    Returns:
      The estimates as they are.

    Raises:
      ValueError: a status is not OK; the message gives it, how many subsets have it,
        and the tasks all of whose subsets do. Or `estimates` are none.
    """
    if not isinstance(estimates, SubsetEstimates):
        raise ValueError(
            f"estimates must be SubsetEstimates, got {type(estimates).__name__}"
        )
    if is_traced(estimates):
        raise ValueError("estimates must be known outside of jit to be checked")
    if estimates.status is None:
        return estimates
    status, subsets = jax.device_get((estimates.status, estimates.subsets))
    status = as_host_array("estimates.status", status)
    allowed = [int(x) for x in EstimateStatus]
    if status.shape != (len(subsets),) or not np.isin(status, allowed).all():
        raise ValueError(
            "estimates.status must hold one EstimateStatus, 0..6, for each of the "
            f"{len(subsets)} subsets, got {show(status)}"
        )
    worst = _worst(status)
    if worst is EstimateStatus.OK:
        return estimates
    rows = status == int(worst)
    subsets = subsets.astype(bool)
    tasks = subsets.any(axis=0) & ~subsets[~rows].any(axis=0)
    raise ValueError(
        f"{REASONS[worst]}; {rows.sum()} of {len(rows)} subsets have the status "
        f"{worst.name}, the first at row {np.argmax(rows)}, and all those of tasks "
        f"{np.flatnonzero(tasks).tolist()}"
    )


def check_faults(estimates: SubsetEstimates, faults: TaskFaults) -> SubsetEstimates:
    """`check_estimates` with the tasks and transitions named exactly."""
    status, faults = jax.device_get((estimates.status, faults))
    worst = _worst(status)
    if worst is EstimateStatus.FEATURES_NOT_FINITE:
        task = int(np.argmax(faults.not_finite))
        raise ValueError(
            f"{REASONS[worst]}; that of task {task}, transition "
            f"{faults.transition[task]} is not"
        )
    if worst is EstimateStatus.FEATURES_ZERO:
        tasks = np.flatnonzero(faults.zero_fitted | faults.zero_scored).tolist()
        raise ValueError(f"{REASONS[worst]} Those of tasks {tasks} do not")
    return check_estimates(estimates)


def _worst(status: np.ndarray) -> EstimateStatus:
    """The status that the others follow from."""
    bad = status[status != int(EstimateStatus.OK)]
    return EstimateStatus(int(bad.min())) if len(bad) else EstimateStatus.OK
