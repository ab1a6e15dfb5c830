"""Puts the results of several finished runs of one suite, one per seed, in one table.

    python experiments/aggregate.py --output=experiments/results/cartpole \
        runs/cartpole_0 runs/cartpole_1 runs/cartpole_2

Writes OUTPUT.json and OUTPUT.md. Intervals are 95% bootstrap intervals of the mean,
which resample seeds, and draws with them. The page ends with each seed's groups and
how far seeds agree on them. With --curves also a figure, OUTPUT_learning_curves.png: a
panel a task, a line a seed.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import app, flags

from pgx_jax.analysis.statistics import (
    bootstrap_interval,
    chance_agreement,
    interquartile_mean,
    normalized_mutual_information,
)
from pgx_jax.config import PipelineConfig
from pgx_jax.report import (
    MUTED,
    RunResults,
    figure_style,
    group_colour,
    short_count,
    shown_curve,
    smooth,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

_OUTPUT = flags.DEFINE_string("output", None, "Where to write, without an ending.")
_CURVES = flags.DEFINE_bool("curves", False, "Also draw learning curves.")
flags.mark_flag_as_required("output")
# What runs may have besides returns, and what tables call it.
COLUMNS = {
    "success": "success",
    "sampled_return": "source tasks, actions sampled",
    "sampled_success": "success, actions sampled",
    "scalarized": "scalarised",
}
FORMATS = {"success": ".1%", "sampled_success": ".1%", "scalarized": ".2f"}


def main(argv: list[str]) -> None:
    if len(argv) < 2:
        raise app.UsageError("name the workdirs of the runs to aggregate")
    runs = [RunResults.from_json(Path(path) / "results.json") for path in argv[1:]]
    table = aggregate(runs)
    table["command"] = shlex.join(["python", *sys.argv])
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(table, indent=1) + "\n")
    output.with_suffix(".md").write_text(to_markdown(table))
    if _CURVES.value:
        figure = draw_curves(runs)
        figure.savefig(output.with_name(f"{output.name}_learning_curves.png"), dpi=200)
    print(to_markdown(table))


def aggregate(runs: list[RunResults]) -> dict:
    """One entry per method, over all runs.

    Raises:
      ValueError: the runs are of different suites, settings or repeated seeds.
    """
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"workdirs repeat a seed: {seeds}")
    # What a run of an older version did not know has its default.
    settings = [
        PipelineConfig.from_dict({**run.config, "seed": 0}).to_dict() | {"seed": None}
        for run in runs
    ]
    if any(s != settings[0] for s in settings):
        raise ValueError("workdirs hold runs of different settings")
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
        "agreement": _agreement(runs),
        "seconds": [sum(t["seconds"] for t in run.timings) for run in runs],
        "methods": {name: _summarise(runs, name) for name in names},
    }


def _agreement(runs: list[RunResults]) -> dict:
    """Normalised mutual information of estimated groups, 1 where they are the same.

    Returns:
      "seeds": the mean over pairs of runs; None for a single run. "chance": that of
      groups of the same sizes drawn at random. "resamples": of each run's groups with
      those of its bootstrap resamples, the mean; None where it has no resamples.
    """
    labels = [run.groups["estimated"] for run in runs]
    pairs = list(itertools.combinations(labels, 2))

    def mean(measure: Callable) -> float | None:
        return float(np.mean([measure(*pair) for pair in pairs])) if pairs else None

    return {
        "seeds": mean(normalized_mutual_information),
        "chance": mean(chance_agreement),
        "resamples": [
            float(np.mean(run.uncertainty["nmi"])) if run.uncertainty else None
            for run in runs
        ],
    }


def _summarise(runs: list[RunResults], name: str) -> dict:
    methods = [next(m for m in run.methods if m["name"] == name) for run in runs]
    summary = {"num_policies": [m["num_policies"] for m in methods]}
    nmi = [run.nmi.get(m["grouping"]) for run, m in zip(runs, methods, strict=True)]
    if None not in nmi:
        summary["nmi"] = nmi
    for column in COLUMNS:
        if any(m.get(column) is None for m in methods):
            continue
        # One mean per seed; tasks and draws are averaged within.
        per_seed = np.array([np.mean(m[column]) for m in methods])
        summary[column] = {
            "mean": float(per_seed.mean()),
            "interval": bootstrap_interval(per_seed),
            "per_seed": per_seed.tolist(),
        }
        if column != "scalarized":
            per_task = np.mean([np.mean(m[column], axis=0) for m in methods], axis=0)
            summary[column]["per_task"] = per_task.tolist()
    for tasks in ("source", "target"):
        if methods[0][tasks] is None:
            continue
        # One mean per seed and draw; episodes and tasks are averaged within.
        means = np.array([np.mean(m[tasks], axis=(1, 2)) for m in methods])
        per_seed = means.mean(axis=1)
        per_task = np.array([np.mean(m[tasks], axis=(0, 2)) for m in methods])
        low, high = bootstrap_interval(per_seed)
        summary[tasks] = {
            "mean": float(per_seed.mean()),
            "interval": [low, high],
            "interquartile_mean_of_tasks": float(interquartile_mean(per_task)),
            "per_seed": per_seed.tolist(),
            "per_draw": means.tolist(),
        }
    return summary


def to_markdown(table: dict) -> str:
    """The table as Markdown, with what it was made by."""
    has_target = "target" in next(iter(table["methods"].values()))
    has_nmi = "nmi" in next(iter(table["methods"].values()))
    columns = [x for x in COLUMNS if x in next(iter(table["methods"].values()))]
    head = ["method", "policies", "source tasks", *(COLUMNS[x] for x in columns)]
    head += ["target tasks, adapted"] if has_target else []
    head += ["NMI with planted groups, by seed"] if has_nmi else []
    lines = [
        f"# {table['suite']}",
        "",
        f"Mean return over seeds {', '.join(map(str, table['seeds']))}, with the 95% "
        "bootstrap interval over seeds. Regenerate each run with",
        f"`{table['run_command']}` (one `--config.seed` and `--workdir` each) and this "
        "page with",
        f"`{table['command']}`.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for name, summary in table["methods"].items():
        policies = sorted(set(summary["num_policies"]))
        cells = [name, " to ".join(map(str, policies[:: max(1, len(policies) - 1)]))]
        for tasks in ("source", "target")[: 1 + has_target]:
            value = summary[tasks]
            low, high = value["interval"]
            cells.append(f"{value['mean']:.1f} [{low:.1f}, {high:.1f}]")
            for column in columns if tasks == "source" else []:
                numbers = summary[column]["mean"], *summary[column]["interval"]
                form = FORMATS.get(column, ".1f")
                mean, low, high = (format(x, form) for x in numbers)
                cells.append(f"{mean} [{low}, {high}]")
        if has_nmi:
            cells.append(", ".join(f"{x:.2f}" for x in summary["nmi"]))
        lines.append("| " + " | ".join(cells) + " |")
    if "success" in columns:
        lines += _success_of_tasks(table)
    lines += _groups_of_seeds(table)
    versions = ", ".join(f"{k} {v}" for k, v in table["versions"].items())
    lines += [
        "",
        f"Device: {', '.join(table['device'])}. Versions: {versions}. "
        f"Commit: {', '.join(table['commit'])}. Seconds per run: "
        f"{', '.join(f'{x:.0f}' for x in table['seconds'])}.",
        "",
    ]
    return "\n".join(lines)


def _success_of_tasks(table: dict) -> list[str]:
    """Lines of a table of Markdown: one row a task, one column a method."""
    methods = table["methods"]
    lines = [
        "",
        "Success of each task, mean over seeds:",
        "",
        "| task | " + " | ".join(methods) + " |",
        "|---|" + "--:|" * len(methods),
    ]
    for i, task in enumerate(table["task_names"]):
        values = [summary["success"]["per_task"][i] for summary in methods.values()]
        lines.append(f"| {task} | " + " | ".join(f"{x:.1%}" for x in values) + " |")
    return lines


def _groups_of_seeds(table: dict) -> list[str]:
    """Lines of Markdown: the estimated groups, and how certain they are."""
    agreement, names = table["agreement"], table["task_names"]
    lines = ["", "Estimated groups:", ""]
    for seed, labels, nmi in zip(
        table["seeds"], table["groups"], agreement["resamples"], strict=True
    ):
        groups = " | ".join(
            ", ".join(name for name, x in zip(names, labels, strict=True) if x == group)
            for group in range(max(labels) + 1)
        )
        sure = "" if nmi is None else f" (bootstrap resamples: {nmi:.2f})"
        lines.append(f"- seed {seed}: {groups}{sure}")
    if agreement["seeds"] is not None:
        lines += [
            "",
            "Agreement (normalised mutual information, 1 for the same groups) between "
            f"seeds: {agreement['seeds']:.2f}; by chance: {agreement['chance']:.2f}.",
        ]
    return lines


def draw_curves(runs: list[RunResults]) -> Figure:
    """Success of every task while training, or its return where tasks do not tell.

    Group training, of the estimated groups, begins at the dashed line.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    stages = runs[0].learning_curves
    shown = shown_curve(runs[0])
    told = shown == "success"
    names = runs[0].task_names
    columns = min(len(names), 5)
    rows = -(-len(names) // columns)
    with rc_context(figure_style()):
        figure = Figure(figsize=(6.75, 0.7 + 1.15 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=told, squeeze=False)
        for task, axes in enumerate(panels.ravel()):
            if task >= len(names):
                axes.set_visible(False)
                continue
            for colour, run in enumerate(runs):
                start = 0.0
                for curve in run.learning_curves.values():
                    steps = start + np.array(curve["steps"])
                    values = np.array(curve[shown])
                    axes.plot(
                        steps,
                        smooth(values[:, [task]]),
                        color=group_colour(colour),
                        lw=1.0,
                        label=f"seed {run.seed}" if start == 0.0 else None,
                    )
                    start = steps[-1]
            axes.axvline(stages["meta-training"]["steps"][-1], c=MUTED, lw=0.6, ls="--")
            axes.set_title(names[task], fontsize=6.5, fontweight="normal")
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
            axes.grid(axis="y")
        figure.supxlabel("environment steps per task", fontsize=8)
        figure.supylabel("success rate" if told else "return", fontsize=8)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(runs))
    return figure


if __name__ == "__main__":
    app.run(main)
