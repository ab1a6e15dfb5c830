"""What the figures of a report have in common: sizes, names and numbers in cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ANNOTATED_TASKS = 12  # with more, cells are too small for numbers
MAX_LABELED_TASKS = 60  # with more, axes are too short for names


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def shorten(name: str, length: int = 28) -> str:
    """A name of at most that length, cut in the middle, since ends identify tasks."""
    if len(name) <= length:
        return name
    kept = length - 1
    return name[: kept - kept // 2] + "…" + name[-(kept // 2) :]


def short_count(count: float) -> str:
    """A count as axes show it: 500k, 1.5M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


def fit_side_by_side(names: Sequence[str], width: float) -> bool:
    """Whether names fit under the columns of a picture in a figure of that width."""
    return len(names) * (max(map(len, names)) + 2) * 0.06 <= 0.6 * width


def label_tasks(axes: Axes, names: Sequence[str], *, rows: bool = True) -> None:
    """Names on the axes of a picture with one column (and one row) a task."""
    if len(names) > MAX_LABELED_TASKS:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names)} tasks, ordered by group")
        if rows:
            axes.set_yticks([])
        return
    names = [shorten(name) for name in names]
    fontsize = 7.5 if len(names) <= 15 else 6.0 if len(names) <= 30 else 4.5
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    if len(names) > 15:
        slanted = {"rotation": 90, "ha": "center", "va": "top"}
    if fit_side_by_side(names, axes.figure.bbox.width / axes.figure.dpi):
        slanted = {}
    axes.set_xticks(range(len(names)), names, fontsize=fontsize, **slanted)
    if rows:
        axes.set_yticks(range(len(names)), names, fontsize=fontsize)


def annotate_cells(
    axes: Axes, values: np.ndarray, image: Any, template: str, fontsize: float = 6.5
) -> None:
    """Writes numbers into the cells of an image, black or white, if there is room."""
    if not template or values.shape[1] > MAX_ANNOTATED_TASKS:
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
        axes.text(
            column,
            row,
            template.format(value).replace("-", "\N{MINUS SIGN}"),
            ha="center",
            va="center_baseline",
            fontsize=fontsize,
            color="#ffffff" if dark else "#101010",
        )
