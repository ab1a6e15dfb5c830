"""The affinity of every pair of tasks, averaged over subsets."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from pgx_jax.arguments import (
    as_host_array,
    as_integer,
    as_key,
    as_subset_matrix,
    check_choice,
    check_switch,
    is_real,
    show,
)
from pgx_jax.estimation.checks import is_traced
from pgx_jax.estimation.parameters import working_dtype
from pgx_jax.estimation.sharding import call_with_auto_axes
from pgx_jax.estimation.subsets import check_coverage, check_subsets, pair_counts
from pgx_jax.types import Affinity, ScoredSubsets

SCORES = ("standardized", "mean", "transfer_gain")
LEVEL = 0.95


class _Table(NamedTuple):
    """What an affinity is made of.

    Attributes:
      subsets: [m, n].
      scores: [m, n].
      resampled_scores: [resamples, m, n], or None.
      status: [m], or None.
    """

    subsets: Any
    scores: Any
    resampled_scores: Any | None
    status: Any | None


def task_affinity(
    estimates: ScoredSubsets,
    *,
    score: str = "standardized",
    symmetric: bool = True,
    key: jax.Array | None = None,
    num_resamples: int = 200,
) -> Affinity:
    """Averages the scores of subsets into an affinity of every pair of tasks.

    * "standardized": each task's scores f_i(S) are brought to mean 0 and variance 1
      over the subsets that contain it, and U_ij is their mean over the subsets that
      contain i and j: how much better than usual task i does where j is present, in
      standard deviations.
    * "mean": U_ij is the mean over the subsets that contain i and j of f(S), itself the
      mean of f_i(S) over the tasks of S. This is the paper's definition; tasks whose
      scores have a larger scale dominate it.
    * "transfer_gain": U_ij is the mean over the subsets that contain i and j of
      f_i(S) - f_i({i}): what task i gains from partners, in the units of its score, and
      U_ii = 0, what it gains alone. The subsets must include every task alone;
      `sample_subsets(..., singletons=True)` adds those.

    Args:
      estimates: of m subsets of n tasks: `subsets`, a 0/1 matrix [m, n], and `scores`
        [m, n], looked at for members only; also `resampled_scores` and `status` where
        there are any. A `SubsetEstimates`, the oracle's table or any named tuple.
      score: "standardized", "mean" or "transfer_gain".
      symmetric: return (U + U^T) / 2. Otherwise row i says what task i gains from each
        other one; "mean" is symmetric by itself.
      key: also bootstrap: resample the subsets of every size with replacement, as far
        as they are a sample of all there are, and take the scores of as many of the
        estimates' resamples. Where the estimates have none, the intervals are of the
        choice of subsets only, and say nothing of the noise in transitions.
      num_resamples: bootstrap samples, where the estimates have no resamples.

    Returns:
      U and the number of subsets behind each entry; with `key`, also U of every
      resample and 95% percentile intervals. A pair that a resample leaves out keeps
      its U there. Inside jit, U is NaN in the rows and columns of tasks with a score
      that is not finite, or whose subset has a `status` other than 0.

    Raises:
      ValueError: `score` is none of the three, `estimates` lack subsets or scores or
        their shapes differ, or, outside jit, there is nothing to
        bootstrap since the estimates have no resamples and hold all subsets of their
        sizes, a pair of tasks is in no subset, a task never alone for "transfer_gain",
        a score is not finite or a subset's `status` is not 0; the message names them.

    Source: PolicyGradEx (arXiv 2511.12779), section 3; the standardization and the
    bootstrap (Efron, 1979; of a finite population, Rao and Wu, 1988) are ours.
    """
    check_choice("score", score, SCORES)
    check_switch("symmetric", symmetric)
    num_resamples = as_integer("num_resamples", num_resamples, 1)
    table = _read_table(estimates)
    if not isinstance(table.subsets, Tracer):
        check_coverage(table.subsets)
        if score == "transfer_gain":
            _check_singletons(table.subsets)
        _check_scores(table)
        if key is not None:
            _check_bootstrap(table)
    if key is not None:
        key = as_key(key)
    static = (score, symmetric, num_resamples)
    return call_with_auto_axes(functools.partial(_affinity, static), (table, key))


def _read_table(estimates: ScoredSubsets) -> _Table:
    """The fields that an affinity needs.

    Raises:
      ValueError: one is missing, or has another shape; the message names it.
    """
    fields: dict[str, Any] = {x: getattr(estimates, x, None) for x in _Table._fields}
    for name in ("subsets", "scores"):
        value = fields[name]
        if value is None:
            raise ValueError(
                "estimates must have subsets and scores, both [m, n], got "
                f"{type(estimates).__name__} without {name}"
            )
    for name, value in fields.items():
        if value is not None and not isinstance(value, jax.Array):
            fields[name] = as_host_array(f"estimates.{name}", value)
    if is_traced(fields["subsets"]):
        shape = fields["subsets"].shape
        check_subsets(fields["subsets"], shape[-1] if len(shape) == 2 else 0)
    else:
        shape = as_subset_matrix(fields["subsets"]).shape
    for name in ("scores", "resampled_scores"):
        value = fields[name]
        if value is None:
            continue
        if value.shape[name == "resampled_scores" :] != shape:
            raise ValueError(
                f"estimates.{name} must be of the shape of subsets, {shape}, got "
                f"{value.shape}"
            )
        if not is_real(value.dtype) and value.dtype != bool:
            raise ValueError(
                f"estimates.{name} must hold real numbers, got {show(value)}"
            )
    resampled = fields["resampled_scores"]
    if resampled is not None and len(resampled) == 0:
        raise ValueError(
            "estimates.resampled_scores must hold at least one resample, or be None"
        )
    status = fields["status"]
    if status is not None and (
        status.shape != shape[:1] or not jnp.issubdtype(status.dtype, jnp.integer)
    ):
        raise ValueError(
            f"estimates.status must be integers of shape [m] = [{shape[0]}], got "
            f"{show(status)}"
        )
    return _Table(**fields)


@functools.partial(jax.jit, static_argnums=0)
def _affinity(
    static: tuple[str, bool, int], estimates: _Table, key: jax.Array | None
) -> Affinity:
    """`task_affinity` with its static arguments in a tuple."""
    score, symmetric, num_resamples = static
    # As constants of the program, XLA would count pairs while compiling, for minutes.
    subsets = jax.lax.optimization_barrier(jnp.asarray(estimates.subsets))
    dtype = working_dtype(jnp.asarray(estimates.scores))
    member = subsets.astype(dtype)
    scores = _clean(estimates.scores, member, estimates)

    def affinity(scores, times):
        matrix, weight = _average(scores, member, times, score)
        if symmetric:
            matrix = 0.5 * (matrix + matrix.T)
        return matrix, weight

    with jax.default_matmul_precision("highest"):
        matrix, _ = affinity(scores, jnp.ones(member.shape[0], dtype))
        alone = jnp.zeros(matrix.shape[:1], dtype) if score == "transfer_gain" else None
        result = Affinity(matrix, pair_counts=pair_counts(subsets), alone=alone)
        if key is None:
            return result
        drawn = estimates.resampled_scores
        share = _share_of_all(member > 0)
        keys = jax.random.split(key, num_resamples if drawn is None else len(drawn))

        def resample(inputs):
            key, drawn_scores = inputs
            times = _draw_times(key, member > 0, share).astype(dtype)
            new = scores
            if drawn_scores is not None:
                new = _clean(drawn_scores, member, estimates)
            sample, weight = affinity(new, times)
            return jnp.where(weight > 0, sample, matrix)

        resamples = jax.lax.map(resample, (keys, drawn))
    tail = (1.0 - LEVEL) / 2.0
    ends = jnp.array([tail, 1.0 - tail], dtype)
    lower, upper = jnp.quantile(resamples, ends, axis=0)
    return result._replace(
        lower=lower,
        upper=upper,
        resamples=resamples,
        includes_transitions=jnp.asarray(drawn is not None),
    )


def _share_of_all(subsets: jax.Array) -> jax.Array:
    """How many of all subsets of its size there are beside each one; [m], in (0, 1]."""
    num_tasks = subsets.shape[1]
    bits = jnp.pad(subsets, ((0, 0), (0, -num_tasks % 32))).astype(jnp.uint32)
    bits = (
        bits.reshape(len(subsets), -1, 32)
        << jnp.arange(32, dtype=jnp.uint32)[None, None]
    )
    words = bits.sum(axis=2, dtype=jnp.uint32)
    order = jnp.lexsort(words.T)
    words, size = words[order], subsets.sum(axis=1)
    new = jnp.any(words[1:] != words[:-1], axis=1)
    new = jnp.concatenate([jnp.ones(1, bool), new]).astype(jnp.float32)
    different = jnp.zeros(num_tasks + 1, jnp.float32).at[size[order]].add(new)
    there_are = [min(math.comb(num_tasks, k), 1e30) for k in range(num_tasks + 1)]
    return jnp.minimum(1.0, different / jnp.array(there_are, jnp.float32))[size]


def _draw_times(key: jax.Array, subsets: jax.Array, share: jax.Array) -> jax.Array:
    """How often every subset counts in a resample; float32 [m].

    Subsets are drawn among those of their size. A sample without replacement of a share
    f of all there are varies 1 - f times as much as draws with replacement do, so that
    the weights keep the square root of it of their distance from 1.
    """
    size = subsets.sum(axis=1)
    count = jnp.zeros(subsets.shape[1] + 1, jnp.int32).at[size].add(1)
    start = jnp.cumsum(count, dtype=jnp.int32) - count
    place = start[size] + jax.random.randint(key, size.shape, 0, count[size], jnp.int32)
    rows = jnp.argsort(size)[place]
    times = jnp.zeros(len(subsets), share.dtype).at[rows].add(1.0)
    return 1.0 + jnp.sqrt(1.0 - share) * (times - 1.0)


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
        total = weight.sum(axis=0, keepdims=True)
        total = jnp.where(total > 0, total, 1.0)
        mean = (weight * scores).sum(axis=0, keepdims=True) / total
        centered = member * (scores - mean)
        variance = jnp.sum(weight * centered**2, axis=0, keepdims=True) / total
        std = jnp.sqrt(variance)
        # A task whose scores differ by rounding only has no preference. Asked in this
        # way, since every comparison with NaN is false and NaN must stay.
        equal = std <= 1e-6 * jnp.max(jnp.abs(scores), axis=0, keepdims=True)
        per_task = jnp.where(equal, 0.0, centered / jnp.where(equal, 1.0, std))
    elif score == "mean":
        mean = scores.sum(axis=1) / member.sum(axis=1)
        per_task = jnp.where(member > 0, mean[:, None], 0.0)
    else:
        # All of the singletons there are: they are the reference, not a sample.
        alone = jnp.where(member.sum(axis=1, keepdims=True) == 1, member, 0.0)
        times_alone = jnp.maximum(alone.sum(axis=0, keepdims=True), 1.0)
        reference = (alone * scores).sum(axis=0, keepdims=True) / times_alone
        per_task = member * (scores - reference)
    counts = weight.T @ member
    # A subset may count less than once.
    matrix = (weight * per_task).T @ member / jnp.where(counts > 0, counts, 1.0)
    if score == "transfer_gain":
        # The diagonal would hold the mean over all partners; a task alone has none.
        matrix = jnp.where(jnp.eye(len(matrix), dtype=bool), 0.0 * matrix, matrix)
    return matrix, counts


def _clean(scores: ArrayLike, member: jax.Array, estimates: _Table) -> jax.Array:
    """Scores with 0 for tasks that are not members and NaN for what failed."""
    scores = jnp.asarray(scores).astype(member.dtype)
    scores = jnp.where(jnp.isfinite(scores), scores, jnp.nan)
    status = estimates.status
    if status is not None:
        scores = jnp.where((jnp.asarray(status) != 0)[:, None], jnp.nan, scores)
    return jnp.where(member > 0, scores, 0.0)


def _check_bootstrap(estimates: _Table) -> None:
    """Refuses to resample subsets that are all there are."""
    if estimates.resampled_scores is not None:
        return
    subsets = np.asarray(jax.device_get(estimates.subsets)).astype(bool)
    sizes = np.unique(subsets.sum(axis=1)).tolist()
    there_are = sum(math.comb(subsets.shape[1], size) for size in sizes)
    if len(np.unique(subsets, axis=0)) == there_are:
        raise ValueError(
            "key asks for intervals, but the estimates have no resamples and hold all "
            f"{there_are} subsets of their sizes, so that nothing was left to chance; "
            "pass num_resamples to estimate_subsets"
        )


def _check_scores(estimates: _Table) -> None:
    """Refuses what no affinity can be made of, where values are known."""
    estimates = jax.tree.map(
        lambda x: x if isinstance(x, Tracer) else jax.device_get(x), estimates
    )
    subsets = np.asarray(estimates.subsets).astype(bool)
    status = estimates.status
    if status is not None and not isinstance(status, Tracer):
        failed = np.flatnonzero(np.asarray(status))
        if failed.size:
            first = failed[0]
            raise ValueError(
                f"estimates.status must be 0 for every subset; {failed.size} of "
                f"{len(subsets)} differ, first subset {first}, tasks "
                f"{np.flatnonzero(subsets[first]).tolist()}, with status "
                f"{int(np.asarray(status)[first])}"
            )
    for name in ("scores", "resampled_scores"):
        scores = getattr(estimates, name, None)
        if scores is None or isinstance(scores, Tracer):
            continue
        scores = np.asarray(scores, np.float64)
        bad = np.argwhere(~np.isfinite(scores) & subsets)
        if len(bad):
            subset, task = bad[0][-2:].tolist()
            raise ValueError(
                f"estimates.{name} must be finite; {len(bad)} are not, first that of "
                f"task {task} in subset {subset}, tasks "
                f"{np.flatnonzero(subsets[subset]).tolist()}: {scores[tuple(bad[0])]}"
            )


def _check_singletons(subsets: jax.Array | np.ndarray) -> None:
    matrix = np.asarray(jax.device_get(subsets)).astype(bool)
    alone = matrix[matrix.sum(axis=1) == 1].any(axis=0)
    if not alone.all():
        raise ValueError(
            "score='transfer_gain' compares with every task alone, but subsets leave "
            f"out the subsets of one task of tasks {np.flatnonzero(~alone).tolist()}; "
            "sample_subsets(..., singletons=True) adds them"
        )
