"""Meta-World's MT10 in MJX."""

from pgx_jax.envs.metaworld.env import MetaWorld
from pgx_jax.envs.metaworld.suite import mt10
from pgx_jax.envs.metaworld.tasks import TASKS

__all__ = ["TASKS", "MetaWorld", "mt10"]
