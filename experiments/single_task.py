"""Trains PPO on the default task of a suite, one policy for each seed side by side.

    python experiments/single_task.py --config=experiments/configs/single_task.py \
        --suite=lunar_lander_v3 --output=experiments/results/single_lunar_lander_v3

The policies share nothing but the program: each has its own weights, environments and
actions. The script writes OUTPUT.json, with the learning curves, and OUTPUT.md.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from pgx_jax import runtime
from pgx_jax.cli.common import shown_command
from pgx_jax.envs import make_suite
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.provenance import describe, format_provenance
from pgx_jax.training.diagnostics import on_host
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO, PPOConfig

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of every suite.")
_SUITE = flags.DEFINE_string("suite", None, "A suite of one task.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Where to write, without an ending.", required=True
)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    config = _CONFIG.value.to_dict()
    if _SUITE.value not in config["suites"]:
        known = ", ".join(config["suites"])
        sys.exit(f"error: suite {_SUITE.value!r} has no settings; there are {known}")
    settings = config["suites"][_SUITE.value]
    try:
        found = solve(_SUITE.value, settings, config["seeds"], config["num_episodes"])
    except ValueError as error:
        sys.exit(f"error: {error}")
    about = {"command": shown_command(), **describe()}
    result = {**about, "settings": settings, **found}
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(result) + "\n")
    output.with_suffix(".md").write_text(write_page(result))
    print(write_page(result))


def solve(
    name: str, settings: Mapping[str, Any], seeds: tuple[int, ...], num_episodes: int
) -> dict[str, Any]:
    """Trains and evaluates one policy for each seed.

    Raises:
      ValueError: the suite has more than one task, or a setting is not allowed.
    """
    suite = make_suite(name)
    if suite.num_tasks != 1:
        raise ValueError(f"suite must have one task, {name!r} has {suite.num_tasks}")
    suite = suite.select([0] * len(seeds))
    space = suite.action_space
    networks = make_actor_critic(
        suite.observation_size, space.size, space.discrete, **settings["network"]
    )
    config = PPOConfig(**settings["ppo"])
    ppo = PPO(config, networks, settings["num_steps"] // config.steps_per_update)
    # One key for the run, from all seeds; policies differ by the numbers of their rows.
    key = jax.random.key(seeds[0])
    for seed in seeds[1:]:
        key = jax.random.fold_in(key, seed)
    train_key, evaluate_key = jax.random.split(key)
    policy_ids = np.arange(len(seeds))
    began = time.perf_counter()
    start = ppo.init(suite, train_key, policy_ids)
    state, metrics = ppo.run(suite, start, ppo.total_updates)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - began
    evaluations = {}
    for kind in ("deterministic", "stochastic"):
        evaluations[kind] = evaluate(
            suite,
            networks,
            state.params["policy"],
            state.observation_statistics,
            state.policy_ids,
            evaluate_key,
            num_episodes,
            deterministic=kind == "deterministic",
        )
    curve = on_host(metrics)["return"]
    return {
        "suite": name,
        "seeds": list(seeds),
        "num_steps": ppo.total_updates * config.steps_per_update,
        "num_episodes": num_episodes,
        "seconds": seconds,
        "divergences": float(np.sum(metrics["divergences"])),
        "evaluations": {
            kind: {
                "return": np.asarray(x.episode_return).mean(1).tolist(),
                "return_std": np.asarray(x.episode_return).std(1).tolist(),
                "length": np.asarray(x.episode_length).mean(1).tolist(),
                "success": np.asarray(x.episode_success).mean(1).tolist(),
            }
            for kind, x in evaluations.items()
        },
        "curve": [[None if np.isnan(r) else float(r) for r in row] for row in curve],
    }


def write_page(result: Mapping[str, Any]) -> str:
    """A page of Markdown with a line for each policy and way of acting."""
    rows = [
        [
            kind,
            str(seed),
            f"{evaluation['return'][i]:.1f}",
            f"{evaluation['return_std'][i]:.1f}",
            f"{evaluation['length'][i]:.0f}",
            f"{evaluation['success'][i]:.2f}",
        ]
        for kind, evaluation in result["evaluations"].items()
        for i, seed in enumerate(result["seeds"])
    ]
    header = ["actions", "policy", "return", "std over episodes", "length", "success"]
    return f"""{format_provenance(result)}

{result["suite"]}: {result["num_steps"]:,} steps a policy, \
{len(result["seeds"])} policies in {result["seconds"]:.0f} s with \
compilation; {result["num_episodes"]} episodes each.

{Table(header, rows).to_markdown()}
"""


if __name__ == "__main__":
    app.run(main)
