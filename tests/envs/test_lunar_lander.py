"""LunarLander against Gymnasium's LunarLander-v3.

The fixture is written by tests/reference/lunar_lander.py, which needs Box2D.
"""

import ast
import functools
import inspect
import pathlib
import types

import gymnasium
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from pgx_jax.envs import lunar_lander as module
from pgx_jax.envs.lunar_lander import (
    LunarLander,
    LunarLanderParameters,
    Motion,
    lunar_lander,
    lunar_lander_v3,
)

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "lunar_lander.npz"
NUM_EPISODES = 100


@pytest.fixture(scope="module")
def gym():
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


def v3_parameters(**changes) -> LunarLanderParameters:
    parameters = jax.tree.map(lambda x: x[0], lunar_lander_v3().parameters)
    return parameters._replace(**{k: jnp.float32(v) for k, v in changes.items()})


def motion_of(states) -> Motion:
    """Our coordinates of Gymnasium's [..., 10], which give the hull's origin."""
    angle = states[..., 2]
    up = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    centre = states[..., :2] + module.HULL_CENTRE[1] * up
    position = np.concatenate([centre, states[..., [2, 6, 7]]], axis=-1)
    velocity = states[..., [3, 4, 5, 8, 9]]
    return Motion(jnp.float32(position), jnp.float32(velocity))


def test_masses_equal_box2d(gym):
    hull = module.HULL_MASS, module.HULL_CENTRE[1], module.HULL_INERTIA
    leg = module.LEG_MASS, 0.0, module.LEG_INERTIA
    np.testing.assert_allclose([hull, leg], gym["masses"], rtol=1e-4, atol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def fly(continuous, parameters, start, phase, actions):
    """Observations [flight, time, 8] and motions of one step after another."""

    def flight(parameters, start, phase, actions):
        env = LunarLander(parameters, continuous, dispersion=False)
        state = env.reset(jax.random.key(0))
        state = state.replace(
            pipeline_state=start,
            obs=module.observe(start, jnp.zeros(2, bool)),
            info=state.info | {"wind_phase": phase},
        )

        def step(state, action):
            state = env.step(state, action)
            return state, (state.obs, state.pipeline_state)

        return jax.lax.scan(step, state, actions)[1]

    return jax.vmap(flight)(parameters, start, phase, actions)


@pytest.mark.parametrize("continuous", [False, True])
def test_free_flight_equals_gymnasium(gym, continuous):
    rows = np.flatnonzero(gym["flight_continuous"] == continuous)
    assert len(rows) >= 3
    wind = gym["flight_wind"][rows]
    parameters = jax.vmap(
        lambda gravity, gust, turbulence: v3_parameters()._replace(
            gravity=gravity, gust=gust, turbulence=turbulence
        )
    )(*jnp.float32([gym["flight_gravity"][rows], 15.0 * wind, 1.5 * wind]))
    actions = jnp.asarray(gym["flight_actions"][rows])
    observations, motions = fly(
        continuous,
        parameters,
        motion_of(gym["flight_start"][rows]),
        jnp.asarray(gym["flight_phase"][rows], jnp.int32),
        actions if continuous else actions[..., 0].astype(jnp.int32),
    )
    expected = motion_of(gym["flight_states"][rows])
    start = motion_of(gym["flight_start"][rows])
    # Of the way and the turn made, and of the speeds reached, by the hull.
    for ours, theirs, size in (
        (
            motions.position,
            expected.position,
            expected.position - start.position[:, None],
        ),
        (motions.velocity, expected.velocity, expected.velocity),
    ):
        error = np.abs(ours - theirs)[:, -1, :3]
        np.testing.assert_array_less(error, 0.02 * np.abs(size)[:, -1, :3] + 1e-3)
    # The scaling of observations is checked on Gymnasium's own states.
    ours = jax.vmap(jax.vmap(lambda m: module.observe(m, jnp.zeros(2, bool))))(expected)
    np.testing.assert_allclose(ours, gym["flight_observations"][rows], atol=2e-6)
