"""The whole estimate in one call, from features to affinity, at its headline sizes.

python benchmarks/headline.py            # a GPU: p = 338,408
python benchmarks/headline.py --small    # a CPU: p = 4,610
"""

from __future__ import annotations

import time

import common
import jax
import numpy as np

import pgx_jax as pge
from pgx_jax import runtime

FULL = {
    "samples": 2048,
    "layers": (39, 400, 400, 400, 4),
    "cases": [(2000, "float32"), (2000, "tf32"), (100_000, "tf32")],
}
SMALL = {
    "samples": 2048,
    "layers": (4, 64, 64, 2),
    "cases": [(1000, "float32")],
}
NUM_TASKS = 10
COLUMNS = {
    "m": "m",
    "features": "features",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "compile s": "compile_s",
    "peak GiB": "peak_GiB",
    "converged": "converged",
    "iterations": "max_iterations",
    "groups found": "groups_found",
}


def time_case(params, batch, num_subsets: int, precision: str, repeats: int) -> dict:
    """Compiles and times the whole call for one number of subsets."""
    subsets = pge.sample_subsets(jax.random.key(1), NUM_TASKS, num_subsets, 3)

    def estimate(params, batch):
        estimates = common.estimate(params, batch, subsets, feature_precision=precision)
        return pge.task_affinity(estimates), estimates

    call = jax.jit(estimate, compiler_options=runtime.compiler_options())
    began = time.perf_counter()
    compiled = call.lower(params, batch).compile()
    compile_s = time.perf_counter() - began
    affinity, estimates = jax.device_get(compiled(params, batch))
    labels = pge.cluster_tasks(affinity, 2).labels
    times = common.time_calls(compiled, params, batch, repeats=repeats)
    return {
        "m": num_subsets,
        "features": precision,
        **common.summarize_times(times),
        "compile_s": compile_s,
        "peak_GiB": common.peak_memory(compiled),
        "converged": float(np.mean(estimates.converged)),
        "max_iterations": int(estimates.num_iterations.max()),
        "groups_found": bool((labels == np.arange(NUM_TASKS) % 2).all()),
    }


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All cases that the time allows."""
    params, batch = common.make_problem(NUM_TASKS, sizes["samples"], sizes["layers"])
    return common.Outcome(
        [
            time_case(params, batch, num_subsets, precision, arguments.repeats)
            for num_subsets, precision in sizes["cases"]
            if budget.allows(f"m = {num_subsets:,}, {precision}")
        ]
    )


def main() -> None:
    common.run(globals(), seconds=600, repeats=7)


if __name__ == "__main__":
    main()
