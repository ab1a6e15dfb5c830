"""Sets JAX up before any test imports it; fixtures of several folders."""

import os
from pathlib import Path

import jax
import pytest

from pgx_jax import runtime

runtime.choose_opengl()
runtime.configure(cache_directory=Path(__file__).parent.parent / ".jax_cache")
# What is broadcast or converted is to be written out, as callers may demand.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Most of the time of small tests is LLVM's: without its optimization, here and in
# processes that tests start, they take half as long. Compilers of a GPU are left alone.
if jax.default_backend() == "cpu":
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

MOST_MAPS = 25_000


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Programs of tests marked `optimized` are compiled as those of users are."""
    if os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1":
        optimized = item.get_closest_marker("optimized") is not None
        jax.config.update("jax_disable_most_optimizations", not optimized)


@pytest.fixture(scope="session")
def clock_suite():
    """`clock_suite(arms, last_steps)`; see `tests/clock.py`."""
    from clock import make_clock_suite  # tests without it do without Brax

    return make_clock_suite


@pytest.fixture(scope="module", autouse=True)
def memory_maps():
    """Frees compiled programs before a process has as many maps as Linux allows.

    Every program takes some of the 65,530 (vm.max_map_count), and XLA ends in a
    segmentation fault where there are no more.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()
