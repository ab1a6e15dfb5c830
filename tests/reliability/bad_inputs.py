"""Calls of the public functions, and the arguments that each must refuse by name.

`CALLS` holds a call of each function that works. `REFUSED` replaces one argument of it
at a time by values that have no meaning there: each must raise ValueError or TypeError
in this package, with the argument's name in the message. `outcome` reports what a call
does instead.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis import gains, partitions, scalarization, statistics, truth_tables
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.ranked_partitions import ranked_partitions
from pgx_jax.grouping import candidates

PACKAGE = str(Path(pge.__file__).parent)
NAN, INF, HUGE = float("nan"), float("inf"), 10**30
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


def load(path):
    return pge.load_estimates(path)


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

# What no count, no number, no array, no function can be.
NO_INTEGER = [1.5, NAN, INF, "3", True, -1, 1j, [2], {}, np.array([1, 2]), b"2"]
NO_COUNT = [*NO_INTEGER, None, 0]
NO_NUMBER = ["1", True, 1j, [0.5], {}, np.ones(2), b"1"]
NO_SHARE = [*NO_NUMBER, NAN, INF, -0.1, 1.0]
NO_POSITIVE = [*NO_NUMBER, NAN, INF, -1.0, 0.0]
NO_SWITCH = [2, "yes", 0.5, None, np.ones(2)]
NO_KEY = [
    -1,
    2**32,
    HUGE,
    None,
    0.5,
    "0",
    True,
    [0, 1],
    jax.random.split(KEY, 2),
    np.zeros(3),
    {},
]
NO_ARRAY = [None, "text", 1.0, {}, object(), [[1.0], [1.0, 2.0]], 1j * np.ones((4, 4))]
NO_FUNCTION = [None, 3, "log_prob", Unhashable()]
NO_PARAMS = [
    None,
    {},
    "text",
    3,
    np.arange(3),
    {"kernel": np.zeros((0, 3), np.float32)},
    {**PARAMS, "bias": 1j},
    {**PARAMS, "bias": True},
    {**PARAMS, "bias": np.array("text")},
    {**PARAMS, "bias": np.array(object())},
    {**PARAMS, "bias": NAN},
    {**PARAMS, "bias": 1e300},
]


def replace_entry(array: Any, index: Any, value: Any) -> np.ndarray:
    """A copy of an array with one entry replaced."""
    copy = np.array(array, copy=True)
    if not isinstance(value, (bool, int)) and copy.dtype.kind not in "fc":
        copy = copy.astype(float)
    copy[index] = value
    return copy


NO_MATRIX = [
    *NO_ARRAY,
    np.zeros((0, 0)),
    np.ones((3, 4)),
    np.ones(4),
    np.full((4, 4), NAN),
    replace_entry(MATRIX, (0, 1), INF),
    MATRIX.astype(str),
    np.full((4, 4), None),
    [],
]
NO_SUBSETS = [
    None,
    "text",
    1.0,
    {},
    object(),
    [],
    np.zeros((0, N)),
    np.zeros((2, N)),
    np.ones(N),
    np.ones((2, 3, N)),
    2 * np.ones((2, N)),
    np.full((2, N), NAN),
    1j * np.ones((2, N)),
    np.full((2, N), "1"),
    np.full((2, N), None),
    -np.ones((2, N)),
]
# A list of lists may be indices; these are none.
NO_INDICES = [[[0, 1], [2, 9]], [[0, -1]], [[0, 1.5, 2]], [[0, 0, 1]], [["a"]], [None]]
NO_VALUES = [
    *NO_ARRAY,
    [],
    replace_entry(VALUES, 0, NAN),
    replace_entry(VALUES, 0, INF),
    VALUES.astype(str),
    np.full(4, None),
]
NO_LABELS = [
    None,
    "text",
    1,
    {},
    [],
    [0, 1],
    [[0, 1, 0, 1]],
    [0.5, 1, 0, 1],
    [NAN, 1, 0, 1],
    [1j, 0, 0, 1],
    [0, [1], 1, 1],
    [None, 0, 1, 1],
]
NO_SCORES = [
    *NO_ARRAY,
    SCORES[:-1],
    SCORES[:, :-1],
    replace_entry(SCORES, (14, 2), NAN),
    replace_entry(SCORES, (14, 2), INF),
    SCORES.astype(str),
    np.full(SCORES.shape, None),
]
NO_SEED = [1.5, "0", None, -1, NAN, True, [], {}]
NO_TABLE = [None, SCORES, "text", 3, ESTIMATES]
NO_TOTALS = [None, "text", 1.0, [], np.ones(15), np.ones((4, 4)), np.full(16, "1")]


def batches() -> dict[str, list[Any]]:
    """Batches of transitions by the field whose name the message must give."""

    def with_field(name, *values):
        return [BATCH._replace(**{name: value}) for value in values]

    fields: dict[str, list[Any]] = {
        "observation": with_field(
            "observation",
            *(None, "text", {}, np.ones((N, 5, 3)), np.ones((3, SAMPLES, 3)), 1.0),
            replace_entry(BATCH.observation, (2, 5, 1), NAN),
            replace_entry(BATCH.observation, (2, 5, 1), INF),
            *(1j * BATCH.observation, np.full((N, SAMPLES), None)),
        ),
        "action": with_field(
            "action",
            *(None, "left", np.ones((N, 5)), np.ones(N), 1.0),
            replace_entry(BATCH.action, (3, 4), -INF),
            *(np.full((N, SAMPLES), "a"), np.full((N, SAMPLES), None)),
        ),
        "advantage": with_field(
            "advantage",
            *(None, "text", np.ones(N), np.ones((N, SAMPLES, 1)), 1.0, {}),
            *(np.zeros((0, SAMPLES)), np.zeros((N, 0)), [[1.0], [1.0, 2.0]]),
            replace_entry(BATCH.advantage, (0, 0), NAN),
            *(1j * BATCH.advantage, BATCH.advantage.astype(float) * 1e300),
        ),
        "mask": with_field(
            "mask",
            *("text", np.ones((N, 5)), np.ones(N), 2 * np.ones((N, SAMPLES)), 1.0),
            *(np.full((N, SAMPLES), NAN), np.zeros((N, SAMPLES)), {}),
            np.full((N, SAMPLES), None),
        ),
        "": [None, "text", 3, {}, [], BATCH._asdict(), BATCH[:2], [BATCH, 3], object()],
    }
    return fields


def _refused() -> dict[str, dict[str, list[Any]]]:
    policy = {"log_prob_fn": NO_FUNCTION, "params": NO_PARAMS}
    counts = {
        "num_resamples": [x for x in NO_COUNT if not (isinstance(x, int) and x == 0)],
        "max_iterations": [x for x in NO_COUNT if not (isinstance(x, int) and x == 0)],
    }
    counts = {k: [*v, HUGE, True] for k, v in counts.items()}
    return {
        "estimate_subsets": policy
        | counts
        | {
            "subsets": NO_SUBSETS + NO_INDICES,
            "key": NO_KEY,
            "dim": [x for x in NO_COUNT if x is not None] + [HUGE, 5, "automatic"],
            "projection": [3, "gauss", {}, pge.GaussianProjection(400)],
            "l2": NO_POSITIVE,
            "tolerance": [*NO_NUMBER, NAN, INF, -1.0, None],
            "max_relative_distance": NO_POSITIVE,
            "held_out_fraction": [*NO_SHARE, None, 0.001, 0.999],
            "evaluator": ["best", 3, ["surrogate"], None],
            "resample_length": [*NO_COUNT, HUGE, SAMPLES],
            "feature_precision": ["bf16", None, 3, ["tf32"]],
            "normalize_advantages": NO_SWITCH,
            "center_features": [x for x in NO_SWITCH if x is not None],
            "regression": ["ridge", None, 3, ["logistic"]],
            "mesh": [3, "mesh", [], {}],
            "ridge": [1.0],
            "num_folds": [2],
            "num_parts": [2],
            "weights": [np.ones((4, 4))],
        },
        "least_squares": policy
        | {
            "subsets": NO_SUBSETS + NO_INDICES,
            "key": NO_KEY,
            "weights": [
                *("text", 1.0, np.ones(4), np.ones((3, 4)), -np.ones((4, 4))),
                *(np.full((4, 4), NAN), 1j * np.ones((4, 4)), {}),
                np.full((4, 4), None),
            ],
            "ridge": NO_POSITIVE,
            "num_folds": [x for x in NO_COUNT if x is not None] + [HUGE, 9],
            "num_parts": [x for x in NO_COUNT if x is not None] + [HUGE, 9],
            "num_splits": [*NO_INTEGER, None],
            "batch_transitions": NO_POSITIVE,
            "num_resamples": [*NO_INTEGER, None, HUGE],
            "dim": [*(x for x in NO_COUNT if x is not None), HUGE, 5, None],
            "l2": [0.1],
            "evaluator": ["off_policy"],
        },
        "group_tasks": policy
        | {
            "key": NO_KEY,
            "num_groups": [x for x in NO_COUNT if x is not None] + [HUGE, 5],
            "num_subsets": [x for x in NO_COUNT if x is not None] + [10**9],
            "subset_size": [x for x in NO_COUNT if x is not None] + [5, 1],
            "score": ["best", None, 3, []],
            "num_resamples": [*NO_INTEGER, None, HUGE],
            "regression": ["ridge", None, 3],
            "dim": [1.5, "3", -1],
            "data": [BATCH._replace(advantage=BATCH.advantage[:1]), None, "text", 3],
        },
        "accumulate": policy
        | {
            "key": NO_KEY,
            "projection": [3, "gauss", {}],
            "num_parts": [*NO_COUNT, HUGE, 9],
            "noise": NO_SWITCH,
            "feature_precision": ["bf16", None, 3],
        },
        "task_gradients": policy,
        "gradient_similarity": policy
        | {"center_features": ["yes", 2, 0.5, np.ones(2)]},
        "project_gradients": policy
        | {
            "key": NO_KEY,
            "observation": [
                *(None, "text", {}, np.ones((5, 3)), np.zeros((0, 3)), 1.0),
                *(np.full((SAMPLES, 3), NAN), np.full((SAMPLES, 3), None)),
            ],
            "action": [None, "text", np.ones(5), np.full(SAMPLES, INF), 1.0],
            "projection": [3, "gauss", {}, object()],
            "method": ["both", None, 3, []],
            "sample_block": [x for x in NO_COUNT if x is not None],
            "column_block": [x for x in NO_COUNT if x is not None],
        },
        "back_project": {
            "projection": [None, 3, "gauss"],
            "key": NO_KEY,
            "params": NO_PARAMS[:-2],  # whose shapes are all that counts
            "delta": [
                *(None, "text", 1.0, np.ones((2, 5)), np.full((2, 3), NAN), {}),
                *(1j * np.ones((2, 3)), np.full((2, 3), None), np.full((2, 3), INF)),
            ],
        },
        "GaussianProjection": {"dim": NO_COUNT},
        "RademacherProjection": {"dim": NO_COUNT},
        "solve_regressions": {
            "features": [
                *NO_ARRAY,
                *(np.ones((N, SAMPLES)), np.ones((3, SAMPLES, 2))),
                *(replace_entry(FEATURES, (0, 0, 0), x) for x in (NAN, INF)),
                *(FEATURES.astype(str), np.full(FEATURES.shape, None)),
                np.zeros((N, SAMPLES, 0)),
            ],
            "advantage": [None, "text", np.ones(N), np.full((N, SAMPLES), NAN), {}],
            "subsets": NO_SUBSETS + NO_INDICES,
            "l2": [*NO_POSITIVE, None],
            "tolerance": [*NO_NUMBER, NAN, INF, -1.0, None],
            "max_iterations": counts["max_iterations"],
            "subset_block": [x for x in NO_COUNT if x is not None],
            "mask": ["text", np.ones(N), 2 * np.ones((N, SAMPLES)), {}],
            "initial": [
                *("text", 1.0, np.ones((3, 3)), {}, np.full((4, DIM), NAN)),
                *(1j * np.ones((4, DIM)), np.full((4, DIM), None)),
                np.full((4, DIM), "1"),
            ],
        },
        "sample_subsets": {
            "key": NO_KEY,
            "num_tasks": [*NO_COUNT, 1, 2],
            "num_subsets": [*NO_COUNT, 1, 10**9],
            "subset_size": [*NO_COUNT, 1, 5],
            "singletons": NO_SWITCH,
        },
        "pair_counts": {
            "subsets": [x for x in NO_SUBSETS if np.size(x) != 8 or np.any(x)]
        },
        "check_estimates": {
            "estimates": [
                *(None, 3, "text", {}, ESTIMATES),
                SOLVED._replace(status=np.full(15, 7)),
                SOLVED._replace(status=np.zeros(3, int)),
                SOLVED._replace(status="OK"),
                SOLVED._replace(status=np.full(15, NAN)),
            ]
        },
        "add_sums": {
            "other": [None, 3, "text", SUMS._replace(count=np.ones((3, N))), 1.0]
            + [SUMS._replace(fingerprint=np.zeros(4)), {}, np.ones(3)],
        },
        "task_affinity": {
            "score": ["best", None, 3, [], {}],
            "symmetric": NO_SWITCH,
            "num_resamples": [*NO_COUNT, HUGE],
            "key": [x for x in NO_KEY if x is not None],
            "estimates": [None, 3, "text", {}, SCORES, object()],
        },
        "cluster_tasks": {
            "affinity": [*NO_MATRIX, ESTIMATES, AFFINITY._replace(matrix=None)],
            "num_groups": [x for x in NO_COUNT if x is not None] + [2.5, 5, HUGE],
            "solver": ["BEST", 3, True, []],
        },
        "grouping_stability": {
            "affinity": [None, 3, MATRIX, AFFINITY._replace(resamples=None)]
            + [AFFINITY._replace(resamples=x) for x in (MATRIX, "text", np.ones(3))]
            + [AFFINITY._replace(resamples=np.full((2, N, N), NAN))]
            + [AFFINITY._replace(resamples=np.ones((0, N, N)))]
            + [AFFINITY._replace(resamples=np.ones((2, 3, 3)))],
            "grouping": [None, 3, "text", pge.Grouping(LABELS[:2], 2), {}]
            + [pge.Grouping(None, 2), pge.Grouping(np.full(N, NAN), 2)],
            "num_groups": [x for x in NO_COUNT if x is not None] + [5],
        },
        "random_grouping": {
            "key": NO_KEY,
            "num_tasks": [*NO_COUNT, 1],
            "num_groups": [*NO_COUNT, 5],
            "sizes": [[2, 2]],
        },
        "best_partition": {
            "estimates": [None, 3, "text", {}, SCORES, object()],
            "num_groups": [x for x in NO_COUNT if x is not None] + [5],
            "num_tasks": [x for x in NO_COUNT if x is not None] + [5],
            "starts": [[[0, 1]], 3, "text", [[0.5, 1, 0, 1]], [None], [[[0, 1, 1, 1]]]],
            "num_starts": [*NO_INTEGER, None],
            "num_kicks": [*NO_INTEGER, None],
            "batch_size": NO_COUNT,
            "seed": NO_SEED,
        },
        "grouping_gain": {
            "estimates": [None, 3, "text", {}, SCORES, ESTIMATES],
            "num_groups": [x for x in NO_COUNT if x is not None] + [5],
            "level": [*NO_SHARE, 0.5, 0.0, None],
            "tolerance": [*NO_POSITIVE, None],
        },
        "plot_affinity": {
            "affinity": [*NO_MATRIX, ESTIMATES],
            "grouping": [x for x in NO_LABELS if x is not None],
            "task_names": [3, ["a"], "abcd"[:3], [1, 2], {}],
            "axes": [3, "axes", []],
        },
        "affinity_scores": {"affinity": NO_MATRIX, "subsets": NO_SUBSETS},
        "candidate_partitions": {
            "affinity": NO_MATRIX,
            "num_groups": [x for x in NO_COUNT if x is not None] + [5],
            "num_candidates": NO_COUNT,
            "seed": NO_SEED,
        },
        "best_trained_partition": {
            "subsets": NO_SUBSETS,
            "returns": NO_SCORES,
            "num_groups": [x for x in NO_COUNT if x is not None] + [5],
        },
        "TruthTable.create": {
            "subsets": [*NO_SUBSETS, np.ones((15, N)), np.ones((2, 17))],
            "values": NO_SCORES,
        },
        "encode_subsets": {
            "subsets": [
                *("text", None, {}, 1.0, 2 * np.ones((2, N)), np.full((2, N), NAN)),
                *(1j * np.ones((2, N)), np.full((2, N), None), np.ones((2, 65))),
            ]
        },
        "all_subsets": {"num_tasks": [*NO_COUNT, 40, HUGE]},
        "partition_value": {"table": NO_TABLE, "labels": NO_LABELS},
        "partition_score": {
            "table": NO_TABLE,
            "labels": NO_LABELS,
            "num_resamples": NO_COUNT,
            "seed": NO_SEED,
        },
        "mean_partition_value": {
            "totals": NO_TOTALS,
            "num_groups": [*NO_COUNT, 5],
        },
        "best_partitions": {
            "totals": NO_TOTALS,
            "num_groups": [x for x in NO_COUNT if x is not None] + [5],
        },
        "noise_ceiling": {"table": NO_TABLE, "num_groups": [*NO_COUNT, 5]},
        "held_out_scores": {
            "table": NO_TABLE,
            "labels": [None, 3, "text", [LABELS], [[0, 1]] * 4, [None] * 4, LABELS],
        },
        "ranked_partitions": {
            "totals": NO_TOTALS,
            "num_groups": [*NO_COUNT, 5],
            "count": NO_COUNT,
        },
        "PartitionJudge.value": {
            "labels": NO_LABELS,
            "trainings": [[], [9], [0.5], 3, "text", [-9], [True]],
        },
        "PartitionJudge.score": {
            "labels": NO_LABELS,
            "trainings": [[], [9], [0.5], 3, "text", [-9], [True]],
        },
        "predict_gains": {
            "subsets": NO_SUBSETS,
            "returns": NO_SCORES,
            "labels": NO_LABELS,
            "affinity": [x for x in NO_MATRIX if x is not None],
            "threshold": [*NO_POSITIVE, None],
            "tolerance": [*NO_NUMBER, NAN, INF, -1.0, None],
            "num_draws": NO_COUNT,
            "seed": NO_SEED,
        },
        "bootstrap_interval": {
            "values": [*NO_VALUES, np.ones((2, 2, 2))],
            "level": [*NO_SHARE, 0.0, None],
            "num_resamples": NO_COUNT,
            "seed": NO_SEED,
            "statistic": [None, 3, "mean"],
        },
        "t_interval": {
            "values": [*NO_VALUES, [1.0], np.ones((2, 2))],
            "level": [*NO_SHARE, 0.0, None],
        },
        "interquartile_mean": {
            "values": [x for x in NO_VALUES if not isinstance(x, float)],
            "axis": [1.5, "0", 3, -4, True, [0]],
        },
        "normalized_mutual_information": {
            "a": NO_LABELS,
            "b": NO_LABELS,
        },
        "chance_agreement": {
            "a": NO_LABELS,
            "b": NO_LABELS,
            "num_shuffles": NO_COUNT,
        },
        "rank_correlation": {
            "a": [*NO_VALUES, VALUES[:2]],
            "b": [*NO_VALUES, VALUES[:2]],
        },
        "scalarize": {
            "values": [x for x in NO_VALUES if not isinstance(x, float)],
            "kind": ["best", None, 3, []],
            "weights": [
                [],
                [0.0] * 4,
                [1.0] * 3,
                [NAN] * 4,
                "text",
                3,
                [1j] * 4,
                [None],
            ],
            "ideal": [[], [1.0] * 3, [NAN] * 4, "text", 3, [1j] * 4, [None] * 4],
            "smoothness": [*NO_POSITIVE, None],
        },
        "scale_returns": {
            "returns": NO_VALUES,
            "low": [None, "text", np.ones(4), np.full(4, NAN), np.zeros(3), [None] * 4],
            "high": [None, "text", np.zeros(4), np.full(4, INF), np.ones(3), {}],
        },
    }


REFUSED = _refused()
OF_A_BATCH = {
    "estimate_subsets": "data",
    "least_squares": "data",
    "accumulate": "data",
    "task_gradients": "batch",
    "gradient_similarity": "batch",
}
OF_SCORES = ("task_affinity", "best_partition")


class Case(NamedTuple):
    """One argument of a call replaced.

    Attributes:
      function: in `CALLS`.
      argument: that is replaced.
      name: that the message must give; one of these.
      value: in its place.
    """

    function: str
    argument: str
    name: tuple[str, ...]
    value: Any


def cases_of(refused: dict[str, dict[str, list[Any]]]) -> Iterator[Case]:
    """Those of a table by function and argument."""
    for function, arguments in refused.items():
        for argument, values in arguments.items():
            for value in values:
                yield Case(function, argument, (argument,), value)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from cases_of(REFUSED)
    for function, argument in OF_A_BATCH.items():
        for field, values in batches().items():
            names = (field,) if field else (argument, "batch", "data", "advantage")
            for value in values:
                yield Case(function, argument, names, value)
    for function in OF_SCORES:
        for scores in NO_SCORES:
            value = ESTIMATES._replace(scores=scores)
            yield Case(function, "estimates", ("scores",), value)
        for subsets in NO_SUBSETS:
            value = ESTIMATES._replace(subsets=subsets)
            yield Case(function, "estimates", ("subsets",), value)


def outcome(
    case: Case, calls: dict[str, tuple[Callable, dict[str, Any]]] = CALLS
) -> tuple[str, str]:
    """What the call does, in a word and in its own words.

    Args:
      case: the call.
      calls: functions and arguments that work.

    Returns:
      "refused", or what is wrong: "raw" (an error of another package, or of another
      kind), "unnamed" (the message lacks the argument), "nan" or "accepted"; and the
      message.
    """
    function, arguments = calls[case.function]
    try:
        result = function(**{**arguments, case.argument: case.value})
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        inner = traceback.extract_tb(error.__traceback__)[-1].filename
        # NumPy's lines in C have no frame: those of this package raise on purpose only.
        line = traceback.extract_tb(error.__traceback__)[-1].line or ""
        own = inner.startswith(PACKAGE) and line.startswith("raise ")
        if not own or not isinstance(error, (ValueError, TypeError)):
            return "raw", message
        if not any(name in message for name in case.name):
            return "unnamed", message
        return "refused", message
    leaves = [
        np.asarray(x)
        for x in jax.tree.leaves(result)
        if hasattr(x, "dtype")
        and not jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
    ]
    leaves += [np.asarray(x) for x in jax.tree.leaves(result) if isinstance(x, float)]
    if any(x.dtype.kind == "f" and np.isnan(x).any() for x in leaves):
        return "nan", repr(result)[:200]
    return "accepted", repr(result)[:200]
