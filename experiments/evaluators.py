"""Compares how well the evaluators find planted groups, and how certain they are.

    python experiments/evaluators.py --output=experiments/results/evaluators

On CartPoles with two, three and four planted groups and for every seed, the script
trains a meta-policy by the settings of the config, estimates every subset of three
tasks with each evaluator at its default settings, and chooses the number of groups from
the affinity. It writes OUTPUT.json and OUTPUT.md, in about ten minutes on two CPU
cores. For other suites with planted groups, name their configs:

    python experiments/evaluators.py --output=experiments/results/half_cheetah_planted \
        --config=pgx_jax/configs/half_cheetah_direction.py --seeds=0,1,2 \
        --suites=half_cheetah_direction --evaluators=surrogate
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis.statistics import normalized_mutual_information
from pgx_jax.cli.common import shown_command
from pgx_jax.configs import find_config
from pgx_jax.envs import make_suite
from pgx_jax.evaluation.rollouts import RolloutEvaluator
from pgx_jax.pipeline.checks import make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.provenance import describe, format_provenance
from pgx_jax.training.ppo import PPO

_CONFIG = config_flags.DEFINE_config_file(
    "config", find_config("cartpole_planted"), "Settings of the meta-policy."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Where to write, without an ending.", required=True
)
_SUITES = flags.DEFINE_list(
    "suites",
    ["cartpole_planted", "cartpole_planted_3", "cartpole_planted_4"],
    "Suites with planted groups.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds.")
_EVALUATORS = flags.DEFINE_list(
    "evaluators", ["surrogate", "off_policy", "rollout"], "Evaluators."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    try:
        config = PipelineConfig.from_dict(_CONFIG.value.to_dict())
        check_suites(_SUITES.value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    rows = []
    for suite in _SUITES.value:
        for seed in map(int, _SEEDS.value):
            for row in run_cell(config, suite, seed, _EVALUATORS.value):
                rows.append(row)
                print(*row.values(), flush=True)
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {"command": shown_command(), **describe(), "rows": rows}
    output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    output.with_suffix(".md").write_text(write_page(result))
    print(f"{output}.json {output}.md")


def check_suites(names: Sequence[str]) -> None:
    """Refuses suites that cannot be compared with.

    Raises:
      ValueError: a suite does not exist or has no planted groups.
    """
    for name in names:
        if make_suite(name).planted_labels is None:
            raise ValueError(f"suites must have planted groups, {name!r} has none")


def run_cell(
    config: PipelineConfig, name: str, seed: int, evaluators: list[str]
) -> Iterator[dict[str, Any]]:
    """Yields one row for each evaluator."""
    suite = make_suite(name)
    networks = make_networks(config, suite)
    train_key, collect_key, subset_key, key = jax.random.split(jax.random.key(seed), 4)
    ppo = PPO(config.ppo, networks, config.meta_training.num_updates)
    meta, _ = ppo.run(suite, ppo.init(suite, train_key), ppo.total_updates)
    batch = ppo.collect_transitions(
        suite, meta, collect_key, config.estimation.num_transitions
    )
    policy = jax.tree.map(lambda x: x[0], meta.params["policy"])
    num_subsets = math.comb(suite.num_tasks, 3)
    subsets = pge.sample_subsets(subset_key, suite.num_tasks, num_subsets, 3)
    planted = np.asarray(suite.planted_labels)
    for evaluator_name in evaluators:
        evaluator = evaluator_name
        if evaluator == "rollout":
            evaluator = RolloutEvaluator(suite, networks, meta.observation_statistics)
        began = time.perf_counter()
        estimates = pge.estimate_subsets(
            networks.log_prob, policy, batch, subsets, key=key, evaluator=evaluator
        )
        affinity = pge.task_affinity(estimates)
        grouping = pge.cluster_tasks(affinity)
        scores, errors, sizes = (
            np.where(subsets, np.asarray(values), np.nan)
            for values in (
                estimates.scores,
                estimates.standard_error,
                estimates.effective_sample_size,
            )
        )
        yield {
            "suite": name,
            "seed": seed,
            "evaluator": evaluator_name,
            "num_groups": grouping.num_groups,
            "nmi": normalized_mutual_information(grouping.labels, planted),
            "score": float(np.nanmean(scores)),
            "spread": float(np.nanmean(np.nanstd(scores, axis=0))),
            "standard_error": float(np.nanmean(errors)),
            "effective_sample_size": float(np.nanmean(sizes)),
            "relative_distance": float(estimates.relative_distance.max()),
            "seconds": time.perf_counter() - began,
        }


def write_page(result: Mapping[str, Any]) -> str:
    """A page of Markdown with a line for each suite and evaluator, over seeds."""
    rows = result["rows"]
    header = ["suite", "evaluator", "NMI by seed", "groups by seed", "score"]
    header += ["spread over subsets", "standard error", "effective sample size"]
    lines = []
    for key in dict.fromkeys((r["suite"], r["evaluator"]) for r in rows):
        chosen = [r for r in rows if (r["suite"], r["evaluator"]) == key]

        def mean(field, chosen=chosen):
            return f"{sum(r[field] for r in chosen) / len(chosen):.3g}"

        lines.append(
            [
                *key,
                " ".join(f"{r['nmi']:.2f}" for r in chosen),
                " ".join(str(r["num_groups"]) for r in chosen),
                *map(mean, ("score", "spread", "standard_error")),
                mean("effective_sample_size"),
                mean("seconds"),
            ]
        )
    return f"""{format_provenance(result)}

{Table([*header, "seconds"], lines, num_labels=4).to_markdown()}

The score is f_i(S) in the units of the evaluator (surrogate: decrease of the \
logistic loss; off_policy: PPO's objective in mean advantages; rollout: return). \
Its spread, from which groups are made, is the standard deviation over the subsets \
that hold a task. The standard error is that of a single score; all scores of a \
task share transitions or random numbers, so that their differences are less noisy. \
Seconds include compilation, which seeds share.
"""


if __name__ == "__main__":
    app.run(main)
