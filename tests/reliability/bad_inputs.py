"""The arguments that each public function of arrays must refuse by name.

`REFUSED` replaces one argument of a call of `calls.py` at a time by values that have no
meaning there: each must raise ValueError or TypeError in this package, with the
argument's name in the message. `outcomes.py` reports what a call does instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from reliability.bad_values import (
    HUGE,
    INF,
    NAN,
    NO_ARRAY,
    NO_COUNT,
    NO_ESTIMATES,
    NO_FUNCTION,
    NO_INDICES,
    NO_INTEGER,
    NO_KEY,
    NO_LABELS,
    NO_MATRIX,
    NO_NUMBER,
    NO_PARAMS,
    NO_PATH,
    NO_POSITIVE,
    NO_SCORES,
    NO_SEED,
    NO_SHARE,
    NO_SUBSETS,
    NO_SWITCH,
    NO_TABLE,
    NO_TOTALS,
    NO_VALUES,
    batches,
    replace_entry,
)
from reliability.calls import (
    AFFINITY,
    BATCH,
    DIM,
    ESTIMATES,
    FEATURES,
    LABELS,
    MATRIX,
    SAMPLES,
    SCORES,
    SOLVED,
    SUMS,
    VALUES,
    N,
)
from reliability.outcomes import Case, cases_of

import pgx_jax as pge


def _refused() -> dict[str, dict[str, list[Any]]]:
    no_rewards = [
        *(None, "text", 1.0, {}, [], [[1.0], [1.0, 2.0]], np.zeros((2, 0))),
        *(np.full((2, 3), NAN), [INF, 1.0], 1j * np.ones((2, 3)), ["a", "b"]),
    ]
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
        "preference_transitions": {
            "prompt": [None, "text", 1.0, {}, np.ones((N, 5, 3)), FEATURES[:2]],
            "chosen": [None, "text", 1.0, {}, np.ones(N), np.zeros((0, SAMPLES))],
            "rejected": [None, "text", 1.0, {}, FEATURES, np.ones((N, 5))],
            "label": [
                *("text", 1.0, np.ones(N), 2 * np.ones((N, SAMPLES)), {}),
                np.full((N, SAMPLES), NAN),
            ],
            "mask": ["text", 1.0, np.ones(N), 2 * np.ones((N, SAMPLES)), {}],
        },
        "optimal_value": {"reward": no_rewards, "beta": [*NO_POSITIVE, None]},
        "optimal_advantages": {
            "reward": no_rewards,
            "beta": [*NO_POSITIVE, None],
            "reference_reward": [x for x in no_rewards if x is not None],
            "mask": ["text", np.ones(3), 2 * np.ones((SAMPLES, DIM)), {}, 1.0],
        },
        "save_estimates": {"path": NO_PATH, "estimates": NO_ESTIMATES},
        "load_estimates": {"path": NO_PATH},
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
            "max_subsets": [x for x in NO_COUNT if x is not None],
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
