"""Meta-World's MT10, and others of its fifty tasks, in MJX."""

from pgx_jax.envs.metaworld.env import MetaWorld
from pgx_jax.envs.metaworld.suite import build_suite, mt10
from pgx_jax.envs.metaworld.tasks import ALL_TASKS, TASKS

__all__ = ["ALL_TASKS", "TASKS", "MetaWorld", "build_suite", "mt10"]
