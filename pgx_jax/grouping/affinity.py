"""The affinity of every pair of tasks, averaged over subsets."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.estimation.subsets import check_coverage, pair_counts
from pgx_jax.types import Affinity, SubsetEstimates

SCORES = ("standardized", "mean")


def task_affinity(
    estimates: SubsetEstimates,
    *,
    score: str = "standardized",
    symmetric: bool = True,
) -> Affinity:
    """Averages the scores of subsets into an affinity of every pair of tasks.

    * "standardized": each task's scores f_i(S) are brought to mean 0 and variance 1
      over the subsets that contain it, and U_ij is their mean over the subsets that
      contain i and j: how much better than usual task i fares where j is present, in
      standard deviations.
    * "mean": U_ij is the mean over the subsets that contain i and j of f(S), itself the
      mean of f_i(S) over the tasks of S. This is the paper's definition; tasks whose
      scores have a larger scale dominate it.

    Args:
      estimates: of m subsets of n tasks.
      score: "standardized" or "mean".
      symmetric: return (U + U^T) / 2. Otherwise row i says what task i gains from each
        other one; "mean" is symmetric by itself.

    Returns:
      U and the number of subsets behind each entry.

    Raises:
      ValueError: `score` is none of the two, or, outside jit, a pair of tasks is in no
        subset; the message names the pairs.

    Source: PolicyGradEx (arXiv 2511.12779), section 3; the standardisation is ours.
    """
    if score not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}, got {score!r}")
    if not isinstance(estimates.subsets, jax.core.Tracer):
        check_coverage(estimates.subsets)
    member = jnp.asarray(estimates.subsets).astype(jnp.float32)
    scores = jnp.where(member > 0, estimates.scores, 0.0)
    counts = pair_counts(estimates.subsets)

    with jax.default_matmul_precision("highest"):
        if score == "standardized":
            total = jnp.maximum(member.sum(axis=0), 1.0)
            centred = member * (scores - scores.sum(axis=0) / total)
            variance = jnp.sum(centred**2, axis=0) / total
            std = jnp.sqrt(variance)
            # A task whose scores differ by rounding only has no preference.
            differs = std > 1e-6 * jnp.max(jnp.abs(scores), axis=0)
            per_task = jnp.where(differs, centred / jnp.where(differs, std, 1.0), 0.0)
        else:
            mean = scores.sum(axis=1) / member.sum(axis=1)
            per_task = member * mean[:, None]
        matrix = per_task.T @ member / jnp.maximum(counts, 1)
    if symmetric:
        matrix = 0.5 * (matrix + matrix.T)
    return Affinity(matrix=matrix, pair_counts=counts)
