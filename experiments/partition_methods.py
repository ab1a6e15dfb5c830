"""Ways of choosing a partition, scored on truth tables.

    python experiments/partition_methods.py --tables=runs/truth \
        --output=experiments/results/truth/methods

Reads NAME.npz and NAME_sums.npz of `experiments/truth_table.py`. Every way chooses a
partition into k groups, for k from 2 to 5 and below n, and is scored among all
partitions into k: 0 is one at random, 100 the best one. Ways that rest on trainings
choose by one training and are judged by the others; the rest choose by what was known
at the meta-policy and are judged by all trainings.

Writes OUTPUT.json and OUTPUT.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import app, flags

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis import partitions
from pgx_jax.analysis.partitions import TruthTable
from pgx_jax.analysis.statistics import bootstrap_interval, rank_correlation
from pgx_jax.estimation.least_squares import least_squares_scores, task_moments
from pgx_jax.estimation.sums import TaskSums

_TABLES = flags.DEFINE_string("tables", None, "Directory of the tables.")
_OUTPUT = flags.DEFINE_string("output", None, "Where to write, without an ending.")

KEPT_ASIDE = ("lunar_lander", "half_cheetah_objectives", "hopper_body")
SMALLEST_K, LARGEST_K = 2, 5
RIDGES = (0.1, 1.0, 10.0, 100.0)
BATCHES = (100, 1000, 10_000)


class Scored(NamedTuple):
    """Scores f_i(S) of subsets of tasks; [m, n] both."""

    subsets: np.ndarray
    scores: np.ndarray


class Loaded(NamedTuple):
    """One table, and what was known at its meta-policy.

    Attributes:
      name: of the table.
      truth: returns of the trained policies.
      known: all arrays of both files.
      sums: by the number of transitions of a task.
    """

    name: str
    truth: TruthTable
    known: Mapping[str, np.ndarray]
    sums: Mapping[str, TaskSums]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    paths = sorted(Path(_TABLES.value).glob("*_sums.npz"))
    if not paths:
        sys.exit(f"error: {_TABLES.value} has no tables")
    results = {}
    for path in paths:
        table = load(path.parent, path.stem.removesuffix("_sums"))
        results[table.name] = score_methods(table)
        print(f"{table.name} is done", flush=True)
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results) + "\n")
    output.with_suffix(".md").write_text(to_markdown(results))
    print(to_markdown(results))


def load(directory: Path, name: str) -> Loaded:
    """Reads a table and the sums beside it."""
    known: dict[str, np.ndarray] = {}
    for path in (directory / f"{name}_sums.npz", directory / f"{name}.npz"):
        with np.load(path) as stored:
            known |= {key: stored[key] for key in stored.files}
    levels = sorted({key.rpartition("_")[2] for key in known if "outer_" in key})
    sums = {level: unpack_sums(known, level) for level in levels}
    truth = TruthTable.create(known["subsets"], known["returns"])
    return Loaded(name, truth, known, sums)


def unpack_sums(known: Mapping[str, np.ndarray], level: str) -> TaskSums:
    """The sums at one number of transitions; matrices from their upper triangles."""

    def leaf(name):
        x = known.get(f"{name}_{level}")
        if x is None or not name.endswith("outer"):
            return None if x is None else jnp.asarray(x)
        dim = int((np.sqrt(8 * x.shape[-1] + 1) - 1) / 2)
        rows, columns = np.triu_indices(dim)
        full = np.zeros((*x.shape[:-1], dim, dim), np.float32)
        full[..., rows, columns] = x
        full[..., columns, rows] = x
        return jnp.asarray(full)

    return TaskSums(*(leaf(name) for name in TaskSums._fields))


def score_methods(table: Loaded) -> dict[str, Any]:
    """The score of every way at every k, and what the table says of itself."""
    truth = table.truth
    n = truth.num_tasks
    ks = range(SMALLEST_K, min(LARGEST_K, n - 1) + 1)
    rows: dict[str, dict[str, Any]] = {}
    for name, scored in estimated_scores(table).items():
        found = [pge.best_partition(scored, k).labels for k in ks]
        scores = [partitions.partition_score(truth, x) for x in found]
        rows[name] = {
            "scores": [x.score for x in scores],
            "intervals": [[x.lower, x.upper] for x in scores],
            "correlation": agreement(truth, scored),
        }
        free = pge.best_partition(scored)
        rows[name]["chosen_k"] = free.num_groups
        rows[name]["chosen_value"] = partitions.partition_value(
            truth, free.labels
        ).mean()
    for name, by_training in trained_scores(table).items():
        scores, correlations = [], []
        for k in ks:
            found = [
                pge.best_partition(Scored(truth.subsets, x), k).labels
                for x in by_training
            ]
            scores.append(float(np.nanmean(partitions.held_out_scores(truth, found))))
        for r, x in enumerate(by_training):
            others = np.delete(truth.values, r, axis=0)
            rest = truth._replace(values=others)
            correlations.append(agreement(rest, Scored(truth.subsets, x)))
        rows[name] = {"scores": scores, "correlation": float(np.mean(correlations))}
    best = partitions.best_partitions(truth.totals())
    return {
        "methods": rows,
        "num_tasks": n,
        "ks": list(ks),
        "num_replicates": truth.num_replicates,
        "finished": bool(table.known["finished"].all()),
        "steps": float(table.known["curve_steps"][-1]),
        "replicate_correlation": partitions.replicate_correlation(truth),
        "best": [
            float(partitions.partition_value(truth, x).mean()) for x in best.values()
        ],
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
        found[f"cosine, N = {shown:,}"] = pair_scores(subsets, known[f"cosine_{size}"])
    for size in (8192, 32_768):
        scores = known[f"surrogate_{size}"]
        three = subsets.sum(axis=1) == 3
        estimates = Scored(subsets[three], scores[three])
        affinity = np.asarray(pge.task_affinity(estimates).matrix)
        name = f"surrogate, N = {size:,}"
        found[f"{name}, standardized pairs of size 3"] = pair_scores(subsets, affinity)
        found[f"{name}, best partition"] = scores
    levels = {"8192": "8,192", "32768": "32,768", "chunk": "131,072", "all": "all"}
    for level, shown in levels.items():
        sums = table.sums[level]
        for name, scores in from_sums(subsets, sums, with_noise=level == "all").items():
            found[f"{name}, N = {shown}"] = scores
    return {name: Scored(subsets, np.asarray(x)) for name, x in found.items()}


def pair_scores(subsets: np.ndarray, affinity: np.ndarray) -> np.ndarray:
    """f_i(S) whose sum over a partition is <U, X>: the mean of U_ij over j in S."""
    matrix = 0.5 * (affinity + affinity.T)
    member = subsets.astype(float)
    return member * (member @ matrix) / member.sum(axis=1, keepdims=True)


def from_sums(
    subsets: np.ndarray, sums: TaskSums, with_noise: bool
) -> dict[str, np.ndarray]:
    """Scores by least squares and by inner products of gradients, cross-fitted."""
    found = {}
    inner = gradient_products(sums)
    norm = np.sqrt(np.maximum(np.diag(inner), 1e-12))
    found["cross-fitted cosine"] = pair_scores(subsets, inner / np.outer(norm, norm))
    member = subsets.astype(float)
    share = member / member.sum(axis=1, keepdims=True)
    for ridge in RIDGES:
        for kind, weights in (("sum", member), ("mean", share)):
            name = f"least squares, ridge {ridge:g}, {kind}"
            estimate = least_squares_scores(
                sums, subsets, weights=weights, ridge=ridge, num_folds=2
            )
            scores = np.asarray(estimate.scores)
            found[name] = scores
            found[f"{name}, root"] = np.sign(scores) * np.sqrt(np.abs(scores))
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


def trained_scores(table: Loaded) -> dict[str, list[np.ndarray]]:
    """f_i(S) of every way that trains on subsets, one for each training."""
    truth, curve = table.truth, table.known["curve"]
    subsets = truth.subsets
    values = np.nan_to_num(truth.values)
    found = {"trained on every subset": list(values)}
    points = curve.shape[1]
    for share in (0.1, 0.25, 0.5, 1.0):
        point = max(0, round(share * points) - 1)
        name = f"the same, returns in training at {share:.0%} of the budget"
        found[name] = list(np.nan_to_num(curve[:, point]))
    sizes = subsets.sum(axis=1)
    pairs = []
    for x in values:
        # R[{i, j}, i], and alone on the diagonal; then averages over partners.
        gain = np.zeros((truth.num_tasks,) * 2)
        for row in np.flatnonzero(sizes <= 2):
            tasks = np.flatnonzero(subsets[row])
            gain[tasks, tasks[::-1]] = x[row, tasks]
        partners = subsets.astype(float)
        others = partners @ gain.T - partners * np.diag(gain)
        count = np.maximum(sizes - 1, 1)[:, None]
        alone = sizes[:, None] == 1
        pairs.append(partners * np.where(alone, np.diag(gain), others / count))
    found["trained on every pair, averaged"] = pairs
    return found


def to_markdown(results: Mapping[str, Any]) -> str:
    """One table of tables, one of ways."""
    developed = [name for name in results if name not in KEPT_ASIDE]
    aside = [name for name in results if name in KEPT_ASIDE]
    lines = [
        "| table | n | steps a task | trainings agree | best by k | mean by k |",
        "| :-- | --: | --: | --: | :-- | :-- |",
    ]
    for name in [*developed, *aside]:
        x = results[name]
        mark = "" if x["finished"] else " (stopped early)"
        best, mean = (" ".join(f"{v:.1f}" for v in x[key]) for key in ("best", "mean"))
        lines.append(
            f"| {name}{mark} | {x['num_tasks']} | {x['steps']:,.0f} | "
            f"{x['replicate_correlation']:.2f} | {best} | {mean} |"
        )
    names = [*developed, *aside]
    lines += [
        "",
        "Scores averaged over k; 0 is a random partition, 100 the best. The last "
        f"{len(aside)} tables were kept aside; intervals are over the others.",
        "",
        f"| way | mean | 95% | aside | {' | '.join(names)} |",
        f"| :-- | --: | :-- | --: |{' --: |' * len(names)}",
    ]
    ways = list(next(iter(results.values()))["methods"])
    for way in ways:
        means = {
            name: float(np.nanmean(results[name]["methods"][way]["scores"]))
            for name in names
        }
        inside = [means[name] for name in developed]
        low, high = bootstrap_interval(inside)
        outside = np.mean([means[x] for x in aside]) if aside else np.nan
        cells = " | ".join(f"{means[name]:.0f}" for name in names)
        lines.append(
            f"| {way} | {np.mean(inside):.0f} | {low:.0f} to {high:.0f} | "
            f"{outside:.0f} | {cells} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    flags.mark_flags_as_required(["tables", "output"])
    app.run(main)
