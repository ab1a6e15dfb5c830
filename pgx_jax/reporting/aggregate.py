"""The results of several finished runs of one suite, one per seed, combined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pgx_jax.analysis.statistics import (
    chance_agreement,
    interquartile_mean,
    normalized_mutual_information,
    t_interval,
)
from pgx_jax.appearance import MUTED, figure_style, group_color
from pgx_jax.extras import needs_extra
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.curves import fill_gaps, label_steps, shown_curve, smooth
from pgx_jax.reporting.summary import describe_verdict
from pgx_jax.reporting.tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What runs may have besides returns, what tables call it, and its format.
COLUMNS = {
    "success": ("success", ".1%"),
    "sampled_return": ("source tasks, actions sampled", ".1f"),
    "sampled_success": ("success, actions sampled", ".1%"),
    "scalarized": ("scalarized", ".2f"),
}


def aggregate(
    runs: Sequence[RunResults], sources: Sequence[str] | None = None
) -> dict[str, Any]:
    """One entry per method, over all runs.

    Args:
      runs: of one suite and one config; of different seeds.
      sources: where they are from, for messages; their seeds if None.

    Returns:
      A dict of JSON values; "methods" holds, by name, means over seeds with their 95% t
      intervals (None of a single seed); random draws are averaged within a seed. Every
      method but the first one also has the "difference" of the first one from it,
      paired by seed, since methods of a seed share its meta-policy.

    Raises:
      ValueError: the runs are of different suites, methods, settings or repeated
        seeds, or settings are none of a run.
    """
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"workdirs repeat a seed: {seeds}")
    if sources is None:
        sources = [f"the run of seed {seed}" for seed in seeds]
    settings = [_read_settings(*pair) for pair in zip(runs, sources, strict=True)]
    for run, config, source in zip(runs, settings, sources, strict=True):
        for what, found, first in (
            ("settings", config, settings[0]),
            ("tasks", run.task_names, runs[0].task_names),
            ("methods", _list_methods(run), _list_methods(runs[0])),
        ):
            if found != first:
                raise ValueError(f"{source} is of different {what} than {sources[0]}")
    names = [method["name"] for method in runs[0].methods]
    return {
        "suite": runs[0].name,
        "task_names": runs[0].task_names,
        "seeds": seeds,
        "config": settings[0],
        "device": sorted({run.device for run in runs}),
        "versions": runs[0].versions,
        "commit": sorted({str(run.commit) for run in runs}),
        "run_command": runs[0].command,
        "num_groups": [max(run.groups["estimated"]) + 1 for run in runs],
        "groups": [list(run.groups["estimated"]) for run in runs],
        "agreement": _measure_agreement(runs),
        "verdicts": [describe_verdict(run) for run in runs],
        "seconds": [sum(t["seconds"] for t in run.timings) for run in runs],
        "methods": add_differences({x: _summarize_method(runs, x) for x in names}),
    }


def _read_settings(run: RunResults, source: str) -> dict[str, Any]:
    """All settings but the seed; one that an older version did not have by default."""
    try:
        config = PipelineConfig.from_stored({**run.config, "seed": 0})
    except (ValueError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{source} holds no settings of a run: {problem}") from error
    return config.to_dict() | {"seed": None}


def _list_methods(run: RunResults) -> list[tuple]:
    """Name, number of draws and of target tasks of every method."""
    return [
        (x["name"], len(x["source"]), x["target"] and len(x["target"][0]))
        for x in run.methods
    ]


def aggregate_page(entries: Mapping[str, Any], command: str) -> str:
    """What `aggregate` returns as a page of Markdown.

    Args:
      entries: what it returns.
      command: the one that makes the page.
    """
    versions = ", ".join(f"{k} {v}" for k, v in entries["versions"].items())
    of_all = "--seeds" in entries["run_command"]
    each = "" if of_all else " (one `--config.seed` and `--workdir` each)"
    lines = [
        f"# {entries['suite']}",
        "",
        *_list_verdicts(entries),
        f"Mean return over seeds {', '.join(map(str, entries['seeds']))}, with the 95% "
        "t interval over seeds. Regenerate each run with",
        f"`{entries['run_command']}`{each} and this page with",
        f"`{command}`.",
        "",
        methods_table(entries).to_markdown(),
    ]
    lines += list_differences(entries["methods"])
    lines += _list_steps(entries["methods"])
    if all("success" in method for method in entries["methods"].values()):
        lines += ["", "Success of each task, mean over seeds:", ""]
        lines.append(_tabulate_success(entries).to_markdown())
    lines += _list_groups(entries)
    lines += [
        "",
        f"Device: {', '.join(entries['device'])}. Versions: {versions}. "
        f"Commit: {', '.join(entries['commit'])}. Seconds per run: "
        f"{', '.join(f'{x:.0f}' for x in entries['seconds'])}.",
        "",
    ]
    return "\n".join(lines)


def _list_verdicts(entries: Mapping[str, Any]) -> list[str]:
    """Whether groups pay, by seed; nothing where there was no race."""
    verdicts = entries.get("verdicts", [])  # pages of before had none
    pairs = zip(entries["seeds"], verdicts, strict=False)
    lines = [f"* Seed {seed}. {verdict}" for seed, verdict in pairs if verdict]
    return [*lines, ""] if lines else []


def methods_table(entries: Mapping[str, Any]) -> Table:
    """Every method's means over seeds, those that `aggregate` found for all of them."""
    methods = entries["methods"]
    columns = {
        "method": [Cell(name) for name in methods],
        "policies": [_count_policies(m["num_policies"]) for m in methods.values()],
    }

    def add(name: str, title: str, form: str) -> None:
        if all(name in m for m in methods.values()):
            columns[title] = [_interval_cell(m[name], form) for m in methods.values()]

    add("source", "source tasks", ".1f")
    for name, (title, form) in COLUMNS.items():
        add(name, title, form)
    add("target", "target tasks, adapted", ".1f")
    if all("nmi" in m for m in methods.values()):
        columns["NMI with planted groups, by seed"] = [
            Cell(", ".join(f"{x:.2f}" for x in m["nmi"])) for m in methods.values()
        ]
    return Table(list(columns), list(zip(*columns.values(), strict=True)))


def add_differences(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Adds by how much the first method exceeds each other one, paired by seed.

    Args:
      methods: "methods" of `aggregate`.
    """
    first, *others = methods.values()
    for summary in others:
        for column in ("source", *COLUMNS, "target"):
            if column not in summary or column not in first:
                continue
            ours, other = (np.array(x[column]["per_seed"]) for x in (first, summary))
            summary[column]["difference"] = {
                "mean": float(np.mean(ours - other)),
                "interval": _mean_interval(ours - other),
                "per_seed": (ours - other).tolist(),
            }
    return methods


def list_differences(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: the first method less each other one, paired by seed.

    Args:
      methods: "methods" of `aggregate`.
    """
    first, *others = methods
    titles = {"source": ("source tasks", ".1f"), **COLUMNS}
    titles["target"] = ("target tasks, adapted", ".1f")
    shown = [
        name
        for name in titles
        if others and all("difference" in methods[x].get(name, {}) for x in others)
    ]
    if not shown:
        return []
    rows = [
        [
            Cell(other),
            *(
                _interval_cell(methods[other][name]["difference"], titles[name][1])
                for name in shown
            ),
        ]
        for other in others
    ]
    return [
        "",
        f"What {first} have more than each other method: differences within seeds, "
        "whose methods share a meta-policy, with the 95% interval of the paired t "
        "test.",
        "",
        Table(["less", *(titles[name][0] for name in shown)], rows).to_markdown(),
    ]


def draw_curves(runs: Sequence[RunResults]) -> Figure:
    """A panel a task, a line a seed: success while training, or return without it.

    Group training, of the estimated groups, begins at the dashed line.

    Raises:
      ValueError: a run has no learning curves, or not of the same numbers.
    """
    with needs_extra("experiments"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    for run in runs:
        if "meta-training" not in run.learning_curves:
            raise ValueError(f"the run of seed {run.seed} has no learning curves")
        if shown_curve(run) != shown_curve(runs[0]):
            raise ValueError(
                f"the run of seed {run.seed} has curves of {shown_curve(run)}, that of "
                f"seed {runs[0].seed} of {shown_curve(runs[0])}"
            )
    names, shown = runs[0].task_names, shown_curve(runs[0])
    is_success = shown == "success"
    boundary = runs[0].learning_curves["meta-training"]["steps"][-1]
    columns = min(len(names), 5)
    rows = -(-len(names) // columns)
    with rc_context(figure_style()):
        figure = Figure(figsize=(6.75, 0.7 + 1.15 * rows), layout="constrained")
        panels = figure.subplots(
            rows, columns, sharex=True, sharey=is_success, squeeze=False
        )
        for axes in panels.ravel()[len(names) :]:
            axes.set_visible(False)
        for task, (axes, name) in enumerate(zip(panels.ravel(), names, strict=False)):
            for number, run in enumerate(runs):
                _draw_seed(axes, run, shown, task, group_color(number))
            axes.axvline(boundary, c=MUTED, lw=0.6, ls="--")
            axes.set_title(name, fontsize=6.5, fontweight="normal")
            label_steps(axes, 3)
        figure.supxlabel("environment steps per task", fontsize=8)
        figure.supylabel("success rate" if is_success else "return", fontsize=8)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(runs))
    return figure


def _draw_seed(axes: Axes, run: RunResults, shown: str, task: int, color: str) -> None:
    """The curves of all stages of one run, one after the other."""
    start = 0.0
    for curve in run.learning_curves.values():
        steps = start + np.array(curve["steps"], dtype=np.float64)
        values = np.array(curve[shown], dtype=np.float64)[:, [task]]
        axes.plot(
            steps,
            fill_gaps(smooth(values), steps),
            color=color,
            lw=1.0,
            label=f"seed {run.seed}" if start == 0.0 else None,
        )
        start = steps[-1]


def _measure_agreement(runs: Sequence[RunResults]) -> dict[str, Any]:
    """Normalized mutual information of estimated groups, 1 where they are the same.

    Returns:
      "seeds": the mean over pairs of runs; None for a single run. "chance": that of
      groups of the same sizes drawn at random. "resamples": of each run's groups with
      those of its bootstrap resamples, the mean; None where it has no resamples.
    """
    labels = [run.groups["estimated"] for run in runs]
    pairs = list(itertools.combinations(labels, 2))

    def mean(measure: Callable[..., float]) -> float | None:
        return float(np.mean([measure(*pair) for pair in pairs])) if pairs else None

    return {
        "seeds": mean(normalized_mutual_information),
        "chance": mean(chance_agreement),
        "resamples": [
            float(np.mean(run.uncertainty["nmi"])) if run.uncertainty else None
            for run in runs
        ],
    }


def _summarize_method(runs: Sequence[RunResults], name: str) -> dict[str, Any]:
    methods = [next(m for m in run.methods if m["name"] == name) for run in runs]
    summary: dict[str, Any] = {"num_policies": [m["num_policies"] for m in methods]}
    pairs = zip(runs, methods, strict=True)
    nmi = [run.nmi.get(m.get("grouping", name)) for run, m in pairs]
    if None not in nmi:
        summary["nmi"] = nmi
    steps = [x for m in methods if (x := m.get("env_steps")) is not None]
    if len(steps) == len(methods):
        summary["env_steps"] = {
            stage: round(float(np.mean([x.get(stage, 0) for x in steps])))
            for stage in dict.fromkeys(name for x in steps for name in x)
        }
    for column in COLUMNS:
        if any(m.get(column) is None for m in methods):
            continue
        # One mean per seed; tasks and draws are averaged within.
        per_seed = np.array([np.mean(m[column]) for m in methods])
        summary[column] = {
            "mean": float(per_seed.mean()),
            "interval": _mean_interval(per_seed),
            "per_seed": per_seed.tolist(),
        }
        if column != "scalarized":
            per_task = np.mean([np.mean(m[column], axis=0) for m in methods], axis=0)
            summary[column]["per_task"] = per_task.tolist()
    for tasks in ("source", "target"):
        returns = [x for m in methods if (x := m[tasks]) is not None]
        if len(returns) < len(methods):
            continue
        # One mean per seed and draw; episodes and tasks are averaged within.
        means = np.array([np.mean(x, axis=(1, 2)) for x in returns])
        per_seed = means.mean(axis=1)
        per_task = np.array([np.mean(x, axis=(0, 2)) for x in returns])
        summary[tasks] = {
            "mean": float(per_seed.mean()),
            "interval": _mean_interval(per_seed),
            "interquartile_mean_of_tasks": float(interquartile_mean(per_task)),
            "per_seed": per_seed.tolist(),
            "per_draw": means.tolist(),
        }
    return summary


def _mean_interval(per_seed: np.ndarray) -> list[float] | None:
    """The 95% t interval of the mean over seeds; None of a single seed."""
    return list(t_interval(per_seed)) if len(per_seed) > 1 else None


def _list_steps(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: the environment steps of every method, by stage."""
    if not all("env_steps" in summary for summary in methods.values()):
        return []
    stages = dict.fromkeys(x for m in methods.values() for x in m["env_steps"])
    rows = []
    for name, summary in methods.items():
        counts = [summary["env_steps"].get(stage, 0) for stage in stages]
        rows.append([name, *(f"{x:,}" for x in (*counts, sum(counts)))])
    titles = [stage.replace("_", " ") for stage in stages]
    return [
        "",
        "Environment steps behind one draw of each method, over all tasks:",
        "",
        Table(["method", *titles, "all"], rows).to_markdown(),
    ]


def _count_policies(counts: Sequence[int]) -> Cell:
    fewest, most = min(counts), max(counts)
    return Cell(str(fewest) if fewest == most else f"{fewest} to {most}")


def _interval_cell(entry: Mapping[str, Any], form: str) -> Cell:
    mean = format(entry["mean"], form)
    if entry["interval"] is None:
        return Cell(mean)
    low, high = (format(x, form) for x in entry["interval"])
    return Cell(mean, f"[{low}, {high}]")


def _tabulate_success(entries: Mapping[str, Any]) -> Table:
    """One row a task, one column a method."""
    methods = entries["methods"]
    per_task = zip(*(m["success"]["per_task"] for m in methods.values()), strict=True)
    rows = [
        [task, *(f"{x:.1%}" for x in values)]
        for task, values in zip(entries["task_names"], per_task, strict=True)
    ]
    return Table(["task", *methods], rows)


def _list_groups(entries: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown: the estimated groups, and how certain they are."""
    agreement, names = entries["agreement"], entries["task_names"]
    lines = ["", "Estimated groups:", ""]
    for seed, labels, nmi in zip(
        entries["seeds"], entries["groups"], agreement["resamples"], strict=True
    ):
        groups = " | ".join(
            ", ".join(name for name, x in zip(names, labels, strict=True) if x == group)
            for group in range(max(labels) + 1)
        )
        certainty = "" if nmi is None else f" (bootstrap resamples: {nmi:.2f})"
        lines.append(f"- seed {seed}: {groups}{certainty}")
    if agreement["seeds"] is not None:
        lines += [
            "",
            "Agreement (normalized mutual information, 1 for the same groups) between "
            f"seeds: {agreement['seeds']:.2f}; by chance: {agreement['chance']:.2f}.",
        ]
    return lines
