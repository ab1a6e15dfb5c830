"""The estimator, training and the oracle on one device and on several.

python benchmarks/devices.py            # two GPUs or more, about eight minutes
python benchmarks/devices.py --small    # a CPU, as if it were two devices

Each is timed in a process of its own, on one device and on all powers of two of them
that there are, one after another. What is compared is

* the estimator: m = 100,000 subsets of 3 out of 10 tasks, 2,048 transitions of each
  and p = 338,408, features in TF32;
* training: PPO on the ten tasks of `half_cheetah_velocity`, 20,480 environments in all,
  whole updates;
* the oracle: fine-tuning on subsets of those tasks and evaluation, in blocks of as many
  subsets whatever the number of devices.

The difference is that of the scores, or of the policy's parameters after the first
call, from those of one device, relative to the largest of them.
"""

from __future__ import annotations

import os
import time

import common
import jax
import numpy as np

import pgx_jax as pge
from pgx_jax.appearance import GROUP_COLORS
from pgx_jax.envs import TaskSuite, make_suite
from pgx_jax.evaluation.oracle import Oracle
from pgx_jax.networks.actor_critic import ActorCritic, make_actor_critic
from pgx_jax.training.meshes import make_mesh
from pgx_jax.training.ppo import PPO, PPOConfig

# On two H100s over one, before measuring.
PREDICTED = {"estimator": 1.85, "training": 1.7, "oracle": 1.9}
FULL = {
    "suite": "half_cheetah_velocity",
    "num_tasks": 10,
    "estimator": {"layers": (39, 400, 400, 400, 4), "samples": 2048, "m": 100_000},
    "training": {"num_envs": 2048, "unroll_length": 16, "updates": 2},
    "oracle": {
        "num_envs": 256,
        "unroll_length": 16,
        "updates": 4,
        "subsets": 32,
        "subset_size": 3,
        "block": 8,
        "episodes": 8,
    },
    "hidden": (128, 128),
    "num_epochs": 4,
    "num_minibatches": 16,
}
SMALL = {
    "suite": "cartpole_planted_3",
    "num_tasks": 4,
    "estimator": {"layers": (4, 64, 64, 2), "samples": 256, "m": 1000},
    "training": {"num_envs": 64, "unroll_length": 16, "updates": 1},
    "oracle": {
        "num_envs": 8,
        "unroll_length": 8,
        "updates": 1,
        "subsets": 6,
        "subset_size": 2,
        "block": 3,
        "episodes": 4,
    },
    "hidden": (8,),
    "num_epochs": 1,
    "num_minibatches": 2,
}
NUM_TASKS = 10
COLUMNS = {
    "what": "what",
    "devices": "num_devices",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "times one device": "speedup",
    "difference": "difference",
    "first call s": "first_call_s",
}


def time_estimator(sizes: dict, mesh, repeats: int) -> tuple[list[float], np.ndarray]:
    """Seconds of all calls, the first one with compilation, and the scores."""
    settings = sizes["estimator"]
    params, batch = common.make_problem(
        NUM_TASKS, settings["samples"], settings["layers"]
    )
    subsets = pge.sample_subsets(jax.random.key(1), NUM_TASKS, settings["m"], 3)
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        estimates = jax.block_until_ready(
            common.estimate(params, batch, subsets, feature_precision="tf32", mesh=mesh)
        )
        times.append(time.perf_counter() - began)
    return times, np.asarray(estimates.scores)


def make_training(sizes: dict, what: str) -> tuple[TaskSuite, ActorCritic, PPOConfig]:
    """The tasks, networks and settings of training or of the oracle."""
    suite = make_suite(sizes["suite"]).select(range(sizes["num_tasks"]))
    space = suite.action_space
    networks = make_actor_critic(
        suite.observation_size, space.size, space.discrete, hidden_sizes=sizes["hidden"]
    )
    names = ("num_envs", "unroll_length")
    config = PPOConfig(
        **{name: sizes[what][name] for name in names},
        num_epochs=sizes["num_epochs"],
        num_minibatches=sizes["num_minibatches"],
    )
    return suite, networks, config


def time_training(sizes: dict, mesh, repeats: int) -> tuple[list[float], np.ndarray]:
    """As `time_estimator`, of some updates a call; with the policy's parameters."""
    suite, networks, config = make_training(sizes, "training")
    updates = sizes["training"]["updates"]
    ppo = PPO(config, networks, updates * (repeats + 1), mesh=mesh)
    state = jax.block_until_ready(ppo.init(suite, jax.random.key(0)))
    times, params = [], None
    for _ in range(repeats + 1):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(ppo.run(suite, state, updates))
        times.append(time.perf_counter() - began)
        if params is None:
            leaves = jax.device_get(jax.tree.leaves(state.params["policy"]))
            params = np.concatenate([x.ravel() for x in leaves])
    assert params is not None
    return times, params


def time_oracle(sizes: dict, mesh, repeats: int) -> tuple[list[float], np.ndarray]:
    """As `time_estimator`, of all blocks of subsets, compilation before them."""
    settings = sizes["oracle"]
    suite, networks, config = make_training(sizes, "oracle")
    ppo = PPO(config, networks, settings["updates"])
    subsets = pge.sample_subsets(
        jax.random.key(1),
        suite.num_tasks,
        settings["subsets"],
        settings["subset_size"],
    )
    oracle = Oracle(ppo, settings["episodes"], block_size=settings["block"], mesh=mesh)
    meta = ppo.init(suite, jax.random.key(0))
    # Whole runs take minutes on a GPU, most of them to compile.
    runs = [oracle.run(suite, meta, subsets, jax.random.key(2)) for _ in range(2)]
    first = runs[0].seconds + runs[0].compile_seconds
    return [first, *(run.seconds for run in runs)], runs[0].result.scores


MEASURES = {
    "estimator": time_estimator,
    "training": time_training,
    "oracle": time_oracle,
}


def measure_point(point: list[str], sizes: dict, repeats: int) -> dict:
    """Times one of `MEASURES` on 1, 2, 4, ... devices, all that there are at most."""
    (what,) = point
    rows, one = [], None
    number = 1
    while number <= jax.device_count():
        (first, *times), values = MEASURES[what](sizes, make_mesh(number), repeats)
        one = values if one is None else one
        row = {"what": what, "num_devices": number, "first_call_s": first}
        row |= common.summarize_times(times)
        row["difference"] = float(np.abs(values - one).max() / np.abs(one).max())
        row["speedup"] = rows[0]["median_s"] / row["median_s"] if rows else 1.0
        rows.append(row)
        number *= 2
    return {"rows": rows}


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """Everything that the time allows, each in a process of its own."""
    environment = {}
    if arguments.small:
        flag = "--xla_force_host_platform_device_count=2"
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    rows = []
    for what in arguments.what:
        if budget.allows(what):
            found = common.run_child(__file__, [what], arguments, **environment)
            rows += found["rows"]
    note = "The devices of a CPU share its cores, so that they are no faster."
    return common.Outcome(rows, notes=(note,) if arguments.small else ())


def plot(rows: list[dict]):
    """How many times faster, against the number of devices."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(3.4, 2.6), layout="constrained")
    for color, what in zip(GROUP_COLORS, MEASURES, strict=False):
        chosen = [row for row in rows if row["what"] == what]
        axis.plot(
            [row["num_devices"] for row in chosen],
            [row["speedup"] for row in chosen],
            "o-",
            color=color,
            label=what,
        )
    numbers = sorted({row["num_devices"] for row in rows})
    axis.plot(numbers, numbers, ":", color="0.5", label="as many times faster")
    axis.set(xlabel="Devices", ylabel="Times one device", xticks=numbers)
    axis.legend()
    return figure


def add_arguments(parser) -> None:
    parser.add_argument(
        "--what", nargs="*", choices=MEASURES, default=list(MEASURES), help="some only"
    )


def main() -> None:
    common.run(globals(), seconds=540)


if __name__ == "__main__":
    main()
