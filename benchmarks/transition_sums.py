"""From transitions to groups by least squares: sums, all subsets, the best partition.

python benchmarks/transition_sums.py            # a GPU, about a minute
python benchmarks/transition_sums.py --small    # a CPU

A million transitions of n = 10 tasks are given in batches; p = 338,408 and d = 400. It
times

* projection: the projected policy gradients of every batch alone. It is the floor,
  since nothing else of the sums takes as many operations;
* sums: `accumulate` of a stream of the batches, with and without the noise of a batch;
* scores: all 2^n - 1 subsets, cross-fitted over two folds;
* search: the best partition of those scores, k free;
* many scores: subsets of 2 to 20 out of 100 tasks, from sums drawn at random.

The claims, on an H100: sums take at most 1.5 times the floor, and sums, scores and
search 3 s; scores and search 0.1 s; 100,000 subsets of 100 tasks 0.5 s; 4 GiB at most
are in use.
"""

from __future__ import annotations

import functools
import itertools
import time

import common
import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis.truth_tables import all_subsets
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
RIDGE = 1.0
SAMPLED = 5  # subsets whose scores are compared
FIELDS = ("count", "feature", "outer", "advantage", "product")
COLUMNS = {
    "what": "what",
    "features": "features",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "over projection": "ratio",
    "error": "error",
    "peak GiB": "peak_GiB",
}


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
        with jax.default_matmul_precision(common.PRECISIONS[precision]):
            features = project_gradients(
                common.log_prob,
                params,
                observation,
                action,
                key=key,
                projection=projection,
            )
        return features.sum(axis=0)

    def project_all(num_batches):
        total = project(batch)
        for _ in range(num_batches - 1):
            total = total + project(batch)
        return total

    def sum_up(num_batches, noise):
        return accumulate(
            common.log_prob,
            params,
            itertools.repeat(batch, num_batches),
            key,
            projection,
            num_parts=NUM_PARTS,
            noise=noise,
            feature_precision=precision,
        )

    calls = {
        "projection": project_all,
        "sums": functools.partial(sum_up, noise=False),
        "sums, with noise": functools.partial(sum_up, noise=True),
    }
    rows = []
    for what, call in calls.items():
        if not budget.allows(f"{what}, {precision}"):
            continue
        # Two batches compile all that the rest of them need.
        jax.block_until_ready(call(2))
        times = []
        for _ in range(arguments.repeats):
            began = time.perf_counter()
            jax.block_until_ready(call(sizes["batches"]))
            times.append(time.perf_counter() - began)
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

    def score():
        return least_squares_scores(sums, subsets, ridge=RIDGE, num_folds=2).scores

    times = common.time_calls(score, repeats=arguments.repeats)
    row = {"what": f"scores of {count:,} subsets of {num_tasks} tasks", "features": "-"}
    row |= {"peak_GiB": peak_memory()} | common.summarize_times(times)
    sampled = np.linspace(0, count - 1, SAMPLED).astype(int)
    found = np.asarray(score())[sampled]
    expected = score_directly(sums, subsets[sampled])
    row["error"] = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
    return [row]


def score_directly(sums: TaskSums, subsets: np.ndarray) -> np.ndarray:
    """The scores of a few subsets over two folds of a part each; float64 [m, n]."""
    numbers = sums._replace(squared_product=None, noise_outer=None)
    parts = jax.tree.map(lambda x: np.asarray(x, np.float64), numbers._asdict())
    total = {name: x.sum(axis=0) for name, x in parts.items() if x is not None}

    def gram(x):
        mean = x["feature"] / x["count"][:, None]
        outer = x["outer"] / x["count"][:, None, None]
        return outer - mean[:, :, None] * mean[:, None, :]

    scale = np.sqrt(np.mean(np.einsum("ndd->nd", gram(total))))
    mean = total["advantage"] / total["count"]
    spread = np.sqrt(total["squared_advantage"] / total["count"] - mean**2)

    def moments(fold):
        x = {name: leaf[fold] for name, leaf in parts.items() if name in FIELDS}
        count = x["count"][:, None]
        product = x["product"] - x["advantage"][:, None] * x["feature"] / count
        return gram(x) / scale**2, product / count / spread[:, None] / scale

    scores = np.zeros(subsets.shape)
    for fold in range(2):
        (fit_gram, fit_target), (gram_, target) = moments(1 - fold), moments(fold)
        for row, subset in enumerate(subsets):
            matrix = fit_gram[subset].mean(axis=0) + RIDGE * np.eye(fit_gram.shape[-1])
            delta = np.linalg.solve(matrix, fit_target[subset].mean(axis=0))
            taken = 2 * target @ delta - gram_ @ delta @ delta
            scores[row] += np.where(subset, taken, 0.0) / 2
    return scores


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
        "error: of scores of a few subsets, largest over largest, against float64.",
        "peak GiB: the most in use since the start of the process, arguments included.",
    )
    return common.Outcome(rows, notes)


def main() -> None:
    common.run(globals(), seconds=120)


if __name__ == "__main__":
    main()
