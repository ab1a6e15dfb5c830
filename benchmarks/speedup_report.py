"""What `speedup.py` reports: agreement, a table and a figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import pgx_jax as pge
from pgx_jax.analysis.statistics import normalized_mutual_information, rank_correlation
from pgx_jax.appearance import GROUP_COLORS, figure_style
from pgx_jax.evaluation.oracle import SubsetScores
from pgx_jax.reporting.tables import Table


def compare(
    subsets: np.ndarray,
    scores: Mapping[str, np.ndarray],
    num_groups: int,
    planted: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """How well the estimate, and the oracle's second run, agree with its first.

    The relative error is |f - g| / |f| in Euclidean norms over all tasks of all
    subsets, where f are the oracle's scores and g is the closest linear function of the
    other scores for each task, as the estimate is not in units of return. The error of
    the best constant is that of a g that knows nothing about subsets.

    Args:
      subsets: bool [m, n].
      scores: "estimate", "oracle" and "oracle_again"; float [m, n].
      num_groups: k.
      planted: groups known beforehand, or None.
    """
    upper = np.triu_indices(subsets.shape[1], k=1)
    affinity = {
        name: np.asarray(pge.task_affinity(SubsetScores(subsets, f))[0])
        for name, f in scores.items()
    }
    labels = {
        name: pge.cluster_tasks(matrix, num_groups).labels
        for name, matrix in affinity.items()
    }
    by_task = {
        name: [f[held, i].astype(np.float64) for i, held in enumerate(subsets.T)]
        for name, f in scores.items()
    }
    agreement = {}
    for name in ("estimate", "oracle_again"):
        pairs = list(zip(by_task["oracle"], by_task[name], strict=True))
        correlations = [rank_correlation(f, g) for f, g in pairs]
        agreement[name] = {
            "nmi": normalized_mutual_information(labels["oracle"], labels[name]),
            "affinity_rank_correlation": mean(
                [rank_correlation(affinity["oracle"][upper], affinity[name][upper])]
            ),
            "score_rank_correlation": mean(correlations),
            "relative_error": _relative_error(pairs),
        }
    constant = [(f, np.zeros_like(f)) for f in by_task["oracle"]]
    return {
        "agreement": agreement,
        "relative_error_of_constant": _relative_error(constant),
        "planted_nmi": planted
        and {
            name: normalized_mutual_information(planted, x)
            for name, x in labels.items()
        },
        "labels": {name: x.tolist() for name, x in labels.items()},
        "affinity": {name: x.tolist() for name, x in affinity.items()},
        "oracle_mean_scores": [float(f.mean()) for f in by_task["oracle"]],
    }


def _relative_error(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """See `compare`; pairs of f and g, one a task."""
    left, total = 0.0, 0.0
    for f, g in pairs:
        design = np.stack([np.ones_like(g), g], axis=1)
        left += np.sum((f - design @ np.linalg.lstsq(design, f)[0]) ** 2)
        total += np.sum(f**2)
    return float(np.sqrt(left / total)) if total else 0.0


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the finite values; None if there are none."""
    known = [x for x in values if x is not None and np.isfinite(x)]
    return float(np.mean(known)) if known else None


def summarize(config: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What OUTPUT.json holds: the config, means over seeds, and the rows."""
    summary = []
    for suite, layers in dict.fromkeys((r["suite"], r["layers"]) for r in rows):
        cells = [r for r in rows if (r["suite"], r["layers"]) == (suite, layers)]
        first = cells[0]
        averaged = ("seconds", "flops", "speedup", "agreement", "planted_nmi")
        summary.append(
            {
                "suite": suite,
                "layers": layers,
                "num_parameters": first["num_parameters"],
                "seeds": [r["seed"] for r in cells],
                "compile_seconds": {
                    name: max(r["compile_seconds"][name] for r in cells)
                    for name in first["compile_seconds"]
                },
                **{name: _mean_of([r[name] for r in cells]) for name in averaged},
                "relative_error_of_constant": mean(
                    r["relative_error_of_constant"] for r in cells
                ),
            }
        )
    return {"config": config, "summary": summary, "rows": rows}


def _mean_of(trees: list[Any]) -> Any:
    """Means of the numbers in dicts of one structure."""
    if isinstance(trees[0], Mapping):
        return {name: _mean_of([tree[name] for tree in trees]) for name in trees[0]}
    return mean(trees)


def write_page(document: Mapping[str, Any]) -> str:
    """A page of Markdown: the table and its provenance."""
    config, rows, summary = (document[x] for x in ("config", "rows", "summary"))
    lines = [
        "# The estimate against fine-tuning on every subset",
        "",
        f"m = {rows[0]['num_subsets']} subsets of "
        f"{config['subset_size']} tasks. The oracle fine-tunes the "
        f"meta-policy on each for {config['oracle']['num_updates']} PPO updates and "
        f"evaluates it on {config['oracle']['num_episodes']} episodes a task, "
        f"{rows[0]['block_size']} subset(s) a program. Means over seeds "
        f"{_list(r['seed'] for r in rows)}. Costs are those from the meta-policy to "
        "the affinity without compilation: the median of "
        f"{config['repeats']} calls of the estimate and the faster of two runs of the "
        "oracle; in parentheses, with meta-training added on both sides. Agreement is "
        "that of the estimate with the oracle / of the oracle under another seed with "
        "the oracle, which is its noise.",
        "",
        Table(_HEADER, [_make_row(x) for x in summary]).to_markdown(),
    ]
    compiled = {
        name: max(entry["compile_seconds"][name] for entry in summary)
        for name in summary[0]["compile_seconds"]
    }
    made_by = [row["made_by"] for row in rows]
    versions = dict.fromkeys(
        f"{name} {version}" for x in made_by for name, version in x["versions"].items()
    )
    lines += [
        "",
        "The relative error is that of the oracle's f_i(S) from the closest linear "
        "function of the other's for each task, since the estimate is not in units of "
        "return; the last one is that of each task's mean alone.",
        "",
        "FLOPs are counted from the traced programs "
        "(`count_flops` of `benchmarks/flops.py`). Compilation took at most "
        f"{compiled['estimate']:.0f} s for the estimate, {compiled['oracle']:.0f} s "
        f"for the oracle and {compiled['meta_training']:.0f} s for meta-training.",
        "",
        f"Device: {_list(x['device'] for x in made_by)}. Versions: {_list(versions)}. "
        f"Commit: {_list(x['commit'] for x in made_by)}. Regenerate with",
        *(f"`{x}`" for x in dict.fromkeys(x["command"] for x in made_by)),
        "",
    ]
    return "\n".join(lines)


_HEADER = ("suite", "layers", "p", "estimate, s", "oracle, s", "times faster, wall")
_HEADER += ("times fewer FLOPs", "NMI", "rank corr. of U", "rank corr. of f")
_HEADER += ("relative error of f",)


def _make_row(entry: Mapping[str, Any]) -> list[str]:
    cells = [entry["suite"], str(entry["layers"]), f"{entry['num_parameters']:,}"]
    cells += [f"{entry['seconds'][name]:.3g}" for name in ("estimate", "oracle")]
    for kind in ("wall", "flops"):
        ratio = entry["speedup"][kind]
        cells.append(
            f"{ratio['without_meta_training']:.0f} ({ratio['with_meta_training']:.0f})"
        )
    ways = entry["agreement"]["estimate"], entry["agreement"]["oracle_again"]
    for field in ("nmi", "affinity_rank_correlation", "score_rank_correlation"):
        cells.append(" / ".join(_number(way[field], ".2f") for way in ways))
    errors = [way["relative_error"] for way in ways]
    errors.append(entry["relative_error_of_constant"])
    cells.append(" / ".join(_number(x, ".1%") for x in errors))
    return cells


def _list(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def one_line(row: Mapping[str, Any]) -> str:
    wall, flops = (
        row["speedup"][kind]["without_meta_training"] for kind in ("wall", "flops")
    )
    nmi, noise = (
        row["agreement"][name]["nmi"] for name in ("estimate", "oracle_again")
    )
    return (
        f"{row['suite']}, {row['layers']} layers, seed {row['seed']}: {wall:.0f} times "
        f"faster, {flops:.0f} times fewer FLOPs, NMI {nmi:.2f} (oracle with itself "
        f"{noise:.2f})"
    )


_BLUE, _ORANGE, _GREEN, _GRAY = (*GROUP_COLORS[:3], GROUP_COLORS[-1])


def draw(document: Mapping[str, Any], path: Path) -> None:
    """One figure: speedup, agreement, and the affinities of one cell of each suite.

    Args:
      document: what OUTPUT.json holds.
      path: of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    style: Any = {**figure_style(), "text.parse_math": True, "legend.fontsize": 7}
    rows = document["rows"]
    shown = {row["suite"]: row for row in reversed(rows)}  # the first of each suite
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            1,
            2 + len(shown),
            figsize=(2.4 * (2 + len(shown)), 2.4),
            layout="constrained",
        )
        _draw_costs(axes[0], rows)
        _draw_agreement(axes[1], rows)
        for panel, row in zip(axes[2:], reversed(shown.values()), strict=True):
            _draw_affinities(panel, row)
        figure.savefig(path, dpi=250)
        plt.close(figure)


def _draw_costs(axes, rows) -> None:
    for kind, color, label, shift in (
        ("wall", _BLUE, "wall time", -0.24),
        ("flops", _ORANGE, "FLOPs", 0.24),
    ):
        costs = [r["speedup"][kind]["without_meta_training"] for r in rows]
        _draw_seeds(axes, rows, costs, shift=shift, color=color, label=label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("cost of oracle / of estimate")
    axes.set_title("Speedup")
    axes.legend(loc="lower left")


def _draw_agreement(axes, rows) -> None:
    for name, color, label, shift in (
        ("estimate", _BLUE, "estimate", -0.24),
        ("oracle_again", _GRAY, "oracle, other seed", 0.24),
    ):
        found = [r["agreement"][name]["affinity_rank_correlation"] for r in rows]
        _draw_seeds(axes, rows, found, shift=shift, color=color, label=label)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("rank correlation of $U$")
    axes.set_title("Agreement with the oracle")
    axes.legend(loc="lower left")


def _draw_seeds(axes, rows, found, *, shift: float, color: str, label: str) -> None:
    """A line for the mean and a point for every seed, by suite and depth."""
    of = [(r["suite"], r["layers"]) for r in rows]
    cells = list(dict.fromkeys(of))
    for x, cell in enumerate(cells):
        values = [
            v for v, c in zip(found, of, strict=True) if c == cell and v is not None
        ]
        if values:
            x = x + shift
            axes.hlines(np.mean(values), x - 0.18, x + 0.18, color=color, lw=2)
            axes.scatter([x] * len(values), values, s=10, color=color, alpha=0.6, lw=0)
    axes.scatter([], [], s=14, color=color, label=label)
    axes.set_xlim(-0.6, len(cells) - 0.4)
    axes.set_xticks(range(len(cells)), [f"{layers}" for _, layers in cells])
    axes.set_xlabel("hidden layers")
    for suite in dict.fromkeys(suite for suite, _ in cells):
        places = [x for x, (name, _) in enumerate(cells) if name == suite]
        axes.annotate(
            suite,
            (np.mean(places), 0),
            (0, -16),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7,
        )
    axes.xaxis.labelpad = 12


def _draw_affinities(axes, row) -> None:
    """Pairs of tasks of one cell, colored by whether the oracle groups them."""
    labels = np.array(row["labels"]["oracle"])
    upper = np.triu_indices(len(labels), k=1)
    estimate, oracle = (
        np.array(row["affinity"][name])[upper] for name in ("estimate", "oracle")
    )
    together = (labels[:, None] == labels)[upper]
    for pairs, color, label in (
        (together, _GREEN, "same group"),
        (~together, _GRAY, "different groups"),
    ):
        axes.scatter(
            estimate[pairs], oracle[pairs], s=14, color=color, label=label, lw=0
        )
    axes.set_xlabel("estimated $U_{ij}$")
    axes.set_ylabel("oracle's $U_{ij}$")
    axes.set_title(f"{row['suite']}, {row['layers']} layers")
    axes.legend(loc="upper left", title="by the oracle", title_fontsize=7)
