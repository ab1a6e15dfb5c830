"""Every key of a run is used once, by one place, whatever it is used for."""

import traceback
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import (
    ActionSpace,
    from_functions,
)
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.ppo import PPO, PPOConfig

DERIVING = ("split", "fold_in")
DRAWING = ("uniform", "randint", "bits", "categorical", "permutation")


@pytest.fixture
def uses(monkeypatch):
    """Of each key, as bytes, where and how often it is used while programs run."""
    used = defaultdict(list)

    def watch(name):
        function = getattr(jax.random, name)

        def watched(key, *args, **kwargs):
            frame = traceback.extract_stack(limit=2)[0]
            place = f"{name}, {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
            number = args[0] if name == "fold_in" else 0

            def record(data, number):
                data = np.asarray(data)
                if data.ndim == 1:
                    used[data.tobytes()].append((place, int(number)))

            jax.debug.callback(record, jax.random.key_data(key), number)
            return function(key, *args, **kwargs)

        monkeypatch.setattr(jax.random, name, watched)

    for name in (*DERIVING, *DRAWING):
        watch(name)
    return used


def drifting(pool_size):
    """Draws at every reset and at every step; episodes of three steps."""

    def reset(parameters, key):
        start = jax.random.uniform(key, (1,))
        return start, start

    def step(parameters, state, action, key):
        state = state + jax.random.uniform(key, (1,))
        return state, state, 0.0, False

    return from_functions(
        reset,
        step,
        jnp.zeros((2,)),
        action_space=ActionSpace(2, discrete=True),
        episode_length=3,
        pool_size=pool_size,
    )


def test_no_key_of_a_run_is_used_twice(uses):
    suite = drifting(pool_size=2)
    networks = make_actor_critic(1, 2, discrete=True, hidden_sizes=(2,))
    config = PPOConfig(
        num_envs=2,
        unroll_length=3,
        num_epochs=2,
        num_minibatches=1,
        stagger_resets=True,
    )
    ppo = PPO(config, networks, 2)
    ppo.run(suite, ppo.init(suite, jax.random.key(0), [0, 1]), 2)
    jax.effects_barrier()

    places = {place.split(",")[0] for found in uses.values() for place, _ in found}
    assert places >= {"split", "fold_in", "uniform", "randint", "categorical"}
    assert len(uses) > 100
    for found in uses.values():
        # One place may fold many numbers into a key, each once.
        assert len({place for place, _ in found}) == 1, found
        assert len(set(found)) == len(found), found
