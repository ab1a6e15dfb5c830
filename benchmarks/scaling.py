"""The whole call against the number of subsets and of tasks: time and peak memory.

python benchmarks/scaling.py            # a GPU, about two minutes
python benchmarks/scaling.py --small    # a CPU

`estimate_subsets` and `task_affinity` are called as a user calls them, so that the time
includes the checks of the arguments on the host. Features are computed in TF32 (on a
CPU in float32), regressions in float32; p = 338,408, d = 400 and N = 2,048 transitions
a task. The features are computed once a call: their cost remains as m falls. The points
are

* m = 100 to 100,000 subsets of n = 20 tasks;
* n = 10 to 200 tasks with m = 2,000;
* m = 100,000 subsets of n = 100 tasks.

A subset holds n/10 tasks, at least 4: smaller ones could not cover the 19,900 pairs of
200 tasks. Each point runs in a process of its own, since the peak that a device reports
is that of the process so far; it includes what the compiler uses to tune its kernels.
On a CPU the memory is the largest resident set of the process.
"""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import time

import common
import jax
import numpy as np

import pgx_jax as pge
from pgx_jax.appearance import GROUP_COLORS

# Seconds on an H100, written down before measuring.
PREDICTED = {
    "n = 10, m = 2,000 (s)": 0.075,
    "n = 100, m = 2,000 (s)": 0.45,
    "n = 100, m = 100,000 (s)": 10.0,
    "n = 200, m = 2,000 (s)": 0.9,
}
FULL = {
    "subsets": [100, 1_000, 10_000, 100_000],
    "tasks": [10, 20, 50, 100, 200],
    "many_tasks": 20,
    "some_subsets": 2_000,
    "largest": [(100, 100_000)],
    "samples": 2_048,
    "width": 400,
    "hidden": 3,
    "dim": 400,
}
SMALL = {
    "subsets": [100, 1_000],
    "tasks": [5, 10],
    "many_tasks": 10,
    "some_subsets": 200,
    "largest": [],
    "samples": 100,
    "width": 64,
    "hidden": 1,
    "dim": 50,
}
COLUMNS = {
    "n": "num_tasks",
    "m": "num_subsets",
    "tasks a subset": "subset_size",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "estimate s": "estimate_s",
    "affinity s": "affinity_s",
    "peak GiB": "peak_GiB",
    "memory": "memory_of",
    "first call s": "first_call_s",
    "converged": "converged",
}


def draw_subsets(num_tasks: int, num_subsets: int) -> np.ndarray:
    """Subsets of a tenth of the tasks that cover all pairs; bool [m, n]."""
    size = min(max(4, num_tasks // 10), num_tasks - 1)
    drawn = min(num_subsets, 2_000)
    subsets = pge.sample_subsets(jax.random.key(1), num_tasks, drawn, size)
    # Balanced draws take the host a minute for 100,000 subsets; the rest are uniform.
    rest = np.zeros((num_subsets - drawn, num_tasks), bool)
    rest[:, :size] = True
    rest = np.random.default_rng(0).permuted(rest, axis=1)
    return np.concatenate([subsets, rest])


def measure_point(point: list[str], sizes: dict, repeats: int) -> dict:
    """Times one point, n and m; to be called once in a process."""
    num_tasks, num_subsets = map(int, point)
    layers = (39, *[sizes["width"]] * sizes["hidden"], 4)
    params, batch = common.make_problem(num_tasks, sizes["samples"], layers)
    subsets = draw_subsets(num_tasks, num_subsets)
    stages = {"estimate": [], "affinity": []}
    for _ in range(repeats + 1):  # the first is a warm-up
        moments = [time.perf_counter()]
        estimates = common.estimate(
            params, batch, subsets, dim=sizes["dim"], feature_precision="tf32"
        )
        jax.block_until_ready(estimates)
        moments.append(time.perf_counter())
        jax.block_until_ready(pge.task_affinity(estimates))
        moments.append(time.perf_counter())
        for stage, (begin, end) in zip(
            stages.values(), itertools.pairwise(moments), strict=True
        ):
            stage.append(end - begin)
    first, *times = map(sum, zip(*stages.values(), strict=True))
    peak, memory_of = peak_memory()
    return {
        "num_tasks": num_tasks,
        "num_subsets": num_subsets,
        "subset_size": int(subsets[0].sum()),
        "num_params": common.count_params(params),
        **common.summarize_times(times),
        **{f"{x}_s": statistics.median(taken[1:]) for x, taken in stages.items()},
        **{f"{x}_times_s": taken[1:] for x, taken in stages.items()},
        "peak_GiB": peak / 2**30,
        "memory_of": memory_of,
        "first_call_s": first,
        "converged": float(np.mean(estimates.converged)),
        "max_iterations": int(np.max(estimates.num_iterations)),
    }


def peak_memory() -> tuple[int, str]:
    """The most bytes in use so far in this process, and of what."""
    usage = jax.devices()[0].memory_stats()
    if usage and "peak_bytes_in_use" in usage:
        return usage["peak_bytes_in_use"], "device"
    # In KiB on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "process"


def list_points(sizes: dict) -> list[tuple[int, int]]:
    """(n, m) of both sweeps, and the largest m with many tasks last."""
    by_subsets = [(sizes["many_tasks"], m) for m in sizes["subsets"]]
    by_tasks = [(n, sizes["some_subsets"]) for n in sizes["tasks"]]
    ends = [by_subsets[0], by_tasks[-1]]
    return list(dict.fromkeys([*ends, *by_subsets, *by_tasks, *sizes["largest"]]))


def plot(rows: list[dict]):
    """Time and memory, each against m and n."""
    from matplotlib import pyplot as plt

    sizes = SMALL if rows[0]["small"] else FULL
    sweeps = {
        "num_subsets": ("num_tasks", sizes["many_tasks"], "m, subsets (n = {})"),
        "num_tasks": ("num_subsets", sizes["some_subsets"], "n, tasks (m = {:,})"),
    }
    quantities = {"median_s": "Time (s)", "peak_GiB": "Peak memory (GiB)"}
    # A sweep of which time allowed only one point has no line to draw.
    drawn = {
        x: sorted((row for row in rows if row[fixed] == value), key=lambda r: r[x])
        for x, (fixed, value, _) in sweeps.items()
    }
    lines = {x: chosen for x, chosen in drawn.items() if len(chosen) > 1}
    drawn = lines or {x: chosen for x, chosen in drawn.items() if chosen}
    figure, axes = plt.subplots(
        2,
        len(drawn),
        figsize=(3.4 * len(drawn), 4),
        layout="constrained",
        squeeze=False,
    )
    for j, (x, chosen) in enumerate(drawn.items()):
        for i, (quantity, name) in enumerate(quantities.items()):
            axis = axes[i, j]
            axis.plot(
                [row[x] for row in chosen],
                [row[quantity] for row in chosen],
                "o-",
                color=GROUP_COLORS[i],
            )
            common.log_axis(axis.xaxis, [row[x] for row in chosen])
            if quantity == "median_s":
                common.log_axis(axis.yaxis)
            else:
                axis.set_ylim(0, 1.1 * max(row[quantity] for row in chosen))
            axis.set_xlabel(sweeps[x][2].format(sweeps[x][1]))
            if j == 0:
                axis.set_ylabel(name)
    return figure


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All points that the time allows, each in a process of its own."""
    sizes = dict(sizes)
    for name in ("subsets", "tasks"):
        sizes[name] = getattr(arguments, name) or sizes[name]
    rows = []
    for num_tasks, num_subsets in list_points(sizes):
        if budget.allows(f"n = {num_tasks}, m = {num_subsets:,}"):
            row = common.run_child(__file__, [num_tasks, num_subsets], arguments)
            rows.append({**row, "small": arguments.small})
    rows.sort(key=lambda row: (row["num_tasks"], row["num_subsets"]))
    return common.Outcome(rows, more={"sizes": sizes})


def add_arguments(parser) -> None:
    parser.add_argument("--subsets", type=int, nargs="*", help="values of m")
    parser.add_argument("--tasks", type=int, nargs="*", help="values of n")


def main() -> None:
    common.run(globals(), seconds=110)


if __name__ == "__main__":
    main()
