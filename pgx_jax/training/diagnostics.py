"""Diagnostics of training on the host: its metrics, and where it diverged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.training.ppo import Metrics, TrainingState

# Means over the episodes that ended, of which there may be none.
EPISODE_METRICS = ("return", "length", "success")


def on_host(metrics: Metrics) -> dict[str, np.ndarray]:
    """The metrics of training as NumPy arrays, with NaN where no episode ended.

    Args:
      metrics: of `PPO.run` or `PPO.step`.
    """
    arrays = {name: np.asarray(x) for name, x in jax.device_get(metrics).items()}
    ended = arrays["episodes"] > 0
    return arrays | {
        name: np.where(ended, arrays[name], np.float32(np.nan))
        for name in EPISODE_METRICS
    }


def first_nonfinite(
    state: TrainingState, metrics: Metrics, task_names: Sequence[str] = ()
) -> str | None:
    """Reports where a NaN or an infinity first arose, for a host loop to raise on.

    Looks at the metrics first, update by update, since they show when; then at what
    the state holds: parameters, optimizer, statistics, observations and rewards.

    Args:
      state: after `PPO.run`.
      metrics: of the same call, as they came; leaves of shape [updates, r] or, for
        `gradient_norm`, [updates, k].
      task_names: of the rows, to name the task; r names.

    Returns:
      The metric, row and update, or the path and row of the array in the state, such as
      "metric 'policy_loss' of row 3 at update 17", updates being numbered from 0; None
      where all is finite.
    """
    arrays = {
        "params": state.params,
        "optimizer_state": state.optimizer_state,
        "observation_statistics": state.observation_statistics,
        "value_statistics": state.value_statistics,
        "observation": state.suite_state.observation,
        "reward": state.suite_state.reward,
    }
    # One flag each comes back from the device while all is well.
    metrics_finite, state_finite = jax.device_get(
        (_all_finite(metrics), _all_finite(arrays))
    )
    if not all(metrics_finite.values()):
        found = []
        for name, finite in metrics_finite.items():
            if not finite:
                update, index = _first(metrics[name])
                found.append((update, name, index))
        update, name, index = min(found)
        num_updates = np.asarray(metrics[name]).shape[0]
        update += int(state.num_updates) - num_updates
        if name == "gradient_norm":
            rows = np.flatnonzero(np.asarray(state.policy_ids) == index)
            owner = f"policy {index}{_named(rows, task_names)}"
        else:
            owner = f"row {index}{_named([index], task_names)}"
        return f"metric {name!r} of {owner} at update {update}"

    flags = jax.tree_util.tree_leaves_with_path(state_finite)
    for (path, finite), array in zip(flags, jax.tree.leaves(arrays), strict=True):
        if not finite:
            where, index = jax.tree_util.keystr(path), _first(array)[0]
            of_rows = where.startswith(("['observation']", "['reward']"))
            task = _named([index], task_names) if of_rows else ""
            return f"state{where} at index {index}{task} after the last update"
    return None


def _named(rows: Sequence[int] | np.ndarray, task_names: Sequence[str]) -> str:
    """The names of some rows, in brackets; nothing where they are not known."""
    if not len(task_names):
        return ""
    return f" ({', '.join(task_names[row] for row in rows)})"


@jax.jit
def _all_finite(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), tree)


def _first(array: jax.Array) -> tuple[int, ...]:
    """The index of the first entry that is not finite."""
    bad = np.argwhere(~np.isfinite(np.asarray(array)))
    return tuple(int(i) for i in bad[0])
