"""What the benchmarks share: problems, timing, and results with their provenance."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pgx
from pgx_jax.provenance import describe

RESULTS = Path(__file__).parent / "results"


def make_policy(key, sizes=(39, 400, 400, 400, 4)):
    """A tanh MLP with a Gaussian head, and its log-probability of one transition."""
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        {"w": jax.random.normal(k, (a, b)) / jnp.sqrt(a), "b": jnp.zeros(b)}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    return {"layers": layers, "log_std": jnp.zeros(sizes[-1])}


def log_prob(params, observation, action):
    """Log-density of one action up to a constant; shape []."""
    x = observation
    for layer in params["layers"][:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    mean = x @ params["layers"][-1]["w"] + params["layers"][-1]["b"]
    z = (action - mean) * jnp.exp(-params["log_std"])
    return jnp.sum(-0.5 * z**2 - params["log_std"])


def make_problem(num_tasks=10, num_samples=2048, sizes=(39, 400, 400, 400, 4), seed=0):
    """A policy, and transitions whose advantages share structure within two groups."""
    keys = jax.random.split(jax.random.key(seed), 5)
    params = make_policy(keys[0], sizes)
    shape = (num_tasks, num_samples)
    observation = jax.random.normal(keys[1], (*shape, sizes[0]))
    noise = jax.random.normal(keys[2], (*shape, sizes[-1]))
    sign = jnp.where(jnp.arange(num_tasks) % 2 == 0, 1.0, -1.0)[:, None]
    advantage = sign * jnp.tanh(observation[..., 0]) * noise[..., 0]
    advantage = advantage + jax.random.normal(keys[3], shape)
    mean = jax.vmap(jax.vmap(lambda o: _mean(params, o)))(observation)
    return params, pgx.Transitions(observation, mean + noise, advantage)


def _mean(params, observation):
    x = observation
    for layer in params["layers"][:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params["layers"][-1]["w"] + params["layers"][-1]["b"]


def measure(function: Callable, *args: Any, repeats: int = 7) -> dict[str, float]:
    """Wall time of a jitted function in s, after one call to compile and warm up."""
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


def save(name: str, rows: list[dict], output: str | None = None, **more: Any) -> Path:
    """Writes rows and provenance to `results/NAME.json`, or under `output`."""
    directory = Path(output) if output else RESULTS
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    document = {"command": " ".join(["python", *sys.argv]), **describe(), **more}
    document["rows"] = rows
    path.write_text(json.dumps(document, indent=1, default=float) + "\n")
    return path


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


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)
