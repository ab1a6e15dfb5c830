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


def test_names_are_imported_when_they_are_asked_for():
    code = """
import pickle, sys, pgx_jax
from pgx_jax.cli import run_command
print("jax" in sys.modules)
try:
    pgx_jax.group_task
except AttributeError as error:
    print(error)
print(pgx_jax.group_tasks is pickle.loads(pickle.dumps(pgx_jax.group_tasks)))
print(pgx_jax.envs.registry.__name__, "jax" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == [
        "False",
        "module 'pgx_jax' has no attribute 'group_task'",
        "True",
        "pgx_jax.envs.registry True",
    ]


def test_missing_libraries_name_the_extra():
    code = """
import importlib, sys
for library, module in (
    ("brax", "pgx_jax.pipeline.results"),
    ("rich", "pgx_jax.runs.progress"),
    ("orbax", "pgx_jax.runs.workdir"),
    ("ml_collections", "pgx_jax.configs.cartpole"),
    ("flax", "pgx_jax.networks.mlp"),
    ("mujoco", "pgx_jax.envs"),
):
    sys.modules[library] = None
    for name in [x for x in sys.modules if x.startswith("pgx_jax.envs")]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(error)
"""
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    missing = "{} is not installed: install pgx_jax[{}]"
    assert out.stdout.splitlines() == [
        missing.format("brax", "experiments"),
        missing.format("rich", "experiments"),
        missing.format("orbax", "experiments"),
        missing.format("ml_collections", "experiments"),
        missing.format("flax", "envs"),
        missing.format("mujoco", "envs"),
    ]


def test_every_public_name_exists():
    import pgx_jax

    assert set(pgx_jax.__all__) <= set(dir(pgx_jax))
    missing = [name for name in pgx_jax.__all__ if not hasattr(pgx_jax, name)]
    assert missing == []


def test_help_names_all_that_is_public():
    import pgx_jax

    assert [x for x in pgx_jax.__all__ if x not in str(pgx_jax.__doc__)] == []
