"""All figures of a run, and the files that they are written to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pgx_jax.appearance import figure_style
from pgx_jax.extras import needs_extra
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.curves import draw_adaptation_curves, draw_learning_curves
from pgx_jax.reporting.gains import draw_gains
from pgx_jax.reporting.matrices import draw_affinity, draw_stability
from pgx_jax.reporting.returns import draw_methods, draw_tasks
from pgx_jax.reporting.summary import MethodSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_figures(
    results: RunResults, methods: Sequence[MethodSummary]
) -> dict[str, Figure]:
    """The figures that a run has data for, by name, in the order of the page.

    Raises:
      ImportError: Matplotlib is not installed.
    """
    with needs_extra("experiments"):
        import matplotlib
    with matplotlib.rc_context(figure_style()):
        figures = {
            "methods": draw_methods(methods),
            **({"gains": draw_gains(results)} if results.gains else {}),
            "affinity": draw_affinity(results),
        }
        if results.uncertainty is not None:
            figures["stability"] = draw_stability(results)
        if results.learning_curves:
            figures["learning_curves"] = draw_learning_curves(results)
        if results.adaptation_curves:
            figures["adaptation"] = draw_adaptation_curves(results)
        figures["tasks"] = draw_tasks(results, methods)
    return figures


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG and a PDF, white behind, the same bytes every time.

    Args:
      figure: what is drawn.
      path: of the files, without an ending.
    """
    figure.savefig(path.with_suffix(".png"), facecolor="white", dpi=300)
    dates = {"CreationDate": None}
    figure.savefig(path.with_suffix(".pdf"), facecolor="white", metadata=dates)


def to_svg(figure: Figure, name: str) -> bytes:
    """The figure as an SVG file, the same bytes every time.

    Args:
      figure: what is drawn.
      name: makes the identifiers inside the file.
    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format="svg", dpi=200, transparent=True, metadata={"Date": None}
        )
    return buffer.getvalue()
