"""Meta-World's MT10 in one program: steps per second, alone and inside training.

python benchmarks/metaworld.py            # a GPU, about six minutes
python benchmarks/metaworld.py --small    # a CPU

All ten tasks share 1,024 to 16,384 environments, with normal actions and resets from
the pool included, as in environments.py. Training is PPO with the networks and settings
of the config `metaworld_mt10`, except for 1,024 environments a task. "cached" is the
time to compile the same program again when JAX's persistent cache holds it. The row of
the original environments on one CPU core is measured by
`tests/reference/metaworld_runs.py speed` in a virtual environment of its own, and given
with --official=STEPS_PER_SECOND.
"""

from __future__ import annotations

import dataclasses
import tempfile

import common
import jax
from environments import Program, ours, time_program

from pgx_jax.appearance import GROUP_COLORS
from pgx_jax.configs import metaworld_mt10
from pgx_jax.envs import TaskIdSuite, make_suite
from pgx_jax.pipeline.checks import make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.training.ppo import PPO

# Thousand steps per second on an H100, before measuring.
PREDICTED = {
    "10,240 environments (k/s)": 300,
    "16,384 environments (k/s)": 350,
    "training (k/s)": 230,
    "compile s": 30,
}
# The most important number comes first, in case time runs out.
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
    """Seconds to get the program from the persistent cache, tracing excluded."""
    jax.clear_caches()
    *_, seconds = program.compile()
    return seconds


def training(num_updates: int, small: bool) -> Program:
    """The program of PPO updates on all ten tasks with one policy."""
    config = PipelineConfig.from_dict(metaworld_mt10.get_config().to_dict())
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
        # The state holds the key of the run.
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
        color=GROUP_COLORS[0],
        label="MT10, one program",
    )
    for row in rows:
        if row["what"].startswith("PPO"):
            axis.plot(
                row["num_envs"],
                row["steps_per_second"],
                "D",
                color=GROUP_COLORS[1],
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


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """Training, then all numbers of environments that the time allows."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        # An empty cache, so that the times of compilation are real.
        jax.config.update("jax_compilation_cache_dir", cache)
        if budget.allows("training"):
            program = training(sizes["updates"], arguments.small)
            row = time_program(program, program.compile(), arguments.repeats)
            del row["bytes_per_env"]  # mostly the policy's
            rows.append(row | {"what": program.of})
        for num_envs in sizes["num_envs"]:
            if not budget.allows(f"{num_envs:,} environments"):
                continue
            program = ours("metaworld_mt10", num_envs, sizes["num_steps"])
            # The key of the persistent cache depends on what JAX has traced before.
            jax.clear_caches()
            row = time_program(program, program.compile(), arguments.repeats)
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
    return common.Outcome(rows)


def add_arguments(parser) -> None:
    parser.add_argument("--official", type=float, help="steps a second of one core")


def main() -> None:
    common.run(globals(), seconds=480)


if __name__ == "__main__":
    main()
