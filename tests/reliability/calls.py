"""A call of each public function of arrays that works, and what it is called with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis import gains, partitions, scalarization, statistics, truth_tables
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.ranked_partitions import ranked_partitions
from pgx_jax.grouping import candidates

N, SAMPLES, DIM = 4, 8, 3
KEY = jax.random.key(0)


class Unhashable:
    """A function that cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, *arguments):
        return 0.0


def log_prob(params, observation, action):
    mean = observation @ params["kernel"] + params["bias"]
    return jax.scipy.stats.norm.logpdf(action, mean, 0.5)


_RNG = np.random.default_rng(0)


def _draw(*shape) -> np.ndarray:
    return _RNG.normal(size=shape).astype(np.float32)


PARAMS = {"kernel": _draw(3), "bias": _draw()}
BATCH = pge.Transitions(
    _draw(N, SAMPLES, 3), _draw(N, SAMPLES), _draw(N, SAMPLES), np.ones((N, SAMPLES))
)
SUBSETS = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]], bool)
ALL_SUBSETS = truth_tables.all_subsets(N)
SCORES = np.where(ALL_SUBSETS, _draw(15, N), 0.0)


class Scored(NamedTuple):
    subsets: Any
    scores: Any
    resampled_scores: Any = None
    status: Any = None


class Replicates(NamedTuple):
    subsets: Any
    values: Any


ESTIMATES = Scored(ALL_SUBSETS, SCORES)
SOLVED = pge.SubsetEstimates(
    ALL_SUBSETS,
    SCORES,
    np.zeros((15, DIM), np.float32),
    *np.zeros((2, 15), np.float32),
    np.ones(15, np.int32),
    np.ones(15, bool),
    np.zeros(15, np.float32),
    status=np.zeros(15, np.int32),
)
_DIRECTORY = tempfile.TemporaryDirectory()
FILE = Path(_DIRECTORY.name) / "estimates.npz"
pge.save_estimates(FILE, SOLVED)
MATRIX = np.array([[1, 0.9, 0, 0], [0.9, 1, 0, 0], [0, 0, 1, 0.8], [0, 0, 0.8, 1]])
AFFINITY = pge.Affinity(
    MATRIX, np.ones((N, N), int), resamples=np.stack([MATRIX, MATRIX + 0.01])
)
TABLE = truth_tables.TruthTable.create(ALL_SUBSETS, np.stack([SCORES] * 4) + 1.0)
TOTALS = TABLE.totals()
LABELS = np.array([0, 0, 1, 1])
VALUES = np.array([1.0, 2.0, 3.5, 0.5])
FEATURES = _draw(N, SAMPLES, DIM)
SUMS_SHAPES = [(2, N), (2, N, DIM), (2, N, DIM, DIM), (2, N), (2, N), (2, N, DIM)]
SUMS = pge.TaskSums(*(np.ones(x) for x in SUMS_SHAPES), None, None, np.ones(4))


def scale_returns(returns, low, high):
    return scalarization.normalize(returns, low, high)


def add_sums(first, other):
    return first + other


def scalarize(values, **settings):
    return scalarization.Scalarization(**settings)(values)


def judge_value(labels, trainings=None):
    return PartitionJudge(TABLE).value(labels, trainings)


def judge_score(labels, trainings=None):
    return PartitionJudge(TABLE).score(labels, trainings)


LOGISTIC = dict(
    log_prob_fn=log_prob,
    params=PARAMS,
    data=BATCH,
    subsets=SUBSETS,
    key=KEY,
    dim=DIM,
)
CALLS: dict[str, tuple[Callable, dict[str, Any]]] = {
    "estimate_subsets": (pge.estimate_subsets, LOGISTIC),
    "least_squares": (
        pge.estimate_subsets,
        LOGISTIC | {"regression": "least_squares", "num_parts": 4},
    ),
    "group_tasks": (
        pge.group_tasks,
        dict(log_prob_fn=log_prob, params=PARAMS, data=BATCH, key=KEY, dim=DIM),
    ),
    "accumulate": (
        pge.accumulate,
        dict(
            log_prob_fn=log_prob,
            params=PARAMS,
            data=BATCH,
            key=KEY,
            projection=pge.GaussianProjection(DIM),
            num_parts=2,
        ),
    ),
    "task_gradients": (
        pge.task_gradients,
        dict(log_prob_fn=log_prob, params=PARAMS, batch=BATCH),
    ),
    "gradient_similarity": (
        pge.gradient_similarity,
        dict(log_prob_fn=log_prob, params=PARAMS, batch=BATCH),
    ),
    "project_gradients": (
        pge.project_gradients,
        dict(
            log_prob_fn=log_prob,
            params=PARAMS,
            observation=BATCH.observation[0],
            action=BATCH.action[0],
            key=KEY,
            projection=pge.GaussianProjection(DIM),
        ),
    ),
    "back_project": (
        pge.back_project,
        dict(
            projection=pge.GaussianProjection(DIM),
            key=KEY,
            params=PARAMS,
            delta=np.ones((2, DIM)),
        ),
    ),
    "GaussianProjection": (pge.GaussianProjection, dict(dim=3)),
    "RademacherProjection": (pge.RademacherProjection, dict(dim=3)),
    "solve_regressions": (
        pge.solve_regressions,
        dict(features=FEATURES, advantage=BATCH.advantage, subsets=SUBSETS),
    ),
    "sample_subsets": (
        pge.sample_subsets,
        dict(key=KEY, num_tasks=N, num_subsets=4, subset_size=3),
    ),
    "pair_counts": (pge.pair_counts, dict(subsets=SUBSETS)),
    "check_estimates": (pge.check_estimates, dict(estimates=SOLVED)),
    "add_sums": (add_sums, dict(first=SUMS, other=SUMS)),
    "save_estimates": (pge.save_estimates, dict(path=FILE, estimates=SOLVED)),
    "load_estimates": (pge.load_estimates, dict(path=FILE)),
    "preference_transitions": (
        pge.preference_transitions,
        dict(prompt=FEATURES, chosen=FEATURES[..., 0], rejected=FEATURES[..., 1]),
    ),
    "optimal_value": (pge.optimal_value, dict(reward=FEATURES[0], beta=0.5)),
    "optimal_advantages": (pge.optimal_advantages, dict(reward=FEATURES[0], beta=0.5)),
    "task_affinity": (pge.task_affinity, dict(estimates=ESTIMATES)),
    "cluster_tasks": (pge.cluster_tasks, dict(affinity=MATRIX, num_groups=2)),
    "grouping_stability": (
        pge.grouping_stability,
        dict(affinity=AFFINITY, grouping=pge.Grouping(LABELS, 2), num_groups=2),
    ),
    "random_grouping": (
        pge.random_grouping,
        dict(key=KEY, num_tasks=N, num_groups=2),
    ),
    "best_partition": (pge.best_partition, dict(estimates=ESTIMATES)),
    "grouping_gain": (
        pge.grouping_gain,
        dict(estimates=Replicates(ALL_SUBSETS, TABLE.values)),
    ),
    "plot_affinity": (pge.plot_affinity, dict(affinity=MATRIX)),
    "affinity_scores": (
        candidates.affinity_scores,
        dict(affinity=MATRIX, subsets=SUBSETS),
    ),
    "candidate_partitions": (
        candidates.candidate_partitions,
        dict(affinity=MATRIX, num_candidates=2),
    ),
    "best_trained_partition": (
        candidates.best_trained_partition,
        dict(subsets=ALL_SUBSETS, returns=SCORES),
    ),
    "TruthTable.create": (
        truth_tables.TruthTable.create,
        dict(subsets=ALL_SUBSETS, values=SCORES),
    ),
    "encode_subsets": (truth_tables.encode_subsets, dict(subsets=ALL_SUBSETS)),
    "all_subsets": (truth_tables.all_subsets, dict(num_tasks=3)),
    "partition_value": (
        partitions.partition_value,
        dict(table=TABLE, labels=LABELS),
    ),
    "partition_score": (
        partitions.partition_score,
        dict(table=TABLE, labels=LABELS, num_resamples=10),
    ),
    "mean_partition_value": (
        partitions.mean_partition_value,
        dict(totals=TOTALS, num_groups=2),
    ),
    "best_partitions": (partitions.best_partitions, dict(totals=TOTALS)),
    "noise_ceiling": (partitions.noise_ceiling, dict(table=TABLE, num_groups=2)),
    "held_out_scores": (
        partitions.held_out_scores,
        dict(table=TABLE, labels=[LABELS] * 4),
    ),
    "ranked_partitions": (
        ranked_partitions,
        dict(totals=TOTALS, num_groups=2, count=2),
    ),
    "PartitionJudge.value": (judge_value, dict(labels=LABELS)),
    "PartitionJudge.score": (judge_score, dict(labels=LABELS)),
    "predict_gains": (
        gains.predict_gains,
        dict(subsets=ALL_SUBSETS, returns=SCORES, labels=LABELS, affinity=MATRIX),
    ),
    "bootstrap_interval": (
        statistics.bootstrap_interval,
        dict(values=VALUES, num_resamples=50),
    ),
    "t_interval": (statistics.t_interval, dict(values=VALUES)),
    "interquartile_mean": (statistics.interquartile_mean, dict(values=VALUES)),
    "normalized_mutual_information": (
        statistics.normalized_mutual_information,
        dict(a=LABELS, b=LABELS),
    ),
    "chance_agreement": (
        statistics.chance_agreement,
        dict(a=LABELS, b=LABELS, num_shuffles=5),
    ),
    "rank_correlation": (
        statistics.rank_correlation,
        dict(a=VALUES, b=VALUES[::-1]),
    ),
    "scalarize": (scalarize, dict(values=VALUES, kind="smooth_tchebycheff")),
    "scale_returns": (
        scale_returns,
        dict(returns=VALUES, low=np.zeros(4), high=np.ones(4)),
    ),
}
