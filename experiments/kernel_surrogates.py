"""Surrogates fitted to some subsets' returns, held against the others of truth tables.

    python experiments/kernel_surrogates.py --tables=experiments/results/truth \
        --output=experiments/results/truth/kernel_surrogates

A surrogate of task i is a regression of R[S, i] on the 0/1 vector of the subset S, for
the subsets that hold i. Three are compared: the mean, which knows nothing of partners,
ridge regression (linear), and kernel ridge regression with a radial basis function
(arXiv 2602.03783). Each is fitted to half of the subsets, drawn at random, by one
training; the ridge and the width of the kernel are those with the least error of
leaving one subset out, which has a closed form. The set of all tasks and those with one
task less are never among them. Reported, as means over trainings and draws:

* held out: the correlation of predictions with the mean of the table's other trainings
  over subsets that were not drawn;
* leave one out: the correlation of f_i(all) - f_i(all but j) with that of the other
  trainings over all pairs of tasks, the measure of that paper;
* partitions: the score of the best partition by the predictions, k given (2 to 5).

Writes OUTPUT.json and OUTPUT.md.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import truth_files
from absl import app, flags
from truth_files import KEPT_ASIDE

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.truth_tables import TruthTable
from pgx_jax.cli.common import shown_command
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.provenance import describe

FLAGS = flags.FLAGS
flags.DEFINE_string("tables", None, "Directory of the tables.")
flags.DEFINE_string("output", None, "Where to write, without an ending.")

NUM_DRAWS = 10
SHARE = 0.5  # of the subsets, that a surrogate is fitted to
RIDGES = tuple(10.0 ** np.arange(-3, 3))
WIDTHS = (0.5, 1.0, 2.0, 4.0)  # of the kernel, squared, in tasks that differ
MEASURES = ("held out", "leave one out", "partitions")

# From the 0/1 vectors of subsets [a, n] and [b, n], kernels [a, b] to choose from.
Kernels = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]


def no_kernel(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    return [np.zeros((len(one), len(other)))]


def linear_kernel(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    return [one @ other.T]


def radial_kernels(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    differing = np.abs(one[:, None] - other[None]).sum(axis=2)
    return [np.exp(-differing / (2 * width)) for width in WIDTHS]


SURROGATES: dict[str, Kernels] = {
    "mean": no_kernel,
    "linear": linear_kernel,
    "radial basis function": radial_kernels,
}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    paths = truth_files.list_tables(FLAGS.tables)
    found = {path.stem: compare(truth_files.load(path).truth) for path in paths}
    document = {"command": shown_command(), **describe(), "tables": found}
    output = Path(FLAGS.output)
    output.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    output.with_suffix(".md").write_text(to_markdown(found))
    print(to_markdown(found))


def compare(truth: TruthTable) -> dict[str, dict[str, float]]:
    """The measures of every surrogate on a table, by their names."""
    judge = PartitionJudge(truth)
    whole = truth.subsets.sum(axis=1) >= truth.num_tasks - 1
    rows: dict[str, list[list[float]]] = {name: [] for name in SURROGATES}
    for training in range(truth.num_replicates):
        others = judge.others(training)
        true = truth.values[others].mean(axis=0)
        for draw in range(NUM_DRAWS):
            rng = np.random.default_rng([training, draw])
            drawn = (rng.random(len(truth.subsets)) < SHARE) & ~whole
            drawn |= truth.subsets.sum(axis=1) == 1  # a task alone is always known
            for name, kernels in SURROGATES.items():
                scores = predict(truth.subsets, truth.values[training], drawn, kernels)
                rows[name].append(
                    [
                        held_out(truth.subsets, scores, true, ~drawn),
                        leave_one_out(truth.subsets, scores, true),
                        score_partitions(truth.subsets, scores, judge, others),
                    ]
                )
    return {
        name: dict(zip(MEASURES, np.nanmean(values, axis=0).tolist(), strict=True))
        for name, values in rows.items()
    }


def predict(
    subsets: np.ndarray, values: np.ndarray, drawn: np.ndarray, kernels: Kernels
) -> np.ndarray:
    """Predictions for all subsets from those drawn, 0 for tasks outside; [m, n]."""
    features = subsets.astype(float)
    found = np.zeros(subsets.shape)
    for i in range(subsets.shape[1]):
        rows, known = subsets[:, i], subsets[:, i] & drawn
        found[rows, i] = fit(
            kernels(features[known], features[known]),
            kernels(features[rows], features[known]),
            values[known, i],
        )
    return found


def fit(
    among: list[np.ndarray], across: list[np.ndarray], target: np.ndarray
) -> np.ndarray:
    """Kernel ridge regression with a free mean, by the kernel and ridge that do best.

    Args:
      among: kernels of the points that it is fitted to; [a, a] each.
      across: kernels of new points with those; [b, a] each.
      target: [a].

    Returns:
      Predictions at the new points; [b].
    """
    best, chosen = np.inf, np.full(len(across[0]), target.mean())
    for kernel, new in zip(among, across, strict=True):
        for ridge in RIDGES:
            hat, weights = smoother(kernel, ridge)
            # What is left of a point by a fit to all others: Allen's PRESS.
            left = (target - hat @ target) / np.maximum(1.0 - np.diag(hat), 1e-9)
            if np.mean(left**2) < best - 1e-12:
                best = np.mean(left**2)
                shifted = new - kernel.mean(axis=0)
                chosen = target.mean() + shifted @ weights @ target
    return chosen


def smoother(kernel: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """What takes targets to fitted values, and to the weights of centered kernels.

    Args:
      kernel: of the points; [a, a].
      ridge: the penalty on the squared norm; the mean is free.
    """
    count = len(kernel)
    center = np.eye(count) - 1.0 / count
    centered = center @ kernel @ center
    weights = center @ np.linalg.inv(centered + ridge * np.eye(count)) @ center
    return centered @ weights + 1.0 / count, weights


def held_out(
    subsets: np.ndarray, scores: np.ndarray, true: np.ndarray, rows: np.ndarray
) -> float:
    """Correlation over subsets in rows, a mean over tasks."""
    return _mean_correlation(
        (scores[rows & subsets[:, i], i], true[rows & subsets[:, i], i])
        for i in range(subsets.shape[1])
    )


def leave_one_out(subsets: np.ndarray, scores: np.ndarray, true: np.ndarray) -> float:
    """Correlation of what task j adds to task i among all tasks, over pairs (i, j)."""
    n = subsets.shape[1]
    size = subsets.sum(axis=1)
    everything = int(np.flatnonzero(size == n)[0])
    pairs = []
    for row in np.flatnonzero(size == n - 1):
        kept = subsets[row]
        change = [x[everything, kept] - x[row, kept] for x in (scores, true)]
        pairs.append(np.stack(change))
    predicted, found = np.concatenate(pairs, axis=1)
    return _mean_correlation([(predicted, found)])


def _mean_correlation(pairs: Any) -> float:
    """NaN-free mean of correlations; 0 where predictions are all the same."""
    found = []
    for predicted, true in pairs:
        if len(true) < 3 or np.std(true) == 0:
            continue
        flat = np.std(predicted) <= 1e-9 * max(1.0, np.abs(predicted).max())
        found.append(0.0 if flat else np.corrcoef(predicted, true)[0, 1])
    return float(np.mean(found)) if found else float("nan")


def score_partitions(
    subsets: np.ndarray, scores: np.ndarray, judge: PartitionJudge, others: list[int]
) -> float:
    """The mean over k of the score of the best partition by the predictions."""
    n = subsets.shape[1]
    found = []
    for k in range(truth_files.SMALLEST_K, min(truth_files.LARGEST_K, n - 1) + 1):
        best = pge.best_partition(truth_files.Scored(subsets, scores), k)
        found.append(judge.score(best.labels, others))
    return float(np.nanmean(found))


def to_markdown(tables: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A row for every measure and surrogate, a column for every table."""
    names = truth_files.order(tables)
    groups = {
        "mean": [x for x in names if x not in KEPT_ASIDE],
        "aside": [x for x in names if x in KEPT_ASIDE],
    }
    rows = []
    for measure in MEASURES:
        digits = 0 if measure == "partitions" else 2
        for surrogate in SURROGATES:
            values = {x: tables[x][surrogate][measure] for x in names}
            means = [np.nanmean([values[x] for x in g]) for g in groups.values() if g]
            cells = [f"{x:.{digits}f}" for x in (*means, *values.values())]
            rows.append([measure, surrogate, *cells])
    shown = [title for title, group in groups.items() if group]
    header = ["measure", "surrogate", *shown, *names]
    return Table(header, rows).to_markdown() + "\n"


if __name__ == "__main__":
    flags.mark_flags_as_required(["tables", "output"])
    app.run(main)
