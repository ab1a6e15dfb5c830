"""The suites of landers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.lunar_lander.body import (
    HULL_MASS,
    MAIN_LEVER,
    SIDE_LEVER,
    STANDARD_GRAVITY,
    TIME_STEP,
    TOTAL_MASS,
    LunarLanderParameters,
)
from pgx_jax.envs.lunar_lander.env import EPISODE_LENGTH, OBSERVATION_SIZE, LunarLander
from pgx_jax.envs.splits import find_split


def lunar_lander_v3(continuous: bool = False) -> FamilySuite:
    """One task: the parameters of Gymnasium's LunarLander-v3.

    Args:
      continuous: as in Gymnasium's `continuous=True`.
    """
    return _suite("lunar_lander_v3", _parameters(1), ("LunarLander-v3",), continuous)


def lunar_lander(split: str = "source", continuous: bool = False) -> FamilySuite:
    """Tasks that differ in gravity, mass, thrust of the engines, and wind.

    The 10 source tasks and the 50 target tasks are drawn once, from the same ranges,
    with fixed seeds. A policy sees none of the parameters: the same throttle makes one
    lander climb where another still falls, and a steady wind from either side asks for
    a lean into it.

    Args:
      split: "source" or "target".
      continuous: whether actions are continuous.
    """
    seed, num_tasks = find_split(split)
    rng = np.random.default_rng(seed)

    def log_uniform(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), num_tasks))

    gravity = rng.uniform(5.0, 12.0, num_tasks)
    ratio = log_uniform(0.6, 1.8)
    total_mass = ratio * TOTAL_MASS
    weight = total_mass * gravity
    # The main engine is drawn by what it leaves to brake with: 7.5 m/s^2 in Gymnasium.
    braking = log_uniform(5.0, 15.0)
    side_acceleration = log_uniform(1.5, 5.0)  # m/s^2; 2.4 in Gymnasium
    # Wind is drawn as a share of the weight, about the lean in rad that it asks for. It
    # blows from the left in half of the tasks.
    wind = rng.uniform(0.03, 0.13, num_tasks)
    wind = wind * rng.permutation(np.resize([1.0, -1.0], num_tasks))
    gust = rng.uniform(0.0, 0.06, num_tasks)
    turbulence = rng.uniform(0.0, 0.5, num_tasks)  # N m at Gymnasium's mass
    parameters = _parameters(
        num_tasks,
        gravity=gravity,
        hull_mass=ratio * HULL_MASS,
        main_thrust=total_mass * (gravity + braking),
        side_thrust=total_mass * side_acceleration,
        steady_wind=wind * weight,
        gust=gust * weight,
        turbulence=turbulence * ratio,
    )
    names = tuple(
        f"g={g:.1f} M={m:.1f} F={f:.0f} wind={w:+.1f}"
        for g, m, f, w in zip(
            gravity,
            total_mass,
            parameters.main_thrust,
            parameters.steady_wind,
            strict=True,
        )
    )
    return _suite("lunar_lander", parameters, names, continuous)


def _parameters(
    num_tasks: int,
    *,
    gravity: ArrayLike = STANDARD_GRAVITY,
    hull_mass: ArrayLike = HULL_MASS,
    main_thrust: ArrayLike = 13.0
    * MAIN_LEVER
    / TIME_STEP,  # Gymnasium's impulse, in one step
    side_thrust: ArrayLike = 0.6 * SIDE_LEVER / TIME_STEP,
    steady_wind: ArrayLike = 0.0,
    gust: ArrayLike = 0.0,
    turbulence: ArrayLike = 0.0,
) -> LunarLanderParameters:
    def fill(value):
        return jnp.asarray(np.broadcast_to(value, (num_tasks,)), jnp.float32)

    return LunarLanderParameters(
        gravity=fill(gravity),
        hull_mass=fill(hull_mass),
        main_thrust=fill(main_thrust),
        side_thrust=fill(side_thrust),
        steady_wind=fill(steady_wind),
        gust=fill(gust),
        turbulence=fill(turbulence),
    )


def _continuous_lander(parameters: LunarLanderParameters) -> LunarLander:
    return LunarLander(parameters, continuous=True)


def _suite(name, parameters, task_names, continuous) -> FamilySuite:
    return FamilySuite(
        make_env=_continuous_lander if continuous else LunarLander,
        parameters=parameters,
        name=name,
        task_names=task_names,
        observation_size=OBSERVATION_SIZE,
        action_space=ActionSpace(size=2 if continuous else 4, discrete=not continuous),
        episode_length=EPISODE_LENGTH,
    )
