"""Figures of returns: a bar a method, and a cell for every method and task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pgx_jax.appearance import ACCENT, BASELINE, INK, MUTED, PAPER, group_color
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.labels import (
    MAX_LABELED_TASKS,
    annotate_cells,
    fit_side_by_side,
    label_tasks,
    new_figure,
    shorten,
)
from pgx_jax.reporting.summary import Estimate, MethodSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 6.75  # inches, a page's text width


def draw_methods(methods: Sequence[MethodSummary]) -> Figure:
    """Mean return of every method with its interval."""
    from matplotlib.ticker import MaxNLocator

    with_target = any(method.target for method in methods)
    titles = ["tasks trained on", "unseen tasks"] if with_target else [""]
    figure = new_figure(_WIDTH if with_target else 5.2, 0.55 + 0.34 * len(methods))
    panels = np.atleast_1d(figure.subplots(1, len(titles), sharey=True))
    for index, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        estimates = [(m.source, m.target)[index] for m in methods]
        known = [estimate for estimate in estimates if estimate is not None]
        ends = [0.0, *(e.high for e in known), *(e.low for e in known)]
        ends += [float(draw) for e in known for draw in e.by_draw]
        ends.append(min(ends) + 1e-6)  # an axis of some length if all returns are 0
        room = max(ends) - min(ends)
        for row, estimate in enumerate(estimates):
            if estimate is not None:
                _draw_bar(axes, row, estimate, max(ends) + 0.03 * room)
        axes.set_xlim(min(ends) * 1.03, max(ends))
        axes.set_title(title)
        axes.set_xlabel("mean return")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(min(ends) == 0.0)
        axes.grid(axis="x")
    panels[0].set_yticks(range(len(methods)), [shorten(m.name) for m in methods])
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    panels[0].set_ylim(len(methods) - 0.45, -0.55)
    return figure


def draw_tasks(results: RunResults, methods: Sequence[MethodSummary]) -> Figure:
    """Mean return of every method on every task, tasks in the order of groups."""
    groups = results.found_groups
    order = np.concatenate(groups)
    values = np.stack([method.source.by_task[order] for method in methods])
    low, high = values.min(), values.max()
    names = [shorten(name) for name in results.task_names]
    labeled = results.num_tasks <= MAX_LABELED_TASKS
    below = 0.05 * max(map(len, names)) if labeled else 0.15
    below = 0.1 if fit_side_by_side(names, _WIDTH) else below
    figure = new_figure(_WIDTH, 0.55 + 0.27 * len(methods) + below)
    axes = figure.add_subplot()
    image = axes.imshow(
        values,
        cmap="YlGnBu",
        vmin=low,
        vmax=high if high > low else low + 1.0,
        aspect="auto",
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(1, results.num_tasks) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(methods)) - 0.5, minor=True)
    if results.num_tasks <= 30:
        axes.grid(which="minor", color=PAPER, lw=1.0)
    axes.tick_params(which="both", length=0)
    size = np.abs(values).max()
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    annotate_cells(axes, values, image, f"{{:.{digits}f}}", fontsize=7.0)
    label_tasks(axes, [results.task_names[task] for task in order], rows=False)
    axes.set_yticks(range(len(methods)), [shorten(m.name) for m in methods])
    axes.get_yticklabels()[0].set_fontweight("bold")
    _mark_groups(axes, [len(members) for members in groups])
    bar = figure.colorbar(image, ax=axes, aspect=16, pad=0.015, fraction=0.04)
    bar.outline.set_visible(False)
    bar.set_label("mean return")
    return figure


def _draw_bar(axes: Axes, row: int, estimate: Estimate, text_at: float) -> None:
    color = ACCENT if row == 0 else BASELINE
    axes.barh(row, estimate.mean, height=0.62, color=color, zorder=2)
    axes.plot(
        [estimate.low, estimate.high],
        [row, row],
        color=INK,
        lw=1.1,
        marker="|",
        ms=5,
        zorder=4,
        clip_on=False,
    )
    if len(estimate.by_draw) > 1:
        rows = np.full(len(estimate.by_draw), float(row)) + 0.2
        axes.plot(
            estimate.by_draw,
            rows,
            ls="none",
            marker="o",
            ms=2.8,
            mfc=PAPER,
            mec=MUTED,
            mew=0.7,
            zorder=3,
            clip_on=False,
        )
    axes.annotate(
        str(estimate.cell),
        (text_at, row),
        va="center_baseline",
        fontsize=7,
        fontweight="bold" if row == 0 else "normal",
        annotation_clip=False,
    )


def _mark_groups(axes: Axes, sizes: Sequence[int]) -> None:
    """A strip above the columns of every group, in its color."""
    from matplotlib.patches import Rectangle

    start, thickness, gap = -0.5, 0.14, 0.004 * sum(sizes)
    for group, size in enumerate(sizes):
        corner = (start + gap, -0.5 - 0.08 - thickness)
        strip = {"facecolor": group_color(group), "clip_on": False}
        axes.add_patch(Rectangle(corner, size - 2 * gap, thickness, **strip))
        start += size
