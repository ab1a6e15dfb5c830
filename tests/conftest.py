"""Sets JAX up before any test imports it; fixtures of several folders."""

from pathlib import Path

import pytest

from pgx_jax import runtime

runtime.choose_opengl()
runtime.configure(cache_directory=Path(__file__).parent.parent / ".jax_cache")


@pytest.fixture(scope="session")
def clock_suite():
    """`clock_suite(arms, last_steps)`; see `tests/clock.py`."""
    from clock import make_clock_suite  # tests without it do without Brax

    return make_clock_suite
