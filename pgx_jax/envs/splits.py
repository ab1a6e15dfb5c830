"""The splits of a suite: tasks to learn from, and tasks kept for adaptation."""

from __future__ import annotations

from typing import NamedTuple

NUM_SOURCE_TASKS = 10
NUM_TARGET_TASKS = 50


class Split(NamedTuple):
    """How the tasks of one split are drawn.

    Attributes:
      seed: of NumPy's generator.
      num_tasks: how many are drawn.
    """

    seed: int
    num_tasks: int


SPLITS = {
    "source": Split(1, NUM_SOURCE_TASKS),
    "target": Split(2, NUM_TARGET_TASKS),
}


def find_split(name: str) -> Split:
    """The seed and the number of tasks of "source" or "target".

    Raises:
      ValueError: there is no such split.
    """
    if name not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {name!r}")
    return SPLITS[name]
