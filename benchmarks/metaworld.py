"""Meta-World's MT10 in one program: steps per second, alone and inside training.

python benchmarks/metaworld.py            # a GPU, about six minutes
python benchmarks/metaworld.py --small    # a CPU

All ten tasks at 1,024 to 16,384 environments in all, normal actions, resets from the
pool included, as in environments.py. Training is PPO with the networks and settings of
pgx_jax/configs/metaworld_mt10.py but 1,024 environments a task. "cached" is
compiling the same program again with JAX's persistent cache filled. The row of the
original, on one CPU core, is measured by `tests/reference/metaworld_runs.py speed` in
its own virtual environment, and given with --official=STEPS_PER_SECOND.
"""

from __future__ import annotations

import dataclasses
import runpy
import tempfile
from pathlib import Path

from pgx_jax import runtime

runtime.configure()

import common  # noqa: E402
import jax  # noqa: E402
from environments import Program, measure, ours  # noqa: E402

from pgx_jax.envs import TaskIdSuite, make_suite  # noqa: E402
from pgx_jax.pipeline.checks import make_networks  # noqa: E402
from pgx_jax.pipeline.config import PipelineConfig  # noqa: E402
from pgx_jax.training.ppo import PPO  # noqa: E402

CONFIG = Path(__file__).parents[1] / "pgx_jax/configs/metaworld_mt10.py"
# Thousand steps per second on an H100, before measuring.
PREDICTED = {
    "10,240 environments (k/s)": 300,
    "16,384 environments (k/s)": 350,
    "training (k/s)": 230,
    "compile s": 30,
}
# What is asked for most comes first, for when the time runs out.
FULL = {"num_envs": (10240, 16384, 4096, 1024), "num_steps": 32, "updates": 2}
SMALL = {"num_envs": (40,), "num_steps": 8, "updates": 1}
COLUMNS = {
    "what": "what",
    "environments": "num_envs",
    "steps a second": "steps_per_second",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "bytes": "bytes_per_env",
    "trace s": "trace_s",
    "compile s": "compile_s",
    "cached s": "cached_s",
}


def compile_again(program: Program) -> float:
    """Seconds to get the program of the persistent cache, tracing left out."""
    jax.clear_caches()
    *_, seconds = program.compile()
    return seconds


def training(num_updates: int, small: bool) -> Program:
    """Updates of PPO on all ten tasks with one policy."""
    config = PipelineConfig.from_dict(
        runpy.run_path(str(CONFIG))["get_config"]().to_dict()
    )
    ppo_config = dataclasses.replace(config.ppo, num_envs=1024, num_minibatches=16)
    if small:
        ppo_config = dataclasses.replace(
            ppo_config, num_envs=4, unroll_length=8, num_minibatches=2
        )
    suite = TaskIdSuite.create(make_suite(config.suite.name))
    ppo = PPO(ppo_config, make_networks(config, suite), 1_000)
    return Program(
        config.suite.name,
        "PPO, one policy",
        suite.num_tasks,
        ppo_config.num_envs * suite.num_tasks,
        num_updates * ppo_config.unroll_length,
        lambda key: ppo.init(suite, key),
        # The key of the run is in its state.
        lambda state, key: ppo.run(suite, state, num_updates)[0],
    )


def plot(rows: list[dict]):
    """Steps per second against the number of environments."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(4.4, 3.0), layout="constrained")
    alone = [row for row in rows if row["what"] == "MT10, one program"]
    axis.plot(
        [row["num_envs"] for row in alone],
        [row["steps_per_second"] for row in alone],
        "o-",
        color=common.COLOURS[0],
        label="MT10, one program",
    )
    for row in rows:
        if row["what"].startswith("PPO"):
            axis.plot(
                row["num_envs"],
                row["steps_per_second"],
                "D",
                color=common.COLOURS[1],
                label="inside PPO",
            )
        if row["what"].startswith("official"):
            axis.axhline(
                row["steps_per_second"],
                color="0.5",
                linestyle=":",
                label="official, one CPU core",
            )
    common.log_axis(axis.xaxis, [row["num_envs"] for row in alone])
    common.log_axis(axis.yaxis)
    axis.set_xlabel("environments")
    axis.set_ylabel("steps a second")
    axis.legend()
    return figure


def main() -> None:
    def add(parser):
        parser.add_argument("--official", type=float, help="steps a second of one core")

    arguments = common.parse_arguments(__doc__, seconds=480, add=add)
    sizes = SMALL if arguments.small else FULL
    budget = common.Budget(arguments.seconds)
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        # An empty one, so that what is called compiling is.
        jax.config.update("jax_compilation_cache_dir", cache)
        if budget.allows("training"):
            program = training(sizes["updates"], arguments.small)
            row = measure(program, program.compile(), arguments.repeats)
            del row["bytes_per_env"]  # mostly the policy's
            rows.append(row | {"what": program.of})
        for num_envs in sizes["num_envs"]:
            if not budget.allows(f"{num_envs:,} environments"):
                continue
            program = ours("metaworld_mt10", num_envs, sizes["num_steps"])
            # The key of the persistent cache depends on what JAX has traced before.
            jax.clear_caches()
            row = measure(program, program.compile(), arguments.repeats)
            if num_envs == sizes["num_envs"][0]:
                row["cached_s"] = compile_again(program)
            rows.append(row | {"what": "MT10, one program"})
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: (row["what"], row["num_envs"]))
    if arguments.official:
        rows.append(
            {
                "what": "official environments, one CPU core",
                "num_envs": 1,
                "steps_per_second": arguments.official,
            }
        )
    common.publish(
        "metaworld_small" if arguments.small else "metaworld",
        rows,
        COLUMNS,
        plot,
        arguments.output,
        predicted=PREDICTED,
        left_out=budget.left_out,
        sizes=sizes,
    )


if __name__ == "__main__":
    main()
