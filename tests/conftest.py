"""Sets JAX up before any test imports it."""

from pathlib import Path

from pgx_jax import runtime

runtime.choose_opengl()
runtime.configure(cache_directory=Path(__file__).parent.parent / ".jax_cache")
