"""Groups of five vision tasks by measured losses: `best_partition` on another field's.

    python experiments/standley.py --output=experiments/results/standley/partitions

The losses are those of Standley et al., "Which tasks should be learned together in
multi-task learning?", 2020 (arXiv 1905.07553), setting 2: one network for each of the
31 subsets of five tasks of Taskonomy, on a validation and a test set
(github.com/tstandley/taskgrouping, `network_selection/results_large*.txt`). Partitions
are chosen by validation losses and judged by test losses, as there: by all subsets, and
by pairs alone, whose losses are averaged for larger groups (their higher-order
approximation). Their own search may train a task in several networks, or a network of
half the size, and so can do better than a partition of as many.

Writes OUTPUT.md.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import app, flags
from truth_files import Scored

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.partitions import best_partitions, mean_partition_value
from pgx_jax.analysis.truth_tables import TruthTable
from pgx_jax.cli.common import shown_command
from pgx_jax.reporting.tables import Table

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "Where to write, without an ending.")

LOSSES = Path(__file__).parent / "results/standley/setting_2.csv"
# Total test loss by their search, at the cost of k networks; make_plots.py there.
PUBLISHED = {1: 0.35989, 2: 0.31733, 3: 0.30606, 4: 0.3019, 5: 0.30167}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    tables, names = read_losses(LOSSES)
    page = f"`{shown_command()}`\n\n{to_markdown(tables, names)}\n"
    Path(FLAGS.output).with_suffix(".md").write_text(page)
    print(page)


def read_losses(path: Path) -> tuple[dict[str, TruthTable], list[str]]:
    """Minus the losses on each split, and the names of the tasks."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    tables = {}
    for split in dict.fromkeys(row[0] for row in rows):
        cells = [row[1:] for row in rows if row[0] == split]
        losses = np.array([[float(x or "nan") for x in row] for row in cells])
        tables[split] = TruthTable.create(np.isfinite(losses), -losses)
    return tables, header[1:]


def average_pairs(table: TruthTable) -> np.ndarray:
    """Values of subsets of three and more by the means of their pairs; [m, n]."""
    subsets, values = table.subsets, table.values[0]
    size = subsets.sum(axis=1)
    found = np.where(subsets, values, 0.0)
    pairs = np.flatnonzero(size == 2)
    for row in np.flatnonzero(size > 2):
        inside = pairs[~np.any(subsets[pairs] & ~subsets[row], axis=1)]
        counts = subsets[inside].sum(axis=0)
        totals = np.where(subsets[inside], values[inside], 0.0).sum(axis=0)
        found[row] = np.where(subsets[row], totals / np.maximum(counts, 1), 0.0)
    return found


def to_markdown(tables: Mapping[str, TruthTable], names: list[str]) -> str:
    """Total test losses for every number of groups."""
    known, truth = tables["validation"], tables["test"]
    judge, n = PartitionJudge(truth), len(names)
    ways = {
        "all subsets": np.where(known.subsets, known.values[0], 0.0),
        "pairs": average_pairs(known),
    }
    best = best_partitions(truth.totals())
    rows = []
    for k in range(1, n + 1):
        found = {
            way: pge.best_partition(Scored(known.subsets, scores), k).labels
            for way, scores in ways.items()
        }
        groups = np.asarray(found["all subsets"])
        shown = [", ".join(np.array(names)[groups == g]) for g in dict.fromkeys(groups)]
        losses = [
            *(-n * judge.value(labels) for labels in found.values()),
            -n * judge.value(best[k]),
            -n * mean_partition_value(truth.totals(), k),
            PUBLISHED[k],
        ]
        rows.append([str(k), *(f"{x:.4f}" for x in losses), "; ".join(shown)])
    header = ["groups", *(f"chosen by {way}" for way in ways), "best on the test set"]
    header += ["mean of partitions", "their search", "groups by all subsets"]
    return Table(header, rows).to_markdown()


if __name__ == "__main__":
    flags.mark_flags_as_required(["output"])
    app.run(main)
