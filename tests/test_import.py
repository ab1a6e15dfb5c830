"""The estimator must be importable without a simulator or a network library."""

import subprocess
import sys

HEAVY = ("mujoco", "brax", "flax", "cvxpy", "matplotlib")


def test_import_leaves_heavy_packages_out():
    code = f"import sys, pgx_jax; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_every_public_name_exists():
    import pgx_jax

    missing = [name for name in pgx_jax.__all__ if not hasattr(pgx_jax, name)]
    assert missing == []


def test_help_names_all_that_is_public():
    import pgx_jax

    assert [x for x in pgx_jax.__all__ if x not in str(pgx_jax.__doc__)] == []
