"""Combination locks: tasks of which three do together what no pair does."""

from pgx_jax.envs.locks.env import Lock, LockParameters
from pgx_jax.envs.locks.tasks import combination_locks

__all__ = ["Lock", "LockParameters", "combination_locks"]
