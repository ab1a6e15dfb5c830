"""What each setting of the estimate is worth, on truth tables and without training.

    python experiments/ablations.py --tables=experiments/results/truth \
        --output=experiments/results/ablations

Reads NAME.npz of `experiments/truth_table.py`, and methods.json and races.json beside
them. One setting at a time is changed; the partitions that are then chosen are scored
as in `partition_methods.py`: 0 is a partition at random, 100 the best one; the mean
over k from 2 to 5 (below n) or, where k is chosen, among all partitions. Two sources of
scores f_i(S) are put side by side: the estimate (logistic regressions on 32,768
transitions a task, d = 160) judged by all trainings, and one training of every subset
judged by the others, which is what the estimate stands for.

Writes OUTPUT.json, OUTPUT.md and a figure, OUTPUT.png and .pdf.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import truth_files
from absl import app, flags
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from truth_files import KEPT_ASIDE, Loaded, Scored

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.statistics import bootstrap_interval
from pgx_jax.appearance import ACCENT, APART, figure_style
from pgx_jax.cli.common import shown_command
from pgx_jax.grouping.candidates import affinity_scores
from pgx_jax.reporting.figures import save_figure
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.provenance import describe, format_provenance

FLAGS = flags.FLAGS
flags.DEFINE_string("tables", None, "Directory of the tables.")
flags.DEFINE_string("output", None, "Where to write, without an ending.")

# Written down before measuring, of the means over tables for development. Scores of
# cosines by transitions and of least squares by ridges had been seen before.
PREDICTED = {
    "subset sizes": "2, 3 and 2 to n - 1 within 10 points of each other for either "
    "source; n - 1 alone at least 20 below them",
    "number of subsets": "six tenths of all subsets within 10 points of all",
    "score": "standardized at least 20 points above mean for the estimate",
    "search": "the semidefinite program within 5 points of the search for the same U, "
    "and every subset's own scores above U by 10 for trainings",
    "number of groups": "no estimate that chooses k above the better of one policy and "
    "single tasks; the race above all",
    "dimension": "d = 160 within 5 points of all parameters, d = 10 at least 20 below",
}
# What settings are compared with, table by table.
REFERENCES = {
    "subset sizes": "3",
    "number of subsets": "100%",
    "score": "standardized",
    "search": "search, U",
    "number of groups": "chosen, standardized U",
    "transitions": "cosine, 32,768",
    "dimension": "all parameters, 131,072",
    "l2 of least squares": "1, N = 32,768",
    "regression, N = 32,768": "logistic",
    "number of groups, not estimated": "one policy or single tasks",
}
SHARES = (0.4, 0.6, 0.8, 1.0)  # of all subsets of 2 to n - 1 tasks
NUM_DRAWS = 20
DIMENSIONS = (5, 10, 20, 40, 80, 160)
TRANSITIONS = {
    "2,048": "2048",
    "8,192": "8192",
    "32,768": "32768",
    "131,072": "chunk",
}
ESTIMATE, TRAINED = "estimate", "one training"
STORED = "stored"  # scores that other scripts have measured


class Source(NamedTuple):
    """Scores of every subset, and the trainings that judge what they choose.

    Attributes:
      name: "estimate" or "one training".
      scored: f_i(S) of all subsets.
      judges: numbers of trainings.
    """

    name: str
    scored: Scored
    judges: list[int]


class Measured(NamedTuple):
    """A partition score of one setting on one table."""

    setting: str
    source: str
    score: float


# An ablation yields the score of each of its settings, some of them several times.
Ablation = Callable[[Loaded, PartitionJudge], Iterator[Measured]]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    directory, output = Path(FLAGS.tables), Path(FLAGS.output)
    paths = truth_files.list_tables(FLAGS.tables)
    found: dict[str, Any] = {axis: {} for axis in ABLATIONS}
    for path in paths:
        table = truth_files.load(path)
        judge = PartitionJudge(table.truth)
        for axis, ablation in ABLATIONS.items():
            add_means(found[axis], path.stem, ablation(table, judge))
        print(f"{path.stem} is done", flush=True)
    found |= read_stored(directory, [path.stem for path in paths])
    about = {"command": shown_command(), **describe()}
    document = {**about, "predicted": PREDICTED, "ablations": found}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    page = f"{format_provenance(about)}\n\n{to_markdown(found)}\n"
    output.with_suffix(".md").write_text(page)
    save_figure(draw(found), output)
    print(page)


def add_means(
    axis: dict[str, dict[str, dict[str, float]]],
    table: str,
    measured: Iterator[Measured],
) -> None:
    """Puts means over draws and trainings into setting, source and table."""
    scores: dict[tuple[str, str], list[float]] = {}
    for x in measured:
        scores.setdefault((x.setting, x.source), []).append(x.score)
    for (setting, source), values in scores.items():
        row = axis.setdefault(setting, {}).setdefault(source, {})
        row[table] = float(np.nanmean(values))


def list_sources(table: Loaded, judge: PartitionJudge) -> list[Source]:
    """The estimate, and each training as if it were one."""
    subsets, values = table.truth.subsets, table.truth.values
    everything = list(range(len(values)))
    estimate = Scored(subsets, np.asarray(table.known["surrogate_32768"]))
    return [
        Source(ESTIMATE, estimate, everything),
        *(
            Source(TRAINED, Scored(subsets, np.where(subsets, x, 0.0)), judge.others(r))
            for r, x in enumerate(values)
        ),
    ]


def score_affinity(
    table: Loaded, judge: PartitionJudge, matrix: ArrayLike, judges: Sequence[int]
) -> float:
    """The score of the partitions with the largest <U, X>, a mean over k."""
    subsets = table.truth.subsets
    scored = Scored(subsets, affinity_scores(matrix, subsets))
    return score_search(table, judge, scored, judges)


def score_search(
    table: Loaded, judge: PartitionJudge, scored: Scored, judges: Sequence[int]
) -> float:
    """The score of the best partitions by f_i(S), a mean over k."""
    found = [pge.best_partition(scored, k).labels for k in table.ks]
    return float(np.nanmean([judge.score(x, judges) for x in found]))


def choose_rows(scored: Scored, rows: np.ndarray) -> Scored:
    """Some of the subsets."""
    return Scored(scored.subsets[rows], scored.scores[rows])


def ablate_sizes(table: Loaded, judge: PartitionJudge) -> Iterator[Measured]:
    """U from the subsets of some sizes."""
    n = table.truth.num_tasks
    size = table.truth.subsets.sum(axis=1)
    kinds = {
        "2": size == 2,
        "3": size == 3,
        "4": size == 4,
        "n - 1": size == n - 1,
        "2 and 3": (size == 2) | (size == 3),
        "2 to n - 1": (size >= 2) & (size < n),
        "2 to n": size >= 2,
    }
    for source in list_sources(table, judge):
        for name, rows in kinds.items():
            matrix = pge.task_affinity(choose_rows(source.scored, rows)).matrix
            score = score_affinity(table, judge, matrix, source.judges)
            yield Measured(name, source.name, score)


def ablate_numbers(table: Loaded, judge: PartitionJudge) -> Iterator[Measured]:
    """U from some subsets of 2 to n - 1 tasks, drawn so that all pairs are covered."""
    n, subsets = table.truth.num_tasks, table.truth.subsets
    size = subsets.sum(axis=1)
    mixed = np.flatnonzero((size >= 2) & (size < n))
    sources = list_sources(table, judge)
    for share in SHARES:
        number = round(share * len(mixed))
        for draw in range(NUM_DRAWS if share < 1.0 else 1):
            rng = np.random.default_rng([n, number, draw])
            rows = draw_rows(subsets, mixed, number, rng)
            # A training for every draw: both are varied at once.
            chosen = sources if share == 1.0 else [sources[0], sources[1 + draw % 4]]
            for source in chosen:
                matrix = pge.task_affinity(choose_rows(source.scored, rows)).matrix
                score = score_affinity(table, judge, matrix, source.judges)
                yield Measured(f"{share:.0%}", source.name, score)


def draw_rows(
    subsets: np.ndarray, rows: np.ndarray, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Some of the rows, drawn again until each pair of tasks shares a subset."""
    for _ in range(100_000):
        chosen = rng.choice(rows, number, replace=False)
        member = subsets[chosen].astype(int)
        if np.all(member.T @ member > 0):
            return np.sort(chosen)
    raise ValueError(f"{number} subsets are too few to cover all pairs of tasks")


def ablate_scores(table: Loaded, judge: PartitionJudge) -> Iterator[Measured]:
    """U by each way to average scores, from all subsets."""
    for source in list_sources(table, judge):
        for score in ("standardized", "mean", "transfer_gain"):
            matrix = pge.task_affinity(source.scored, score=score).matrix
            value = score_affinity(table, judge, matrix, source.judges)
            yield Measured(score, source.name, value)


def ablate_search(table: Loaded, judge: PartitionJudge) -> Iterator[Measured]:
    """From scores to groups."""
    for source in list_sources(table, judge):
        affinity = pge.task_affinity(source.scored)
        clusters = [pge.cluster_tasks(affinity, k).labels for k in table.ks]
        found = {
            "semidefinite program, U": np.nanmean(
                [judge.score(x, source.judges) for x in clusters]
            ),
            "search, U": score_affinity(table, judge, affinity.matrix, source.judges),
            "search, every subset": score_search(
                table, judge, source.scored, source.judges
            ),
        }
        for name, score in found.items():
            yield Measured(name, source.name, float(score))


def ablate_num_groups(table: Loaded, judge: PartitionJudge) -> Iterator[Measured]:
    """Ways to choose k; scores among partitions into any number of groups."""
    for source in list_sources(table, judge):
        affinity = pge.task_affinity(source.scored)
        gain = pge.task_affinity(source.scored, score="transfer_gain")
        found = {
            f"k = {k}": pge.cluster_tasks(affinity, k).labels for k in (2, 3, 4)
        } | {
            "chosen, standardized U": pge.cluster_tasks(affinity).labels,
            "chosen, transfer gain": pge.cluster_tasks(gain).labels,
            "chosen, every subset": pge.best_partition(source.scored).labels,
        }
        for name, labels in found.items():
            score = judge.score(labels, source.judges, any_number=True)
            yield Measured(name, source.name, score)


def ablate_transitions(table: Loaded, judge: PartitionJudge) -> Iterator[Measured]:
    """Cosines of task gradients and logistic estimates from some transitions."""
    judges = list(range(table.truth.num_replicates))
    for shown, size in TRANSITIONS.items():
        matrix = table.known[f"cosine_{size}"]
        score = score_affinity(table, judge, matrix, judges)
        yield Measured(f"cosine, {shown}", ESTIMATE, score)
    for shown in ("8,192", "32,768"):
        scores = table.known[f"surrogate_{TRANSITIONS[shown]}"]
        scored = Scored(table.truth.subsets, np.asarray(scores))
        score = score_search(table, judge, scored, judges)
        yield Measured(f"logistic, {shown}", ESTIMATE, score)


def ablate_dimensions(table: Loaded, judge: PartitionJudge) -> Iterator[Measured]:
    """Cosines of projected gradients, by the first columns of one projection."""
    judges = list(range(table.truth.num_replicates))
    targets = task_targets(table)
    for dim in DIMENSIONS:
        score = score_affinity(table, judge, cross_cosine(targets[..., :dim]), judges)
        yield Measured(f"{dim}", ESTIMATE, score)
    score = score_affinity(table, judge, table.known["cosine_chunk"], judges)
    yield Measured("all parameters, 131,072", ESTIMATE, score)


def task_targets(table: Loaded) -> np.ndarray:
    """The covariance of advantages with projected gradients; float64 [P, n, d]."""
    known = {
        name: np.asarray(table.known[f"{name}_all"], float)
        for name in ("count", "feature", "product", "advantage")
    }
    count = known["count"][..., None]
    mean = known["advantage"][..., None] / count * known["feature"] / count
    return known["product"] / count - mean


def cross_cosine(targets: np.ndarray) -> np.ndarray:
    """Cosines from products of different parts, in which noise has mean 0; [n, n]."""
    parts = len(targets)
    total = targets.sum(axis=0)
    inner = total @ total.T - np.einsum("pid,pjd->ij", targets, targets)
    inner /= parts * (parts - 1)
    norm = np.sqrt(np.maximum(np.diag(inner), 1e-12 * np.abs(inner).max()))
    return inner / np.outer(norm, norm)


ABLATIONS: dict[str, Ablation] = {
    "subset sizes": ablate_sizes,
    "number of subsets": ablate_numbers,
    "score": ablate_scores,
    "search": ablate_search,
    "number of groups": ablate_num_groups,
    "transitions": ablate_transitions,
    "dimension": ablate_dimensions,
}


def read_stored(directory: Path, tables: Sequence[str]) -> dict[str, Any]:
    """Settings that need the sums, and races, from what was scored with them."""
    methods = json.loads((directory / "methods.json").read_text())
    races = json.loads((directory / "races.json").read_text())

    def given(way: str) -> dict[str, dict[str, float]]:
        scores = {
            x: float(np.nanmean(methods[x]["methods"][way]["scores"])) for x in tables
        }
        return {STORED: scores}

    least_squares = "least squares, ridge {}, mean, N = {}"
    sizes = ("8,192", "32,768", "131,072", "all")
    return {
        "l2 of least squares": {
            f"{ridge}, N = {size}": given(least_squares.format(ridge, size))
            for size in sizes
            for ridge in ("0.1", "1", "10", "100")
        },
        "regression, N = 32,768": {
            "cosine": given("cosine, N = 32,768"),
            "logistic": given("surrogate, N = 32,768, best partition"),
            "least squares": given(least_squares.format("1", "32,768")),
            "lookahead": given("lookahead, N = 32,768"),
        },
        "number of groups, not estimated": {
            way: {STORED: {x: methods[x]["methods"][way]["free"] for x in tables}}
            for way in ("one policy", "single tasks")
        }
        | {
            way: {STORED: {x: races[x]["ways"][way]["free"] for x in tables}}
            for way in ("one policy or single tasks", "race of 6, cosine, N = 32,768")
        },
    }


def to_markdown(found: Mapping[str, Any]) -> str:
    """A table for each ablation."""
    parts = []
    for axis, settings in found.items():
        rows = []
        for setting, sources in settings.items():
            for source, scores in sources.items():
                beside = settings[REFERENCES[axis]][source]
                rows.append([setting, source, *show_scores(scores, beside)])
        names = truth_files.order(next(iter(next(iter(settings.values())).values())))
        header = [axis, "scores of", "mean", "95%", f"less {REFERENCES[axis]}"]
        header += ["aside", *names]
        parts.append(Table(header, rows, num_labels=2).to_markdown())
    return "\n\n".join(parts)


def show_scores(
    scores: Mapping[str, float], beside: Mapping[str, float]
) -> Iterator[str]:
    """The mean, its interval, the difference from a reference, and all scores."""
    mean, low, high = summarize(scores)
    yield f"{mean:.0f}"
    yield f"{low:.0f} to {high:.0f}"
    mean, low, high = summarize({x: scores[x] - beside[x] for x in scores})
    yield "" if scores is beside else f"{mean:+.0f} ({low:.0f} to {high:.0f})"
    aside = [scores[x] for x in scores if x in KEPT_ASIDE]
    yield f"{np.nanmean(aside):.0f}" if aside else ""
    yield from (f"{scores[x]:.0f}" for x in truth_files.order(scores))


def summarize(scores: Mapping[str, float]) -> tuple[float, float, float]:
    """Mean over tables for development, and its bootstrap interval."""
    inside = [x for name, x in scores.items() if name not in KEPT_ASIDE]
    inside = [x for x in inside if np.isfinite(x)]
    low, high = bootstrap_interval(inside)
    return float(np.mean(inside)), float(low), float(high)


def draw(found: Mapping[str, Any]) -> Figure:
    """Means and intervals, a panel for each ablation that was measured here."""
    colors = {ESTIMATE: ACCENT, TRAINED: APART}
    with rc_context(figure_style()):
        figure = Figure(figsize=(11.0, 6.0), layout="constrained")
        axes = figure.subplots(2, 4).reshape(-1)
        for place, axis in zip(axes, ABLATIONS, strict=False):
            settings = found[axis]
            gap = 0.04 * len(settings)
            for number, sources in enumerate(settings.values()):
                for offset, (source, scores) in enumerate(sources.items()):
                    mean, low, high = summarize(scores)
                    spread = [[mean - low], [high - mean]]
                    place.errorbar(
                        [mean], [number + gap * offset], xerr=spread, fmt="o", ms=4,
                        color=colors[source], label=source if number == 0 else None,
                    )  # fmt: skip
            place.set_yticks(range(len(settings)), list(settings))
            place.invert_yaxis()
            place.axvline(0, lw=0.8, color="black")
            place.set_title(axis)
            place.set_xlabel("score")
        axes[-1].set_axis_off()
        handles, labels = axes[0].get_legend_handles_labels()
        axes[-1].legend(handles, labels, loc="center", title="scores f_i(S) of")
    return figure


if __name__ == "__main__":
    flags.mark_flags_as_required(["tables", "output"])
    app.run(main)
