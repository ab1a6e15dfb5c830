"""How good a set of policies is that trade several objectives off.

A policy is the vector of its returns, one for each of K objectives; larger is better.
Returns stay in the units of the rewards.

Source: Hayes et al., "A practical guide to multi-objective reinforcement learning and
planning", 2022.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.arguments import as_integer, as_numbers, as_seed, show

_MAX_PRODUCTS = 2**22  # utilities held at once, which is 32 MB


def non_dominated(returns: ArrayLike) -> np.ndarray:
    """Which policies no other is at least as good as in all and better in one.

    Of policies with equal returns the first stays.

    Args:
      returns: [n, K].

    Returns:
      bool [n].

    Raises:
      ValueError: `returns` are empty, not finite or have another number of axes.
    """
    returns = _as_returns(returns)
    # By the sum first, so that each row can be dominated by earlier ones only.
    order = np.argsort(-returns.sum(axis=1), kind="stable")
    kept: list[int] = []
    for row in order:
        if not np.any(np.all(returns[kept] >= returns[row], axis=1)):
            kept.append(int(row))
    # Sums of large numbers may round to the same: one more comparison of what is left.
    front = returns[kept]
    weakly = np.all(front[:, None] >= front[None], axis=2)
    strictly = weakly & np.any(front[:, None] > front[None], axis=2)
    mask = np.zeros(len(returns), bool)
    mask[np.asarray(kept)[~strictly.any(axis=0)]] = True
    return mask


def hypervolume(returns: ArrayLike, reference: ArrayLike) -> float:
    """Exact volume that the policies dominate above a reference point.

    Policies that are not above the reference in every objective add nothing. Volumes
    compare only where reference and units are the same.

    Args:
      returns: [n, K] of K = 2 or 3 objectives.
      reference: what counts as nothing, in the units of the returns; [K].

    Returns:
      The volume, in the product of the objectives' units.

    Raises:
      ValueError: `returns` are empty, not finite or of another number of objectives, or
        `reference` has another length.

    Source: Zitzler and Thiele, "Multiobjective evolutionary algorithms", 1999.
    """
    returns = _as_returns(returns)
    num = returns.shape[1]
    if num not in (2, 3):
        raise ValueError(f"returns must be of 2 or 3 objectives, got {num}")
    reference = as_numbers("reference", reference)
    if reference.shape != (num,):
        raise ValueError(
            f"reference must be {num} numbers, one for each objective of returns, got "
            f"shape {reference.shape}"
        )
    above = returns[np.all(returns > reference, axis=1)] - reference
    if not len(above):
        return 0.0
    if num == 2:
        return _area(above)
    above = above[np.argsort(-above[:, 2], kind="stable")]
    heights = above[:, 2] - np.append(above[1:, 2], 0.0)
    slabs = [
        height * _area(above[: i + 1, :2]) for i, height in enumerate(heights) if height
    ]
    return float(np.sum(slabs))


def draw_preferences(
    num_preferences: int, num_objectives: int, *, seed: int = 0
) -> np.ndarray:
    """Linear preferences, drawn uniformly from those that sum to one.

    Args:
      num_preferences: m.
      num_objectives: K.
      seed: of the draws.

    Returns:
      float64 [m, K].

    Raises:
      ValueError: an argument is no integer in its range.
    """
    num_preferences = as_integer("num_preferences", num_preferences, 1)
    num_objectives = as_integer("num_objectives", num_objectives, 1)
    rng = np.random.default_rng(as_seed(seed))
    return rng.dirichlet(np.ones(num_objectives), num_preferences)


def expected_utility(returns: ArrayLike, preferences: ArrayLike | None = None) -> float:
    """Mean over preferences w of the utility max_i w . r_i of the best policy.

    Args:
      returns: [n, K].
      preferences: [m, K], not negative, each with the sum one; 10,000 of
        `draw_preferences` if None, always the same.

    Raises:
      ValueError: `returns` are empty, not finite or have another number of axes, or
        `preferences` are no such weights of K objectives.

    Source: Zintgraf et al., "Quality assessment of MORL algorithms", 2015.
    """
    returns = _as_returns(returns)
    num = returns.shape[1]
    if preferences is None:
        preferences = draw_preferences(10_000, num)
    preferences = as_numbers("preferences", preferences)
    if preferences.ndim != 2 or preferences.shape[1] != num or not len(preferences):
        raise ValueError(
            f"preferences must have shape [m, {num}], one weight for each objective of "
            f"returns, got {preferences.shape}"
        )
    sums = preferences.sum(axis=1)
    if (preferences < 0).any() or not np.allclose(sums, 1.0):
        raise ValueError(
            "preferences must not be negative and sum to one in every row, got "
            f"{show(preferences)}"
        )
    chunk = max(1, _MAX_PRODUCTS // len(returns))
    best = [
        (preferences[start : start + chunk] @ returns.T).max(axis=1)
        for start in range(0, len(preferences), chunk)
    ]
    return float(np.concatenate(best).mean())


def _area(above: np.ndarray) -> float:
    """That is dominated above the origin; [n, 2] of positive numbers."""
    above = above[np.argsort(-above[:, 0], kind="stable")]
    tops = np.maximum.accumulate(above[:, 1])
    widths = above[:, 0] - np.append(above[1:, 0], 0.0)
    return float(widths @ tops)


def _as_returns(returns: ArrayLike) -> np.ndarray:
    """Returns of at least one policy; float64 [n, K]."""
    array = as_numbers("returns", returns)
    if array.ndim != 2 or not array.size:
        raise ValueError(
            "returns must have shape [n, K], those of n >= 1 policies in K >= 1 "
            f"objectives, got {array.shape}"
        )
    return array
