"""The stage "grouping": labels by every way of grouping that a run compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis.partitions import partition_value
from pgx_jax.analysis.statistics import normalized_mutual_information
from pgx_jax.analysis.truth_tables import TruthTable
from pgx_jax.pipeline.config import GroupingConfig
from pgx_jax.pipeline.stages import Arrays


class Table(NamedTuple):
    """Scores of subsets; bool and float32 [m, n]."""

    subsets: np.ndarray
    scores: np.ndarray


def choose_groups(
    settings: GroupingConfig,
    score: str,
    estimates: Mapping[str, np.ndarray],
    key: jax.Array,
    raced: Mapping[str, np.ndarray] | None = None,
) -> Arrays:
    """Labels by every way of grouping; "random" has one row per draw.

    Args:
      settings: of the groups.
      score: the one that the affinity is of.
      estimates: what the estimation left.
      key: of the random groups.
      raced: the labels that a race has led to, or None where there was none.
    """
    similarity = estimates["gradient_similarity"]
    similar = pge.cluster_tasks(similarity, settings.num_groups)
    result = {"similarity": similar.labels}
    if raced is not None:
        result |= raced
    else:
        result["estimated"] = group_scores(settings, score, estimates)
        for k in settings.other_num_groups:
            result[f"estimated_{k}"] = group_scores(settings, score, estimates, k)
    labels = result["estimated"]
    if "resamples" in estimates and raced is None:
        result |= measure_stability(settings, score, estimates, labels)._asdict()
    if settings.num_random_draws:
        sizes = np.bincount(labels)
        draws = [
            pge.random_grouping(draw_key, len(labels), sizes=sizes)
            for draw_key in jax.random.split(key, settings.num_random_draws)
        ]
        result["random"] = np.stack([draw.labels for draw in draws])
    return result


def group_scores(
    settings: GroupingConfig,
    score: str,
    estimates: Mapping[str, np.ndarray],
    num_groups: int | None = None,
) -> np.ndarray:
    """The groups by the method of the settings; int32 [n].

    Args:
      settings: of the groups.
      score: the one that the affinity is of.
      estimates: what the estimation left.
      num_groups: k, in place of that of the settings.
    """
    k = settings.num_groups if num_groups is None else num_groups
    if settings.method == "partition":
        return pge.best_partition(_table(estimates), k).labels
    return pge.cluster_tasks(_affinity(score, estimates), k).labels


def measure_stability(
    settings: GroupingConfig,
    score: str,
    estimates: Mapping[str, np.ndarray],
    labels: np.ndarray,
) -> pge.GroupingStability:
    """How far the groups hold over the estimates' bootstrap samples.

    Args:
      settings: of the groups.
      score: the one that the affinity is of.
      estimates: what the estimation left, with resamples.
      labels: the groups of the estimates themselves; [n].
    """
    k = int(labels.max()) + 1
    if settings.method == "clustering":
        return pge.grouping_stability(
            _affinity(score, estimates), pge.Grouping(labels, k), settings.num_groups
        )
    others = np.stack(
        [
            pge.best_partition(Table(estimates["subsets"], scores), k).labels
            for scores in estimates["resampled_scores"]
        ]
    )
    together = others[:, :, None] == others[:, None, :]
    nmi = [normalized_mutual_information(x, labels) for x in others]
    return pge.GroupingStability(together.mean(axis=0), np.array(nmi))


def predict_values(
    estimates: Mapping[str, np.ndarray], draws: np.ndarray
) -> list[float] | None:
    """What partitions are worth by the scores: the mean over tasks of f_i(group of i).

    Args:
      estimates: what the estimation left.
      draws: labels of every partition; int [draws, n].

    Returns:
      One number a draw, or None where not all subsets have been scored.
    """
    subsets = estimates["subsets"]
    if len(subsets) != 2 ** subsets.shape[1] - 1:
        return None
    table = TruthTable.create(subsets, estimates["scores"])
    return [float(partition_value(table, labels)[0]) for labels in draws]


def _table(estimates: Mapping[str, np.ndarray]) -> Table:
    return Table(estimates["subsets"], estimates["scores"])


def _affinity(score: str, estimates: Mapping[str, np.ndarray]) -> pge.Affinity:
    resamples = estimates.get("resamples")
    affinity = pge.Affinity(
        jnp.asarray(estimates["affinity"]),
        jnp.asarray(estimates["pair_counts"]),
        resamples=None if resamples is None else jnp.asarray(resamples),
    )
    if score == "transfer_gain":
        affinity = affinity._replace(alone=jnp.zeros(len(affinity.matrix)))
    return affinity
