"""From transitions to groups by least squares: sums, all subsets, the best partition.

python benchmarks/transition_sums.py            # a GPU, about a minute
python benchmarks/transition_sums.py --small    # a CPU

A million transitions of n = 10 tasks are given in batches; p = 338,408 and d = 400. It
times

* projection: the projected policy gradients of every batch alone. It is the floor,
  since nothing else of the sums takes as many operations;
* sums: `accumulate` of every batch, added up, with and without the noise of a batch;
* scores: all 2^n - 1 subsets, cross-fitted over two folds;
* search: the best partition of those scores, k free;
* many scores: subsets of 2 to 20 out of 100 tasks, from sums drawn at random.

The claims, on an H100: sums take at most 1.5 times the floor, and sums, scores and
search 3 s; scores and search 0.1 s; 100,000 subsets of 100 tasks 0.5 s; 4 GiB at most
are in use.
"""

from __future__ import annotations

import time

import common
import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis.partitions import all_subsets
from pgx_jax.estimation.least_squares import least_squares_scores
from pgx_jax.estimation.projection import project_gradients
from pgx_jax.estimation.sums import TaskSums, accumulate

# Written down before measuring, in s.
PREDICTED = {
    "projection, float32": 6.8,
    "projection, tf32": 1.85,
    "sums over projection": 1.15,
    "scores of 1,023 subsets": 0.08,
    "search": 0.02,
    "scores of 100,000 subsets": 3.0,
}
FULL = {"batches": 49, "samples": 2048, "layers": (39, 400, 400, 400, 4), "dim": 400}
FULL |= {"num_tasks": 10, "many_tasks": 100, "many_subsets": 100_000}
SMALL = {"batches": 3, "samples": 128, "layers": (4, 64, 64, 2), "dim": 40}
SMALL |= {"num_tasks": 6, "many_tasks": 20, "many_subsets": 300}
NUM_PARTS = 2
COLUMNS = {
    "what": "what",
    "features": "features",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "over projection": "ratio",
    "peak GiB": "peak_GiB",
}


def time_batches(step, batch, num_batches: int, repeats: int) -> list[float]:
    """Times of `num_batches` calls whose results are added up, after one to warm up."""

    jax.block_until_ready(step(batch) + step(batch))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        total = step(batch)
        for _ in range(num_batches - 1):
            total = total + step(batch)
        jax.block_until_ready(total)
        times.append(time.perf_counter() - began)
    return times


def time_sums(sizes: dict, precision: str, arguments, budget) -> list[dict]:
    """Rows of the projection alone and of the sums, at one precision of features."""
    params, batch = common.make_problem(
        sizes["num_tasks"], sizes["samples"], sizes["layers"]
    )
    projection = pge.GaussianProjection(sizes["dim"])
    key = jax.random.key(2)

    @jax.jit
    def project(batch):
        observation, action = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
        )
        features = project_gradients(
            common.log_prob, params, observation, action, key=key, projection=projection
        )
        return features.sum(axis=0)

    def sum_up(noise):
        return lambda batch: accumulate(
            common.log_prob,
            params,
            batch,
            key,
            projection,
            num_parts=NUM_PARTS,
            noise=noise,
        )

    steps = {"projection": project, "sums": sum_up(False)}
    steps |= {"sums, with noise": sum_up(True)}
    rows = []
    with jax.default_matmul_precision(common.PRECISIONS[precision]):
        for what, step in steps.items():
            if not budget.allows(f"{what}, {precision}"):
                continue
            times = time_batches(step, batch, sizes["batches"], arguments.repeats)
            row = {"what": what, "features": precision, "peak_GiB": peak_memory()}
            rows.append(row | common.summarize_times(times))
            rows[-1]["ratio"] = rows[-1]["median_s"] / rows[0]["median_s"]
    return rows


def draw_sums(num_tasks: int, dim: int) -> TaskSums:
    """Sums whose outer products are those of features drawn at random."""
    shape = (NUM_PARTS, num_tasks)
    keys = jax.random.split(jax.random.key(3), 2)
    features = jax.random.normal(keys[0], (*shape, 2 * dim, dim))
    advantage = jax.random.normal(keys[1], (*shape, 2 * dim))
    return TaskSums(
        count=jnp.full(shape, 2.0 * dim),
        feature=features.sum(axis=2),
        outer=jnp.einsum("pntd,pnte->pnde", features, features),
        advantage=advantage.sum(axis=2),
        squared_advantage=jnp.square(advantage).sum(axis=2),
        product=jnp.einsum("pnt,pntd->pnd", advantage, features),
        squared_product=None,
        noise_outer=None,
        fingerprint=jnp.zeros(4),
    )


def time_groups(sizes: dict, arguments, budget) -> list[dict]:
    """Rows of scores of all subsets, and of the search among partitions."""
    if not budget.allows("scores of all subsets"):
        return []
    subsets = all_subsets(sizes["num_tasks"])
    sums = draw_sums(sizes["num_tasks"], sizes["dim"])
    scores, rows = least_squares_scores(sums, subsets), []
    calls = {
        f"scores of {len(subsets):,} subsets": lambda: (
            least_squares_scores(sums, subsets).scores
        ),
        "search": lambda: pge.best_partition(scores).labels,
        "scores and search": lambda: (
            pge.best_partition(least_squares_scores(sums, subsets)).labels
        ),
    }
    for what, call in calls.items():
        times = common.time_calls(call, repeats=arguments.repeats)
        rows.append({"what": what, "features": "-", "peak_GiB": peak_memory()})
        rows[-1] |= common.summarize_times(times)
    return rows


def time_many(sizes: dict, arguments, budget) -> list[dict]:
    """A row of scores of many subsets of many tasks."""
    count, num_tasks = sizes["many_subsets"], sizes["many_tasks"]
    if not budget.allows(f"scores of {count:,} subsets"):
        return []
    rng = np.random.default_rng(4)
    order = rng.random((count, num_tasks)).argsort(axis=1).argsort(axis=1)
    subsets = order < rng.integers(2, num_tasks // 5 + 1, size=(count, 1))
    sums = draw_sums(num_tasks, sizes["dim"])
    times = common.time_calls(
        lambda: least_squares_scores(sums, subsets).scores,
        repeats=min(3, arguments.repeats),
    )
    row = {"what": f"scores of {count:,} subsets of {num_tasks} tasks", "features": "-"}
    return [row | {"peak_GiB": peak_memory()} | common.summarize_times(times)]


def peak_memory() -> float | None:
    """The most memory in use on the device so far in GiB, where it tells."""
    found = jax.devices()[0].memory_stats()
    return found and found["peak_bytes_in_use"] / 2**30


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All measurements that the time allows."""
    rows = time_groups(sizes, arguments, budget)
    for precision in ("tf32", "float32"):
        rows += time_sums(sizes, precision, arguments, budget)
    rows += time_many(sizes, arguments, budget)
    total = sizes["batches"] * sizes["samples"] * sizes["num_tasks"]
    notes = (
        f"{total:,} transitions in batches of {sizes['samples']:,} a task.",
        "peak GiB: the most in use since the start of the process, arguments included.",
    )
    return common.Outcome(rows, notes)


def main() -> None:
    common.run(
        "transition_sums",
        __doc__,
        measure,
        COLUMNS,
        full=FULL,
        small=SMALL,
        seconds=120,
        predicted=PREDICTED,
    )


if __name__ == "__main__":
    main()
