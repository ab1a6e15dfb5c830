"""Operations and seconds of ways of choosing a partition.

    python experiments/method_costs.py --config=experiments/configs/truth_tables.py \
        --tables=experiments/results/truth --output=experiments/results/truth/costs.json

Writes the sizes that the formulas need, of every table; `partition_methods.py` and
`partition_races.py` read them beside their output.

Counted is what networks, projections and regressions take, a product and its sum as two
operations. With p parameters, a network takes 2 p for an output and 6 p for a gradient.
What the environments take is given as steps: their programs are physics with loops of
their own, and on another simulator cost another number. Seconds of training are those
of the table itself, whose policies on every subset trained side by side.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("nothing was written; give the same command again")

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from truth_setup import Setup, load_arrays

from pgx_jax import runtime
from pgx_jax.estimation.parameters import count_params

SOLVER_STEPS = 30  # of a logistic regression, to a gradient of 1e-6
NUM_FOLDS = 2
LEVELS = {"2,048": 2048, "8,192": 8192, "32,768": 32_768, "131,072": 131_072}


class Sizes(NamedTuple):
    """What costs of a table depend on.

    Attributes:
      num_tasks: n.
      policy: parameters of the policy.
      critic: those of the value network.
      dim: d, of the projection.
      epochs: of an update, over its transitions.
      steps: of every task in training a partition.
      transitions: of a task, where a way takes all that were summed.
      chunk: of a task, the most that any other way takes.
      partition_seconds: of training a partition, its share of training every subset.
    """

    num_tasks: int
    policy: int
    critic: int
    dim: int
    epochs: int
    steps: int
    transitions: int
    chunk: int
    partition_seconds: float

    @property
    def num_subsets(self) -> int:
        return 2**self.num_tasks - 1


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    values, tables = flags.FLAGS.config.to_dict(), Path(flags.FLAGS.tables)
    sizes = {
        name: table_sizes(values, name, load_arrays(tables / f"{name}.npz"))._asdict()
        for name in values["tables"]
    }
    output = Path(flags.FLAGS.output)
    output.write_text(json.dumps(sizes, indent=1) + "\n")
    print(output.read_text())


def table_sizes(
    values: Mapping[str, Any], name: str, known: Mapping[str, np.ndarray]
) -> Sizes:
    """The sizes of one table, from its settings and its file."""
    setup = Setup.create(values, name)
    params = jax.eval_shape(setup.actor_critic.init, jax.random.key(0))
    policy = count_params(params["policy"])
    transitions = int(known["count_all"].sum(axis=0)[0])
    # Each task is in half of all subsets and the empty one, and once in a partition.
    n = setup.suite.num_tasks
    num_partitions = len(known["returns"]) * 2 ** (n - 1)
    return Sizes(
        num_tasks=n,
        policy=policy,
        critic=count_params(params) - policy,
        dim=values["dim"],
        epochs=setup.config.ppo.num_epochs,
        steps=int(known["curve_steps"][-1]),
        transitions=transitions,
        chunk=transitions // values["num_chunks"],
        partition_seconds=round(float(known["truth_seconds"]) / num_partitions, 4),
    )


def read_sizes(path: Path) -> dict[str, Sizes]:
    """The sizes of every table; none of them if there is no such file."""
    if not path.exists():
        return {}
    return {name: Sizes(**x) for name, x in json.loads(path.read_text()).items()}


def estimate_flops(sizes: Sizes, way: str) -> float | None:
    """FLOPs of a way of `partition_methods.py`, by its name; None if it has no cost."""
    kind, found, level = way.partition(", N = ")
    if not found:
        return None
    number = sizes.transitions
    if not level.startswith("all"):
        number = min(LEVELS[level.split(", ")[0]], sizes.chunk)
    collected = collection_flops(sizes, number)
    if kind == "cosine":
        return collected + 6.0 * sizes.num_tasks * number * sizes.policy
    if kind == "surrogate":
        return collected + logistic_flops(sizes, number)
    noise = "noise" in kind or kind.startswith("target")
    total = collected + sum_flops(sizes, number, noise=noise)
    if kind.startswith("least squares"):
        total += least_squares_flops(sizes, noise=noise)
    return total


def collection_flops(sizes: Sizes, number: int) -> float:
    """Of actions and values in `number` transitions of every task."""
    return 2.0 * sizes.num_tasks * number * (sizes.policy + sizes.critic)


def projection_flops(sizes: Sizes, number: int) -> float:
    """Of a gradient of every transition, and its product with P."""
    return sizes.num_tasks * number * sizes.policy * (6.0 + 2.0 * sizes.dim)


def logistic_flops(sizes: Sizes, number: int) -> float:
    """Of projecting, and of a logistic regression of every subset, scored.

    A step takes two products of all features with all solutions, the scores one.
    """
    product = 2.0 * sizes.num_tasks * number * sizes.dim * sizes.num_subsets
    return projection_flops(sizes, number) + (2 * SOLVER_STEPS + 1) * product


def sum_flops(sizes: Sizes, number: int, *, noise: bool) -> float:
    """Of projecting, and of sums of products of features; with noise two of them."""
    outer = 2.0 * sizes.num_tasks * number * sizes.dim**2
    return projection_flops(sizes, number) + (2 if noise else 1) * outer


def least_squares_flops(sizes: Sizes, *, noise: bool) -> float:
    """Of a factorization of every subset, its step and the scores of all tasks."""
    d, n = float(sizes.dim), sizes.num_tasks
    a_subset = 2 * n * d**2 + d**3 / 3 + 2 * d**2 + 2 * n * d**2
    total = NUM_FOLDS * sizes.num_subsets * a_subset
    if noise:
        total += sizes.num_subsets * (4 * n * d**2 + d**3 / 3 + 4 * d**3)
    return total


def partition_flops(sizes: Sizes) -> float:
    """Of training the policies of one partition, each task in one of them."""
    networks = sizes.policy + sizes.critic
    steps = float(sizes.num_tasks * sizes.steps)
    return steps * networks * (2 + 6 * sizes.epochs)


def race_flops(sizes: Sizes, way: str, partitions_trained: float) -> float:
    """Of a way of `partition_races.py`: its proposal, and what it trains."""
    proposal = 0.0
    if "cosine" in way or "candidates" in way:
        level = way.rpartition("N = ")[2] if "cosine" in way else "32,768"
        proposal = estimate_flops(sizes, f"cosine, N = {level}") or 0.0
    return proposal + partitions_trained * partition_flops(sizes)


def show_range(values: Iterable[float | None], unit: float = 1e12) -> str:
    """The least and the most, to two digits, in `unit`; nothing of none."""
    given = [x for x in values if x is not None]
    if not given:
        return ""
    low, high = (f"{float(f'{x / unit:.2g}'):g}" for x in (min(given), max(given)))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Settings of every table.")
    flags.DEFINE_string("tables", None, "Directory of the tables.")
    flags.DEFINE_string("output", None, "File to write.")
    flags.mark_flags_as_required(["config", "tables", "output"])
    app.run(main)
