"""Projected gradients: time, memory and share of the peak against N, p and d.

python benchmarks/features.py            # a GPU, about two minutes
python benchmarks/features.py --small    # a CPU

The gradients of N transitions by p parameters (an MLP 39-w-w-w-4 with tanh and a
Gaussian head) are projected onto the d columns of P. Each size is varied around
N = 20,480, p = 338,408 (w = 400) and d = 400. The columns of the table are:

* Share of peak: the operations that a method needs (2 N p d by "reverse", 4 N p d by
  "forward") divided by its time and by the rate of a product of two 8192 x 8192
  matrices in the same precision, which is measured in the same process.
* Memory: arguments, temporaries and result of the compiled program.
* Error: |g~ - g~_0| / |g~_0|, where g~_0 is the result of "reverse" in float32.
* P: a "drawn" P is drawn inside the call, as `project_gradients` does by itself; a
  "stored" one was drawn before and is an argument. The difference is the cost of
  drawing.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import Any

import common
import jax
import jax.numpy as jnp

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.appearance import GROUP_COLORS

# Seconds on an H100 at the middle of the sweeps, written down before measuring.
PREDICTED = {
    "reverse, float32 (s)": 0.15,
    "reverse, TF32 (s)": 0.03,
    "forward, float32 (s)": 0.35,
    "forward, TF32 (s)": 0.12,
    "gain of a stored P, at most (s)": 0.005,
}
FULL = {
    "hidden": 3,
    "center": {"num_samples": 20_480, "width": 400, "dim": 400},
    "num_samples": (5_120, 81_920),
    "width": (200, 800),
    "dim": (100, 1_000),
}
SMALL = {
    "hidden": 1,
    "center": {"num_samples": 1_024, "width": 64, "dim": 64},
    "num_samples": (256,),
    "width": (16,),
    "dim": (16,),
}
METHODS = ("reverse", "forward")
COLUMNS = {
    "method": "method",
    "precision": "precision",
    "P": "projection",
    "N": "num_samples",
    "p": "num_params",
    "d": "dim",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
    "share of peak": "share_of_peak",
    "memory GiB": "memory_GiB",
    "error": "relative_error",
    "compile s": "compile_s",
}
X_AXES = {
    "num_samples": "N, transitions",
    "num_params": "p, parameters",
    "dim": "d, columns of P",
}
SWEPT = {"num_samples": "num_samples", "width": "num_params", "dim": "dim"}


@dataclasses.dataclass(frozen=True, eq=False)
class StoredProjection:
    """A projection that was drawn before.

    Attributes:
      dim: d.
      columns: pytree like the parameters, leaves with a leading axis of d.
    """

    dim: int
    columns: Any

    def column(self, key, params, index):
        del key, params
        return jax.tree.map(lambda x: x[index], self.columns)


def draw(projection, key, params):
    """All columns of P."""
    return jax.vmap(lambda j: projection.column(key, params, j))(
        jnp.arange(projection.dim)
    )


def project(params, observation, action, columns, *, method, precision, dim):
    """The features of one configuration; `columns` is P, or None to draw it."""
    projection = pge.GaussianProjection(dim)
    if columns is not None:
        projection = StoredProjection(dim, columns)
    with jax.default_matmul_precision(common.PRECISIONS[precision]):
        return pge.project_gradients(
            common.log_prob,
            params,
            observation,
            action,
            key=jax.random.key(2),
            projection=projection,
            method=method,
        )


def list_points(sizes: dict, precisions: tuple[str, ...]) -> list[dict]:
    """What is measured, the most important points first, in case time runs out."""
    variants = [
        {"method": method, "precision": precision}
        for method, precision in itertools.product(METHODS, precisions)
    ]
    center = sizes["center"]
    points = [
        {"sweep": "center", "projection": projection, **center, **variant}
        for projection in ("drawn", "stored")
        for variant in variants
    ]
    for variant, name in itertools.product(variants, SWEPT):
        points += [
            {"sweep": name, "projection": "drawn", **center, **variant, name: value}
            for value in sizes[name]
        ]
    return points


def time_point(point: dict, hidden: int, peak: float, reference, repeats: int):
    """Compiles and times one configuration; returns its row and its features."""
    dim, width = point["dim"], point["width"]
    params, batch = common.make_problem(
        num_tasks=1,
        num_samples=point["num_samples"],
        sizes=(39, *[width] * hidden, 4),
    )
    columns = None
    if point["projection"] == "stored":
        projection = pge.GaussianProjection(dim)
        columns = jax.jit(draw, static_argnums=0)(projection, jax.random.key(2), params)
    setting = {name: point[name] for name in ("method", "precision", "dim")}
    inputs = (params, batch.observation[0], batch.action[0], columns)
    began = time.perf_counter()
    compiled = (
        jax.jit(
            lambda *args: project(*args, **setting),
            compiler_options=runtime.compiler_options(),
        )
        .lower(*inputs)
        .compile()
    )
    compile_s = time.perf_counter() - began
    times = common.time_calls(compiled, *inputs, repeats=repeats)
    seconds = common.summarize_times(times)
    num_params = common.count_params(params)
    passes = 2 if point["method"] == "reverse" else 4
    flop = passes * point["num_samples"] * num_params * dim
    error = None
    if point["sweep"] == "center":
        features = compiled(*inputs)
        reference = features if reference is None else reference
        error = float(
            jnp.linalg.norm(features - reference) / jnp.linalg.norm(reference)
        )
    row = {
        **point,
        "num_params": num_params,
        **seconds,
        "flop": flop,
        "share_of_peak": flop / seconds["median_s"] / peak,
        "memory_GiB": common.peak_memory(compiled),
        "relative_error": error,
        "compile_s": compile_s,
    }
    return row, reference


def plot(rows: list[dict]):
    """Time, share of the peak and memory, each against N, p and d."""
    from matplotlib import pyplot as plt

    rows = [row for row in rows if row["projection"] == "drawn"]
    lines = list(dict.fromkeys((row["method"], row["precision"]) for row in rows))
    quantities = {
        "median_s": "Time (s)",
        "share_of_peak": "Share of peak",
        "memory_GiB": "Memory (GiB)",
    }
    figure, axes = plt.subplots(
        3, 3, figsize=(6.75, 5.6), sharex="col", sharey="row", layout="constrained"
    )
    for (i, quantity), (j, name) in itertools.product(
        enumerate(quantities), enumerate(SWEPT)
    ):
        axis, x = axes[i, j], SWEPT[name]
        for method, precision in lines:
            chosen = [
                row
                for row in rows
                if (row["method"], row["precision"]) == (method, precision)
                and row["sweep"] in ("center", name)
            ]
            chosen.sort(key=lambda row: row[x])
            axis.plot(
                [row[x] for row in chosen],
                [row[quantity] for row in chosen],
                color=GROUP_COLORS[METHODS.index(method)],
                linestyle="-" if precision == "float32" else "--",
                marker="o" if method == "reverse" else "s",
                label=f"{method}, {precision.replace('tf32', 'TF32')}",
            )
        common.log_axis(
            axis.xaxis, [row[x] for row in rows if row["sweep"] in ("center", name)]
        )
        axis.margins(x=0.1)
        if quantity != "share_of_peak":
            common.log_axis(axis.yaxis)
        if i == 2:
            axis.set_xlabel(X_AXES[x])
        if j == 0:
            axis.set_ylabel(quantities[quantity])
    axes[1, 0].set_ylim(0, 1.05 * max(row["share_of_peak"] for row in rows))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All points that the time allows."""
    # A CPU has no TF32.
    on_cpu = jax.devices()[0].platform == "cpu"
    precisions = ("float32",) if on_cpu else ("float32", "tf32")
    peak = {
        precision: common.matrix_peak(
            common.PRECISIONS[precision], 1024 if arguments.small else None
        )
        for precision in precisions
    }
    rows, reference = [], None
    for point in list_points(sizes, precisions):
        if budget.allows(", ".join(str(x) for x in point.values())):
            row, reference = time_point(
                point,
                sizes["hidden"],
                peak[point["precision"]],
                reference,
                arguments.repeats,
            )
            rows.append(row)
    notes = tuple(
        f"Matrix products in {precision}: {rate / 1e12:.3g} TFLOP/s."
        for precision, rate in peak.items()
    )
    return common.Outcome(rows, notes, {"matrix_peak_flop_per_s": peak})


def main() -> None:
    common.run(globals(), seconds=120)


if __name__ == "__main__":
    main()
