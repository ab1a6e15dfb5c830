"""The settings of an estimate: what is static, and what is refused."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jax.core import Tracer

from pgx_jax.arguments import as_integer, check_number, check_switch
from pgx_jax.estimation.blocks import BlockPlan
from pgx_jax.estimation.checks import check_hashable
from pgx_jax.estimation.evaluators import EVALUATORS, Evaluator, default_distance
from pgx_jax.estimation.parameters import count_params
from pgx_jax.estimation.projection import (
    GaussianProjection,
    Projection,
    check_projection,
)
from pgx_jax.types import PyTree

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32"}
# The projected dimension of the paper.
DIM = 400


class Settings(NamedTuple):
    """All that is static, so that the call compiles once for it."""

    projection: Projection | None
    evaluator: Evaluator
    held_out_fraction: float
    normalize_advantages: bool
    center_features: bool | None
    max_iterations: int
    feature_precision: str
    plan: BlockPlan
    num_resamples: int
    resample_length: int
    mesh: jax.sharding.Mesh | None


def find_evaluator(evaluator: str | Evaluator) -> Evaluator:
    if callable(evaluator):
        check_hashable("evaluator", evaluator)
        return evaluator
    if not isinstance(evaluator, str) or evaluator not in EVALUATORS:
        raise ValueError(
            f"evaluator must be a function or one of {', '.join(EVALUATORS)}, got "
            f"{evaluator!r}; for rollouts, pass a "
            "pgx_jax.evaluation.rollouts.RolloutEvaluator of your suite"
        )
    return EVALUATORS[evaluator]


def find_distance(
    max_relative_distance: float | str | None, evaluator: Evaluator
) -> float | str | None:
    """The limit that is asked for, None for none; "auto" is the evaluator's."""
    if isinstance(max_relative_distance, str) and max_relative_distance == "auto":
        return default_distance(evaluator)
    return max_relative_distance


def find_projection(
    projection: Projection | None, dim: int | str | None, params: PyTree
) -> Projection | None:
    """The projection that the arguments ask for, None for none."""
    num_params = count_params(params)
    if projection is None and dim is None:
        return None
    if isinstance(dim, str) and dim == "auto":
        dim = min(DIM, num_params)
    if projection is None:
        projection = GaussianProjection(as_integer("dim", dim, 1))
    check_projection(projection)
    check_hashable("projection", projection)
    if projection.dim > num_params:
        raise ValueError(
            f"dim must be at most the number of parameters, p = {num_params}, got "
            f"{projection.dim}. dim=None does without a projection, which is exact"
        )
    return projection


def check_settings(
    l2, max_relative_distance, held_out_fraction, tolerance, feature_precision
) -> None:
    check_number("l2", l2)
    check_number("tolerance", tolerance, zero=True)
    limit = max_relative_distance
    if isinstance(limit, str):
        raise ValueError(
            f"max_relative_distance must be a number, 'auto' or None, got {limit!r}"
        )
    if limit is not None:
        check_number("max_relative_distance", limit)
    if isinstance(held_out_fraction, Tracer):
        raise ValueError(
            "held_out_fraction must be known outside of jit, as shapes depend on it, "
            f"got {held_out_fraction.aval}"
        )
    check_number("held_out_fraction", held_out_fraction, zero=True)
    if held_out_fraction >= 1:
        raise ValueError(
            f"held_out_fraction must be in [0, 1), got {held_out_fraction}"
        )
    check_precision(feature_precision)


def check_precision(feature_precision: str) -> None:
    if not isinstance(feature_precision, str) or feature_precision not in PRECISIONS:
        raise ValueError(
            f"feature_precision must be one of {', '.join(PRECISIONS)}, got "
            f"{feature_precision!r}"
        )


def check_switches(normalize_advantages, center_features, mesh) -> None:
    """Refuses what would be taken for true or false, or fail without its name."""
    check_switch("normalize_advantages", normalize_advantages)
    check_switch("center_features", center_features, none=True)
    if mesh is not None and not isinstance(mesh, jax.sharding.Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh or None, got {mesh!r}")
