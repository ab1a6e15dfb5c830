"""All subset regressions in one call, against a loop and against L-BFGS.

python benchmarks/regressions.py            # a GPU, about a minute
python benchmarks/regressions.py --small    # a CPU

The problem has m = 2,000 subsets of 3 out of 10 tasks, N = 2,048 transitions a task and
features of d = 400 (projected gradients of the benchmark policy, centered and scaled as
`estimate_subsets` does). It is solved by

* `pgx_jax.solve_regressions`, all subsets in one jitted call;
* Optax's L-BFGS, vmapped over the subsets and jitted, to the same gradient norm;
* a loop over scikit-learn's LogisticRegression on the CPU of the same host, "lbfgs"
  and "newton-cholesky", with all threads and with one. It is timed on a sample of the
  subsets: `fit` alone, without copying the rows of a subset. Its tolerance bounds the
  largest entry of the gradient and is set to the bound that the others have on the
  Euclidean norm, which demands less of it. "lbfgs" runs in float64, since in float32 it
  stops where the loss no longer changes, far from that tolerance.

The claim is that `solve_regressions` is at least 1,000 times faster per subset than the
fastest scikit-learn loop on the same host, to the same optimum. The optimum of each
sampled subset is found by Newton's method in float64. Without scikit-learn its rows are
left out, with a note.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import time
import warnings
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.appearance import GROUP_COLORS

# On an H100 and its host, written down before measuring.
PREDICTED = {
    "solve_regressions, m = 2,000 (s)": 0.025,
    "Optax L-BFGS, m = 2,000 (s)": 0.5,
    "scikit-learn newton-cholesky, one subset (s)": 0.03,
    "scikit-learn lbfgs, one subset (s)": 0.1,
    "faster than scikit-learn, at least": 1000,
}
FULL = {"num_subsets": 2_000, "num_samples": 2_048, "hidden": (400, 400, 400)}
FULL |= {"dim": 400, "sampled": 10}
SMALL = {"num_subsets": 60, "num_samples": 100, "hidden": (64,), "dim": 50}
SMALL |= {"sampled": 5}
NUM_TASKS = 10
TOLERANCE = 1e-5
PENALTIES = (0.1, 0.01)
OURS, OPTAX = "solve_regressions", "Optax L-BFGS"
SOLVERS = ("newton-cholesky", "lbfgs")
COLUMNS = {
    "method": "method",
    "l2": "l2",
    "ms per subset": "per_subset_ms",
    "all m, s": "total_s",
    "extrapolated": "extrapolated",
    "times slower": "times_slower",
    "gradient": "gradient_ratio",
    "excess loss": "excess_loss",
    "distance": "distance",
    "converged": "converged",
    "iterations": "iterations",
}
NOTES = (
    "gradient: |grad L(Delta)| / |grad L(0)|; excess loss: (L(Delta) - L*) / "
    "(L(0) - L*); distance: |Delta - Delta*| / |Delta*|; each the largest over the "
    "sampled subsets, in float64.",
)


def make_features(sizes: dict):
    """Features of unit mean square and advantages of unit mean size."""
    params, batch = common.make_problem(
        NUM_TASKS, sizes["num_samples"], (39, *sizes["hidden"], 4)
    )

    @jax.jit
    def project(params, batch):
        flat = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (batch.observation, batch.action)
        )
        features = pge.project_gradients(
            common.log_prob,
            params,
            *flat,
            key=jax.random.key(2),
            projection=pge.GaussianProjection(sizes["dim"]),
        ).reshape(*batch.advantage.shape, -1)
        features = features - jnp.mean(features, axis=1, keepdims=True)
        size = jnp.mean(jnp.abs(batch.advantage), axis=1, keepdims=True)
        return features / jnp.sqrt(jnp.mean(features**2)), batch.advantage / size

    return project(params, batch)


class Solution(NamedTuple):
    """The fields of `RegressionSolution` that are compared."""

    delta: jax.Array  # shape=[m, d]
    converged: jax.Array  # shape=[m]
    num_iterations: jax.Array  # shape=[m]


def solve_by_lbfgs(features, advantage, subsets, l2, max_iterations=200):
    """The regression of every subset by Optax's L-BFGS."""
    signed = jnp.where(advantage >= 0, 1.0, -1.0)[..., None] * features
    weight = jnp.abs(advantage) / advantage.shape[1]

    def solve(member):
        scale = weight * (member / member.sum())[:, None]

        def loss(delta):
            gains = jax.nn.softplus(-jnp.einsum("ntd,d->nt", signed, delta))
            return jnp.sum(scale * gains) + 0.5 * l2 * jnp.sum(delta**2)

        solver = optax.lbfgs()
        start = jnp.zeros(features.shape[-1])
        value, gradient = jax.value_and_grad(loss)(start)
        threshold = TOLERANCE * jnp.linalg.norm(gradient)

        def unfinished(carry):
            *_, gradient, iteration = carry
            far = jnp.linalg.norm(gradient) > threshold
            return far & (iteration < max_iterations)

        def iterate(carry):
            delta, state, value, gradient, iteration = carry
            updates, state = solver.update(
                gradient, state, delta, value=value, grad=gradient, value_fn=loss
            )
            # The line search leaves the loss and its gradient in the state.
            value, gradient = (
                optax.tree_utils.tree_get(state, name) for name in ("value", "grad")
            )
            delta = optax.apply_updates(delta, updates)
            return delta, state, value, gradient, iteration + 1

        zero = jnp.zeros((), jnp.int32)
        carry: tuple[Any, ...] = (start, solver.init(start), value, gradient, zero)
        delta, _, _, gradient, iteration = jax.lax.while_loop(
            unfinished, iterate, carry
        )
        return Solution(delta, jnp.linalg.norm(gradient) <= threshold, iteration)

    return jax.vmap(solve)(subsets)


class Problem:
    """The regression of one subset in float64, which solutions are compared by."""

    def __init__(self, features, advantage, subset, l2):
        tasks = np.flatnonzero(subset)
        self.rows = np.concatenate([features[i] for i in tasks])
        chosen = np.concatenate([advantage[i] for i in tasks])
        self.label = np.where(chosen >= 0, 1.0, -1.0)
        self.weight = np.abs(chosen) / len(chosen)
        self.l2 = l2
        self._signed = self.label[:, None] * self.rows.astype(np.float64)

    def loss(self, delta) -> float:
        losses = np.logaddexp(0.0, -self._signed @ delta)
        return self.weight @ losses + 0.5 * self.l2 * delta @ delta

    def gradient(self, delta):
        slope = -self.weight * self._half(delta)
        return slope @ self._signed + self.l2 * delta

    def polish(self, delta):
        """Newton's method, from a point close to the optimum."""
        for _ in range(5):
            half = self._half(delta)
            curvature = (self.weight * half * (1 - half))[:, None] * self._signed
            hessian = self._signed.T @ curvature + self.l2 * np.eye(len(delta))
            delta = delta - np.linalg.solve(hessian, self.gradient(delta))
        return delta

    def threshold(self) -> float:
        zero = np.zeros(self.rows.shape[1])
        return float(TOLERANCE * np.linalg.norm(self.gradient(zero)))

    def _half(self, delta):
        return 0.5 * (1.0 - np.tanh(0.5 * self._signed @ delta))


def judge(problems: list[Problem], optima: list, deltas: list) -> dict[str, float]:
    """The distances of solutions from the optima; the largest over the subsets."""
    found = {"gradient_ratio": [], "excess_loss": [], "distance": []}
    for problem, optimum, delta in zip(problems, optima, deltas, strict=True):
        delta = np.asarray(delta, np.float64)
        best, zero = problem.loss(optimum), np.zeros_like(delta)
        norm = np.linalg.norm
        found["gradient_ratio"].append(
            norm(problem.gradient(delta)) / norm(problem.gradient(zero))
        )
        found["excess_loss"].append(
            (problem.loss(delta) - best) / (problem.loss(zero) - best)
        )
        found["distance"].append(norm(delta - optimum) / norm(optimum))
    return {name: float(max(values)) for name, values in found.items()}


def fit_by_loop(
    problems: list[Problem], solver: str, num_threads: int
) -> tuple[list[float], list, dict]:
    """Fits every problem by scikit-learn; returns times, solutions and how it ended."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    times, deltas, iterations, num_warnings = [], [], [], 0
    # The first problem comes twice, the first time to warm up.
    for problem in [problems[0], *problems]:
        rows = problem.rows.astype(np.float64 if solver == "lbfgs" else np.float32)
        model = LogisticRegression(
            C=1.0 / problem.l2,
            fit_intercept=False,
            solver=solver,
            # scikit-learn divides the objective by the sum of the weights.
            tol=problem.threshold() / problem.weight.sum(),
            max_iter=1000,
        )
        with (
            warnings.catch_warnings(record=True) as caught,
            threadpool_limits(num_threads),
        ):
            began = time.perf_counter()
            model.fit(rows, problem.label, sample_weight=problem.weight)
            times.append(time.perf_counter() - began)
        num_warnings += bool(caught)
        deltas.append(model.coef_[0])
        iterations.append(int(model.n_iter_[0]))
    end = {
        "converged": 1.0 - num_warnings / len(times),
        "iterations": max(iterations),
        "cpu_threads": num_threads,
    }
    return times[1:], deltas[1:], end


class Result(NamedTuple):
    """What one method found.

    Attributes:
      method: its name.
      times: of each call, in s.
      subsets_per_call: how many subsets a call solves.
      deltas: the solutions of the sampled subsets.
      end: how the method ended, as columns of the row.
    """

    method: str
    times: list[float]
    subsets_per_call: int
    deltas: Any
    end: dict[str, Any]

    @property
    def per_subset(self) -> float:
        """Seconds."""
        return statistics.median(self.times) / self.subsets_per_call


def time_solver(method: str, solve, inputs: tuple, index, repeats: int) -> Result:
    """Times a jitted function that solves all subsets."""
    times = common.time_calls(solve, *inputs, repeats=repeats)
    solution = solve(*inputs)
    end = {
        "converged": float(jnp.mean(solution.converged)),
        "iterations": int(solution.num_iterations.max()),
    }
    deltas = np.asarray(solution.delta)
    return Result(method, times, len(deltas), deltas[index], end)


def compare(features, advantage, subsets, sizes, repeats, budget) -> list[dict]:
    """Rows of all methods and penalties."""
    options = runtime.compiler_options()
    ours = jax.jit(
        lambda f, a, l2: pge.solve_regressions(
            f, a, subsets, l2=l2, tolerance=TOLERANCE
        ),
        compiler_options=options,
    )
    member = jnp.asarray(subsets, jnp.float32)
    theirs = jax.jit(
        lambda f, a, l2: solve_by_lbfgs(f, a, member, l2), compiler_options=options
    )
    host = np.asarray(features), np.asarray(advantage)
    index = np.linspace(0, len(subsets) - 1, sizes["sampled"]).astype(int)
    rows = []
    for l2 in PENALTIES:
        if not budget.allows(f"{OURS}, l2 = {l2}"):
            continue
        inputs = (features, advantage, l2)
        results = [time_solver(OURS, ours, inputs, index, repeats)]
        problems = [Problem(*host, subsets[i], l2) for i in index]
        optima = [
            problem.polish(delta.astype(np.float64))
            for problem, delta in zip(problems, results[0].deltas, strict=True)
        ]
        for solver, num_threads in loops():
            name = f"scikit-learn {solver}, {num_threads} threads"
            name = name.replace(" 1 threads", " 1 thread")
            if budget.allows(f"{name}, l2 = {l2}"):
                times, deltas, end = fit_by_loop(problems, solver, num_threads)
                results.append(Result(name, times, 1, deltas, end))
        if budget.allows(f"{OPTAX}, l2 = {l2}"):
            results.append(time_solver(OPTAX, theirs, inputs, index, repeats))
        for result in results:
            rows.append(
                {
                    "method": result.method,
                    "l2": l2,
                    "per_subset_ms": 1e3 * result.per_subset,
                    "total_s": result.per_subset * len(subsets),
                    "extrapolated": result.subsets_per_call == 1,
                    "times_slower": result.per_subset / results[0].per_subset,
                    **judge(problems, optima, result.deltas),
                    **result.end,
                    "times_s": result.times,
                    "sampled": index.tolist(),
                }
            )
    return rows


def loops() -> list[tuple[str, int]]:
    """Solvers of scikit-learn and numbers of threads; none if it is not installed."""
    counts = sorted({threads(), 1}, reverse=True)
    return list(itertools.product(SOLVERS, counts)) if has_sklearn() else []


def has_sklearn() -> bool:
    return importlib.util.find_spec("sklearn") is not None


def threads() -> int:
    """The number of threads of the CPU's linear algebra, which scikit-learn uses."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return os.cpu_count() or 1
    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def plot(rows: list[dict]):
    """Time per subset, and distance from the optimum, of every method."""
    from matplotlib import pyplot as plt

    methods = list(dict.fromkeys(row["method"] for row in rows))
    panels = {
        "per_subset_ms": "Time per subset (ms)",
        "distance": "Distance from the optimum",
    }
    figure, axes = plt.subplots(
        1, 2, figsize=(6.75, 2.2), sharey=True, layout="constrained"
    )
    for axis, (quantity, label) in zip(axes, panels.items(), strict=True):
        for color, l2, marker in zip(GROUP_COLORS, PENALTIES, "os", strict=False):
            chosen = [row for row in rows if row["l2"] == l2]
            axis.plot(
                [row[quantity] for row in chosen],
                [methods.index(row["method"]) for row in chosen],
                marker,
                color=color,
                label=f"l2 = {l2:g}",
            )
        axis.set(xscale="log", xlabel=label, ylim=(len(methods) - 0.5, -0.5))
        axis.margins(x=0.1)
    axes[0].set_yticks(range(len(methods)), methods)
    for row in rows:
        if row["l2"] == PENALTIES[0] and row["method"] != OURS:
            axes[0].annotate(
                f"{row['times_slower']:,.0f}x",
                (row["per_subset_ms"], methods.index(row["method"])),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    return figure


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All methods and penalties that the time allows."""
    budget.allows("features")
    features, advantage = jax.block_until_ready(make_features(sizes))
    subsets = pge.sample_subsets(
        jax.random.key(1), NUM_TASKS, sizes["num_subsets"], subset_size=3
    )
    rows = compare(features, advantage, subsets, sizes, arguments.repeats, budget)
    notes = NOTES
    if not has_sklearn():
        notes = (*NOTES, "scikit-learn is not installed: its rows are left out.")
    recorded = {**sizes, "num_tasks": NUM_TASKS, "tolerance": TOLERANCE}
    return common.Outcome(rows, notes, {"sizes": recorded})


def main() -> None:
    common.run(globals(), seconds=80)


if __name__ == "__main__":
    main()
