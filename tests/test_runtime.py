"""How a process is set up before JAX starts."""

import os

import jax
import pytest

from pgx_jax import runtime


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", {*runtime.DETERMINISTIC_FLAGS}),
        (
            "--xla_gpu_autotune_level=2",
            {"--xla_gpu_autotune_level=2", "--xla_gpu_deterministic_ops=true"},
        ),
    ],
)
def test_deterministic_flags_are_added_to_those_that_are_set(
    monkeypatch, before, after
):
    monkeypatch.setenv("XLA_FLAGS", before)
    cache = jax.config.jax_compilation_cache_dir
    runtime.configure(cache_directory=cache)
    assert "deterministic" not in os.environ["XLA_FLAGS"]
    runtime.configure(cache_directory=cache, deterministic=True)
    runtime.configure(cache_directory=cache, deterministic=True)
    found = os.environ["XLA_FLAGS"].split()
    assert {flag for flag in found if "gpu" in flag} == after
    assert len(found) == len(set(found))
