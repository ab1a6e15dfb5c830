"""Draws what partitions of every truth table are worth, by their number of groups.

    python experiments/partition_figures.py --tables=experiments/results/truth \
        --output=experiments/results/truth/partitions.png

As Standley et al. (2020) report networks: the value at each number of groups, beside
that of the best partition, of one at random and of one policy for all. Ways that train
choose by one training and are drawn by the mean of the others; the band is that of the
choices of all trainings.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

from typing import TYPE_CHECKING

import numpy as np
import partition_races
import truth_files
from absl import app, flags
from matplotlib import rc_context
from matplotlib.figure import Figure
from truth_files import KEPT_ASIDE, Loaded

from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.partitions import best_partitions, mean_partition_value
from pgx_jax.appearance import ACCENT, APART, BASELINE, INK, TOGETHER, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLAGS = flags.FLAGS  # those of partition_races
COLUMNS = 5


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    paths = {path.stem: path for path in truth_files.list_tables(FLAGS.tables)}
    names = truth_files.order(paths)
    with rc_context(figure_style()):
        rows = -(-len(names) // COLUMNS)
        figure = Figure(figsize=(2.3 * COLUMNS, 2.2 * rows + 0.4), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, COLUMNS)).reshape(-1)
        for place, name in zip(axes, names, strict=False):
            draw_table(place, truth_files.load(paths[name]))
        for place in axes[len(names) :]:
            place.set_axis_off()
        for place in axes[: len(names)][-COLUMNS:]:
            place.set_xlabel("number of groups")
        for place in axes[::COLUMNS]:
            place.set_ylabel("mean return of a task")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        figure.savefig(FLAGS.output, dpi=160)


def draw_table(axes: Axes, table: Loaded) -> None:
    """The value of every way at every number of groups."""
    truth = table.truth
    judge, n = PartitionJudge(truth), truth.num_tasks
    ks = list(range(1, n + 1))
    best = best_partitions(truth.totals())
    axes.plot(ks, [judge.value(best[k]) for k in ks], color=INK, label="best")
    chosen = np.array([race_values(table, judge, k) for k in ks])
    axes.plot(ks, chosen.mean(axis=1), "o-", ms=3, color=ACCENT, label="default race")
    axes.fill_between(
        ks, chosen.min(axis=1), chosen.max(axis=1), color=ACCENT, alpha=0.2, lw=0
    )
    affinity = table.known[partition_races.DEFAULT_PROPOSAL].tobytes()
    cosine = [partition_races.propose(affinity, 1, k)[0].labels for k in ks]
    axes.plot(
        ks, [judge.value(x) for x in cosine], "s--", ms=2.5, color=APART, label="cosine"
    )
    totals = truth.totals()
    axes.plot(
        ks,
        [mean_partition_value(totals, k) for k in ks],
        color=BASELINE,
        label="mean of all partitions",
    )
    axes.axhline(
        judge.value(np.zeros(n)), color=TOGETHER, ls=":", lw=1, label="one policy"
    )
    aside = " (aside)" if table.name in KEPT_ASIDE else ""
    axes.set_title(table.name.replace("_", " ") + aside)
    axes.set_xticks(ks)


def race_values(table: Loaded, judge: PartitionJudge, k: int) -> list[float]:
    """Values, in the other trainings, of what each training chooses at k groups."""
    rows = partition_races.race_rows(
        table,
        partition_races.DEFAULT_PROPOSAL,
        partition_races.DEFAULT_CANDIDATES,
        k,
    )
    found = []
    for r in range(table.truth.num_replicates):
        [choice] = partition_races.decide(table, r, k, rows, 0)
        found.append(judge.value(choice.labels, judge.others(r)))
    return found


if __name__ == "__main__":
    flags.mark_flags_as_required(["tables", "output"])
    app.run(main)
