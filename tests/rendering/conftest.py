"""Tiles to draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax import rendering
from pgx_jax.envs.cartpole import CartPole, cartpole_planted, cartpole_v1
from pgx_jax.rendering.scenes import to_numpy


def play(suite, tasks, **options):
    policies = rendering.untrained_policies(suite, jax.random.key(0))
    return rendering.play_tasks(suite, policies, tasks, jax.random.key(1), **options)


def cartpole_tile(observations):
    """A tile of CartPole-v1 in states of given observations [time, 4]."""
    suite = cartpole_v1()
    env = CartPole(jax.tree.map(lambda x: x[0], suite.parameters))
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), len(observations)))
    states = states.replace(obs=jnp.asarray(observations, jnp.float32))
    numbers = np.arange(len(observations), dtype=np.float32)
    episode = rendering.Episode(
        to_numpy(states), numbers, np.zeros(len(numbers), bool), False
    )
    return rendering.Tile("CartPole-v1", "", "#009e73", env, [episode])


@pytest.fixture(name="play", scope="session")
def play_fixture():
    return play


@pytest.fixture(name="cartpole_tile", scope="session")
def cartpole_tile_fixture():
    return cartpole_tile


@pytest.fixture(scope="session")
def tiles():
    return play(cartpole_planted(), [0, 7])
