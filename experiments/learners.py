"""Trains every learner on every suite, one policy for all tasks, and compares them.

    python experiments/learners.py --suites=cartpole \
        --output=experiments/results/learners

Learners, suites, budgets and the search for a learning rate are those of
`experiments/configs/learners.py`. A learner's policies, some for each learning rate,
train side by side in one program. The rate whose first policies do best is taken, and
its other policies are counted.

Writes OUTPUT.json after every learner, and goes on from it; then OUTPUT.md.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command goes on with the learners that are left")

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from pgx_jax import runtime
from pgx_jax.analysis.statistics import t_interval
from pgx_jax.cli.common import shown_command
from pgx_jax.cli.config_files import load_config
from pgx_jax.pipeline.checks import make_checked_suite, make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.files import replace_text
from pgx_jax.runs.provenance import describe, format_provenances
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO

_CONFIG = config_flags.DEFINE_config_file(
    "config", str(Path(__file__).parent / "configs/learners.py"), "What is compared."
)
_SUITES = flags.DEFINE_list("suites", None, "Suites of the config; all if left out.")
_LEARNERS = flags.DEFINE_list("learners", None, "Learners; all if left out.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Where to write, without an ending.", required=True
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    settings = _CONFIG.value.to_dict()
    suites = choose("suites", _SUITES.value, settings["suites"])
    learners = choose("learners", _LEARNERS.value, settings["learners"])
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.with_name(f"{output.name}.json")
    found = json.loads(file.read_text()) if file.exists() else {}
    for suite in suites:
        for learner in learners:
            done = found.setdefault(suite, {})
            if learner in done:
                continue
            about = {"command": shown_command(), **describe()}
            done[learner] = about | compare_rates(
                suite,
                settings["suites"][suite],
                settings["learners"][learner],
                settings,
            )
            replace_text(file, [json.dumps(found, indent=1)])
            print(f"{suite}, {learner}: {summarize(done[learner])}", flush=True)
    page = write_page(found, settings)
    replace_text(output.with_name(f"{output.name}.md"), [page])
    print(page)


def choose(name: str, given: Sequence[str] | None, known: Mapping[str, Any]) -> list:
    """Those asked for, in the order of the config."""
    unknown = sorted({*(given or ())} - {*known})
    if unknown:
        sys.exit(f"error: --{name} must be of {', '.join(known)}, got {unknown[0]!r}")
    return [x for x in known if given is None or x in given]


def compare_rates(
    name: str,
    budget: Mapping[str, Any],
    changes: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Scores of a learner on a suite, of several policies with every learning rate."""
    values = load_config(name)
    values["suite"] = values["suite"] | {"task_id": True}
    values["adaptation"] = values["adaptation"] | {"num_updates": 0}
    for section, fields in changes.items():
        values[section] = values[section] | fields
    config = PipelineConfig.from_dict(values)
    suite = make_checked_suite(config)
    networks = make_networks(config, suite)
    rates, num_tuned = settings["learning_rates"], settings["num_tuned"]
    of_rate = num_tuned + settings["num_counted"]
    num_policies = len(rates) * of_rate
    policy_ids = np.repeat(np.arange(num_policies), suite.num_tasks)
    tasks = np.tile(np.arange(suite.num_tasks), num_policies)
    ppo = PPO(
        config.ppo,
        networks,
        budget["num_updates"],
        learning_rates=np.repeat(rates, of_rate),
    )
    train_key, evaluate_key = jax.random.split(jax.random.key(settings["seed"]))
    rows = suite.select(tasks)
    state = ppo.init(rows, train_key, policy_ids)
    half = budget["num_updates"] // 2
    state, _ = jax.block_until_ready(ppo.run(rows, state, half))
    began = time.perf_counter()
    state, _ = jax.block_until_ready(ppo.run(rows, state, half))
    seconds = time.perf_counter() - began
    episodes = evaluate(
        suite,
        networks,
        state.params["policy"],
        state.observation_statistics,
        policy_ids,
        evaluate_key,
        settings["num_episodes"],
        deterministic=config.evaluation.deterministic,
        tasks=tasks,
    )
    shape = (len(rates), of_rate, suite.num_tasks, -1)
    measured = "episode_success" if suite.has_success else "episode_return"
    scores = np.asarray(getattr(episodes, measured)).reshape(shape).mean(axis=-1)
    best = int(scores[:, :num_tuned].mean(axis=(1, 2)).argmax())
    steps = half * config.ppo.steps_per_update * len(tasks)
    return {
        "measured": "success" if suite.has_success else "return",
        "task_names": suite.task_names,
        "learning_rates": rates,
        "scores": scores.tolist(),
        "learning_rate": rates[best],
        "counted": scores[best, num_tuned:].mean(axis=1).tolist(),
        "steps_per_task": 2 * half * config.ppo.steps_per_update,
        "steps_per_second": steps / seconds,
        "num_parameters": sum(x[0].size for x in jax.tree.leaves(state.params)),
    }


def summarize(entry: Mapping[str, Any]) -> str:
    """The mean over policies, with its interval."""
    low, high = t_interval(entry["counted"])
    mean = float(np.mean(entry["counted"]))
    if entry["measured"] == "success":
        low, high = max(low, 0.0), min(high, 1.0)
        return f"{mean:.1%} [{low:.1%}, {high:.1%}]"
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def write_page(found: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """A table for each suite."""
    parts = ["# Learners", ""]
    for suite, entries in found.items():
        some = next(iter(entries.values()))
        rows = [
            [
                learner,
                summarize(entry),
                f"{entry['learning_rate']:g}",
                f"{entry['num_parameters']:,}",
                f"{entry['steps_per_second']:,.0f}",
            ]
            for learner, entry in entries.items()
        ]
        header = [
            "learner",
            f"mean {some['measured']} [95%]",
            "learning rate",
            "parameters",
            "steps a second",
        ]
        parts += [
            f"## {suite}",
            "",
            format_provenances(entries.values()),
            "",
            f"{some['steps_per_task']:,} steps of each of {len(some['task_names'])} "
            "tasks, one policy with a task id for all. Mean and t interval of "
            f"{settings['num_counted']} policies; the learning rate is the best of "
            f"{', '.join(map(str, some['learning_rates']))} by {settings['num_tuned']} "
            "others each. All policies of a learner train side by side, at the speed "
            "given.",
            "",
            Table(header, rows).to_markdown(),
            "",
        ]
    return "\n".join(parts)


if __name__ == "__main__":
    app.run(main)
