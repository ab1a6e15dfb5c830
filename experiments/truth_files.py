"""What scripts read of a truth table: returns, and what its meta-policy knew."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pgx_jax.analysis.statistics import bootstrap_interval
from pgx_jax.analysis.truth_tables import TruthTable
from pgx_jax.estimation.sums import TaskSums

KEPT_ASIDE = ("lunar_lander", "half_cheetah_objectives", "hopper_body")
SMALLEST_K, LARGEST_K = 2, 5
# Of the four checkpoints of meta-training, and of least squares at them.
CHECKPOINT_WEIGHTS = {
    "uniform": (1, 1, 1, 1),
    "linear": (1, 2, 3, 4),
    "doubling": (1, 2, 4, 8),
}
CHECKPOINT_RIDGES = (1.0, 10.0)


class Scored(NamedTuple):
    """Scores f_i(S) of subsets of tasks; [m, n] both."""

    subsets: np.ndarray
    scores: np.ndarray


class Loaded(NamedTuple):
    """One table, and what was known at its meta-policy.

    Attributes:
      name: of the table.
      truth: returns of the trained policies.
      known: all arrays of the table's files.
      sums: by the number of transitions of a task; empty without the file of sums.
    """

    name: str
    truth: TruthTable
    known: Mapping[str, np.ndarray]
    sums: Mapping[str, TaskSums]

    @property
    def ks(self) -> range:
        """Numbers of groups that are scored."""
        return range(SMALLEST_K, min(LARGEST_K, self.truth.num_tasks - 1) + 1)


def list_tables(directory: str) -> list[Path]:
    """NAME.npz of every table, not the files of stages; ends if there is none."""
    paths = sorted(Path(directory).glob("*.npz"))
    paths = [x for x in paths if not re.search(r"_(meta|sums|truth_\d+)$", x.stem)]
    if not paths:
        sys.exit(f"error: {directory} has no tables")
    return paths


def load(path: Path, *, sums: bool = False) -> Loaded:
    """Reads NAME.npz and, where it is there, NAME_sums.npz beside it.

    Args:
      path: of the first.
      sums: also what takes most memory, the sums of g~ g~^T; needs the second file.
    """
    known: dict[str, np.ndarray] = {}
    beside = path.with_name(f"{path.stem}_sums.npz")
    paths = [beside] if sums or beside.exists() else []
    for file in [*paths, path]:
        with np.load(file) as stored:
            names = [x for x in stored.files if sums or "outer_" not in x]
            known |= {key: stored[key] for key in names}
    levels = sorted({key.rpartition("_")[2] for key in known if "outer_" in key})
    unpacked = {level: unpack_sums(known, level) for level in levels}
    truth = TruthTable.create(known["subsets"], known["returns"])
    return Loaded(path.stem, truth, known, unpacked)


def unpack_sums(known: Mapping[str, np.ndarray], level: str) -> TaskSums:
    """The sums at one number of transitions; matrices from their upper triangles."""

    def leaf(name: str) -> Any:
        x = known.get(f"{name}_{level}")
        if x is None or not name.endswith("outer"):
            return None if x is None else jnp.asarray(x)
        dim = int((np.sqrt(8 * x.shape[-1] + 1) - 1) / 2)
        rows, columns = np.triu_indices(dim)
        full = np.zeros((*x.shape[:-1], dim, dim), np.float32)
        full[..., rows, columns] = x
        full[..., columns, rows] = x
        return jnp.asarray(full)

    return TaskSums(*(leaf(name) for name in TaskSums._fields))


def order(names: Any) -> list[str]:
    """Tables for development, then those kept aside."""
    return sorted(names, key=lambda name: (name in KEPT_ASIDE, name))


def score_rows(
    rows: Mapping[str, Mapping[str, Any]],
    reliability: Mapping[str, float],
    before: Mapping[str, str],
) -> list[str]:
    """A Markdown table of ways by tables, with means over tables.

    Args:
      rows: by way, the score on every table.
      reliability: of every table's mean return over trainings, the weights of the
        column "weighted".
      before: by way, the cells before the scores.
    """
    lines = []
    for way, scores in rows.items():
        inside = [x for x in scores if x not in KEPT_ASIDE]
        aside = [x for x in scores if x in KEPT_ASIDE]
        low, high = bootstrap_interval([scores[x] for x in inside])
        mean, outside = (
            np.mean([scores[x] for x in names]) if names else np.nan
            for names in (inside, aside)
        )
        weighted = np.average(
            [scores[x] for x in inside], weights=[reliability[x] for x in inside]
        )
        cells = " | ".join(f"{scores[x]:.0f}" for x in order(scores))
        lines.append(
            f"| {way} |{before.get(way, '')} {mean:.0f} | {low:.0f} to {high:.0f} | "
            f"{weighted:.0f} | {outside:.0f} | {cells} |"
        )
    return lines


def reliability(correlation: float, num_trainings: int) -> float:
    """Of a mean over trainings that correlate so; Spearman and Brown."""
    correlation = max(correlation, 0.0)
    return num_trainings * correlation / (1 + (num_trainings - 1) * correlation)
