"""Learning curves: what is between and around the updates that ended an episode."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pgx_jax.appearance import ACCENT, group_color
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.labels import new_figure, short_count, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_THICK_CURVES = 20  # with more tasks, their curves are thin, their medians bold


def shown_curve(results: RunResults) -> str:
    """What learning curves are of: success, where tasks report it, else the return."""
    curves = results.learning_curves.values()
    reported = curves and all("success" in curve for curve in curves)
    return "success" if reported else "returns"


def smooth(values: np.ndarray, window: int | None = None) -> np.ndarray:
    """Centered moving average along the first axis that passes over NaN.

    Shorter windows are taken at the ends; what is NaN stays NaN. The window is a
    fifteenth of the axis where it is not given.
    """
    window = 2 * (len(values) // 30) + 1 if window is None else window
    known = np.isfinite(values)
    start = np.zeros((1, values.shape[1]))
    totals = np.cumsum(np.concatenate([start, np.where(known, values, 0.0)]), axis=0)
    counts = np.cumsum(np.concatenate([start, known]), axis=0)
    steps = np.arange(len(values))
    low = np.maximum(steps - window // 2, 0)
    high = np.minimum(steps + window // 2 + 1, len(values))
    averages = np.full(values.shape, np.nan)
    count = counts[high] - counts[low]
    np.divide(totals[high] - totals[low], count, out=averages, where=known)
    return averages


def fill_gaps(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Puts a number where no episode ended in an update.

    Between two known values it is that of the straight line through them; after the
    last one, that one. Before the first one nothing is known, and NaN stays.

    Args:
      values: NaN or infinite where nothing is known; [updates, n].
      steps: of the updates, ascending; [updates].
    """
    filled = np.full(values.shape, np.nan)
    for task, column in enumerate(values.T):
        known = np.isfinite(column)
        if known.any():
            filled[:, task] = np.interp(steps, steps[known], column[known], left=np.nan)
    return filled


def draw_learning_curves(results: RunResults) -> Figure:
    """A panel a stage, a curve a task, in the color of its group."""
    from matplotlib.lines import Line2D

    groups = results.found_groups
    stages, shown = results.learning_curves, shown_curve(results)
    figure = new_figure(6.75, 2.7)
    panels = np.atleast_1d(figure.subplots(1, len(stages), sharey=True))
    lowest = math.inf
    for axes, (stage, curve) in zip(panels, stages.items(), strict=True):
        steps = np.array(curve["steps"], dtype=np.float64)
        values = np.array(curve[shown], dtype=np.float64)
        lowest = min([lowest, *values[np.isfinite(values)]])
        _draw_stage(axes, steps, values, groups)
        axes.set_title(stage)
        label_steps(axes, 5)
        axes.set_xlabel("environment steps per task")
        axes.set_xlim(0.0, 1.01 * max(steps.max(), 1.0))
    if lowest >= 0.0:
        panels[0].set_ylim(bottom=0.0)
    panels[0].set_ylabel("return" if shown == "returns" else "success rate")
    handles = [
        Line2D([], [], color=group_color(group), lw=2.0, label=f"group {group + 1}")
        for group in range(len(groups))
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 7)
    )
    return figure


def draw_adaptation_curves(results: RunResults) -> Figure:
    """A curve a method: its mean over target tasks as policies adapt to them."""
    figure = new_figure(6.75, 2.9)
    axes = figure.add_subplot()
    last = 1.0
    for index, (name, curve) in enumerate(results.adaptation_curves.items()):
        steps = np.array(curve["steps"], dtype=np.float64)
        values = np.array(curve["returns"], dtype=np.float64)
        values = fill_gaps(smooth(values), steps)
        # Only where all tasks are known: tasks that come in later would move the mean.
        color = ACCENT if index == 0 else group_color(index)
        axes.plot(
            steps,
            values.mean(axis=1),
            color=color,
            lw=2.0 if index == 0 else 1.2,
            zorder=4 if index == 0 else 3,
            label=shorten(name),
        )
        last = max(last, steps.max(initial=0.0))
    label_steps(axes, 6)
    axes.set_xlabel("environment steps per unseen task")
    axes.set_ylabel("return")
    axes.set_xlim(0.0, 1.01 * last)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def label_steps(axes: Axes, num_ticks: int) -> None:
    """Ticks of an axis of environment steps, and the grid of the other one."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(num_ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
    axes.grid(axis="y")


def has_many_tasks(results: RunResults) -> bool:
    """Whether curves are so many that their group's median is drawn too."""
    return results.num_tasks > _MAX_THICK_CURVES


def _draw_stage(
    axes: Axes, steps: np.ndarray, values: np.ndarray, groups: list[list[int]]
) -> None:
    many = values.shape[1] > _MAX_THICK_CURVES
    smoothed = fill_gaps(smooth(values), steps)
    raw = fill_gaps(values, steps)
    for group, members in enumerate(groups):
        color = group_color(group)
        faint, strong = (0.0, 0.35) if many else (0.18, 0.95)
        axes.plot(steps, raw[:, members], color=color, alpha=faint, lw=0.5)
        axes.plot(
            steps,
            smoothed[:, members],
            color=color,
            alpha=strong,
            lw=0.6 if many else 1.2,
        )
        if many:
            axes.plot(steps, _nan_median(smoothed[:, members]), color=color, lw=2.0)


def _nan_median(values: np.ndarray) -> np.ndarray:
    """Median along the second axis over what is not NaN; NaN where nothing is left."""
    known = np.isfinite(values)
    median = np.full(len(values), np.nan)
    some = known.any(axis=1)
    median[some] = np.nanmedian(values[some], axis=1)
    return median
