"""Ways of choosing a partition without training any, scored on truth tables.

    python experiments/partition_methods.py --tables=runs/truth \
        --output=experiments/results/truth/methods

Reads NAME.npz and NAME_sums.npz of `experiments/truth_table.py`. Every way scores
subsets by what was known at the meta-policy, and the best partition by these scores is
judged by all trainings of the table: among partitions into k groups with k given, from
2 to 5 and below n, and among all partitions with k free. 0 is a partition at random,
100 the best one. `experiments/partition_races.py` has the ways that train.

Writes OUTPUT.json and OUTPUT.md; a table whose sums are not there keeps its scores of
OUTPUT.json. FLOPs are there if costs.json of `experiments/method_costs.py` is beside
the output.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import method_costs
import numpy as np
import truth_files
from absl import app, flags
from method_costs import Sizes, estimate_flops, show_range
from truth_files import KEPT_ASIDE, Loaded, Scored

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis import partitions
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.statistics import rank_correlation
from pgx_jax.analysis.truth_tables import TruthTable
from pgx_jax.estimation.least_squares import least_squares_scores, task_moments
from pgx_jax.estimation.sums import TaskSums
from pgx_jax.grouping.candidates import affinity_scores

_TABLES = flags.DEFINE_string("tables", None, "Directory of the tables.")
_OUTPUT = flags.DEFINE_string("output", None, "Where to write, without an ending.")

RIDGES = (0.1, 1.0, 10.0, 100.0)
BATCHES = (1000, 10_000, 16_384, 100_000)
SELECTED = "the way that is best on the other tables for development"


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    output = Path(_OUTPUT.value)
    stored = output.with_suffix(".json")
    results = json.loads(stored.read_text()) if stored.exists() else {}
    for path in sorted(Path(_TABLES.value).glob("*_sums.npz")):
        name = path.stem.removesuffix("_sums")
        table = truth_files.load(path.with_name(f"{name}.npz"), sums=True)
        results[name] = score_methods(table)
        print(f"{name} is done", flush=True)
    if not results:
        sys.exit(f"error: {_TABLES.value} has no tables")
    output.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(results) + "\n")
    sizes = method_costs.read_sizes(output.with_name("costs.json"))
    output.with_suffix(".md").write_text(to_markdown(results, sizes))
    print(to_markdown(results, sizes))


def score_methods(table: Loaded) -> dict[str, Any]:
    """The score of every way at every k, and what the table says of itself."""
    truth = table.truth
    judge = PartitionJudge(truth)
    n = truth.num_tasks
    rows: dict[str, dict[str, Any]] = {}
    for name, scored in estimated_scores(table).items():
        found = [pge.best_partition(scored, k).labels for k in table.ks]
        free = pge.best_partition(scored)
        rows[name] = {
            "scores": [judge.score(x) for x in found],
            "correlation": agreement(truth, scored),
            "free_k": free.num_groups,
            "free": judge.score(free.labels, any_number=True),
        }
    for name, labels in (
        ("one policy", np.zeros(n, int)),
        ("single tasks", np.arange(n)),
    ):
        rows[name] = {"free": judge.score(labels, any_number=True)}
    best = partitions.best_partitions(truth.totals())
    correlation = partitions.replicate_correlation(truth)
    return {
        "methods": rows,
        "num_tasks": n,
        "ks": list(table.ks),
        "num_replicates": truth.num_replicates,
        "finished": bool(table.known["finished"].all()),
        "steps": float(table.known["curve_steps"][-1]),
        "replicate_correlation": correlation,
        "reliability": truth_files.reliability(correlation, truth.num_replicates),
        "best": [judge.value(x) for x in best.values()],
        "mean": [
            partitions.mean_partition_value(truth.totals(), k) for k in range(1, n + 1)
        ],
    }


def agreement(truth: TruthTable, scored: Scored) -> float:
    """Rank correlation of f_i(S) with R[S, i] over subsets, averaged over tasks."""
    mean = truth.values.mean(axis=0)
    found = []
    for i in range(truth.num_tasks):
        rows = truth.subsets[:, i]
        found.append(rank_correlation(scored.scores[rows, i], mean[rows, i]))
    return float(np.nanmean(found))


def estimated_scores(table: Loaded) -> dict[str, Scored]:
    """f_i(S) of every way that knows the meta-policy only."""
    subsets, known = table.truth.subsets, table.known
    found: dict[str, np.ndarray] = {}
    for size in (2048, 8192, 32_768, "chunk"):
        shown = {"chunk": 131_072}.get(size, size)
        found[f"cosine, N = {shown:,}"] = affinity_scores(
            known[f"cosine_{size}"], subsets
        )
    for size in (8192, 32_768):
        scores = known[f"surrogate_{size}"]
        three = subsets.sum(axis=1) == 3
        estimates = Scored(subsets[three], scores[three])
        affinity = np.asarray(pge.task_affinity(estimates).matrix)
        name = f"surrogate, N = {size:,}"
        found[f"{name}, standardized pairs of size 3"] = affinity_scores(
            affinity, subsets
        )
        found[f"{name}, best partition"] = scores
    levels = {"8192": "8,192", "32768": "32,768", "chunk": "131,072", "all": "all"}
    for level, shown in levels.items():
        sums = table.sums[level]
        for name, scores in from_sums(subsets, sums, with_noise=level == "all").items():
            found[f"{name}, N = {shown}"] = scores
    return {name: Scored(subsets, np.asarray(x)) for name, x in found.items()}


def from_sums(
    subsets: np.ndarray, sums: TaskSums, with_noise: bool
) -> dict[str, np.ndarray]:
    """Scores by least squares and by inner products of gradients, cross-fitted."""
    found = {}
    inner = gradient_products(sums)
    norm = np.sqrt(np.maximum(np.diag(inner), 1e-12))
    found["cross-fitted cosine"] = affinity_scores(
        inner / np.outer(norm, norm), subsets
    )
    found["lookahead"] = affinity_scores(lookahead(sums), subsets)
    member = subsets.astype(float)
    share = member / member.sum(axis=1, keepdims=True)
    for ridge in RIDGES:
        for kind, weights in (("sum", member), ("mean", share)):
            name = f"least squares, ridge {ridge:g}, {kind}"
            estimate = least_squares_scores(
                sums, subsets, weights=weights, ridge=ridge, num_folds=2
            )
            found[name] = np.asarray(estimate.scores)
            found[f"{name}, shrunk"] = shrink(subsets, np.asarray(estimate.fold_scores))
    if not with_noise:
        return found
    for ridge in (1.0, 10.0):
        for batch in BATCHES:
            estimate = least_squares_scores(
                sums, subsets, weights=share, ridge=ridge, batch_transitions=batch
            )
            name = f"least squares, ridge {ridge:g}, mean, noise of {batch:,}"
            found[name] = np.asarray(estimate.scores - estimate.noise)
    spread = gradient_variances(sums)
    for batch in BATCHES:
        found[f"target aggregation, batch of {batch:,}"] = aggregation_scores(
            subsets, inner, spread / batch
        )
    return found


def lookahead(sums: TaskSums) -> np.ndarray:
    """What a gradient step on task j takes off task i's squared loss; [n, n].

    The step is the longest that lowers task j's own loss by as much as it can, and is
    scored on transitions that it was not made of.

    Source: TAG, arXiv 2109.04617.
    """
    number = np.arange(sums.num_parts) % 2
    found = []
    for fold in (0, 1):
        made, scored = (task_moments(sums, number == x) for x in (fold, 1 - fold))
        step = np.asarray(made.target, float)
        curvature = np.einsum("jd,jde,je->j", step, np.asarray(made.gram, float), step)
        step = step * (np.sum(step**2, axis=1) / np.maximum(curvature, 1e-12))[:, None]
        image = np.einsum("ide,je->ijd", np.asarray(scored.gram, float), step)
        linear = np.asarray(scored.target, float) @ step.T
        found.append(2 * linear - np.einsum("ijd,jd->ij", image, step))
    return np.mean(found, axis=0)


def shrink(subsets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Scores drawn to each task's mean as far as the halves of the data disagree."""
    scores = folds.mean(axis=0)
    for i in range(subsets.shape[1]):
        rows = subsets[:, i]
        between = np.corrcoef(folds[0, rows, i], folds[1, rows, i])[0, 1]
        share = truth_files.reliability(float(np.nan_to_num(between)), 2)
        mean = scores[rows, i].mean()
        scores[rows, i] = mean + share * (scores[rows, i] - mean)
    return scores


def gradient_products(sums: TaskSums) -> np.ndarray:
    """b_i . b_j of different parts, so that noise adds nothing on average; [n, n]."""
    parts = range(sums.num_parts)
    targets = np.stack(
        [
            np.asarray(task_moments(sums, np.arange(sums.num_parts) == p).target)
            for p in parts
        ]
    ).astype(float)
    total = targets.sum(axis=0)
    same = np.einsum("pid,pjd->ij", targets, targets)
    return (total @ total.T - same) / (sums.num_parts * (sums.num_parts - 1))


def gradient_variances(sums: TaskSums) -> np.ndarray:
    """v_i, the trace of the covariance of A^ g~ of one transition; [n]."""
    moments = task_moments(sums, noise=True)
    return np.trace(np.asarray(moments.noise, float), axis1=1, axis2=2)


def aggregation_scores(
    subsets: np.ndarray, inner: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """Minus the squared error of S's mean gradient as task i's: bias and variance.

    Source: target aggregation, arXiv 2406.07991.
    """
    member = subsets.astype(float)
    share = member / member.sum(axis=1, keepdims=True)
    square = np.einsum("mi,ij,mj->m", share, inner, share)
    bias = square[:, None] - 2 * share @ inner + np.diag(inner)
    noise = (share**2 @ variance)[:, None]
    return -member * (bias + noise)


def leave_one_out(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The score on each table of the way that is best on average on the others.

    The others of a table that was kept aside are all tables for development.
    """
    tables = list(next(iter(rows.values())))
    found = {}
    for table in tables:
        others = [x for x in tables if x != table and x not in KEPT_ASIDE]
        best = max(rows, key=lambda way: np.mean([rows[way][x] for x in others]))
        found[table] = rows[best][table]
    return found


def to_markdown(results: Mapping[str, Any], sizes: Mapping[str, Sizes]) -> str:
    """One table of tables, one of ways with k given and one with k free."""
    names = truth_files.order(results)
    lines = [
        "| table | n | steps a task | trainings agree | best by k | mean by k |",
        "| :-- | --: | --: | --: | :-- | :-- |",
    ]
    for name in names:
        x = results[name]
        mark = "" if x["finished"] else " (stopped early)"
        best, mean = (" ".join(f"{v:.1f}" for v in x[key]) for key in ("best", "mean"))
        lines.append(
            f"| {name}{mark} | {x['num_tasks']} | {x['steps']:,.0f} | "
            f"{x['replicate_correlation']:.2f} | {best} | {mean} |"
        )
    weight = {name: results[name]["reliability"] for name in names}
    ways = results[names[0]]["methods"]
    given = {
        way: {x: float(np.nanmean(results[x]["methods"][way]["scores"])) for x in names}
        for way in ways
        if "scores" in ways[way]
    }
    free = {way: {x: results[x]["methods"][way]["free"] for x in names} for way in ways}
    costs = {
        way: f" {show_range(estimate_flops(sizes[x], way) for x in names)} |"
        for way in (ways if sizes else ())
    }
    if sizes:
        costs[SELECTED] = " |"
    before = ("10^12 FLOPs | ", "--: | ") if sizes else ("", "")
    for title, rows in (("k given, from 2 to 5", given), ("k free", free)):
        rows = {SELECTED: leave_one_out(rows), **rows}
        lines += [
            "",
            f"{title}:",
            "",
            f"| way | {before[0]}mean | 95% | weighted | aside | {' | '.join(names)} |",
            f"| :-- | {before[1]}--: | :-- | --: | --: |{' --: |' * len(names)}",
            *truth_files.score_rows(rows, weight, costs),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    flags.mark_flags_as_required(["tables", "output"])
    app.run(main)
