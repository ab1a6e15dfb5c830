"""The affinity of every pair of tasks, averaged over subsets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.estimation.subsets import check_coverage, pair_counts
from pgx_jax.types import Affinity, SubsetEstimates

SCORES = ("standardized", "mean", "transfer_gain")
LEVEL = 0.95


def task_affinity(
    estimates: SubsetEstimates,
    *,
    score: str = "standardized",
    symmetric: bool = True,
    key: jax.Array | None = None,
    num_resamples: int = 200,
) -> Affinity:
    """Averages the scores of subsets into an affinity of every pair of tasks.

    * "standardized": each task's scores f_i(S) are brought to mean 0 and variance 1
      over the subsets that contain it, and U_ij is their mean over the subsets that
      contain i and j: how much better than usual task i fares where j is present, in
      standard deviations.
    * "mean": U_ij is the mean over the subsets that contain i and j of f(S), itself the
      mean of f_i(S) over the tasks of S. This is the paper's definition; tasks whose
      scores have a larger scale dominate it.
    * "transfer_gain": U_ij is the mean over the subsets that contain i and j of
      f_i(S) - f_i({i}): what task i gains from company, in the units of its score. The
      subsets must include every task alone; `sample_subsets(..., singletons=True)`
      adds those.

    Args:
      estimates: of m subsets of n tasks.
      score: "standardized", "mean" or "transfer_gain".
      symmetric: return (U + U^T) / 2. Otherwise row i says what task i gains from each
        other one; "mean" is symmetric by itself.
      key: also bootstrap: draw subsets anew with replacement, and take the scores of
        as many of the estimates' resamples, where they have some.
      num_resamples: bootstrap samples, where the estimates have no resamples.

    Returns:
      U and the number of subsets behind each entry; with `key`, also U of every
      resample and 95% percentile intervals. A pair that a resample leaves out keeps
      its U there.

    Raises:
      ValueError: `score` is none of the three, or, outside jit, a pair of tasks is in
        no subset, or a task never alone for "transfer_gain"; the message names them.

    Source: PolicyGradEx (arXiv 2511.12779), section 3; the standardisation and the
    bootstrap (Efron, 1979) are ours.
    """
    if score not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}, got {score!r}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    if not isinstance(estimates.subsets, jax.core.Tracer):
        check_coverage(estimates.subsets)
        if score == "transfer_gain":
            _check_singletons(estimates.subsets)
    # As constants of the program, XLA would count pairs while compiling, for minutes.
    subsets = jax.lax.optimization_barrier(jnp.asarray(estimates.subsets))
    member = subsets.astype(jnp.float32)
    scores = jnp.where(member > 0, estimates.scores, 0.0)

    def affinity(scores, times):
        matrix, weight = _average(scores, member, times, score)
        if symmetric:
            matrix = 0.5 * (matrix + matrix.T)
        return matrix, weight

    with jax.default_matmul_precision("highest"):
        matrix, _ = affinity(scores, jnp.ones(member.shape[0]))
        result = Affinity(matrix=matrix, pair_counts=pair_counts(subsets))
        if key is None:
            return result
        drawn = getattr(estimates, "resampled_scores", None)
        keys = jax.random.split(key, num_resamples if drawn is None else len(drawn))

        def resample(inputs):
            key, drawn_scores = inputs
            rows = jax.random.randint(key, member.shape[:1], 0, member.shape[0])
            times = jnp.zeros(member.shape[0]).at[rows].add(1.0)
            new = scores if drawn_scores is None else drawn_scores
            sample, weight = affinity(new, times)
            return jnp.where(weight > 0, sample, matrix)

        resamples = jax.lax.map(resample, (keys, drawn))
    tail = (1.0 - LEVEL) / 2.0
    lower, upper = jnp.quantile(resamples, jnp.array([tail, 1.0 - tail]), axis=0)
    return result._replace(lower=lower, upper=upper, resamples=resamples)


def _average(
    scores: jax.Array, member: jax.Array, times: jax.Array, score: str
) -> tuple[jax.Array, jax.Array]:
    """U, not made symmetric, and the weight behind each entry; both [n, n].

    Args:
      scores: 0 for tasks that are not members; [m, n].
      member: 0 or 1; [m, n].
      times: how often every subset counts; [m].
      score: as for `task_affinity`.
    """
    weight = times[:, None] * member
    if score == "standardized":
        total = jnp.maximum(weight.sum(axis=0), 1.0)
        centred = member * (scores - (weight * scores).sum(axis=0) / total)
        std = jnp.sqrt(jnp.sum(weight * centred**2, axis=0) / total)
        # A task whose scores differ by rounding only has no preference.
        differs = std > 1e-6 * jnp.max(jnp.abs(scores), axis=0)
        per_task = jnp.where(differs, centred / jnp.where(differs, std, 1.0), 0.0)
    elif score == "mean":
        mean = scores.sum(axis=1) / member.sum(axis=1)
        per_task = member * mean[:, None]
    else:
        # All of the singletons there are: they are the reference, not a sample.
        alone = member * (member.sum(axis=1, keepdims=True) == 1)
        reference = (alone * scores).sum(axis=0) / jnp.maximum(alone.sum(axis=0), 1.0)
        per_task = member * (scores - reference)
    counts = weight.T @ member
    return (weight * per_task).T @ member / jnp.maximum(counts, 1.0), counts


def _check_singletons(subsets: jax.Array | np.ndarray) -> None:
    matrix = np.asarray(subsets).astype(bool)
    alone = matrix[matrix.sum(axis=1) == 1].any(axis=0)
    if not alone.all():
        raise ValueError(
            "score='transfer_gain' compares with every task alone, but subsets leave "
            f"out the subsets of one task of tasks {np.flatnonzero(~alone).tolist()}; "
            "sample_subsets(..., singletons=True) adds them"
        )
