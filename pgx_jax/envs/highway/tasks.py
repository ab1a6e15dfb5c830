"""The suites of highway tasks."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.highway.env import (
    EPISODE_LENGTH,
    NUM_ACTIONS,
    OBSERVATION_SIZE,
    Highway,
    HighwayParameters,
)
from pgx_jax.envs.splits import find_split

VEHICLES_PER_DENSITY = 20  # on a stretch as long as that of highway-fast-v0
MAX_DENSITY = 1.25
LANES = (2, 3, 4, 5)

# One function object each, so that two suites of a kind share a compiled program.
_make_fast = functools.partial(Highway, max_vehicles=VEHICLES_PER_DENSITY)
_make_family = functools.partial(
    Highway, max_vehicles=round(VEHICLES_PER_DENSITY * MAX_DENSITY)
)


def highway_fast() -> FamilySuite:
    """One task: the traffic of highway-env's highway-fast-v0."""
    parameters = _parameters(
        density=[1.0],
        speed_limit=[30.0],
        politeness=[0.0],
        num_lanes=[3],
        num_vehicles=[20],
    )
    return _suite(_make_fast, "highway_fast", parameters, ("highway-fast-v0",))


def highway(split: str = "source") -> FamilySuite:
    """Tasks that differ in traffic density, speed limit, politeness and lanes.

    The 10 source tasks and the 50 target tasks are drawn once, from the same ranges,
    with fixed seeds: density log-uniform in [0.5, 1.25], with vehicles in proportion
    on a stretch as long as that of highway-fast-v0; speed limit uniform in [24, 36]
    m/s; politeness uniform in [0, 1]; 2, 3, 4 or 5 lanes, equally often. A policy sees
    none of this but by how others drive. The ego's own speeds are the same in all: what
    earns most where traffic is thin or fast soon ends in a crash where two lanes of it
    are slow.

    Args:
      split: "source" or "target".
    """
    seed, num_tasks = find_split(split)
    rng = np.random.default_rng(seed)
    density = np.exp(rng.uniform(np.log(0.5), np.log(MAX_DENSITY), num_tasks))
    speed_limit = rng.uniform(24.0, 36.0, num_tasks)
    politeness = rng.uniform(0.0, 1.0, num_tasks)
    num_lanes = rng.permutation(np.resize(LANES, num_tasks))
    parameters = _parameters(
        density=density,
        speed_limit=speed_limit,
        politeness=politeness,
        num_lanes=num_lanes,
        num_vehicles=np.round(VEHICLES_PER_DENSITY * density),
    )
    names = tuple(
        f"{lanes} lanes d={d:.2f} v={v:.0f} p={p:.1f}"
        for lanes, d, v, p in zip(
            num_lanes, density, speed_limit, politeness, strict=True
        )
    )
    return _suite(_make_family, "highway", parameters, names)


def _parameters(
    *, density, speed_limit, politeness, num_lanes, num_vehicles
) -> HighwayParameters:
    return HighwayParameters(
        density=jnp.asarray(density, jnp.float32),
        speed_limit=jnp.asarray(speed_limit, jnp.float32),
        politeness=jnp.asarray(politeness, jnp.float32),
        num_lanes=jnp.asarray(num_lanes, jnp.int32),
        num_vehicles=jnp.asarray(num_vehicles, jnp.int32),
    )


def _suite(make_env, name, parameters, task_names) -> FamilySuite:
    return FamilySuite(
        make_env=make_env,
        parameters=parameters,
        name=name,
        task_names=task_names,
        observation_size=OBSERVATION_SIZE,
        action_space=ActionSpace(size=NUM_ACTIONS, discrete=True),
        episode_length=EPISODE_LENGTH,
    )
