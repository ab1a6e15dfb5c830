"""How far the first-order approximation of log-probabilities holds (paper, Table 1).

    python experiments/first_order.py --suites=cartpole,lunar_lander,highway \
        --output=experiments/results/first_order

Of every suite a meta-policy is trained by its config. Its parameters theta* are then
moved by a share of their norm (the relative distance), along estimated adaptations to
subsets of tasks and along random directions, and on fresh transitions of the
meta-policy log r = log pi_theta(a|s) - log pi_theta*(a|s) is held against g . Delta.
Errors are root mean squares over all transitions and tasks, medians over directions:

* log r: of log r - g . Delta, over that of log r;
* log-probability: of the same, over that of log pi_theta(a|s);
* objective: of J - J_first over that of J - J*, where J is the mean of A r of a task,
  J_first that of A (1 + g . Delta), and J* that of A.

The paper says "relative error" without saying of what. The first is the strictest.

Writes OUTPUT.json after every suite, and goes on from it; then OUTPUT.md.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command goes on with the suites that are left")

import json
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.cli.common import shown_command
from pgx_jax.cli.config_files import load_config
from pgx_jax.estimation.parameters import add_change, global_norm
from pgx_jax.estimation.projection import LogProbFn
from pgx_jax.pipeline.checks import make_checked_suite, make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.files import replace_text
from pgx_jax.runs.provenance import describe, format_provenances
from pgx_jax.training.ppo import PPO
from pgx_jax.types import PyTree

FLAGS = flags.FLAGS
flags.DEFINE_list("suites", None, "Names of configs.")
flags.DEFINE_string("output", None, "Where to write, without an ending.")
flags.DEFINE_integer("num_transitions", 2048, "Of a task.", lower_bound=64)
flags.DEFINE_integer("num_directions", 16, "Of each kind.", lower_bound=1)

DISTANCES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
MEASURES = ("log r", "log-probability", "objective")
# In percent, at the distances that the paper gives.
PAPER = {
    "cartpole": {0.001: 0.12, 0.005: 0.73, 0.01: 0.98},
    "highway": {0.001: 0.02, 0.005: 0.11, 0.01: 2.04},
    "lunar_lander": {0.001: 0.06, 0.005: 0.03, 0.01: 0.48},
    "metaworld_mt10": {0.001: 0.01, 0.005: 0.43, 0.01: 0.32},
}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    output = Path(FLAGS.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.with_name(f"{output.name}.json")
    found = json.loads(file.read_text()) if file.exists() else {}
    try:
        configs = {
            name: PipelineConfig.from_dict(load_config(name)) for name in FLAGS.suites
        }
    except ValueError as error:
        sys.exit(f"error: --suites: {error}")
    for name, config in configs.items():
        if name not in found:
            about = {"command": shown_command(), **describe()}
            sizes = (FLAGS.num_transitions, FLAGS.num_directions)
            found[name] = about | measure_suite(config, *sizes)
            replace_text(file, [json.dumps(found, indent=1)])
            print(f"{name} is done", flush=True)
    page = write_page(found)
    replace_text(output.with_name(f"{output.name}.md"), [page])
    print(page)


def measure_suite(
    config: PipelineConfig, num_transitions: int, num_directions: int
) -> dict[str, Any]:
    """Errors by kind of direction: a list for each measure, by distance."""
    suite = make_checked_suite(config)
    networks = make_networks(config, suite)
    keys = jax.random.split(jax.random.key(config.seed), 6)
    ppo = PPO(config.ppo, networks, config.meta_training.num_updates)
    meta, _ = ppo.run(suite, ppo.init(suite, keys[0]), ppo.total_updates)
    policy = jax.tree.map(lambda x: x[0], meta.params["policy"])
    used, fresh = (
        ppo.collect_transitions(suite, meta, key, num_transitions) for key in keys[1:3]
    )
    directions = {
        "adaptations": find_adaptations(
            networks.log_prob, policy, used, num_directions, keys[3], keys[4]
        ),
        "random": jax.tree.map(
            lambda x, key: jax.random.normal(key, (num_directions, *x.shape)),
            policy,
            _split_like(keys[5], policy),
        ),
    }
    errors = {
        kind: measure_errors(networks.log_prob, policy, fresh, moved)
        for kind, moved in directions.items()
    }
    return {
        "num_tasks": suite.num_tasks,
        "num_transitions": num_transitions,
        "num_directions": num_directions,
        "distances": DISTANCES,
        "errors": {
            kind: {m: x.tolist() for m, x in zip(MEASURES, values.T, strict=True)}
            for kind, values in errors.items()
        },
    }


def find_adaptations(
    log_prob_fn: LogProbFn,
    policy: PyTree,
    batch: pge.Transitions,
    num_subsets: int,
    subset_key: jax.Array,
    key: jax.Array,
) -> PyTree:
    """P Delta_S of random subsets of three tasks at most; leaves [m, ...]."""
    num_tasks = batch.advantage.shape[0]
    size = min(3, num_tasks)
    subsets = np.array(
        [np.isin(np.arange(num_tasks), x) for x in combinations(range(num_tasks), size)]
    )
    subsets = jax.random.permutation(subset_key, subsets)[:num_subsets]
    projection = pge.GaussianProjection(100)
    estimates = pge.estimate_subsets(
        log_prob_fn, policy, batch, subsets, key=key, projection=projection
    )
    drawn_with = jax.random.split(key, 4)[0]
    changes = pge.back_project(projection, drawn_with, policy, estimates.delta)
    lengths = jax.vmap(global_norm)(changes) / global_norm(policy)
    np.testing.assert_allclose(lengths, estimates.relative_distance, rtol=1e-3)
    return changes


def measure_errors(
    log_prob_fn: LogProbFn, policy: PyTree, batch: pge.Transitions, directions: PyTree
) -> np.ndarray:
    """Errors at every distance, medians over directions.

    Args:
      log_prob_fn: of a batch.
      policy: theta*.
      batch: transitions [n, N, ...] of theta*.
      directions: like `policy`, leaves [m, ...]; only their directions matter.

    Returns:
      float32 [distances, measures].
    """
    size = global_norm(policy)

    def log_prob(params):
        return log_prob_fn(params, batch.observation, batch.action)

    before = log_prob(policy)
    advantage, valid = batch.advantage, batch.valid
    count = jnp.maximum(valid.sum(axis=1), 1).astype(jnp.float32)

    def mean(values):  # of a task; [n]
        return jnp.where(valid, values, 0.0).sum(axis=1) / count

    def root(values):  # over tasks and transitions
        return jnp.sqrt(mean(jnp.square(values)).mean())

    def errors(direction):
        unit = jax.tree.map(lambda x: x * (size / global_norm(direction)), direction)
        slope = jax.jvp(log_prob, (policy,), (unit,))[1]

        def at(distance):
            moved = add_change(policy, jax.tree.map(lambda x: distance * x, unit))
            after = log_prob(moved)
            ratio, first = after - before, distance * slope
            gain = mean(advantage * (jnp.exp(ratio) - 1.0))
            linear = mean(advantage * first)
            return jnp.stack(
                [
                    root(ratio - first) / root(ratio),
                    root(ratio - first) / root(after),
                    jnp.linalg.norm(gain - linear) / jnp.linalg.norm(gain),
                ]
            )

        return jax.lax.map(at, jnp.asarray(DISTANCES, jnp.float32))

    found = jax.jit(lambda x: jax.lax.map(errors, x))(directions)
    return np.median(np.asarray(found), axis=0)


def _split_like(key: jax.Array, tree: PyTree) -> PyTree:
    """A key for every leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    return jax.tree.unflatten(treedef, list(jax.random.split(key, len(leaves))))


def write_page(found: Mapping[str, Any]) -> str:
    """A table for each measure, in percent."""
    some = next(iter(found.values()))
    distances = some["distances"]
    header = ["suite", "along", *(f"{x:.1%}" for x in distances)]
    parts = [format_provenances(found.values()), ""]
    for measure in MEASURES:
        rows = [
            [name, kind, *(f"{x:.2%}" for x in values[measure])]
            for name, entry in found.items()
            for kind, values in entry["errors"].items()
        ]
        if measure == "log r":
            rows += [
                [name, "the paper", *(_percent(PAPER[name].get(x)) for x in distances)]
                for name in found
                if name in PAPER
            ]
        parts += [f"Error of {measure}, by relative distance:", ""]
        parts += [Table(header, rows, num_labels=2).to_markdown(), ""]
    return "\n".join(parts)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}%"


if __name__ == "__main__":
    flags.mark_flags_as_required(["suites", "output"])
    app.run(main)
