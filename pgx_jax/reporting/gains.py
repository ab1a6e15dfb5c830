"""The expected gain of groups, by their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pgx_jax.appearance import ACCENT, BASELINE, INK, PAPER
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.labels import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = (
    ("over_one_policy", "over one policy for all tasks", ACCENT, -0.08),
    ("over_single_tasks", "over single tasks", BASELINE, 0.08),
)


def draw_gains(results: RunResults) -> Figure:
    """Gains of the best partition into every number of groups, with 90% intervals.

    Raises:
      ValueError: the results have no gains.
    """
    if not results.gains:
        raise ValueError("results must be of a run with a race, to have gains")
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(5.2, 2.3)
    axes = figure.add_subplot()
    axes.axhline(0.0, color=INK, lw=0.6, zorder=1)
    numbers = np.array([gain["num_groups"] for gain in results.gains])
    chosen = [gain["labels"] == results.groups["estimated"] for gain in results.gains]
    for name, label, color, shift in SERIES:
        mean, low, high = (
            np.array([gain[name][end] for gain in results.gains])
            for end in ("mean", "lower", "upper")
        )
        axes.errorbar(
            numbers + shift,
            mean,
            [mean - low, high - mean],
            fmt="o",
            ms=4.5,
            mfc=PAPER,
            color=color,
            elinewidth=1.1,
            capsize=2,
            label=label,
            zorder=2,
        )
        axes.plot(
            (numbers + shift)[chosen], mean[chosen], "o", ms=4.5, color=color, zorder=3
        )
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    axes.set_xlabel("number of groups")
    axes.set_ylabel("expected gain in return")
    axes.grid(axis="y")
    axes.legend(loc="best")
    return figure
