"""The whole estimate in one call, features to affinity, at the sizes it is judged at.

python benchmarks/headline.py            # a GPU: p = 338,408
python benchmarks/headline.py --small    # a CPU: p = 4,610
"""

from __future__ import annotations

import argparse
import time

from pgx_jax import runtime

runtime.configure()

import common  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

import pgx_jax as pge  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--output", help="directory of the result")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.small:
        sizes, cases = (4, 64, 64, 2), [(1000, "float32")]
    else:
        sizes = (39, 400, 400, 400, 4)
        cases = [(2000, "float32"), (2000, "tf32"), (100_000, "tf32")]
    params, batch = common.make_problem(sizes=sizes)
    rows = []
    for num_subsets, precision in cases:
        key = jax.random.key(1)
        subsets = pge.sample_subsets(key, 10, num_subsets, 3)

        def estimate(params, batch, subsets=subsets, precision=precision):
            estimates = common.estimate(
                params, batch, subsets, feature_precision=precision
            )
            return pge.task_affinity(estimates), estimates

        call = jax.jit(estimate, compiler_options=runtime.compiler_options())
        began = time.perf_counter()
        compiled = call.lower(params, batch).compile()
        compile_s = time.perf_counter() - began
        affinity, estimates = jax.device_get(compiled(params, batch))
        labels = pge.cluster_tasks(affinity, 2).labels
        timing = common.measure(compiled, params, batch, repeats=arguments.repeats)
        rows.append(
            {
                "m": num_subsets,
                "features": precision,
                "median_s": timing["median"],
                "min_s": timing["min"],
                "max_s": timing["max"],
                "times_s": timing["times"],
                "compile_s": compile_s,
                "peak_GiB": common.peak_bytes(compiled) / 2**30,
                "converged": float(np.mean(estimates.converged)),
                "max_iterations": int(estimates.num_iterations.max()),
                "groups_found": bool((labels == np.arange(10) % 2).all()),
            }
        )
    common.print_table([{k: v for k, v in r.items() if k != "times_s"} for r in rows])
    common.save(
        "headline_small" if arguments.small else "headline", rows, arguments.output
    )


if __name__ == "__main__":
    main()
