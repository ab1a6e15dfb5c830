"""Values that have no meaning where something is asked for: `NO_COUNT` and others."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from reliability.calls import (
    BATCH,
    ESTIMATES,
    KEY,
    MATRIX,
    PARAMS,
    SAMPLES,
    SCORES,
    SOLVED,
    VALUES,
    N,
    Unhashable,
)

NAN, INF, HUGE = float("nan"), float("inf"), 10**30

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


NO_PATH = [None, 3, 1.5, True, "", "a\0b", b"bytes", [], {}, object()]
NO_ESTIMATES = [
    *(None, 3, "text", {}, [], SCORES, ESTIMATES, SOLVED._asdict(), tuple(SOLVED)),
    *(SOLVED._replace(**{name: None}) for name in ("subsets", "scores", "converged")),
    SOLVED._replace(subsets=SOLVED.subsets[:-1]),
    SOLVED._replace(subsets=SOLVED.subsets.astype(int)),
    SOLVED._replace(scores=SOLVED.scores[:, :-1]),
    SOLVED._replace(scores=SOLVED.scores.astype(str)),
    SOLVED._replace(scores=np.full(SOLVED.scores.shape, NAN)),
    SOLVED._replace(delta=SOLVED.delta[0]),
    SOLVED._replace(loss=np.full(SOLVED.loss.shape, INF)),
    SOLVED._replace(num_iterations=0.5 * SOLVED.num_iterations),
    SOLVED._replace(converged=SOLVED.converged.astype(float)),
    SOLVED._replace(resampled_scores=SOLVED.scores),
    SOLVED._replace(half_scores=np.zeros((2, 3, *SOLVED.scores.shape))),
    SOLVED._replace(status=SOLVED.status[:-1]),
]


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
