"""How long the whole call takes to compile, without and with a cache on disk.

python benchmarks/compile.py            # a GPU, about two minutes
python benchmarks/compile.py --small    # a CPU

`estimate_subsets` and `task_affinity` under one `jax.jit`, at the sizes of
`headline.py`: n = 10 tasks, m = 2,000 subsets of 3, N = 2,048 transitions a task,
p = 338,408, d = 400. The phases are

* trace: Python runs the function on abstract arrays;
* lower: JAX translates the trace to StableHLO;
* compile: XLA compiles that, or the program is read from JAX's cache on disk.

Each measurement is a process of its own, since XLA remembers what it has tuned. A
"cold" one begins with an empty cache directory; the "warm" one after it finds what the
cold one left there and must hit the cache. Rows are medians over processes, which are
fewer than five unless `--seconds` allows for more, since cold ones take long.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time

import common
import jax

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.appearance import GROUP_COLORS

# Seconds on an H100, written down before measuring.
PREDICTED = {
    "cold, float32 (s)": 20.0,
    "cold, TF32 (s)": 25.0,
    "warm (s)": 2.0,
}
FULL = {"num_subsets": 2_000, "num_samples": 2_048, "hidden": (400, 400, 400)}
FULL |= {"dim": 400}
SMALL = {"num_subsets": 100, "num_samples": 100, "hidden": (64,), "dim": 50}
NUM_TASKS = 10
PHASES = ("trace", "lower", "compile")
COLUMNS = {
    "cache": "cache",
    "features": "precision",
    **{f"{phase} s": f"{phase}_s" for phase in PHASES},
    "in all s": "total_s",
    "min s": "min_s",
    "max s": "max_s",
    "processes": "processes",
    "cache hits": "cache_hits",
}


def measure_point(point: list[str], sizes: dict, repeats: int) -> dict:
    """Traces, lowers and compiles once; to be called once in a process.

    Args:
      point: the precision of the features.
      sizes: those of the problem.
      repeats: not used, since only the first time counts.
    """
    del repeats
    (precision,) = point
    hits = 0

    def count(event: str, **_) -> None:
        nonlocal hits
        hits += event == "/jax/compilation_cache/cache_hits"

    layers = (39, *sizes["hidden"], 4)
    problem = common.make_problem(NUM_TASKS, sizes["num_samples"], layers)
    subsets = pge.sample_subsets(
        jax.random.key(1), NUM_TASKS, sizes["num_subsets"], subset_size=3
    )
    jax.block_until_ready(problem)

    def call(params, batch):
        estimates = common.estimate(
            params, batch, subsets, dim=sizes["dim"], feature_precision=precision
        )
        return pge.task_affinity(estimates), estimates

    jax.monitoring.register_event_listener(count)
    moments = [time.perf_counter()]
    stage = jax.jit(call, compiler_options=runtime.compiler_options())
    for step in (
        lambda x: x.trace(*problem),
        lambda x: x.lower(),
        lambda x: x.compile(),
    ):
        stage = step(stage)
        moments.append(time.perf_counter())
    seconds = [b - a for a, b in itertools.pairwise(moments)]
    return dict(zip(PHASES, seconds, strict=True)) | {"cache_hits": hits}


def summarize(precision: str, cache: str, runs: list[dict]) -> dict:
    """The row of one precision and one state of the cache."""
    totals = [sum(run[phase] for phase in PHASES) for run in runs]
    return {
        "cache": cache,
        "precision": precision,
        **{f"{x}_s": statistics.median(run[x] for run in runs) for x in PHASES},
        "total_s": statistics.median(totals),
        "min_s": min(totals),
        "max_s": max(totals),
        "processes": len(runs),
        "cache_hits": min(run["cache_hits"] for run in runs),
        "runs": runs,
    }


def plot(rows: list[dict]):
    """One bar for each row, split into the phases."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(
        figsize=(6.75, 0.7 + 0.3 * len(rows)), layout="constrained"
    )
    names = [
        f"{row['precision'].replace('tf32', 'TF32')}, {row['cache']}" for row in rows
    ]
    left = [0.0] * len(rows)
    for phase, color in zip(PHASES, GROUP_COLORS, strict=False):
        seconds = [row[f"{phase}_s"] for row in rows]
        axis.barh(names, seconds, 0.6, left=left, color=color, label=phase)
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    for i, total in enumerate(left):
        axis.text(total, i, f" {total:.3g} s", va="center", fontsize=7)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.margins(x=0.1)
    axis.set_xlabel("Time (s)")
    figure.legend(loc="outside upper center", ncols=len(PHASES))
    return figure


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """A cold and a warm process for each precision and repeat."""
    precisions = ("float32",) if arguments.small else ("float32", "tf32")
    runs = {(p, cache): [] for p in precisions for cache in ("cold", "warm")}
    for repeat, precision in itertools.product(range(arguments.repeats), precisions):
        if not budget.allows(f"{precision}, cold and warm, {repeat}"):
            continue
        with tempfile.TemporaryDirectory() as directory:
            for cache in ("cold", "warm"):
                found = common.run_child(
                    __file__,
                    [precision],
                    arguments,
                    JAX_COMPILATION_CACHE_DIR=directory,
                )
                runs[precision, cache].append(found)
    rows = [summarize(*key, found) for key, found in runs.items() if found]
    return common.Outcome(rows, more={"sizes": {**sizes, "num_tasks": NUM_TASKS}})


def main() -> None:
    common.run(globals(), seconds=100)


if __name__ == "__main__":
    main()
