"""Checkpoints of meta-training and regrouping, scored on truth tables.

    python experiments/checkpoint_methods.py --tables=experiments/results/truth \
        --checkpoints=runs/checkpoints --output=experiments/results/truth/checkpoints

Reads NAME.npz of `truth_table.py`, and NAME_checkpoints.npz and NAME_regrouped.npz of
`checkpoint_sums.py`. Each way chooses the best partition into k groups, k from 2 to 5
and below n, and is judged by all trainings of the table; races propose six candidates,
choose by one training and are judged by the others. 0 is a partition at random, 100 the
best one. The table's policies were all trained from the last checkpoint: for a
partition that regrouping ended with, the value is that of policies of its groups, not
of those whose tasks were moved on the way.

Writes OUTPUT.json and OUTPUT.md; a table whose files are not there keeps its scores of
OUTPUT.json.
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
import partition_races
import truth_files
from absl import app, flags
from method_costs import Sizes, estimate_flops, partition_flops, show_range
from truth_files import CHECKPOINT_RIDGES, CHECKPOINT_WEIGHTS, Loaded, Scored
from truth_setup import load_arrays

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis import partitions
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.grouping.candidates import affinity_scores

FLAGS = flags.FLAGS  # those of partition_races, and one more
flags.DEFINE_string("checkpoints", None, "Directory of the checkpoints.")

ORDINALS = ("first", "second", "third", "last")
INTERVALS = ("before any", "after the first", "after the second")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    output = Path(FLAGS.output)
    stored = output.with_suffix(".json")
    results = json.loads(stored.read_text()) if stored.exists() else {}
    for path in sorted(Path(FLAGS.checkpoints).glob("*_checkpoints.npz")):
        name = path.stem.removesuffix("_checkpoints")
        table = truth_files.load(Path(FLAGS.tables) / f"{name}.npz")
        regrouped = path.with_name(f"{name}_regrouped.npz")
        results[name] = score_table(
            table,
            load_arrays(path),
            load_arrays(regrouped) if regrouped.exists() else None,
        )
        print(f"{name} is done", flush=True)
    if not results:
        sys.exit(f"error: {FLAGS.checkpoints} has no checkpoints")
    output.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(results) + "\n")
    sizes = method_costs.read_sizes(output.with_name("costs.json"))
    output.with_suffix(".md").write_text(to_markdown(results, sizes))
    print(to_markdown(results, sizes))


def score_table(
    table: Loaded,
    known: Mapping[str, np.ndarray],
    regrouped: Mapping[str, np.ndarray] | None,
) -> dict[str, Any]:
    """The score of every way at every k, and how alike the meta-policies are."""
    judge = PartitionJudge(table.truth)
    subsets = table.truth.subsets
    ways = {
        name: [judge.score(pge.best_partition(scored, k).labels) for k in table.ks]
        for name, scored in checkpoint_scores(subsets, known).items()
    }
    curve = table.known["meta_curve"]
    correlation = partitions.replicate_correlation(table.truth)
    return {
        "ways": ways,
        "regrouping": regrouped_scores(judge, regrouped) if regrouped else {},
        "races": race_scores(table, known),
        "ends": known["ends"].tolist(),
        "curve_gap": float(np.nanmax(np.abs(known["meta_curve"] - curve))),
        "cosine_gaps": [
            float(np.abs(x - table.known["cosine_32768"]).mean())
            for x in known[f"cosine_{levels(known)[0]}"]
        ],
        "seconds": {
            "meta-training": float(known["meta_seconds"]),
            "four collections": float(known["seconds"]),
            "regrouping": float(regrouped["seconds"]) if regrouped else None,
        },
        "about": json.loads(str(known["about"])),
        "reliability": truth_files.reliability(correlation, table.truth.num_replicates),
    }


def levels(known: Mapping[str, np.ndarray]) -> list[int]:
    """The smallest and the largest number of transitions; of one, twice the same."""
    found = [int(x.split("_")[1]) for x in known if x.startswith("cosine_")]
    return [min(found), max(found)]


def checkpoint_scores(
    subsets: np.ndarray, known: Mapping[str, np.ndarray]
) -> dict[str, Scored]:
    """f_i(S) of every way of using checkpoints, by its name."""
    found: dict[str, np.ndarray] = {}
    for size, shown in zip(levels(known), ("32,768", "131,072"), strict=True):
        for name, key in [
            ("cosine", "cosine"),
            *(
                (f"least squares, ridge {x:g}", f"least_squares_{x:g}")
                for x in CHECKPOINT_RIDGES
            ),
        ]:
            every, added = known[f"{key}_{size}"], known[f"added_{key}_{size}"]
            rows = dict(zip((f"{x} checkpoint" for x in ORDINALS), every, strict=True))
            for weights, total in zip(CHECKPOINT_WEIGHTS, added, strict=True):
                mean = np.average(every, axis=0, weights=CHECKPOINT_WEIGHTS[weights])
                rows[f"all four averaged, {weights}"] = mean
                rows[f"all four added up, {weights}"] = total
            for way, scores in rows.items():
                found[f"{name}, N = {shown}, {way}"] = (
                    affinity_scores(scores, subsets) if key == "cosine" else scores
                )
    return {name: Scored(subsets, x) for name, x in found.items()}


def regrouped_scores(
    judge: PartitionJudge, regrouped: Mapping[str, np.ndarray]
) -> dict[str, list[float]]:
    """Scores of the partitions that regrouping had at each checkpoint."""
    ks, subsets = regrouped["ks"], judge.table.subsets
    found = {}
    for place, when in enumerate(INTERVALS):
        found[f"regrouping, cosine, {when} interval"] = [
            judge.score(x[place]) for x in regrouped["labels"]
        ]
    for place, when in enumerate(("first", "second")):
        chosen = [
            pge.best_partition(Scored(subsets, scores[place]), int(k)).labels
            for k, scores in zip(ks, regrouped["least_squares"], strict=True)
        ]
        found[f"regrouping, least squares, after the {when} interval"] = [
            judge.score(x) for x in chosen
        ]
    return found


def race_scores(
    table: Loaded, known: Mapping[str, np.ndarray]
) -> dict[str, list[float]]:
    """Scores at every k of races with candidates from checkpoints."""
    size = levels(known)[-1]
    every = known[f"cosine_{size}"].astype(float)
    proposals = dict(zip((f"{x} checkpoint" for x in ORDINALS), every, strict=True))
    for weights, values in CHECKPOINT_WEIGHTS.items():
        proposals[f"all four averaged, {weights}"] = np.average(
            every, axis=0, weights=values
        )
    judge, found = PartitionJudge(table.truth), {}
    for name, matrix in proposals.items():
        own = table._replace(known={"proposal": np.asarray(matrix, np.float32)})
        way = partition_races.race("proposal", partition_races.DEFAULT_CANDIDATES)
        found[f"race of 6, {name}"] = [
            float(np.nanmean(score_race(way, own, judge, k))) for k in table.ks
        ]
    return found


def score_race(
    way: partition_races.Way, table: Loaded, judge: PartitionJudge, k: int
) -> list[float]:
    """The score of what each training chooses, by the others."""
    return [
        judge.score(choice.labels, judge.others(r))
        for r in range(table.truth.num_replicates)
        for choice in way(table, r, k)
    ]


def way_flops(sizes: Sizes, way: str) -> float:
    """FLOPs of a way of this script, without those of meta-training.

    Regrouping trains as long as meta-training would have, and collects at each time
    that groups are chosen.
    """
    if way.startswith("regrouping"):
        kind, when = way.split(", ")[1:]
        name = "least squares, ridge 10" if kind == "least squares" else kind
        times = next(i for i, x in enumerate(INTERVALS, 1) if when.startswith(x))
        return times * (estimate_flops(sizes, f"{name}, N = 131,072") or 0.0)
    times = 4 if "all four" in way else 1
    if way.startswith("race"):
        proposal = estimate_flops(sizes, "cosine, N = 131,072") or 0.0
        trained = partition_races.DEFAULT_CANDIDATES + 2
        return times * proposal + trained * partition_flops(sizes)
    return times * (estimate_flops(sizes, way) or 0.0)


def to_markdown(results: Mapping[str, Any], sizes: Mapping[str, Sizes]) -> str:
    """Ways by tables: estimates, regrouping, races; and how alike meta-policies are."""
    lines = []
    for kind in ("ways", "regrouping", "races"):
        names = truth_files.order(x for x in results if results[x][kind])
        if not names:
            continue
        weight = {name: results[name]["reliability"] for name in names}
        scored = {
            way: {x: float(np.nanmean(results[x][kind][way])) for x in names}
            for way in results[names[0]][kind]
        }
        cost = {
            way: f" {show_range(way_flops(sizes[x], way) for x in names)} |"
            for way in (scored if sizes else ())
        }
        before = ("10^12 FLOPs | ", "--: | ") if sizes else ("", "")
        lines += [
            f"| way | {before[0]}mean | 95% | weighted | aside | {' | '.join(names)} |",
            f"| :-- | {before[1]}--: | :-- | --: | --: |{' --: |' * len(names)}",
            *truth_files.score_rows(scored, weight, cost),
            "",
        ]
    lines += [
        "| table | updates | curve apart by | cosines apart by, at each | "
        "meta-training, collections, regrouping (s) | device |",
        "| :-- | :-- | --: | :-- | --: | :-- |",
    ]
    for name in truth_files.order(results):
        x = results[name]
        ends = " ".join(map(str, x["ends"]))
        gaps = " ".join(f"{y:.2f}" for y in x["cosine_gaps"])
        seconds = ", ".join(
            "" if y is None else f"{y:.0f}" for y in x["seconds"].values()
        )
        lines.append(
            f"| {name} | {ends} | {x['curve_gap']:.3g} | {gaps} | {seconds} | "
            f"{x['about']['device']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    flags.mark_flags_as_required(["tables", "output", "checkpoints"])
    app.run(main)
