"""One self-contained page about a run, and its figures as files beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pgx_jax.appearance import group_color
from pgx_jax.extras import needs_extra
from pgx_jax.pipeline.results import RunResults, StageTiming
from pgx_jax.reporting.captions import TITLES, write_captions
from pgx_jax.reporting.figures import draw_figures, save_figure, to_svg
from pgx_jax.reporting.summary import (
    MethodSummary,
    headline,
    methods_table,
    single_policy,
    summarize,
)
from pgx_jax.reporting.tables import Cell, Table
from pgx_jax.runs.formats import format_count, format_duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PIXELS_PER_INCH = 116  # of figures on the page, where there is room


class Tile(NamedTuple):
    """One of the numbers that the page begins with."""

    label: str
    value: str
    detail: str


class Illustration(NamedTuple):
    """A figure of the page."""

    name: str
    title: str
    caption: str
    source: str  # a data URL
    width: int  # in pixels


def write_report(results: RunResults, directory: str | os.PathLike[str]) -> Path:
    """Writes `report.html`, and the figures beside it in `figures/`.

    Args:
      results: of the run.
      directory: made if it does not exist.

    Returns:
      The page's path.

    Raises:
      ImportError: Matplotlib or Jinja2 is not installed.
    """
    _load_template()  # what is missing is reported before figures are drawn
    directory = Path(directory)
    methods = summarize(results)
    figures = draw_figures(results, methods)
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save_figure(figure, directory / "figures" / name)
    path = directory / "report.html"
    path.write_text(render_page(results, methods, figures), encoding="utf-8")
    return path


def render_page(
    results: RunResults,
    methods: Sequence[MethodSummary],
    figures: Mapping[str, Figure],
) -> str:
    """The page as HTML that needs no other file."""
    captions = write_captions(results, methods)
    return _load_template().render(
        name=results.name,
        headline=headline(results, methods),
        tiles=_make_tiles(results, methods),
        groups=[
            (group_color(group), [results.task_names[task] for task in members])
            for group, members in enumerate(results.found_groups)
        ],
        illustrations=[
            Illustration(
                name,
                TITLES[name],
                captions[name],
                _data_url(to_svg(figure, name)),
                round(figure.get_figwidth() * _PIXELS_PER_INCH),
            )
            for name, figure in figures.items()
        ],
        methods=methods_table(results, methods),
        timings=timings_table(results.timings),
        settings=list(_flatten(results.config)),
        provenance=_describe_provenance(results),
    )


def timings_table(timings: Sequence[StageTiming]) -> Table:
    """How long every stage took, and all of them together."""
    total = sum(timing["seconds"] for timing in timings) or 1.0
    rows = []
    for timing in timings:
        seconds, steps = timing["seconds"], timing["env_steps"]
        share = seconds / total
        rate = format_count(steps / seconds) if steps and seconds else "–"
        rows.append(
            [
                timing["stage"],
                format_duration(seconds),
                f"{share:.0%}" if share >= 0.005 else "<1%",
                format_count(steps) if steps else "–",
                rate,
            ]
        )
    steps = sum(timing["env_steps"] or 0 for timing in timings)
    rows.append(["all stages", format_duration(total), "", format_count(steps), ""])
    header = ["stage", "time", "share", "environment steps", "steps a second"]
    return Table(header, rows)


def _make_tiles(results: RunResults, methods: Sequence[MethodSummary]) -> list[Tile]:
    def returned(label: str, cell: Cell) -> Tile:
        return Tile(label, cell.value, f"return, 95% {cell.interval}")

    single = single_policy(methods)
    num_groups = len(results.found_groups)
    tiles = [
        Tile("groups found", str(num_groups), f"among {results.num_tasks} tasks"),
        returned("one policy per group", methods[0].source.cell),
    ]
    if single is not None:
        tiles.append(returned("one policy for all", single.source.cell))
    if "estimated" in results.nmi:
        nmi = f"{results.nmi['estimated']:.2f}"
        tiles.append(Tile("agreement", nmi, "NMI with the planted groups"))
    if results.timings:
        seconds = sum(timing["seconds"] for timing in results.timings)
        steps = sum(timing["env_steps"] or 0 for timing in results.timings)
        detail = f"{format_count(steps)} environment steps"
        tiles.append(Tile("time", format_duration(seconds), detail))
    return tiles


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + str(name), value


def _describe_provenance(results: RunResults) -> dict[str, Any]:
    entries = {
        "suite": f"{results.name}, episodes of {results.episode_length} steps",
        "seed": results.seed,
        "device": results.device,
        "versions": ", ".join(f"{name} {v}" for name, v in results.versions.items()),
        "commit": results.commit,
        "command": results.command,
        "interrupted": "yes, and resumed" if results.resumed else "no",
    }
    return {name: value for name, value in entries.items() if value not in ("", None)}


def _data_url(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _load_template() -> Any:
    with needs_extra("experiments"):
        import jinja2
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pgx_jax.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
