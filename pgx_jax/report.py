"""One page about a run: the groups found, how good their policies are, and the cost.

`RunResults` holds the numbers, as plain data that JSON can store; `write_report` draws
the figures (PNG and PDF, for papers) and a self-contained `report.html` with all of
them; `summary_table` is the short form for a terminal.
"""

from __future__ import annotations

import colorsys
import dataclasses
import html
import io
import json
import math
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis import statistics
from pgx_jax.runs.formats import format_count, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class LearningCurve(TypedDict):
    """Returns of every task while a stage trains.

    Attributes:
      steps: environment steps per task; [updates].
      returns: [updates][n], NaN where a task has finished no episode yet.
      success: share of finished episodes in which success was met at any step, the
        same way; left out where tasks do not tell.
    """

    steps: list[float]
    returns: list[list[float]]
    success: NotRequired[list[list[float]]]


class MethodResult(TypedDict):
    """What the policies of one way of grouping achieve.

    Attributes:
      name: as it is called in tables and figures.
      description: one sentence.
      num_policies: the number of policies trained (of each draw).
      source: returns of the final policies on the tasks trained on;
        [draws][n][episodes]. Methods that draw groups at random have several draws.
      target: the same on unseen tasks; [draws][targets][episodes], or None.
      grouping: its key in `RunResults.groups`; the name where left out.
      scalarized: the tasks' returns made one number; [draws], or None.
      success: share of episodes of the tasks trained on in which success was met at any
        step; [draws][n], or None where tasks do not tell.
      sampled_return: mean return where actions are sampled, `source` being that of the
        most likely ones; [draws][n], or None where it was not asked for.
      sampled_success: `success`, the same way.
    """

    name: str
    description: str
    num_policies: int
    source: list[list[list[float]]]
    target: list[list[list[float]]] | None
    grouping: NotRequired[str]
    scalarized: NotRequired[list[float] | None]
    success: NotRequired[list[list[float]] | None]
    sampled_return: NotRequired[list[list[float]] | None]
    sampled_success: NotRequired[list[list[float]] | None]


class Uncertainty(TypedDict):
    """How far the affinity and the groups hold over bootstrap resamples.

    Attributes:
      lower: lower ends of the 95% intervals of U; [n][n].
      upper: their upper ends; [n][n].
      co_assignment: share of resamples that put two tasks in one group; [n][n].
      nmi: of the groups of every resample with those found; [resamples].
    """

    lower: list[list[float]]
    upper: list[list[float]]
    co_assignment: list[list[float]]
    nmi: list[float]


class StageTiming(TypedDict):
    """How long a stage took.

    Attributes:
      stage: its name.
      seconds: wall time, compiling included.
      env_steps: environment steps of all tasks together, or None where it takes none.
    """

    stage: str
    seconds: float
    env_steps: int | None


@dataclasses.dataclass
class RunResults:
    """Everything that the report says about a run of n tasks, as plain data.

    Arrays are turned into nested lists.

    Attributes:
      name: the task suite.
      task_names: [n].
      episode_length: steps after which an episode is cut.
      seed: of the run.
      affinity: U; [n][n].
      affinity_method: how scores were put on a scale before averaging; one that begins
        with "standard" is drawn around zero.
      pair_counts: number of subsets that hold both tasks; [n][n].
      num_subsets: m.
      subset_size: tasks in a subset.
      relative_distance: of the adapted from the meta-policy's parameters,
        |theta_S - theta*| / |theta*| over subsets; with keys "median" and "max".
      converged_share: of the regressions that reached their tolerance, in [0, 1].
      groups: labels [n] by method; "estimated" must be among them, "planted" are those
        known beforehand.
      methods: the first one is the method reported on, the others are what it is
        compared with.
      learning_curves: by stage.
      timings: in the order of the stages.
      nmi: normalised mutual information with the planted groups, by method as in
        `groups`.
      uncertainty: of the affinity and the groups, or None where there are no resamples.
      scalarization: how tasks that are objectives are made one number; "" for not.
      max_return: the highest return that an episode can have, if there is one.
      config: nested settings.
      device: what the run ran on.
      versions: of the libraries.
      commit: of the code.
      command: that started the run.
      resumed: whether it was interrupted and resumed.

    Raises:
      ValueError: if lengths do not fit together; the message names the field.
    """

    name: str
    task_names: list[str]
    episode_length: int
    seed: int
    affinity: list[list[float]]
    affinity_method: str
    pair_counts: list[list[int]]
    num_subsets: int
    subset_size: int
    relative_distance: dict[str, float]
    converged_share: float
    groups: dict[str, list[int]]
    methods: list[MethodResult]
    learning_curves: dict[str, LearningCurve]
    timings: list[StageTiming]
    nmi: dict[str, float] = dataclasses.field(default_factory=dict)
    uncertainty: Uncertainty | None = None
    scalarization: str = ""
    max_return: float | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    device: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    commit: str | None = None
    command: str = ""
    resumed: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, _plain(getattr(self, field.name)))
        _validate(self)

    @property
    def num_tasks(self) -> int:
        """The number of source tasks, n."""
        return len(self.task_names)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to a JSON file, NaN as null."""
        text = json.dumps(_without_nan(dataclasses.asdict(self)), allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what `to_json` wrote."""
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        for name in ("affinity", "learning_curves", "relative_distance", "nmi"):
            data[name] = _with_nan(data[name])
        return cls(**data)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean return with its 95% interval.

    Attributes:
      mean: over draws, tasks and episodes.
      low: lower end of the interval.
      high: upper end of the interval.
      by_draw: mean of every draw; [draws].
      by_task: mean of every task; [tasks].
    """

    mean: float
    low: float
    high: float
    by_draw: np.ndarray
    by_task: np.ndarray


@dataclasses.dataclass(frozen=True)
class _MethodSummary:
    """A method's numbers as tables and figures show them."""

    name: str
    description: str
    num_policies: int
    source: Estimate
    target: Estimate | None
    nmi: float | None


def estimate_return(returns: ArrayLike) -> Estimate:
    """Mean return and 95% bootstrap interval of a method.

    Of a method that was trained once, the episodes of each task are resampled; of one
    with several draws, the draws are, since they vary more than episodes do.

    Args:
      returns: [draws, tasks, episodes].
    """
    returns = np.asarray(returns, dtype=np.float64)
    by_draw = returns.mean(axis=(1, 2))
    samples = returns[0] if len(returns) == 1 else by_draw
    low, high = statistics.bootstrap_interval(samples)
    by_task = returns.mean(axis=(0, 2))
    return Estimate(float(returns.mean()), low, high, by_draw, by_task)


def order_by_group(labels: Sequence[int]) -> list[list[int]]:
    """The tasks of every group, groups in the order of their first task."""
    members: dict[int, list[int]] = {}
    for task, label in enumerate(labels):
        members.setdefault(int(label), []).append(task)
    return list(members.values())


def summary_table(results: RunResults) -> str:
    """A plain-text table of the methods: policies, mean return, 95% interval, NMI."""
    summaries = _summarise(results)
    rows = [["method", "policies", "return", "95% interval"]]
    with_target = any(summary.target for summary in summaries)
    means = _task_means(results)
    rows[0] += means
    if with_target:
        rows[0] += ["unseen tasks", "95% interval"]
    if results.nmi:
        rows[0] += ["NMI"]
    if results.scalarization:
        rows[0] += [_scalarization(results)]
    for summary, method in zip(summaries, results.methods, strict=True):
        row = [summary.name, str(summary.num_policies)]
        row += [_mean(summary.source), _interval(summary.source)]
        row += [_show_mean(method, name) for name in means.values()]
        if with_target:
            target = summary.target
            row += [_mean(target), _interval(target)] if target else ["-", "-"]
        if results.nmi:
            row.append("-" if summary.nmi is None else f"{summary.nmi:.2f}")
        if results.scalarization:
            row.append(_mean_scalarized(method))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_report(results: RunResults, directory: str | os.PathLike[str]) -> Path:
    """Writes `report.html`, and the figures beside it in `figures/`.

    Args:
      results: of the run.
      directory: made if it does not exist.

    Returns:
      The page's path.

    Raises:
      ImportError: if Matplotlib is not installed.
    """
    _import_matplotlib()
    directory = Path(directory)
    figures_directory = directory / "figures"
    figures_directory.mkdir(parents=True, exist_ok=True)
    summaries = _summarise(results)
    drawings = {}
    for name, figure in _draw_figures(results, summaries).items():
        _save_figure(figure, figures_directory / name)
        drawings[name] = _inline_svg(figure, name)
    path = directory / "report.html"
    path.write_text(_page(results, summaries, drawings), encoding="utf-8")
    return path


# Numbers


def _summarise(results: RunResults) -> list[_MethodSummary]:
    summaries = []
    for index, method in enumerate(results.methods):
        grouping = method.get("grouping", method["name"])
        if index == 0 and "grouping" not in method:
            grouping = "estimated"
        target = method["target"]
        summaries.append(
            _MethodSummary(
                method["name"],
                method["description"],
                method["num_policies"],
                estimate_return(method["source"]),
                None if target is None else estimate_return(target),
                results.nmi.get(grouping),
            )
        )
    return summaries


def _number(value: float, scale: float | None = None) -> str:
    """A number with as many decimals as one of size `scale` (its own size) deserves."""
    size = abs(value if scale is None else scale)
    decimals = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _mean(estimate: Estimate) -> str:
    return _number(estimate.mean)


def _interval(estimate: Estimate) -> str:
    low, high = (_number(end, estimate.mean) for end in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def _single_policy(summaries: Sequence[_MethodSummary]) -> _MethodSummary | None:
    """The method that trains one policy for all tasks, if it was run."""
    return next((s for s in summaries[1:] if s.num_policies == 1), None)


def _headline(results: RunResults, summaries: Sequence[_MethodSummary]) -> str:
    """What was found, in one or two sentences."""
    num_groups = len(order_by_group(results.groups["estimated"]))
    ours, single = summaries[0].source, _single_policy(summaries)
    found = f"{num_groups} group{'s' if num_groups != 1 else ''}"
    text = f"{found} among {results.num_tasks} tasks. "
    returns = f"One policy per group returns {_mean(ours)} {_interval(ours)} an episode"
    if single is None:
        return f"{text}{returns}."
    other = single.source
    text += f"{returns}, against {_mean(other)} {_interval(other)} with one policy "
    if ours.low <= other.high and other.low <= ours.high:
        return text + "for all tasks; the intervals overlap."
    return text + "for all tasks."


# Figures

INK, MUTED, _GRID, PAPER = "#1f2430", "#6b7280", "#dfe3e8", "#fefefe"
ACCENT, _BASELINE = "#6457d0", "#9aa3b2"
_GROUP_COLOURS = (  # Okabe and Ito's, legible to the colour-blind
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#8c6d31",
    "#7f7f7f",
)
_MAX_ANNOTATED_TASKS = 12  # with more, cells are too small for numbers
_MAX_LABELLED_TASKS = 60  # with more, axes are too short for names
_WIDTH = 6.75  # inches, a page's text width


def figure_style() -> dict[str, Any]:
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
        "grid.color": _GRID,
        "grid.linewidth": 0.6,
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
    }


def _draw_figures(
    results: RunResults, summaries: Sequence[_MethodSummary]
) -> dict[str, Figure]:
    import matplotlib

    with matplotlib.rc_context(figure_style()):
        figures = {"affinity": _draw_affinity(results)}
        if results.uncertainty is not None:
            figures["stability"] = _draw_stability(results)
        if results.learning_curves:
            figures["learning_curves"] = _draw_learning_curves(results)
        figures["methods"] = _draw_methods(results, summaries)
        figures["tasks"] = _draw_tasks(results, summaries)
    return figures


def group_colour(group: int) -> str:
    if group < len(_GROUP_COLOURS):
        return _GROUP_COLOURS[group]
    hue = group * (math.sqrt(5.0) - 1.0) / 2.0 % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.45, 0.55)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw_affinity(results: RunResults) -> Figure:
    import matplotlib
    from matplotlib.colors import Normalize

    groups = order_by_group(results.groups["estimated"])
    order = np.concatenate(groups)
    matrix = np.array(results.affinity, dtype=np.float64)[np.ix_(order, order)]
    np.fill_diagonal(matrix, np.nan)  # a task is always in a subset with itself
    known = matrix[np.isfinite(matrix)]
    standardised = results.affinity_method.lower().startswith("standard")
    if standardised:
        limit = np.abs(known).max() or 1.0
        norm, colours = Normalize(-limit, limit), matplotlib.colormaps["RdBu_r"]
    else:
        norm = Normalize(known.min(), known.max())
        colours = matplotlib.colormaps["viridis"]

    names = [_shorten(results.task_names[task]) for task in order]
    room = _room_for_labels(names)
    figure = _new_figure(4.3 + room, 3.7 + 0.8 * room)  # the matrix keeps its size
    axes = figure.add_subplot()
    colours = colours.with_extremes(bad=(0.5, 0.5, 0.5, 0.25))
    image = axes.imshow(
        np.ma.masked_invalid(matrix), cmap=colours, norm=norm, interpolation="nearest"
    )
    axes.spines[:].set_visible(False)
    _annotate_cells(axes, matrix, image, "{:.2f}" if np.abs(known).max() < 10 else "")
    _label_tasks(axes, names)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", pad=9)
    _mark_groups(axes, [len(members) for members in groups])
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label(f"affinity ({results.affinity_method})")
    return figure


def _room_for_labels(names: Sequence[str]) -> float:
    """Inches that the tasks' names take beside a matrix."""
    return 0.055 * max(map(len, names)) if len(names) <= _MAX_LABELLED_TASKS else 0.2


def _draw_stability(results: RunResults) -> Figure:
    """Intervals of every affinity, and how often two tasks share a group."""
    labels = np.asarray(results.groups["estimated"])
    groups = order_by_group(labels)
    order = np.concatenate(groups)
    names = [_shorten(results.task_names[task]) for task in order]
    figure = _new_figure(_WIDTH, 3.2 + 0.5 * _room_for_labels(names))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_intervals(left, results, labels)

    share = np.array(results.uncertainty["co_assignment"])[np.ix_(order, order)]
    np.fill_diagonal(share, np.nan)
    image = right.imshow(
        np.ma.masked_invalid(share), cmap="Greys", vmin=0, vmax=1, interpolation="none"
    )
    image.cmap = image.cmap.with_extremes(bad=(0.5, 0.5, 0.5, 0.25))
    right.spines[:].set_visible(False)
    _annotate_cells(right, share, image, "{:.2f}", fontsize=5.5)
    _label_tasks(right, names)
    right.tick_params(length=0)
    right.tick_params(axis="y", pad=9)
    _mark_groups(right, [len(members) for members in groups])
    bar = figure.colorbar(image, ax=right, shrink=0.75, aspect=28, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label("share of resamples in one group")
    return figure


def _draw_intervals(axes: Axes, results: RunResults, labels: np.ndarray) -> None:
    """U of every pair with its interval: pairs of one group, then the others."""
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
    for chosen, colour, name in (
        (same, "#0072b2", "in one group"),
        (~same, "#d55e00", "in two groups"),
    ):
        pairs = rows[chosen], columns[chosen]
        ascending = np.argsort(matrix[pairs])
        middle, low, high = (x[pairs][ascending] for x in (matrix, lower, upper))
        place = np.arange(start, start + len(middle))
        axes.vlines(place, low, high, color=colour, linewidth=0.9, alpha=0.45)
        axes.plot(place, middle, "o", color=colour, markersize=2.2, label=name)
        start += len(middle)
    axes.axhline(0.0, color="#808080", linewidth=0.6, zorder=0)
    axes.set_xticks([])
    axes.set_xlabel(f"the {len(rows):,} pairs of tasks")
    axes.set_ylabel(f"affinity ({results.affinity_method}), 95% interval")
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def _mark_groups(axes: Axes, sizes: Sequence[int]) -> None:
    """Outlines the groups of an affinity matrix, with their colours at its sides."""
    from matplotlib.patches import Rectangle

    num_tasks = sum(sizes)
    thickness = 0.018 * num_tasks
    edge = -0.5 - 0.03 * num_tasks  # where the coloured strips begin
    outline = {"fill": False, "edgecolor": "#101010", "linewidth": 1.2}
    start = -0.5
    for group, size in enumerate(sizes):
        colour = group_colour(group)
        strip = {"facecolor": colour, "edgecolor": "none"}
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
                color=colour,
                fontweight="bold",
                annotation_clip=False,
            )
        start += size


def _annotate_cells(
    axes: Axes, values: np.ndarray, image: Any, template: str, fontsize: float = 6.5
) -> None:
    """Writes numbers into the cells of an image, black or white, if there is room."""
    if not template or values.shape[1] > _MAX_ANNOTATED_TASKS:
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


def _label_tasks(axes: Axes, names: Sequence[str], *, rows: bool = True) -> None:
    """Names on the axes of a picture with one column (and one row) a task."""
    if len(names) > _MAX_LABELLED_TASKS:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names)} tasks, ordered by group")
        if rows:
            axes.set_yticks([])
        return
    names = [_shorten(name) for name in names]
    fontsize = 7.5 if len(names) <= 15 else 6.0 if len(names) <= 30 else 4.5
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    if len(names) > 15:
        slanted = {"rotation": 90, "ha": "center", "va": "top"}
    if _fit_side_by_side(names, axes.figure.get_figwidth()):
        slanted = {}
    axes.set_xticks(range(len(names)), names, fontsize=fontsize, **slanted)
    if rows:
        axes.set_yticks(range(len(names)), names, fontsize=fontsize)


def _fit_side_by_side(names: Sequence[str], width: float) -> bool:
    """Whether names fit under the columns of a picture in a figure of that width."""
    return len(names) * (max(map(len, names)) + 2) * 0.06 <= 0.6 * width


def _shorten(name: str, length: int = 28) -> str:
    """A name of at most that length; its middle goes, since ends tell tasks apart."""
    if len(name) <= length:
        return name
    kept = length - 1
    return name[: kept - kept // 2] + "…" + name[-(kept // 2) :]


def shown_curve(results: RunResults) -> str:
    """What learning curves are of: success, where tasks tell it, else the return."""
    curves = results.learning_curves.values()
    told = curves and all("success" in curve for curve in curves)
    return "success" if told else "returns"


def _draw_learning_curves(results: RunResults) -> Figure:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    groups = order_by_group(results.groups["estimated"])
    many = results.num_tasks > 20
    stages = results.learning_curves
    shown = shown_curve(results)
    max_value = results.max_return if shown == "returns" else None
    figure = _new_figure(_WIDTH, 2.7)
    panels = np.atleast_1d(figure.subplots(1, len(stages), sharey=True))
    lowest = math.inf
    for axes, (stage, curve) in zip(panels, stages.items(), strict=True):
        steps = np.array(curve["steps"], dtype=np.float64)
        values = np.array(curve[shown], dtype=np.float64)
        lowest = min([lowest, *values[np.isfinite(values)]])
        smoothed = smooth(values)
        for group, members in enumerate(groups):
            colour = group_colour(group)
            raw, line = (0.0, 0.35) if many else (0.18, 0.95)
            axes.plot(steps, values[:, members], color=colour, alpha=raw, lw=0.5)
            axes.plot(
                steps,
                smoothed[:, members],
                color=colour,
                alpha=line,
                lw=0.6 if many else 1.2,
            )
            if many:
                median = _nan_median(smoothed[:, members])
                axes.plot(steps, median, color=colour, lw=2.0)
        if max_value is not None:
            axes.axhline(max_value, color=MUTED, lw=0.7, ls=(0, (4, 3)))
        axes.set_title(stage)
        axes.set_xlabel("environment steps per task")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
        axes.grid(axis="y")
        axes.set_xlim(0.0, 1.01 * max(steps.max(), 1.0))
    if lowest >= 0.0:
        panels[0].set_ylim(bottom=0.0)
    panels[0].set_ylabel("return" if shown == "returns" else "success rate")
    handles = [
        Line2D([], [], color=group_colour(group), lw=2.0, label=f"group {group + 1}")
        for group in range(len(groups))
    ]
    if max_value is not None:
        dashes = {"color": MUTED, "lw": 0.7, "ls": (0, (4, 3))}
        handles.append(Line2D([], [], **dashes, label="highest possible"))
    columns = min(len(handles), 7)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


def smooth(values: np.ndarray, window: int | None = None) -> np.ndarray:
    """Centred moving average along the first axis that passes over NaN.

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
    smooth = np.full(values.shape, np.nan)
    count = counts[high] - counts[low]
    np.divide(totals[high] - totals[low], count, out=smooth, where=known)
    return smooth


def _nan_median(values: np.ndarray) -> np.ndarray:
    """Median along the second axis over what is not NaN; NaN where nothing is left."""
    known = np.isfinite(values)
    median = np.full(len(values), np.nan)
    some = known.any(axis=1)
    median[some] = np.nanmedian(values[some], axis=1)
    return median


def short_count(count: float) -> str:
    """A count as axes show it: 500k, 1.5M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


def _draw_methods(results: RunResults, summaries: Sequence[_MethodSummary]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    with_target = any(summary.target for summary in summaries)
    titles = ["tasks trained on", "unseen tasks"] if with_target else [""]
    figure = _new_figure(_WIDTH if with_target else 5.2, 0.55 + 0.34 * len(summaries))
    panels = np.atleast_1d(figure.subplots(1, len(titles), sharey=True))
    for index, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        estimates = [(s.source, s.target)[index] for s in summaries]
        known = [estimate for estimate in estimates if estimate is not None]
        ends = [0.0, *(e.high for e in known), *(e.low for e in known)]
        ends += [float(draw) for e in known for draw in e.by_draw]
        if results.max_return is not None:
            ends.append(results.max_return)
            axes.axvline(results.max_return, color=MUTED, lw=0.7, ls=(0, (4, 3)))
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
    panels[0].set_yticks(range(len(summaries)), [_shorten(s.name) for s in summaries])
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    panels[0].set_ylim(len(summaries) - 0.45, -0.55)
    return figure


def _draw_bar(axes: Axes, row: int, estimate: Estimate, text_at: float) -> None:
    colour = ACCENT if row == 0 else _BASELINE
    axes.barh(row, estimate.mean, height=0.62, color=colour, zorder=2)
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
        f"{_mean(estimate)} {_interval(estimate)}",
        (text_at, row),
        va="center_baseline",
        fontsize=7,
        fontweight="bold" if row == 0 else "normal",
        annotation_clip=False,
    )


def _draw_tasks(results: RunResults, summaries: Sequence[_MethodSummary]) -> Figure:
    import matplotlib
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    groups = order_by_group(results.groups["estimated"])
    order = np.concatenate(groups)
    values = np.stack([summary.source.by_task[order] for summary in summaries])
    high = values.max() if results.max_return is None else results.max_return
    low = min(0.0, values.min()) if results.max_return else values.min()
    norm = Normalize(low, high if high > low else low + 1.0)
    labelled = results.num_tasks <= _MAX_LABELLED_TASKS
    names = [_shorten(name) for name in results.task_names]
    below = 0.05 * max(map(len, names)) if labelled else 0.15
    below = 0.1 if _fit_side_by_side(names, _WIDTH) else below
    height = 0.55 + 0.27 * len(summaries) + below
    figure = _new_figure(_WIDTH, height)
    axes = figure.add_subplot()
    image = axes.imshow(
        values,
        cmap=matplotlib.colormaps["YlGnBu"],
        norm=norm,
        aspect="auto",
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(1, results.num_tasks) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(summaries)) - 0.5, minor=True)
    if results.num_tasks <= 30:
        axes.grid(which="minor", color=PAPER, lw=1.0)
    axes.tick_params(which="both", length=0)
    digits = (
        0 if np.abs(values).max() >= 100 else 1 if np.abs(values).max() >= 10 else 2
    )
    _annotate_cells(axes, values, image, f"{{:.{digits}f}}", fontsize=7.0)
    _label_tasks(axes, [results.task_names[task] for task in order], rows=False)
    axes.set_yticks(range(len(summaries)), [_shorten(s.name) for s in summaries])
    axes.get_yticklabels()[0].set_fontweight("bold")
    start, thickness, gap = -0.5, 0.14, 0.004 * results.num_tasks
    for group, members in enumerate(groups):
        size, colour = len(members), group_colour(group)
        axes.add_patch(
            Rectangle(
                (start + gap, -0.5 - 0.08 - thickness),
                size - 2 * gap,
                thickness,
                facecolor=colour,
                clip_on=False,
            )
        )
        start += size
    bar = figure.colorbar(image, ax=axes, aspect=16, pad=0.015, fraction=0.04)
    bar.outline.set_visible(False)
    bar.set_label("mean return")
    return figure


def _save_figure(figure: Figure, path: Path) -> None:
    """As PNG and PDF, white behind, the same bytes every time."""
    png = {"facecolor": "white", "dpi": 300}
    figure.savefig(path.with_suffix(".png"), **png)
    dates = {"CreationDate": None}
    figure.savefig(path.with_suffix(".pdf"), facecolor="white", metadata=dates)


def _inline_svg(figure: Figure, name: str) -> str:
    """An `<svg>` element that takes text and grid colours from the page's style."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format="svg", dpi=200, transparent=True, metadata={"Date": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    variables = {
        INK: "ink",
        MUTED: "muted",
        _GRID: "grid",
        PAPER: "card",
        _BASELINE: "baseline",
    }
    for colour, variable in variables.items():
        text = text.replace(colour, f"var(--{variable})")
    width = figure.get_size_inches()[0]
    head = re.search(r'viewBox="[^"]*"', text[: text.index(">")]).group()
    body = text[text.index(">") + 1 :]
    style = f"max-width:{width * 136:.0f}px"
    return f'<svg {head} style="{style}" role="img" aria-label="{name}">{body}'


# The page


def _page(
    results: RunResults,
    summaries: Sequence[_MethodSummary],
    drawings: Mapping[str, str],
) -> str:
    captions = _captions(results, summaries)
    figures = "\n".join(
        f'<figure id="{name}"><h2>{captions[name][0]}</h2>'
        f'<div class="drawing">{drawing}</div>'
        f"<figcaption>{captions[name][1]}</figcaption></figure>"
        for name, drawing in drawings.items()
    )
    return string.Template(_TEMPLATE).substitute(
        title=_text(results.name),
        style=_CSS,
        headline=_text(_headline(results, summaries)),
        tiles=_tiles(results, summaries),
        groups=_group_cards(results),
        figures=figures,
        methods=_methods_table(results, summaries),
        timings=_timings_table(results.timings),
        settings=_settings(results),
        provenance=_provenance(results),
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """A table of ready HTML cells whose columns from `numbers` on are right-aligned."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if index >= numbers else ''}>{cell}</{tag}>"
            for index, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{line(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _tiles(results: RunResults, summaries: Sequence[_MethodSummary]) -> str:
    ours, single = summaries[0].source, _single_policy(summaries)
    num_groups = len(order_by_group(results.groups["estimated"]))
    tiles = [
        ("groups found", str(num_groups), f"among {results.num_tasks} tasks"),
        ("one policy per group", _mean(ours), f"return, 95% {_interval(ours)}"),
    ]
    if single is not None:
        interval = f"return, 95% {_interval(single.source)}"
        tiles.append(("one policy for all", _mean(single.source), interval))
    if "estimated" in results.nmi:
        nmi = f"{results.nmi['estimated']:.2f}"
        tiles.append(("agreement", nmi, "NMI with the planted groups"))
    if results.timings:
        seconds = sum(timing["seconds"] for timing in results.timings)
        steps = sum(timing["env_steps"] or 0 for timing in results.timings)
        below = f"{format_count(steps)} environment steps"
        tiles.append(("time", format_duration(seconds), below))
    return "\n".join(
        f'<div class="tile"><div class="label">{_text(label)}</div>'
        f'<div class="value">{_text(value)}</div>'
        f'<div class="label">{_text(below)}</div></div>'
        for label, value, below in tiles
    )


def _group_cards(results: RunResults) -> str:
    cards = []
    for group, members in enumerate(order_by_group(results.groups["estimated"])):
        chips = "".join(
            f'<span class="chip">{_text(results.task_names[task])}</span>'
            for task in members
        )
        noun = "task" if len(members) == 1 else "tasks"
        cards.append(
            f'<div class="card" style="--group:{group_colour(group)}">'
            f"<h3>Group {group + 1} <small>{len(members)} {noun}</small></h3>{chips}"
            "</div>"
        )
    return "\n".join(cards)


def _captions(
    results: RunResults, summaries: Sequence[_MethodSummary]
) -> dict[str, tuple[str, str]]:
    """Heading and caption of every figure, as HTML."""
    ceiling = ""
    if results.max_return is not None:
        ceiling = " Dashed: the highest return possible."
    median = " Bold: the median of a group." if results.num_tasks > 20 else ""
    returns = shown_curve(results) == "returns"
    curves = (
        f"{'Return' if returns else 'Success rate'} of each task while training, "
        "coloured by the group found for it; one policy for all tasks while "
        "meta-training, one per group afterwards. Lightly "
        f"smoothed by a moving average.{median}{ceiling if returns else ''}"
    )
    tasks = (
        "Mean return on every task trained on (columns, in the order of the "
        "affinity's; the strip shows the group) for every method (rows). A row that is "
        "dark under one group only: its policies learned that group and failed the "
        "other."
    )
    return {
        "affinity": ("Task affinity", _affinity_caption(results)),
        "stability": ("How sure", _stability_caption(results)),
        "learning_curves": ("Learning curves", curves),
        "methods": (
            "Return by method",
            _methods_caption(results, summaries) + ceiling,
        ),
        "tasks": ("Return by task", tasks),
    }


def _affinity_caption(results: RunResults) -> str:
    counts = np.array(results.pair_counts)
    pairs = counts[np.triu_indices(results.num_tasks, k=1)]
    scale = f"Scores: {_text(results.affinity_method)}; brighter is better."
    if results.affinity_method.lower().startswith("standard"):
        scale = (
            "Scores are standardised per task, so that zero (white) is a partner as "
            "good as any, red a better and blue a worse one."
        )
    distance = results.relative_distance
    return (
        "Entry (i, j) is the mean estimated score of tasks i and j after adapting the "
        f"meta-policy to a subset of {results.subset_size} tasks, over those of "
        f"{results.num_subsets:,} sampled subsets that hold both ({pairs.min():,} to "
        f"{pairs.max():,} subsets per pair): how much the two gain from being trained "
        f"together. {scale} Tasks are ordered by the groups found, which the squares "
        "outline; the diagonal has no meaning and is grey. Adapted parameters differ "
        f"from the meta-policy's by {_percent(distance['median'])} (median) and at "
        f"most {_percent(distance['max'])} of its norm, within which the first-order "
        f"estimate must hold; {_percent(results.converged_share)} of the regressions "
        "converged."
    )


def _stability_caption(results: RunResults) -> str:
    if results.uncertainty is None:
        return ""
    nmi = np.asarray(results.uncertainty["nmi"], dtype=np.float64)
    labels = results.groups["estimated"]
    chance = statistics.chance_agreement(labels, labels)
    return (
        f"From {len(nmi)} bootstrap resamples of the transitions and of the subsets, "
        "each regressed and clustered anew. Left: the affinity of every pair of tasks "
        "with its 95% interval. Right: how often two tasks end up in one group. The "
        "groups of the resamples agree with those found to a mean NMI of "
        f"<b>{nmi.mean():.2f}</b> ({chance:.2f} by chance); "
        f"{_percent(float(np.mean(nmi > 1 - 1e-9)))} of them are the same. Another "
        "meta-policy or another seed of it is not resampled."
    )


def _methods_caption(results: RunResults, summaries: Sequence[_MethodSummary]) -> str:
    lengths = {np.shape(method["source"])[-1] for method in results.methods}
    lengths |= {np.shape(m["target"])[-1] for m in results.methods if m["target"]}
    count = f"{min(lengths)} " if len(lengths) == 1 else ""
    resampled = (
        f"resampling, with replacement, the {count}evaluation episodes of each task "
        "apart from those of other tasks (the tasks themselves are kept)"
    )
    if any(len(summary.source.by_draw) > 1 for summary in summaries):
        resampled += (
            "; for a method with several draws, whose means the dots show, resampling "
            "the draws instead"
        )
    return (
        "Mean return of the final policies over tasks and episodes. Whiskers and "
        f"brackets: 95% bootstrap intervals, {resampled}. They leave out how much "
        "another training seed would change."
    )


def _percent(share: float) -> str:
    if not math.isfinite(share):
        return "an unknown share"
    percent = 100.0 * share
    return f"{percent:.0f}%" if percent == round(percent) else f"{percent:.2g}%"


def _methods_table(results: RunResults, summaries: Sequence[_MethodSummary]) -> str:
    with_target = any(summary.target for summary in summaries)
    means = _task_means(results)
    head = ["method", "policies", "return", *means]
    head += ["on unseen tasks"] if with_target else []
    head += ["NMI"] if results.nmi else []
    head += [_scalarization(results)] if results.scalarization else []

    def cell(estimate: Estimate | None) -> str:
        if estimate is None:
            return "–"
        return f"<b>{_mean(estimate)}</b> <small>{_interval(estimate)}</small>"

    rows = []
    for summary, method in zip(summaries, results.methods, strict=True):
        draws = len(summary.source.by_draw)
        note = (
            f"{summary.description} {draws} draws."
            if draws > 1
            else (summary.description)
        )
        row = [
            f"<b>{_text(summary.name)}</b><br><small>{_text(note)}</small>",
            str(summary.num_policies),
            cell(summary.source),
        ]
        row += [_show_mean(method, name) for name in means.values()]
        row += [cell(summary.target)] if with_target else []
        if results.nmi:
            row.append("–" if summary.nmi is None else f"{summary.nmi:.2f}")
        if results.scalarization:
            row.append(_mean_scalarized(method))
        rows.append(row)
    return _table(head, rows, numbers=1)


def _scalarization(results: RunResults) -> str:
    """What the column of scalarised returns is called."""
    return results.scalarization.replace("_", " ").replace("tcheb", "Tcheb")


def _task_means(results: RunResults) -> dict[str, str]:
    """Columns of means that all methods have, and where a method has them."""
    columns = {
        "success": "success",
        "return, sampled": "sampled_return",
        "success, sampled": "sampled_success",
    }
    return {
        title: name
        for title, name in columns.items()
        if all(method.get(name) is not None for method in results.methods)
    }


def _show_mean(method: MethodResult, name: str) -> str:
    mean = float(np.mean(method[name]))
    return f"{100 * mean:.1f}%" if name.endswith("success") else _number(mean)


def _mean_scalarized(method: MethodResult) -> str:
    return f"{np.mean(method['scalarized']):.3f}"


def _timings_table(timings: Sequence[StageTiming]) -> str:
    total = sum(timing["seconds"] for timing in timings) or 1.0
    rows = []
    for timing in timings:
        seconds, steps = timing["seconds"], timing["env_steps"]
        share = seconds / total
        rate = "–" if not steps or not seconds else format_count(steps / seconds)
        rows.append(
            [
                _text(timing["stage"]),
                f'<span class="bar" style="width:{max(100 * share, 0.5):.1f}%"></span>',
                format_duration(seconds),
                f"{share:.0%}" if share >= 0.005 else "&lt;1%",
                format_count(steps) if steps else "–",
                rate,
            ]
        )
    steps = sum(timing["env_steps"] or 0 for timing in timings)
    rows.append(
        [
            "<b>all</b>",
            "",
            f"<b>{format_duration(total)}</b>",
            "",
            format_count(steps),
            "",
        ]
    )
    head = ["stage", "", "time", "share", "environment steps", "steps a second"]
    return _table(head, rows, numbers=2)


def _settings(results: RunResults) -> str:
    rows = [
        [f"<code>{_text(name)}</code>", f"<code>{_text(value)}</code>"]
        for name, value in _flatten(results.config)
    ]
    return _table(["setting", "value"], rows, numbers=2) if rows else ""


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + str(name), value


def _provenance(results: RunResults) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in results.versions.items())
    entries = {
        "suite": f"{results.name}, episodes of {results.episode_length} steps",
        "seed": results.seed,
        "device": results.device,
        "versions": versions,
        "commit": results.commit,
        "command": results.command,
        "interrupted": "yes, and resumed" if results.resumed else "no",
    }
    return "\n".join(
        f"<dt>{name}</dt><dd><code>{_text(value)}</code></dd>"
        for name, value in entries.items()
        if value not in ("", None)
    )


_CSS = """
:root { --ink:#1f2430; --muted:#6b7280; --grid:#dfe3e8; --page:#f6f7f9; --card:#ffffff;
  --line:#e3e6ea; --chip:#f0f2f5; --accent:#6457d0; --baseline:#9aa3b2;
  color-scheme:light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink:#e7e9ee; --muted:#9aa3b2; --grid:#333844; --page:#14161b;
    --card:#1c1f26; --line:#2c313b; --chip:#272b34; --accent:#8e83f0;
    --baseline:#59616f; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; }
main { max-width:1020px; margin:0 auto; padding:48px 20px 64px; }
.over { color:var(--accent); font-weight:600; letter-spacing:.06em; font-size:13px;
  text-transform:uppercase; }
h1 { font-size:34px; line-height:1.2; margin:4px 0 12px; overflow-wrap:anywhere; }
h2 { font-size:19px; margin:0 0 14px; }
h3 { font-size:15px; margin:0 0 10px; }
small { color:var(--muted); font-weight:400; font-size:13px; }
.headline { font-size:20px; line-height:1.45; max-width:46em; margin:0 0 28px; }
.row { display:grid; gap:14px; margin:0 0 14px; }
.tiles { grid-template-columns:repeat(auto-fit, minmax(165px, 1fr)); }
.cards { grid-template-columns:repeat(auto-fit, minmax(min(100%, 280px), 1fr)); }
.tile, .card, figure, section { background:var(--card); border:1px solid var(--line);
  border-radius:12px; }
.tile { padding:14px 16px; }
.tile .value { font-size:23px; font-weight:650; line-height:1.4; white-space:nowrap;
  font-variant-numeric:tabular-nums; }
.label { color:var(--muted); font-size:13px; line-height:1.4; }
.card { padding:14px 16px 10px; border-top:4px solid var(--group); }
.chip { display:inline-block; background:var(--chip); border-radius:6px;
  padding:1px 8px; margin:0 6px 6px 0; font-size:13px; overflow-wrap:anywhere; }
figure, section { margin:0 0 14px; padding:22px 24px; }
.drawing { overflow-x:auto; }
.drawing svg { display:block; width:100%; min-width:440px; height:auto; margin:0 auto; }
figcaption, p.note { color:var(--muted); font-size:14px; margin:14px 0 0;
  max-width:62em; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-size:14.5px; }
th { text-align:left; font-weight:500; color:var(--muted); font-size:13px; }
th, td { padding:8px 10px; border-bottom:1px solid var(--line); vertical-align:top; }
th:first-child, td:first-child { padding-left:0; }
th:last-child, td:last-child { padding-right:0; }
tbody tr:last-child td { border-bottom:0; }
.number { text-align:right; white-space:nowrap; font-variant-numeric:tabular-nums; }
.timings td:nth-child(2) { width:30%; vertical-align:middle; }
.bar { display:block; height:9px; border-radius:3px; background:var(--accent); }
summary { cursor:pointer; font-size:19px; font-weight:700; }
details[open] summary { margin-bottom:14px; }
code { font:13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; overflow-wrap:anywhere; }
.methods td:first-child { min-width:190px; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:6px 20px; margin:0;
  align-items:baseline; }
dt { color:var(--muted); font-size:14px; } dd { margin:0; }
@media (max-width: 600px) { main { padding:28px 12px; } h1 { font-size:27px; }
  figure, section { padding:16px 14px; } .headline { font-size:18px; } }
@media print { body { background:#fff; } figure, section { break-inside:avoid; } }
"""

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title: which tasks to train together</title>
<style>$style</style>
</head>
<body>
<main>
<header>
<div class="over">Which tasks to train together</div>
<h1>$title</h1>
<p class="headline">$headline</p>
</header>
<div class="row tiles">
$tiles
</div>
<div class="row cards">
$groups
</div>
$figures
<section class="methods"><h2>Methods compared</h2>
$methods
<p class="note">Brackets: 95% bootstrap intervals, as in the figure.</p>
</section>
<section class="timings"><h2>What took how long</h2>
$timings
<p class="note">Wall time, compiling included; environment steps of all tasks together.
</p></section>
<section><details><summary>Settings</summary>
$settings
</details></section>
<section><h2>How this was made</h2>
<dl>
$provenance
</dl>
<p class="note">The figures are beside this page in <code>figures/</code>, as PNG and
PDF.</p>
</section>
</main>
</body>
</html>
"""


# Plain data


def _import_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "drawing the report needs Matplotlib: install pgx_jax[experiments]"
        ) from error


def _plain(value: Any) -> Any:
    """The same with arrays and tuples as lists and NumPy's scalars as Python's."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return np.asarray(value).tolist()
    return value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_nan(entry) for entry in value]
    return math.nan if value is None else value


def _check_shape(field: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """The value as an array of that shape, None standing for any positive length."""
    allowed = ", ".join("any" if size is None else str(size) for size in shape)
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"{field} must be numbers of shape ({allowed}), got rows that differ"
        raise ValueError(message) from error
    fits = len(array.shape) == len(shape) and all(
        size > 0 if wanted is None else size == wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{field} must have shape ({allowed}), got {array.shape}")
    return array


def _validate(results: RunResults) -> None:
    num_tasks = results.num_tasks
    if num_tasks < 2:
        raise ValueError(f"task_names must name at least 2 tasks, got {num_tasks}")
    affinity = _check_shape("affinity", results.affinity, (num_tasks, num_tasks))
    if not np.all(np.isfinite(affinity[~np.eye(num_tasks, dtype=bool)])):
        raise ValueError("affinity must be finite off the diagonal")
    _check_shape("pair_counts", results.pair_counts, (num_tasks, num_tasks))
    if missing := {"median", "max"} - set(results.relative_distance):
        raise ValueError(f"relative_distance lacks {sorted(missing)}")
    if results.uncertainty is not None:
        for name in ("lower", "upper", "co_assignment"):
            field = f"uncertainty[{name!r}]"
            _check_shape(field, results.uncertainty[name], (num_tasks, num_tasks))
        _check_shape("uncertainty['nmi']", results.uncertainty["nmi"], (None,))
    if "estimated" not in results.groups:
        raise ValueError(f'groups must hold "estimated", got {sorted(results.groups)}')
    for name, labels in results.groups.items():
        _check_shape(f"groups[{name!r}]", labels, (num_tasks,))
    for stage, curve in results.learning_curves.items():
        field = f"learning_curves[{stage!r}]"
        steps = _check_shape(f"{field}['steps']", curve["steps"], (None,))
        shape = (len(steps), num_tasks)
        _check_shape(f"{field}['returns']", curve["returns"], shape)
        if "success" in curve:
            _check_shape(f"{field}['success']", curve["success"], shape)
    if not results.methods:
        raise ValueError("methods must not be empty")
    for index, method in enumerate(results.methods):
        field = f"methods[{index}]"
        source = _check_shape(
            f"{field}['source']", method["source"], (None, num_tasks, None)
        )
        for name in ("success", "sampled_return", "sampled_success"):
            if method.get(name) is not None:
                shape = (len(source), num_tasks)
                _check_shape(f"{field}[{name!r}]", method[name], shape)
        returns = {"source": source}
        if method["target"] is not None:
            shape = (len(source), None, None)
            target = _check_shape(f"{field}['target']", method["target"], shape)
            returns["target"] = target
        for name, array in returns.items():
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{field}[{name!r}] must be finite")
