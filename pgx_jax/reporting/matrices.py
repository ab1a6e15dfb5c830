"""Figures of pairs of tasks: the affinity, and how certain it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pgx_jax.appearance import APART, TOGETHER, group_color
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.labels import (
    MAX_LABELED_TASKS,
    annotate_cells,
    label_tasks,
    new_figure,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of these scores zero has a meaning: a partner as good as any, or none at all.
CENTERED_SCORES = ("standardized", "transfer_gain")
_UNKNOWN = (0.5, 0.5, 0.5, 0.25)  # the color of cells that have no value
_WIDTH = 6.75  # inches, a page's text width


def draw_affinity(results: RunResults) -> Figure:
    """The affinity matrix, tasks in the order of their groups.

    Zero is white where it has a meaning; the diagonal has none, and is gray.
    """
    groups = results.found_groups
    order = np.concatenate(groups)
    matrix = np.array(results.affinity, dtype=np.float64)[np.ix_(order, order)]
    np.fill_diagonal(matrix, np.nan)  # a task is always in a subset with itself
    known = matrix[np.isfinite(matrix)]
    look = {"cmap": "viridis", "vmin": known.min(), "vmax": known.max()}
    if results.affinity_method in CENTERED_SCORES:
        limit = np.abs(known).max() or 1.0
        look = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    names = [shorten(results.task_names[task]) for task in order]
    room = _room_for_labels(names)
    figure = new_figure(4.3 + room, 3.7 + 0.8 * room)  # the matrix keeps its size
    axes = figure.add_subplot()
    image = _show_matrix(axes, matrix, names, groups, **look)
    annotate_cells(axes, matrix, image, "{:.2f}" if np.abs(known).max() < 10 else "")
    _add_colorbar(figure, axes, image, f"affinity ({_score_name(results)})")
    return figure


def draw_stability(results: RunResults) -> Figure:
    """Intervals of every affinity, and how often two tasks share a group.

    Args:
      results: of a run with resamples.
    """
    assert results.uncertainty is not None
    labels = np.asarray(results.groups["estimated"])
    groups = results.found_groups
    order = np.concatenate(groups)
    names = [shorten(results.task_names[task]) for task in order]
    figure = new_figure(_WIDTH, 3.2 + 0.5 * _room_for_labels(names))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_intervals(left, results, labels)

    share = np.array(results.uncertainty["co_assignment"])[np.ix_(order, order)]
    np.fill_diagonal(share, np.nan)
    image = _show_matrix(right, share, names, groups, cmap="Greys", vmin=0, vmax=1)
    annotate_cells(right, share, image, "{:.2f}", fontsize=5.5)
    _add_colorbar(figure, right, image, "share of resamples in one group")
    return figure


def _show_matrix(
    axes: Axes,
    matrix: np.ndarray,
    names: Sequence[str],
    groups: list[list[int]],
    **look: Any,
) -> Any:
    """An image of one cell a pair of tasks, with names and groups at its sides."""
    masked = np.ma.masked_invalid(matrix)
    image = axes.imshow(masked, interpolation="nearest", **look)
    image.set_cmap(image.get_cmap().with_extremes(bad=_UNKNOWN))
    axes.spines[:].set_visible(False)
    label_tasks(axes, names)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", pad=9)
    _mark_groups(axes, [len(members) for members in groups])
    return image


def _add_colorbar(figure: Figure, axes: Axes, image: Any, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label(label)


def _score_name(results: RunResults) -> str:
    return results.affinity_method.replace("_", " ")


def _room_for_labels(names: Sequence[str]) -> float:
    """Inches that the tasks' names take beside a matrix."""
    return 0.055 * max(map(len, names)) if len(names) <= MAX_LABELED_TASKS else 0.2


def _draw_intervals(axes: Axes, results: RunResults, labels: np.ndarray) -> None:
    """U of every pair with its interval: pairs of one group, then the others."""
    assert results.uncertainty is not None
    matrix, lower, upper = (
        np.array(x, dtype=np.float64)
        for x in (
            results.affinity,
            results.uncertainty["lower"],
            results.uncertainty["upper"],
        )
    )
    rows, columns = np.triu_indices(len(labels), 1)
    same = labels[rows] == labels[columns]
    start = 0
    for chosen, color, name in (
        (same, TOGETHER, "in one group"),
        (~same, APART, "in two groups"),
    ):
        pairs = rows[chosen], columns[chosen]
        ascending = np.argsort(matrix[pairs])
        middle, low, high = (x[pairs][ascending] for x in (matrix, lower, upper))
        place = np.arange(start, start + len(middle))
        axes.vlines(place, low, high, color=color, linewidth=0.9, alpha=0.45)
        axes.plot(place, middle, "o", color=color, markersize=2.2, label=name)
        start += len(middle)
    axes.axhline(0.0, color="#808080", linewidth=0.6, zorder=0)
    axes.set_xticks([])
    axes.set_xlabel(f"the {len(rows):,} pairs of tasks")
    axes.set_ylabel(f"affinity ({_score_name(results)}), 95% interval")
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def _mark_groups(axes: Axes, sizes: Sequence[int]) -> None:
    """Outlines the groups of an affinity matrix, with their colors at its sides."""
    from matplotlib.patches import Rectangle

    num_tasks = sum(sizes)
    thickness = 0.018 * num_tasks
    edge = -0.5 - 0.03 * num_tasks  # where the colored strips begin
    outline: dict[str, Any] = {"fill": False, "edgecolor": "#101010", "linewidth": 1.2}
    start = -0.5
    for group, size in enumerate(sizes):
        color = group_color(group)
        strip: dict[str, Any] = {"facecolor": color, "edgecolor": "none"}
        for corner, width, height, look in (
            ((start, edge), size, thickness, strip),
            ((edge, start), thickness, size, strip),
            ((start, start), size, size, outline),
        ):
            axes.add_patch(Rectangle(corner, width, height, clip_on=False, **look))
        if size >= 0.04 * num_tasks:  # else there is no room for its number
            roomy = min(sizes) >= 0.15 * num_tasks
            axes.annotate(
                f"group {group + 1}" if roomy else str(group + 1),
                (start + size / 2, edge),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=color,
                fontweight="bold",
                annotation_clip=False,
            )
        start += size
