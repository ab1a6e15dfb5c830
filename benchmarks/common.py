"""What the benchmarks share: the run itself, problems, timing, tables and figures.

How times are taken: each number is the median of five or more calls after one call to
warm up, and a call lasts until its result is ready. What is compared is timed in one
process. Each script writes a table (NAME.md), a figure (NAME.png) and every single time
with its provenance (NAME.json).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.appearance import figure_style
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.interruption import handle_signals
from pgx_jax.runs.provenance import describe, format_provenance

RESULTS = Path(__file__).parent / "results"
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32"}
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
}


class Outcome(NamedTuple):
    """What a benchmark found.

    Attributes:
      rows: one dict for each measurement.
      notes: sentences below the table.
      more: further entries of the JSON file.
    """

    rows: list[dict]
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = {}


def run(script: Mapping[str, Any], *, seconds: float, repeats: int = 5) -> None:
    """Runs a benchmark as the command line asks for it, and publishes what it found.

    Args:
      script: the globals of a script that defines

        - `measure(arguments, sizes, budget)`, which returns an `Outcome`;
        - `COLUMNS`, headings of the table, and the keys of the rows under them;
        - `FULL`, sizes for an accelerator, and `SMALL` with `--small`, for a CPU;
        - perhaps `PREDICTED`, what was expected before measuring;
        - perhaps `plot(rows)`, which returns a Matplotlib figure;
        - perhaps `measure_point(point, sizes, repeats)`, which returns one measurement,
          where each is taken in a process of its own (`run_child`);
        - perhaps `add_arguments(parser)`, which adds the script's own arguments.
      seconds: the time allowed unless another is asked for; 50 s with `--small`.
      repeats: timed calls unless another number is asked for.
    """
    name = Path(script["__file__"]).stem
    arguments = _parse_arguments(
        script["__doc__"], seconds, repeats, script.get("add_arguments")
    )
    with handle_signals("nothing was written; give the same command again"):
        runtime.configure()
        sizes = script["SMALL" if arguments.small else "FULL"]
        if arguments.point is not None:
            if "measure_point" not in script:
                sys.exit(f"error: {name} takes no measurement in a process of its own")
            row = script["measure_point"](arguments.point, sizes, arguments.repeats)
            print(json.dumps(row))
            return
        budget = Budget(arguments.seconds)
        outcome = script["measure"](arguments, sizes, budget)
        publish(
            f"{name}_small" if arguments.small else name,
            outcome,
            script["COLUMNS"],
            script.get("plot"),
            Path(arguments.output) if arguments.output else RESULTS,
            sizes=sizes,
            predicted=script.get("PREDICTED", {}),
            left_out=budget.left_out,
        )


def _parse_arguments(
    description: str | None,
    seconds: float,
    repeats: int,
    add_arguments: Callable | None,
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--output", help="directory of the results")
    parser.add_argument("--repeats", type=int, default=repeats, help="timed calls")
    parser.add_argument(
        "--seconds",
        type=float,
        help="begin no measurement that is likely to end later than this",
    )
    parser.add_argument("--point", nargs="+", help="one measurement only, as JSON")
    if add_arguments is not None:
        add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.seconds is None:
        arguments.seconds = 50.0 if arguments.small else seconds
    return arguments


class Budget:
    """Whether the time allowed, which counts from the first question, suffices.

    Attributes:
      left_out: labels of the measurements that did not fit.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._began: float | None = None
        self._latest = self._longest = 0.0
        self.left_out: list[str] = []

    def allows(self, label: str) -> bool:
        """To be asked before each measurement; takes it to last as the longest did."""
        now = time.perf_counter()
        if self._began is None:
            self._began = self._latest = now
        self._longest = max(self._longest, now - self._latest)
        self._latest = now
        if now - self._began + self._longest > self._seconds:
            self.left_out.append(label)
            return False
        print(f"[{now - self._began:5.0f} s] {label}", file=sys.stderr, flush=True)
        return True


def make_policy(rng, sizes=(39, 400, 400, 400, 4)):
    """A tanh MLP with a Gaussian head; pytree of float32 NumPy arrays."""
    layers = [
        {
            "w": rng.standard_normal((a, b), np.float32) / np.sqrt(np.float32(a)),
            "b": np.zeros(b, np.float32),
        }
        for a, b in itertools.pairwise(sizes)
    ]
    return {"layers": layers, "log_std": np.zeros(sizes[-1], np.float32)}


def mean_action(params, observation, xp=jnp):
    """The mean of the policy for one observation or for a batch of them."""
    x = observation
    for layer in params["layers"][:-1]:
        x = xp.tanh(x @ layer["w"] + layer["b"])
    return x @ params["layers"][-1]["w"] + params["layers"][-1]["b"]


def log_prob(params, observation, action):
    """Log-density of one action up to a constant; shape []."""
    mean = mean_action(params, observation)
    z = (action - mean) * jnp.exp(-params["log_std"])
    return jnp.sum(-0.5 * z**2 - params["log_std"])


def make_problem(num_tasks=10, num_samples=2048, sizes=(39, 400, 400, 400, 4), seed=0):
    """A policy, and transitions whose advantages share structure within two groups.

    Drawn by NumPy, so that nothing is compiled for it.
    """
    rng = np.random.default_rng(seed)
    params = make_policy(rng, sizes)
    shape = (num_tasks, num_samples)
    observation = rng.standard_normal((*shape, sizes[0]), np.float32)
    noise = rng.standard_normal((*shape, sizes[-1]), np.float32)
    sign = np.where(np.arange(num_tasks) % 2 == 0, 1, -1).astype(np.float32)[:, None]
    advantage = sign * np.tanh(observation[..., 0]) * noise[..., 0]
    advantage = advantage + rng.standard_normal(shape, np.float32)
    action = mean_action(params, observation, np) + noise
    batch = pge.Transitions(*map(jnp.asarray, (observation, action, advantage)))
    return jax.tree.map(jnp.asarray, params), batch


def count_params(params) -> int:
    """p, the number of parameters."""
    return sum(x.size for x in jax.tree.leaves(params))


def estimate(params, batch, subsets, **settings: Any) -> pge.SubsetEstimates:
    """`estimate_subsets` with the policy and the key that all benchmarks use."""
    return pge.estimate_subsets(
        log_prob, params, batch, subsets, key=jax.random.key(2), **settings
    )


def time_calls(function: Callable, *args: Any, repeats: int = 7) -> list[float]:
    """Wall times of calls in s, after one call to compile and warm up."""
    jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - began)
    return times


def summarize_times(times: Sequence[float]) -> dict[str, Any]:
    """The columns of a row that hold times, in s."""
    return {
        "median_s": statistics.median(times),
        "min_s": min(times),
        "max_s": max(times),
        "times_s": times,
    }


def matrix_peak(precision: str, size: int | None = None) -> float:
    """Rate of a large float32 matrix product, in FLOP/s."""
    size = size or (8192 if jax.devices()[0].platform != "cpu" else 2048)
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda x, y: jnp.matmul(x, y, precision=precision))
    return 2 * size**3 / statistics.median(time_calls(product, a, a))


def peak_memory(compiled) -> float | None:
    """Memory in GiB that a compiled program needs at its peak, arguments included."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    size = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes
    return (size + analysis.output_size_in_bytes) / 2**30


def run_child(
    script: str, point: Iterable[Any], arguments: argparse.Namespace, **environment: str
) -> dict[str, Any]:
    """Takes one measurement of a benchmark in a process of its own.

    The parent must not have used JAX: on a GPU it would hold most of the memory.

    Args:
      script: the path of the benchmark.
      point: what is to be measured, as `measure_point` takes it.
      arguments: of the parent.
      **environment: variables of the child's environment.
    """
    command = [sys.executable, script, "--point", *map(str, point)]
    command += ["--repeats", str(arguments.repeats)]
    command += ["--small"] if arguments.small else []
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def publish(
    name: str,
    outcome: Outcome,
    columns: Mapping[str, str],
    plot: Callable | None,
    directory: Path,
    *,
    sizes: Mapping[str, Any],
    predicted: Mapping[str, Any],
    left_out: list[str],
) -> None:
    """Prints the table and writes NAME.json, NAME.md and, with `plot`, NAME.png.

    Args:
      left_out: what the time allowed did not suffice for.
      For the others see `run`.
    """
    rows, notes = outcome.rows, list(outcome.notes)
    document = {"command": _command(), **describe(), "predicted": predicted}
    document |= {"notes": outcome.notes, "left_out": left_out, "sizes": sizes}
    document |= {**outcome.more, "rows": rows}
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, default=float) + "\n")

    table = make_table(rows, columns)
    if left_out:
        notes.append(f"Not measured, for want of time: {'; '.join(left_out)}.")
    print(table.to_text(), *notes, sep="\n")
    if predicted:
        expected = "; ".join(f"{k}: {_format(v)}" for k, v in predicted.items())
        notes.append(f"Predicted before measuring: {expected}.")
    parts = [format_provenance(document), table.to_markdown(), *notes]
    path.with_suffix(".md").write_text("\n\n".join(parts) + "\n")
    if plot is not None:
        draw(plot, rows, path.with_suffix(".png"))


def draw(plot: Callable, rows: list[dict], path: Path) -> None:
    """Writes the figure that `plot(rows)` returns."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context(figure_style() | STYLE):
        plot(rows).savefig(path, dpi=300)


def make_table(rows: list[dict], columns: Mapping[str, str]) -> Table:
    """Columns of rows; those at the left that hold text are labels."""
    words = (isinstance(rows[0].get(key), str) for key in columns.values())
    return Table(
        list(columns),
        [[_format(row.get(key)) for key in columns.values()] for row in rows],
        num_labels=sum(itertools.takewhile(bool, words)),
    )


def log_axis(axis, values=None) -> None:
    """Makes a Matplotlib `axis.xaxis` or `.yaxis` logarithmic, with plain numbers.

    Args:
      axis: the axis.
      values: where the ticks go; at 1, 2 and 5 times powers of ten if there are none.
    """
    from matplotlib import ticker

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    if not values:
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    else:
        places = sorted(set(values))
        # Of values that would be written over each other, the last.
        pairs = zip(places, [*places[1:], math.inf], strict=True)
        kept = [x for x, following in pairs if following > 1.1 * x]
        axis.set_major_locator(ticker.FixedLocator(kept))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: _short(x)))


def _short(number: float) -> str:
    """3 significant digits: 0.05, 400, 20.5k, 1.32M, 1G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _command() -> str:
    """The command line, without where its results went."""
    arguments = iter(sys.argv[1:])
    kept = []
    for argument in arguments:
        if argument == "--output":
            next(arguments, None)
        elif not argument.startswith("--output="):
            kept.append(argument)
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *kept])


def _format(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
