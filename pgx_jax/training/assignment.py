"""Which policy each row trains, and for how many updates."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_host_array, as_key, show
from pgx_jax.envs.core import StepSuite
from pgx_jax.training.ppo_config import check_count
from pgx_jax.types import PyTree


def check_policy_ids(
    policy_ids: Sequence[int] | np.ndarray,
    num_rows: int,
    num_updates: int | Sequence[int] | np.ndarray,
) -> np.ndarray:
    """The ids as int32 [r], having refused what could not train."""
    ids = as_host_array("policy_ids", policy_ids)
    if ids.shape != (num_rows,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"policy_ids must be {num_rows} integers, one for each row of suite, got "
            f"{ids.dtype} of shape {ids.shape}"
        )
    if ids.min() < 0:
        raise ValueError(f"policy_ids must not be negative, got {ids.tolist()}")
    idle = np.setdiff1d(np.arange(ids.max()), ids)
    if idle.size:
        raise ValueError(
            f"policy_ids must give every policy 0..{ids.max()} a row, "
            f"{idle.tolist()} have none"
        )
    if np.ndim(num_updates) and np.size(num_updates) != ids.max() + 1:
        raise ValueError(
            "num_updates must be one integer, or one for each of "
            f"{ids.max() + 1} policies, got {np.size(num_updates)}"
        )
    return ids.astype(np.int32)


def check_num_updates(num_updates: Any) -> int | tuple[int, ...]:
    """One number for all policies, or a tuple of one for each of them.

    Raises:
      ValueError: it is neither a positive integer nor some of them in a row.
    """
    if hasattr(num_updates, "__array__"):
        num_updates = np.asarray(num_updates).tolist()
    if isinstance(num_updates, list | tuple) and num_updates:
        for number in num_updates:
            check_count("every entry of num_updates", number)
        return tuple(int(number) for number in num_updates)
    check_count("num_updates", num_updates)
    return int(typing.cast(int, num_updates))


def check_start(suite: StepSuite, key: jax.Array) -> jax.Array:
    """The key of a training, once its suite is known to be one.

    Raises:
      ValueError: either is none; the message names it.
    """
    check_suite(suite)
    return as_key(key)


def check_suite(suite: Any) -> None:
    """Refuses what no suite is.

    Raises:
      ValueError: the message names `suite`.
    """
    if not isinstance(suite, StepSuite):
        raise ValueError(
            f"suite must be a suite, as make_suite(name) builds one, got {show(suite)}"
        )


def check_distinct(suite: StepSuite) -> None:
    """Refuses tasks that share their samples, where these are to be collected.

    Raises:
      ValueError: the message names `suite`.
    """
    if suite.objectives is not None:
        raise ValueError(
            "suite must be of tasks that do not share their samples: take "
            "suite.distinct, and state.first_rows(1) of the state"
        )


def choose(chosen: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    """What is new at the chosen leading indices, and what is old elsewhere.

    Args:
      chosen: bool [k].
      new: leaves of shape [k, ...].
      old: the same shapes and dtypes.
    """

    def choose_leaf(new, old):
        return jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose_leaf, new, old)
