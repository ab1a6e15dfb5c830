"""Sets JAX up before any test imports it; fixtures of several folders."""

import gc
import os
from importlib import metadata
from pathlib import Path

import jax
import pytest

from pgx_jax import runtime

runtime.choose_opengl()
# A program is compiled in one piece, by one thread: many small ones take a tenth less
# of the processor's time. jaxlib ends the process when it meets an unknown flag.
jaxlib = tuple(map(int, metadata.version("jaxlib").split(".")[:2]))
ONE_PIECE = "--xla_cpu_parallel_codegen_split_count=1"
if jaxlib < runtime.FIRST_JAXLIB_WITHOUT_FLAG:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_PIECE}".strip()
runtime.configure(cache_directory=Path(__file__).parent.parent / ".jax_cache")
# What is broadcast or converted is to be written out, as callers may demand.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Most of the time of small tests is LLVM's: without its optimization, here and in
# processes that tests start, they take half as long. Compilers of a GPU are left alone.
if jax.default_backend() == "cpu":
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Traces are many objects and little garbage.
gc.set_threshold(50_000, 20, 50)

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


@pytest.fixture(scope="module")
def registry():
    """Suites that a module's tests register are forgotten after it."""
    from pgx_jax.envs import SUITES  # MuJoCo looks for OpenGL when it is imported

    known = set(SUITES)
    yield
    for name in set(SUITES) - known:
        del SUITES[name]


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
