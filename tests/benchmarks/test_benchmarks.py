"""The benchmarks run, agree among themselves and say where their numbers come from."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import ActionSpace, from_functions

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CACHE = Path(__file__).parents[2] / ".jax_cache"

pytestmark = pytest.mark.slow


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`run(name, sizes, *flags)` runs a script and returns its JSON."""

    def run_script(name, sizes=None, *flags):
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(CACHE))
        path = BENCHMARKS / f"{name}.py"
        arguments = [str(path), "--small", "--seconds=600", *flags]
        monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(tmp_path)])
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
        module = importlib.util.module_from_spec(spec)
        # A dataclass looks its module up.
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        if sizes is not None:
            monkeypatch.setattr(module, "SMALL", sizes)
        module.main()
        table = (tmp_path / f"{name}_small.md").read_text()
        assert table.count("\n| ") >= 3
        if name not in ("headline", "transition_sums", "vector_rewards"):
            assert (tmp_path / f"{name}_small.png").read_bytes()[:4] == b"\x89PNG"
        document = json.loads((tmp_path / f"{name}_small.json").read_text())
        assert document["command"].startswith(f"python benchmarks/{name}.py --small")
        assert str(tmp_path) not in document["command"]
        assert {"device", "commit"} <= set(document)
        assert {"python", "jax", "jaxlib"} <= set(document["versions"])
        assert document["predicted"] or name == "headline"
        assert document["left_out"] == []
        return document

    return run_script


def test_features(run):
    sizes = {
        "hidden": 0,
        "center": {"num_samples": 16, "width": 8, "dim": 8},
        "num_samples": (),
        "width": (),
        "dim": (4,),
    }
    rows = run("features", sizes, "--repeats=2")["rows"]
    measured = {(r["method"], r["projection"], r["dim"]) for r in rows}
    assert measured == {
        (method, projection, dim)
        for method in ("reverse", "forward")
        for projection, dim in (("drawn", 8), ("stored", 8), ("drawn", 4))
    }
    for row in rows:
        assert row["num_params"] == 39 * 4 + 4 + 4
        assert row["memory_GiB"] > 0
        assert row["share_of_peak"] > 0
        assert len(row["times_s"]) == 2
        if row["sweep"] == "center":
            assert row["relative_error"] < 1e-5


def test_regressions(run):
    sizes = {"num_subsets": 20, "num_samples": 20, "hidden": (), "dim": 8}
    document = run("regressions", {**sizes, "sampled": 2}, "--repeats=2")
    rows = document["rows"]
    methods = {row["method"] for row in rows}
    assert {"solve_regressions", "Optax L-BFGS"} < methods
    for solver in ("newton-cholesky", "lbfgs"):
        assert f"scikit-learn {solver}, 1 thread" in methods
    assert len(rows) == 2 * len(methods)
    for row in rows:
        assert row["converged"] == 1
        assert row["excess_loss"] < 1e-6
        assert row["distance"] < 1e-3
        assert len(row["times_s"]) == 2


def test_scaling(run):
    flags = ("--subsets", "100", "--tasks", "4", "--repeats=1")
    rows = run("scaling", None, *flags)["rows"]
    assert [(r["num_tasks"], r["num_subsets"]) for r in rows] == [(4, 200), (10, 100)]
    for row in rows:
        assert row["peak_GiB"] > 0
        assert row["converged"] == 1
        total = np.add(row["estimate_times_s"], row["affinity_times_s"])
        np.testing.assert_allclose(row["times_s"], total)


def test_compile(run, monkeypatch):
    # What compiles in less than half a second is not cached.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    rows = run("compile", None, "--repeats=1")["rows"]
    assert [row["cache"] for row in rows] == ["cold", "warm"]
    assert [row["cache_hits"] for row in rows] == [0, 1]
    for row in rows:
        assert len(row["runs"]) == 1
        assert all(row[f"{x}_s"] > 0 for x in ("trace", "lower", "compile"))


def test_headline(run):
    sizes = {"samples": 8, "layers": (4, 64, 2), "cases": [(30, "float32")]}
    (row,) = run("headline", sizes, "--repeats=3")["rows"]
    assert row["m"] == 30 and row["converged"] == 1
    assert row["min_s"] <= sorted(row["times_s"])[1] == row["median_s"] <= row["max_s"]


def test_transition_sums(run):
    sizes = {"batches": 2, "samples": 8, "layers": (4, 8, 2), "dim": 6, "num_tasks": 3}
    sizes |= {"many_tasks": 10, "many_subsets": 20}
    rows = run("transition_sums", sizes, "--repeats=2")["rows"]
    assert len(rows) == 3 + 2 * 3 + 1
    assert rows[-1]["what"] == "scores of 20 subsets of 10 tasks"
    assert rows[-1]["error"] < 1e-5
    assert [row["ratio"] for row in rows if row["what"] == "projection"] == [1, 1]


@pytest.mark.reliability
def test_devices(run):
    """A child has two devices, which give the numbers of one."""
    rows = run("devices", None, "--what", "estimator", "--repeats=1")["rows"]
    assert [row["num_devices"] for row in rows] == [1, 2]
    assert rows[1]["speedup"] == rows[0]["median_s"] / rows[1]["median_s"]
    assert rows[1]["difference"] < 1e-4


def test_jax_can_still_be_configured_after_the_imports():
    """Scripts import at the top, and `configure` sets flags that JAX reads once."""
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    program = f"""
import os
import {", ".join(names)}
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"
print("devices:", common.jax.device_count())
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    environment["PYTHONPATH"] = os.pathsep.join([str(BENCHMARKS), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "devices: 3"


def test_environments(run):
    sizes = {"num_envs": (8, 16), "num_steps": 4}
    rows = run("environments", sizes, "--repeats=2", "--suites", "cartpole_v1")["rows"]
    assert [row["num_envs"] for row in rows] == [8, 16]
    for row in rows:
        steps = row["num_envs"] * 4
        assert row["steps_per_second"] == pytest.approx(steps / row["median_s"])
    # Positions, observations, returns, lengths, flags and a key, in bytes.
    assert 60 < rows[0]["bytes_per_env"] < 120


def six_objectives(vector_rewards=False):
    """Of a point on a line, which compiles in a fraction of a robot's time."""

    def reset(parameters, key):
        position = jax.random.uniform(key)
        return position, position[None]

    def step(parameters, position, action, key):
        position = position + 0.1 * jnp.clip(action[0], -1.0, 1.0)
        rewards = position ** jnp.arange(6.0)
        reward = rewards if vector_rewards else rewards @ parameters
        return position, position[None], reward, False

    return from_functions(
        reset,
        step,
        jnp.zeros((1, 6)) if vector_rewards else jnp.eye(6),
        action_space=ActionSpace(1, discrete=False),
        episode_length=20,
        objective_names=tuple("abcdef") if vector_rewards else (),
    )


def test_vector_rewards(run, monkeypatch):
    name = "pgx_jax.envs.locomotion.half_cheetah_objectives"
    monkeypatch.setattr(name, six_objectives)
    sizes = {"num_envs": (12,), "num_steps": 4}
    rows = run("vector_rewards", sizes, "--repeats=2")["rows"]
    assert [row["what"] for row in rows] == ["stepping"] * 2 + ["PPO"] * 2
    for row in rows:
        share = 6 if row["rewards"] == "a task each" else 1
        steps = 12 * 4 / row["median_s"]
        assert row["steps_per_second"] == pytest.approx(steps)
        assert row["samples_per_second"] == pytest.approx(steps / share)


def test_checkpointing(run):
    ppo = {"num_envs": 4, "unroll_length": 16, "num_epochs": 1, "num_minibatches": 2}
    sizes = {"configs": ("cartpole_planted",), "num_chunks": 3}
    sizes["changes"] = {"checkpoint_every": 2, "ppo": ppo}
    rows = run("checkpointing", sizes)["rows"]
    assert [row["num_policies"] for row in rows] == [1, 10]
    for row in rows:
        whole = row["training_s"] + row["checkpoint_s"] + row["rest_s"]
        np.testing.assert_allclose(row["share"], 100 * row["checkpoint_s"] / whole)
        assert 0 < row["digests_s"] < row["checkpoint_s"]
        assert len(row["times"]["save"]) == 4 and len(row["times"]["digest"]) == 10
    assert 5 < rows[1]["megabytes"] / rows[0]["megabytes"] < 10


def test_gradient_methods(run):
    sizes = {"samples": 4, "networks": ("CartPole",)}
    rows = run("gradient_methods", sizes, "--repeats=2")["rows"]
    assert [row["gradient"] for row in rows][:3] == [
        "joint",
        "of each task, added",
        "pcgrad",
    ]
    assert len(rows) == 8
    for row in rows:
        assert row["ratio"] == pytest.approx(row["median_s"] / rows[0]["median_s"])
