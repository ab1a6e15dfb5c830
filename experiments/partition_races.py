"""Ways of choosing a partition by training some of them, scored on truth tables.

    python experiments/partition_races.py --tables=experiments/results/truth \
        --output=experiments/results/truth/races

Reads NAME.npz of `experiments/truth_table.py`. Each way chooses by one training of the
policies that it asks for and is judged by the other trainings of the table; the cost is
in partitions: n policies' worth of tasks, trained at full budget. k is given, from 2 to
5 and below n, and the score is among partitions into k groups; or k is free, and the
score is among all partitions.

Writes OUTPUT.json and OUTPUT.md, and how often verdicts of `predict_gains` were right;
with FLOPs if costs.json of `experiments/method_costs.py` is beside the output.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import method_costs
import numpy as np
import truth_files
from absl import app, flags
from method_costs import Sizes, race_flops, show_range
from truth_files import KEPT_ASIDE, Loaded

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis import partitions, truth_tables
from pgx_jax.analysis.gains import draw_partition, predict_gains
from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.grouping.candidates import (
    best_trained_partition,
    candidate_partitions,
)
from pgx_jax.types import Grouping

FLAGS = flags.FLAGS
flags.DEFINE_string("tables", None, "Directory of the tables.")
flags.DEFINE_string("output", None, "Where to write, without an ending.")

COSINES = {"2,048": "2048", "8,192": "8192", "32,768": "32768", "131,072": "chunk"}
DEFAULT_PROPOSAL, DEFAULT_CANDIDATES = "cosine_32768", 6
NUM_DRAWS = 20  # of ways that are random
BASELINES = ("one policy", "single tasks", "random groups")


class Choice(NamedTuple):
    """What a way chose.

    Attributes:
      labels: the group of each task; [n].
      cost: partitions trained.
    """

    labels: np.ndarray
    cost: float


# From a table, the training that it may look at, and k or None; choices that are alike.
Way = Callable[[Loaded, int, int | None], list[Choice]]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    paths = truth_files.list_tables(FLAGS.tables)
    results = {}
    for path in paths:
        results[path.stem] = score_ways(truth_files.load(path))
        print(f"{path.stem} is done", flush=True)
    output = Path(FLAGS.output)
    output.with_suffix(".json").write_text(json.dumps(results) + "\n")
    sizes = method_costs.read_sizes(output.with_name("costs.json"))
    output.with_suffix(".md").write_text(to_markdown(results, sizes))
    print(to_markdown(results, sizes))


def all_ways() -> dict[str, Way]:
    """Every way by its name."""
    ways: dict[str, Way] = {"one policy or single tasks": race(None, 0)}
    for m in (4, 8, 16):
        ways[f"best of {m} at random"] = functools.partial(random_race, m)
    for shown, size in COSINES.items():
        for m in (1, 2, 3, 4, 6, 8):
            if m == DEFAULT_CANDIDATES or size == "32768":
                name = f"race of {m}, cosine, N = {shown}"
                ways[name] = race(f"cosine_{size}", m)
    ways["6 candidates, the best 3 at half of the budget to its end"] = halving
    ways["every pair, averaged"] = pairs
    ways["every subset"] = every_subset
    for share in (0.1, 0.25, 0.5):
        name = f"every subset, returns in training at {share:.0%} of the budget"
        ways[name] = functools.partial(early_returns, share)
    return ways


def score_ways(table: Loaded) -> dict[str, Any]:
    """The score and cost of every way, k given and k free, and all verdicts."""
    judge = PartitionJudge(table.truth)
    trainings = range(table.truth.num_replicates)
    rows: dict[str, dict[str, Any]] = {}
    for name, way in all_ways().items():
        rows[name] = {}
        for kind, ks in (("given", list(table.ks)), ("free", [None])):
            scores, costs = [], []
            for k in ks:
                for r in trainings:
                    for labels, cost in way(table, r, k):
                        others = judge.others(r)
                        score = judge.score(labels, others, any_number=k is None)
                        scores.append(score)
                        costs.append(cost)
            rows[name][kind] = float(np.nanmean(scores)) if scores else None
            rows[name][f"{kind}_cost"] = float(np.mean(costs)) if costs else None
    correlation = partitions.replicate_correlation(table.truth)
    return {
        "ways": rows,
        "verdicts": verdicts(table, judge),
        "reliability": truth_files.reliability(correlation, len(trainings)),
    }


def race(proposal: str | None, num_candidates: int) -> Way:
    """One policy, single tasks and the best few by an affinity; returns decide."""

    def choose(table: Loaded, training: int, k: int | None) -> list[Choice]:
        if proposal is None and k is not None:
            return []
        rows = race_rows(table, proposal, num_candidates, k)
        return decide(table, training, k, rows, num_candidates + 2)

    return choose


def race_rows(
    table: Loaded, proposal: str | None, num_candidates: int, k: int | None
) -> np.ndarray:
    """The subsets that a race trains, as rows of the table; sorted."""
    candidates = []
    if proposal is not None:
        candidates = propose(table.known[proposal].tobytes(), num_candidates, k)
    return _rows_of(table, [x.labels for x in candidates], baselines=True)


@functools.cache
def propose(affinity: bytes, num_candidates: int, k: int | None) -> list[Grouping]:
    matrix = np.frombuffer(affinity, np.float32)
    n = round(np.sqrt(len(matrix)))
    return candidate_partitions(matrix.reshape(n, n), k, num_candidates)


def decide(
    table: Loaded, training: int, k: int | None, rows: np.ndarray, cost: float
) -> list[Choice]:
    """The best partition of the groups in rows, by one training."""
    truth = table.truth
    found = best_trained_partition(truth.subsets[rows], truth.values[training, rows], k)
    return [Choice(np.asarray(found.labels), cost)]


def random_race(m: int, table: Loaded, training: int, k: int | None) -> list[Choice]:
    """The best of m random partitions; with k free, with the two baselines."""
    rng = np.random.default_rng([m, training, k or 0])
    n = table.truth.num_tasks
    judge = PartitionJudge(table.truth)
    found = []
    for _ in range(NUM_DRAWS):
        numbers = [k] * m if k else rng.integers(2, n, m)
        drawn = [draw_partition(rng, n, int(x)) for x in numbers]
        if k is None:
            drawn += [np.zeros(n, int), np.arange(n)]
        values = [judge.value(x, [training]) for x in drawn]
        found.append(Choice(drawn[int(np.argmax(values))], m + 2 * (k is None)))
    return found


def halving(table: Loaded, training: int, k: int | None) -> list[Choice]:
    """Six candidates up to half of the budget, the best three of them to its end."""
    if k is None:
        return []
    candidates = propose(table.known[DEFAULT_PROPOSAL].tobytes(), 6, k)
    curve = table.known["curve"][training].astype(float)
    early = np.nan_to_num(curve[round(0.5 * len(curve)) - 1])
    value = [
        sum(early[row, table.truth.subsets[row]].sum() for row in rows)
        for rows in (_rows_of(table, [x.labels]) for x in candidates)
    ]
    kept = [candidates[i].labels for i in np.argsort(value)[::-1][:3]]
    return decide(table, training, k, _rows_of(table, kept), 6 * 0.5 + 3 * 0.5)


def pairs(table: Loaded, training: int, k: int | None) -> list[Choice]:
    """Standley's higher-order approximation: means over pairs, searched exactly."""
    truth = table.truth
    n, subsets = truth.num_tasks, truth.subsets
    gain = np.zeros((n, n))
    for row in np.flatnonzero(subsets.sum(axis=1) <= 2):
        tasks = np.flatnonzero(subsets[row])
        gain[tasks, tasks[::-1]] = truth.values[training, row, tasks]
    member = subsets.astype(float)
    size = member.sum(axis=1, keepdims=True)
    partners = member @ gain.T - member * np.diag(gain)
    scores = np.where(size == 1, np.diag(gain), partners / np.maximum(size - 1, 1))
    found = pge.best_partition(truth_files.Scored(subsets, member * scores), k)
    return [Choice(np.asarray(found.labels), n - 1)]


def every_subset(table: Loaded, training: int, k: int | None) -> list[Choice]:
    """The best partition of one training of every subset."""
    best = partitions.best_partitions(table.truth.totals([training]), k)
    judge = PartitionJudge(table.truth)
    labels = max(best.values(), key=lambda x: judge.value(x, [training]))
    return [Choice(labels, 2 ** (table.truth.num_tasks - 1))]


def early_returns(
    share: float, table: Loaded, training: int, k: int | None
) -> list[Choice]:
    """`every_subset`, by what policies return in training before its end."""
    truth = table.truth
    curve = table.known["curve"][training].astype(float)
    early = np.nan_to_num(curve[max(0, round(share * len(curve)) - 1)])
    found = pge.best_partition(truth_files.Scored(truth.subsets, early), k)
    cost = share * 2 ** (truth.num_tasks - 1)
    return [Choice(np.asarray(found.labels), cost)]


def _rows_of(
    table: Loaded, labelings: list[np.ndarray], baselines: bool = False
) -> np.ndarray:
    """Rows of the groups of partitions, and of one policy and single tasks."""
    n = table.truth.num_tasks
    labels = [np.asarray(x) for x in labelings]
    if baselines:
        labels += [np.zeros(n, int), np.arange(n)]
    place = {
        int(code): row
        for row, code in enumerate(truth_tables.encode_subsets(table.truth.subsets))
    }
    return np.array(
        sorted(
            {
                place[int(truth_tables.encode_subsets(x == g))]
                for x in labels
                for g in np.unique(x)
            }
        )
    )


def verdicts(table: Loaded, judge: PartitionJudge) -> list[dict[str, Any]]:
    """What `predict_gains` says after each race of the default size, and what is true.

    A gain is that of the chosen partition over a baseline, in the other trainings.
    """
    truth, n = table.truth, table.truth.num_tasks
    found = []
    for k in [*table.ks, None]:
        rows = race_rows(table, DEFAULT_PROPOSAL, DEFAULT_CANDIDATES, k)
        for r in range(truth.num_replicates):
            labels = decide(table, r, k, rows, 0)[0].labels
            gains = predict_gains(
                truth.subsets[rows],
                truth.values[r, rows],
                labels,
                affinity=table.known[DEFAULT_PROPOSAL],
            )
            others = judge.others(r)
            value = judge.value(labels, others)
            count = len(np.unique(labels))
            random = partitions.mean_partition_value(truth.totals(others), count)
            truths = [
                value - judge.value(np.zeros(n, int), others),
                value - judge.value(np.arange(n), others),
                value - random,
            ]
            for baseline, gain, true in zip(BASELINES, gains, truths, strict=True):
                if gain.deviation > 0:
                    found.append(
                        {
                            "baseline": baseline,
                            "k": k,
                            "verdict": gain.verdict,
                            "gain": true,
                            "inside": bool(gain.lower <= true <= gain.upper),
                        }
                    )
    return found


def to_markdown(results: Mapping[str, Any], sizes: Mapping[str, Sizes]) -> str:
    """Scores with k given, with k free, and how often verdicts were right."""
    names = truth_files.order(results)
    weight = {name: results[name]["reliability"] for name in names}
    lines = []
    for kind, title in (("given", "k given, from 2 to 5"), ("free", "k free")):
        ways = {
            way: {name: results[name]["ways"][way][kind] for name in names}
            for way in results[names[0]]["ways"]
            if results[names[0]]["ways"][way][kind] is not None
        }
        cost = {}
        for way in ways:
            costs = [results[x]["ways"][way][f"{kind}_cost"] for x in names]
            cost[way] = f" {_range(costs)} |"
            if sizes:
                flops = [
                    race_flops(sizes[x], way, y)
                    for x, y in zip(names, costs, strict=True)
                ]
                seconds = [
                    sizes[x].partition_seconds * y
                    for x, y in zip(names, costs, strict=True)
                ]
                cost[way] += f" {show_range(flops)} | {show_range(seconds, 1.0)} |"
        before = ("", "")
        if sizes:
            before = (" 10^12 FLOPs | seconds of training |", " :-- | :-- |")
        lines += [
            f"{title}:",
            "",
            f"| way | partitions trained |{before[0]} mean | 95% | weighted | aside | "
            f"{' | '.join(names)} |",
            f"| :-- | :-- |{before[1]} --: | :-- | --: | --: |{' --: |' * len(names)}",
            *truth_files.score_rows(ways, weight, cost),
            "",
        ]
    return "\n".join(lines + verdict_rows(results)) + "\n"


def verdict_rows(results: Mapping[str, Any]) -> list[str]:
    """How many verdicts were said, and how many of them other trainings bear out."""
    lines = [
        "| gain over | tables | pays: right of said | costs: right of said | "
        "does not matter | cannot tell | 90% intervals hold |",
        "| :-- | :-- | --: | --: | --: | --: | --: |",
    ]
    for aside in (False, True):
        chosen = [x for x in results if (x in KEPT_ASIDE) == aside]
        for baseline in BASELINES:
            every = [
                x
                for name in chosen
                for x in results[name]["verdicts"]
                if x["baseline"] == baseline
            ]
            if not every:
                continue
            said = {
                word: [x["gain"] for x in every if x["verdict"] == word]
                for word in ("pays", "costs", "does not matter", "cannot tell")
            }
            lines.append(
                f"| {baseline} | {'aside' if aside else 'development'} | "
                f"{sum(x > 0 for x in said['pays'])} of {len(said['pays'])} | "
                f"{sum(x < 0 for x in said['costs'])} of {len(said['costs'])} | "
                f"{len(said['does not matter'])} | {len(said['cannot tell'])} | "
                f"{np.mean([x['inside'] for x in every]):.0%} |"
            )
    return lines


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


if __name__ == "__main__":
    flags.mark_flags_as_required(["tables", "output"])
    app.run(main)
