"""A figure of an affinity, for notebooks and reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pgx_jax.arguments import as_labels, as_numbers, show
from pgx_jax.extras import needs_extra
from pgx_jax.types import Affinity, Grouping

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_affinity(
    affinity: Affinity | np.ndarray,
    grouping: Grouping | Sequence[int] | None = None,
    *,
    task_names: Sequence[str] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draws an affinity matrix, tasks ordered by group, groups outlined.

    The diagonal, on another scale, is left blank.

        axes = pge.plot_affinity(affinity, grouping)
        axes.figure.savefig("affinity.png")

    Args:
      affinity: U, or an array of shape [n, n].
      grouping: the groups, or the group of each task; tasks stay in order if None.
      task_names: n names; "0".."n-1" if None.
      axes: Matplotlib axes to draw on; a figure of their own if None.

    Returns:
      The axes.

    Raises:
      ImportError: Matplotlib is not installed.
      ValueError: the matrix is not square or not finite off the diagonal, or the
        numbers of labels or names differ from n.
    """
    with needs_extra("experiments"):
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle

    matrix = affinity.matrix if isinstance(affinity, Affinity) else affinity
    matrix = as_numbers("affinity", matrix, finite=False)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"affinity must have shape [n, n], got {matrix.shape}")
    num_tasks = len(matrix)
    off_diagonal = ~np.eye(num_tasks, dtype=bool)
    if not np.isfinite(matrix[off_diagonal]).all():
        raise ValueError("affinity must be finite off the diagonal")
    labels = grouping.labels if isinstance(grouping, Grouping) else grouping
    labels = np.zeros(num_tasks, int) if labels is None else labels
    labels = as_labels("grouping", labels, num_tasks)
    names = list(map(str, range(num_tasks)))
    if task_names is not None:
        names = _check_names(task_names, num_tasks)
    if axes is not None and not hasattr(axes, "imshow"):
        raise ValueError(
            f"axes must be Matplotlib's, such as plt.gca(), got {show(axes)}"
        )

    order = np.argsort(labels, kind="stable")
    shown = np.where(off_diagonal, matrix, np.nan)[np.ix_(order, order)]
    if axes is None:
        size = 2.5 + 0.35 * num_tasks
        _, axes = plt.subplots(figsize=(size + 1.0, size), layout="constrained")
    limit = np.nanmax(np.abs(shown)) if num_tasks > 1 else 1.0
    signed = num_tasks > 1 and np.nanmin(shown) < 0.0 < np.nanmax(shown)
    image = axes.imshow(
        shown,
        cmap="RdBu_r" if signed else "viridis",
        vmin=-limit if signed else None,
        vmax=limit if signed else None,
    )
    axes.figure.colorbar(image, ax=axes, label="affinity", fraction=0.046, pad=0.04)
    ticks = np.arange(num_tasks)
    axes.set_xticks(ticks, [names[i] for i in order], rotation=90)
    axes.set_yticks(ticks, [names[i] for i in order])
    if grouping is not None:
        start = 0
        for size in np.unique(labels, return_counts=True)[1]:
            corner = (start - 0.5, start - 0.5)
            box = Rectangle(corner, size, size, fill=False, lw=2.0, clip_on=False)
            axes.add_patch(box)
            start += size
    return axes


def _check_names(task_names: Any, num_tasks: int) -> list[str]:
    is_list = not isinstance(task_names, (str, Mapping))
    names = list(task_names) if is_list and isinstance(task_names, Iterable) else []
    if len(names) != num_tasks:
        raise ValueError(
            f"task_names must hold {num_tasks} names, one a task, got "
            f"{show(task_names)}"
        )
    return list(map(str, names))
