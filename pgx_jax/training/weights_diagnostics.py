"""Where returns are not what weights from returns are made for, on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from pgx_jax.training.return_weights import Averages, Multipliers
from pgx_jax.training.weights_config import (
    ReturnWeightsConfig,
    bounds_of_rows,
    numbers_of_rows,
)
from pgx_jax.types import PyTree

MOST_SHORT = 0.1  # of a bound or of the return, the larger: by more it is not met


def explain_weights(
    config: ReturnWeightsConfig,
    state: PyTree,
    tasks: Sequence[int],
    names: Sequence[str],
    *,
    is_over: bool,
) -> Iterator[tuple[str, str]]:
    """What a user of weights from returns should know about them.

    Args:
      config: of the weights, which are not "none".
      state: of the weights, leaves of shape [r].
      tasks: of every row, as they count in `config`; r of them.
      names: of the same tasks.
      is_over: whether training has ended.

    Returns:
      Pairs of what it is about, to be reported once, and a text.
    """
    state = jax.device_get(state)
    averages = state.returns if isinstance(state, Multipliers) else state
    if is_over and not averages.is_known.all():
        name = names[int(np.argmin(averages.is_known))]
        yield (
            "unknown",
            f"no episode of task {name!r} has ended, so that its return has not "
            "changed any weights",
        )
    if isinstance(state, Multipliers):
        yield from _explain_bounds(config, state, tasks, names, is_over=is_over)
    elif config.name in ("concave", "projected"):
        yield from _explain_origins(config, averages, tasks, names)


def _explain_bounds(
    config: ReturnWeightsConfig,
    state: Multipliers,
    tasks: Sequence[int],
    names: Sequence[str],
    *,
    is_over: bool,
) -> Iterator[tuple[str, str]]:
    """Bounds out of reach and, in the end, those that are not met."""
    returns = state.returns.mean
    for kind, sign in (("floor", 1.0), ("ceiling", -1.0)):
        bounds = bounds_of_rows(config, f"{kind}s", -sign * np.inf, tasks)
        multipliers = getattr(state, kind)
        short = sign * (bounds - returns) > MOST_SHORT * np.maximum(
            np.abs(bounds), np.abs(returns)
        )
        away = multipliers >= config.most
        reported = away | (short & state.returns.is_known & is_over)
        for row in np.flatnonzero(reported).tolist():
            what = (
                "seems to be out of reach: its multiplier has run away to"
                if away[row]
                else "is not met in the end: its multiplier has come to"
            )
            yield (
                f"{kind} of {names[row]}",
                f"the {kind} of task {names[row]!r}, {bounds[row]:.4g}, {what} "
                f"{multipliers[row]:.4g}, at a return of {returns[row]:.4g}",
            )


def _explain_origins(
    config: ReturnWeightsConfig,
    averages: Averages,
    tasks: Sequence[int],
    names: Sequence[str],
) -> Iterator[tuple[str, str]]:
    """Returns below their origins, whose weights do not depend on them."""
    returns = averages.mean
    origins = numbers_of_rows(config, "origins", 0.0, tasks)
    below = np.flatnonzero((returns < origins) & averages.is_known).tolist()
    if below:
        row = below[0]
        yield (
            "origins",
            f"{len({names[i] for i in below})} of {len({*names})} tasks return less "
            f"than their origins, such as {names[row]!r}: {returns[row]:.4g}, where "
            f"that is {origins[row]:.4g}. Weights take such returns for equal and just "
            "above the origin; lower ppo.return_weights.origins",
        )
