"""What the benchmarks share: problems, timing, and results with their provenance.

Rules of timing: the median of five or more calls after one to warm up, each until its
result is ready; what is compared is timed in one process. Each script writes a table
(NAME.md), a figure (NAME.png) and every timing with where it comes from (NAME.json).
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge
from pgx_jax.runs.provenance import describe

RESULTS = Path(__file__).parent / "results"
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32"}
# Okabe and Ito's colours, legible to the colour-blind.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#4d4d4d", "#6a51a3"),
)
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dfe3e8",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}


def parse_arguments(
    description: str, seconds: float, add: Callable | None = None
) -> argparse.Namespace:
    """Arguments that every benchmark takes.

    Args:
      description: of the script.
      seconds: the time allowed unless another is asked for; 50 s with `--small`.
      add: `add(parser)` adds the script's own.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--output", help="directory of the results")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls")
    parser.add_argument(
        "--seconds",
        type=float,
        help="begin no measurement that is likely to end later than this",
    )
    if add is not None:
        add(parser)
    arguments = parser.parse_args()
    if arguments.seconds is None:
        arguments.seconds = 50.0 if arguments.small else seconds
    return arguments


class Budget:
    """Time on an accelerator is scarce: says whether another measurement fits.

    Attributes:
      left_out: labels of the measurements that did not fit.
    """

    def __init__(self, seconds: float):
        self._began = self._latest = time.perf_counter()
        self._seconds = seconds
        self._longest = 0.0
        self.left_out: list[str] = []

    def allows(self, label: str) -> bool:
        """To be asked before each measurement; supposes it as long as the longest."""
        now = time.perf_counter()
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
    """The policy's mean; of one observation or of a batch."""
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
    batch = pge.Transitions(observation, action, advantage)
    return jax.tree.map(jnp.asarray, (params, batch))


def count_params(params) -> int:
    """p, the number of parameters."""
    return sum(x.size for x in jax.tree.leaves(params))


def estimate(params, batch, subsets, **settings: Any) -> pge.SubsetEstimates:
    """`estimate_subsets` of the benchmarks' policy, with one key for all of them."""
    return pge.estimate_subsets(
        log_prob, params, batch, subsets, key=jax.random.key(2), **settings
    )


def measure(function: Callable, *args: Any, repeats: int = 7) -> dict[str, Any]:
    """Wall time of a function in s, after one call to compile and warm up."""
    began = time.perf_counter()
    jax.block_until_ready(function(*args))
    first = time.perf_counter() - began
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - began)
    return {
        "median": statistics.median(times),
        "min": min(times),
        "max": max(times),
        "first_call": first,
        "repeats": repeats,
        "times": times,
    }


def matrix_peak(precision: str, size: int | None = None) -> float:
    """Rate of a large float32 matrix product, in FLOP/s."""
    size = size or (8192 if jax.devices()[0].platform != "cpu" else 2048)
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda x, y: jnp.matmul(x, y, precision=precision))
    return 2 * size**3 / measure(product, a, a)["median"]


def peak_bytes(compiled) -> int | None:
    """Memory that a compiled program needs at its peak, arguments included."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    return int(
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
    )


def run_child(script: str, *arguments: Any, **environment: str) -> dict[str, Any]:
    """Runs a benchmark in a process of its own; what its last line says, as JSON.

    The parent must not have used JAX: on a GPU it would hold most of the memory.
    """
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def save(name: str, rows: list[dict], output: str | None = None, **more: Any) -> Path:
    """Writes rows and provenance to `results/NAME.json`, or under `output`."""
    directory = Path(output) if output else RESULTS
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    document = {"command": _command(), **describe(), **more}
    document["rows"] = rows
    path.write_text(json.dumps(document, indent=1, default=float) + "\n")
    return path


def publish(
    name: str,
    rows: list[dict],
    columns: Mapping[str, str],
    draw: Callable,
    output: str | None = None,
    *,
    predicted: Mapping[str, Any],
    notes: tuple[str, ...] = (),
    left_out: list[str] = (),
    **more: Any,
) -> None:
    """Prints the table and writes NAME.json, NAME.md and NAME.png.

    Args:
      name: of the files.
      rows: one a measurement.
      columns: headings of the table, and the keys of `rows` under them.
      draw: `draw(rows)` returns a Matplotlib figure.
      output: directory; `results/` if None.
      predicted: what was expected before measuring.
      notes: sentences below the table.
      left_out: what the time allowed did not reach.
      **more: goes into the JSON.
    """
    import matplotlib

    matplotlib.use("Agg")

    table = [{head: row.get(key) for head, key in columns.items()} for row in rows]
    print_table(table)
    path = save(
        name,
        rows,
        output,
        predicted=predicted,
        notes=notes,
        left_out=left_out,
        **more,
    )
    about = json.loads(path.read_text())
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    if left_out:
        notes = (*notes, f"Not measured, for want of time: {'; '.join(left_out)}.")
    foretold = "; ".join(f"{k}: {_text(v)}" for k, v in predicted.items())
    lines = [
        f"`{about['command']}`",
        f"{about['device']}; {versions}; commit {about['commit']}.",
        _markdown(table),
        *notes,
        f"Predicted before measuring: {foretold}.",
    ]
    path.with_suffix(".md").write_text("\n\n".join(lines) + "\n")
    for note in notes:
        print(note)
    with matplotlib.rc_context(STYLE):
        draw(rows).savefig(path.with_suffix(".png"), dpi=300)


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


def print_table(rows: list[dict]) -> None:
    """Prints dicts of one kind as a table."""
    names = list(rows[0])
    cells = [[_text(row.get(name)) for name in names] for row in rows]
    widths = [
        max(len(name), *(len(line[i]) for line in cells))
        for i, name in enumerate(names)
    ]
    for line in [names, *cells]:
        print("  ".join(x.rjust(w) for x, w in zip(line, widths, strict=True)))


def _markdown(rows: list[dict]) -> str:
    aligned = [":--" if isinstance(x, str) else "--:" for x in rows[0].values()]
    lines = [list(rows[0]), aligned]
    lines += [[_text(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
