"""Colors and type that figures, pages and videos share."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Any

INK, MUTED, GRID, PAPER = "#1f2430", "#6b7280", "#dfe3e8", "#fefefe"
ACCENT, BASELINE = "#6457d0", "#9aa3b2"
PAGE, LINE = "#f6f7f9", "#e3e6ea"  # around cards, and their edges
TOGETHER, APART = "#0072b2", "#d55e00"  # pairs of tasks of one group, and of two
GROUP_COLORS = (  # Okabe and Ito's, legible to the color-blind
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#8c6d31",
    "#7f7f7f",
)


def group_color(group: int) -> str:
    """The color of a group by its number, as "#rrggbb"."""
    if group < len(GROUP_COLORS):
        return GROUP_COLORS[group]
    hue = group * (math.sqrt(5.0) - 1.0) / 2.0 % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.45, 0.55)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def task_colors(labels: Sequence[int]) -> list[str]:
    """The color of every task's group, groups counted in the order of first tasks.

    Args:
      labels: the group of each task, by any numbers; [n].
    """
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return [group_color(numbers[label]) for label in labels]


def figure_style() -> dict[Any, Any]:
    """Matplotlib's settings for every figure, as `matplotlib.rc_context` takes them."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    preferred = ("Helvetica Neue", "Helvetica", "Arial", "Liberation Sans")
    fonts = [font for font in preferred if font in installed]
    return {
        "font.family": [*fonts, "DejaVu Sans"],
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "legend.fontsize": 7.5,
        "legend.frameon": False,
        "text.color": INK,
        "text.parse_math": False,  # names may hold a dollar sign
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
    }
