"""One number from the returns of several objectives.

Objectives must be on one scale before they are combined: the rewards of
`pgx_jax.envs.locomotion.objectives` are, and `normalize` does it to any returns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from pgx_jax.arguments import as_numbers, check_choice, check_number, show

KINDS = ("linear", "smooth_tchebycheff", "concave")
# Below this the concave utility goes on as its tangent, so that it stays finite.
SMALLEST = 1e-2


@dataclasses.dataclass(frozen=True)
class Scalarization:
    """A function from the values of n objectives to one; larger is better.

    With weights w that sum to one, values r, and for the second the ideal values z:

    * linear: sum_i w_i r_i;
    * smooth Tchebycheff: -mu log sum_i exp(n w_i (z_i - r_i) / mu) + mu log n, which
      tends to minus the largest weighted distance from the ideal as mu goes to 0, and
      is 0 where all objectives are ideal;
    * concave: sum_i w_i u(r_i) with u(r) = log(r), as in proportional fairness: one
      objective that gets nothing costs more than others can make up for. Below 0.01, u
      goes on as its tangent.

    References: Lin et al., "Smooth Tchebycheff scalarization for multi-objective
    optimization", 2024; Kelly, Maulloo and Tan, "Rate control for communication
    networks", 1998.

    Attributes:
      kind: "linear", "smooth_tchebycheff" or "concave".
      weights: n positive numbers, which are scaled to sum to one; equal if None.
      ideal: z, of every objective; ones if None.
      smoothness: mu, in the unit of the values.

    Raises:
      ValueError: there is no such kind, a weight is not positive, or the smoothness is
        not.
    """

    kind: str = "linear"
    weights: Sequence[float] | None = None
    ideal: Sequence[float] | None = None
    smoothness: float = 0.1

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)
        if self.weights is not None:
            weights = as_numbers("weights", self.weights)
            if weights.ndim != 1 or not weights.size or not (weights > 0).all():
                raise ValueError(
                    "weights must be positive numbers, one for each objective, got "
                    f"{show(self.weights)}"
                )
        if self.ideal is not None and as_numbers("ideal", self.ideal).ndim != 1:
            raise ValueError(
                f"ideal must be numbers, one for each objective, got {show(self.ideal)}"
            )
        check_number("smoothness", self.smoothness)

    def __call__(self, values: jax.Array) -> jax.Array:
        """The scalar value of objectives' values [..., n]; float32 [...].

        Raises:
          ValueError: there are not n weights or ideal values, or, outside jit, a value
            is not finite.
        """
        values = _as_values("values", values)
        num = values.shape[-1]
        weights = self._of_each("weights", self.weights, num)
        weights = weights / weights.sum()
        if self.kind == "linear":
            return values @ weights
        if self.kind == "concave":
            above = jnp.log(jnp.maximum(values, SMALLEST))
            below = jnp.minimum(values - SMALLEST, 0.0) / SMALLEST
            return (above + below) @ weights
        ideal = self._of_each("ideal", self.ideal, num)
        weights, ideal = (jnp.broadcast_to(x, values.shape) for x in (weights, ideal))
        distance = num * weights * (ideal - values)
        mu = self.smoothness
        return -mu * (jax.nn.logsumexp(distance / mu, axis=-1) - math.log(num))

    def _of_each(self, name: str, given: Sequence[float] | None, num: int) -> jax.Array:
        values = jnp.ones((num,)) if given is None else jnp.asarray(given, jnp.float32)
        if values.shape != (num,):
            raise ValueError(
                f"{name} must be {num} numbers, one for each objective, got shape "
                f"{values.shape}"
            )
        return values


def normalize(
    returns: jax.Array, low: Sequence[float], high: Sequence[float]
) -> jax.Array:
    """Returns on a scale where `low` is 0 and `high` is 1, objective by objective.

    Args:
      returns: float32 [..., n].
      low: what counts as nothing, such as the return of random actions; [n].
      high: what counts as everything, such as that of a policy of its own; [n].

    Raises:
      ValueError: an entry of `high` is not above that of `low`, there is not one of
        each for every objective, or, outside jit, a number is not finite.
    """
    nothing, everything = (
        jnp.asarray(as_numbers(name, x), jnp.float32)
        for name, x in (("low", low), ("high", high))
    )
    returns = _as_values("returns", returns)
    for name, ends in (("low", nothing), ("high", everything)):
        if ends.shape != returns.shape[-1:]:
            raise ValueError(
                f"{name} must be {returns.shape[-1]} numbers, one for each objective, "
                f"got shape {ends.shape}"
            )
    if not bool(jnp.all(everything > nothing)):
        raise ValueError(f"high must be above low everywhere, got {high} and {low}")
    nothing, span = (
        jnp.broadcast_to(x, returns.shape) for x in (nothing, everything - nothing)
    )
    return (returns - nothing) / span


def _as_values(name: str, values: jax.Array) -> jax.Array:
    """Values of objectives, at least one; float32 [..., n]."""
    if not isinstance(values, Tracer):
        as_numbers(name, values)
    array = jnp.asarray(values, jnp.float32)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(
            f"{name} must have shape [..., n], one for each of n >= 1 objectives, got "
            f"{array.shape}"
        )
    return array
