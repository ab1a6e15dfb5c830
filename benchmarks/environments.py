"""Steps per second of the suites, beside Brax's own environments.

python benchmarks/environments.py            # a GPU, about five minutes
python benchmarks/environments.py --small    # a CPU

Each program steps every environment a number of times with normal actions in one
`lax.scan`, resets included: ours reset from the pool that is drawn when the program
starts, Brax's as its training wraps them (every episode starts from the same state
again). Timing begins after some steps, so that contacts are as they are in use.
Programs are compiled side by side, and timed one after the other.

"bytes" is the size of what one environment keeps between two steps.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import common
import jax
from brax import envs as brax_envs
from brax.envs.wrappers.training import wrap

from pgx_jax.appearance import GROUP_COLORS
from pgx_jax.envs import SuiteState, TaskSuite, make_suite

# Million steps per second on an H100 at 4,096 environments, before measuring.
PREDICTED = {
    "cartpole_v1 (M/s)": 500,
    "lunar_lander_v3 (M/s)": 3,
    "highway_fast (M/s)": 5,
    "half_cheetah (M/s)": 0.4,
    "half_cheetah, ours / Brax's": 1.2,
    "ant (M/s)": 0.5,
    "ant, ours / Brax's": 1.2,
}
FULL = {"num_envs": (1024, 4096, 16384), "num_steps": 32}
SMALL = {"num_envs": (64, 256), "num_steps": 16}
# Names of our suites, and Brax's names of those that it has too.
SUITES = {
    "cartpole_v1": None,
    "lunar_lander_v3": None,
    "highway_fast": None,
    "half_cheetah": "halfcheetah",
    "half_cheetah_direction": None,
    "hopper_body": None,
    "walker2d_body": None,
    "ant": "ant",
}
COLUMNS = {
    "environment": "environment",
    "of": "of",
    "tasks": "num_tasks",
    "environments": "num_envs",
    "steps a second": "steps_per_second",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "bytes": "bytes_per_env",
    "trace s": "trace_s",
    "compile s": "compile_s",
}


@dataclasses.dataclass
class Program:
    """What is timed: `step(state, key)` steps all environments `num_steps` times."""

    environment: str
    of: str
    num_tasks: int
    num_envs: int
    num_steps: int
    reset: Callable[[jax.Array], Any]
    step: Callable[[Any, jax.Array], Any]

    def compile(self) -> tuple[Any, Any, float, float]:
        key = jax.random.key(0)
        began = time.perf_counter()
        state = jax.eval_shape(self.reset, key)
        lowered = jax.jit(self.step).lower(state, key)
        reset = jax.jit(self.reset).lower(key)
        traced = time.perf_counter()
        step = lowered.compile()
        compiled = time.perf_counter()
        return reset.compile(), step, traced - began, compiled - traced


def ours(name: str, num_envs: int, num_steps: int) -> Program:
    """The program of a suite of ours, which divides environments among its tasks."""
    suite: TaskSuite = make_suite(name)
    each = num_envs // suite.num_tasks

    def step(state, key):
        def take(state, step_key):
            return suite.step(state, draw_actions(suite, each, step_key)), None

        state = suite.refresh(state)
        return jax.lax.scan(take, state, jax.random.split(key, num_steps))[0]

    return Program(
        name,
        "ours",
        suite.num_tasks,
        each * suite.num_tasks,
        num_steps,
        lambda key: suite.reset(key, each),
        step,
    )


def draw_actions(suite: TaskSuite, num_envs: int, key: jax.Array) -> jax.Array:
    space, shape = suite.action_space, (suite.num_tasks, num_envs)
    if space.discrete:
        return jax.random.randint(key, shape, 0, space.size)
    return jax.random.normal(key, (*shape, space.size))


def of_brax(name: str, brax_name: str, num_envs: int, num_steps: int) -> Program:
    """The program of Brax's environment in the wrappers that its PPO trains in."""
    env = wrap(brax_envs.get_environment(brax_name, backend="mjx"), 1000)

    def step(state, key):
        def take(state, step_key):
            action = jax.random.normal(step_key, (num_envs, env.action_size))
            return env.step(state, action), None

        return jax.lax.scan(take, state, jax.random.split(key, num_steps))[0]

    def reset(key):
        # Brax takes an array of keys of the old kind.
        keys = jax.random.split(key, num_envs)
        return env.reset(jax.vmap(jax.random.key_data)(keys))

    return Program(name, "Brax", 1, num_envs, num_steps, reset, step)


def time_program(program: Program, compiled: tuple, repeats: int) -> dict:
    """Times a compiled program, from a state that it has stepped for a while."""
    reset, step, trace_s, compile_s = compiled
    keys = iter(jax.random.split(jax.random.key(1), repeats + 3))
    state = reset(next(keys))
    for _ in range(2):
        state = step(state, next(keys))
    jax.block_until_ready(state)
    times = []
    for _ in range(repeats):
        key = next(keys)
        began = time.perf_counter()
        state = jax.block_until_ready(step(state, key))
        times.append(time.perf_counter() - began)
    seconds = common.summarize_times(times)
    num_steps = program.num_envs * program.num_steps
    kept = state._replace(pool=None) if isinstance(state, SuiteState) else state
    size = sum(
        math.prod(x.shape) * x.dtype.itemsize
        for x in jax.tree.leaves(jax.eval_shape(lambda: kept))
    )
    return {
        "environment": program.environment,
        "of": program.of,
        "num_tasks": program.num_tasks,
        "num_envs": program.num_envs,
        "steps_per_second": num_steps / seconds["median_s"],
        **seconds,
        "bytes_per_env": round(size / program.num_envs),
        "trace_s": trace_s,
        "compile_s": compile_s,
    }


def plot(rows: list[dict]):
    """Steps per second against the number of environments."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    names = list(dict.fromkeys(row["environment"] for row in rows))
    for name, color in zip(names, GROUP_COLORS, strict=False):
        for of, style in (("ours", "o-"), ("Brax", "s:")):
            chosen = [r for r in rows if (r["environment"], r["of"]) == (name, of)]
            if not chosen:
                continue
            axis.plot(
                [row["num_envs"] for row in chosen],
                [row["steps_per_second"] for row in chosen],
                style,
                color=color,
                label=name if of == "ours" else f"{name}, Brax's own",
            )
    common.log_axis(axis.xaxis, [row["num_envs"] for row in rows])
    common.log_axis(axis.yaxis)
    axis.set_xlabel("environments")
    axis.set_ylabel("steps a second")
    figure.legend(loc="outside right upper")
    return figure


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All suites asked for, at all numbers of environments."""
    programs = []
    for num_envs in sizes["num_envs"]:
        for name in arguments.suites:
            programs.append(ours(name, num_envs, sizes["num_steps"]))
            if SUITES[name]:
                programs.append(
                    of_brax(name, SUITES[name], num_envs, sizes["num_steps"])
                )
    with ThreadPoolExecutor() as threads:
        compiled = list(threads.map(Program.compile, programs))
    rows = []
    for program, executables in zip(programs, compiled, strict=True):
        label = f"{program.environment} of {program.of}, {program.num_envs:,}"
        if budget.allows(label):
            rows.append(time_program(program, executables, arguments.repeats))
    rows.sort(key=lambda r: (list(SUITES).index(r["environment"]), r["of"] == "Brax"))
    return common.Outcome(rows)


def add_arguments(parser) -> None:
    parser.add_argument("--suites", nargs="*", default=list(SUITES), choices=SUITES)


def main() -> None:
    common.run(globals(), seconds=300)


if __name__ == "__main__":
    main()
