"""A collection gives bit for bit what its members give alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import Env, State

from pgx_jax.envs import (
    ActionSpace,
    CollectionSuite,
    from_brax,
    from_functions,
)
from pgx_jax.envs.collection import _pack, _unpack
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.ppo import PPO, PPOConfig


class Halving(Env):
    """Pays half as much at every step; the amount is kept in a type of one's choice."""

    def __init__(self, dtype, width):
        self.dtype, self.width = dtype, width

    def reset(self, rng):
        amount = jnp.ones((self.width,), self.dtype)
        zero = jnp.zeros(())
        return State(amount, jnp.zeros((1,)), zero, zero)

    def step(self, state, action):
        amount = state.pipeline_state / 2
        return state.replace(
            pipeline_state=amount.astype(self.dtype),
            reward=amount[0].astype(jnp.float32),
        )

    observation_size = property(lambda self: 1)
    action_size = property(lambda self: 1)
    backend = property(lambda self: "jax")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_floats_of_any_precision_are_kept_in_a_collection(dtype):
    with jax.enable_x64(dtype == "float64"):
        suite = from_brax([Halving(dtype, 1), Halving(dtype, 3)])
        state = suite.reset(jax.random.key(0), 2)
        rewards = []
        for _ in range(4):
            state = suite.step(state, jnp.zeros((2, 2, 1)))
            rewards.append(np.asarray(state.reward))
        expected = np.broadcast_to(
            [[[0.5]], [[0.25]], [[0.125]], [[0.0625]]], (4, 2, 2)
        )
        np.testing.assert_array_equal(rewards, expected)


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "int8",
        "uint8",
        "int16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float8_e4m3fn",
        "bfloat16",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
        "threefry2x32",
        "rbg",
        "unsafe_rbg",
    ],
)
def test_every_bit_of_a_state_is_kept(dtype):
    """Random bits, infinities and NaNs among them, in leaves of three shapes."""
    rng = np.random.default_rng(0)
    is_key = dtype in ("threefry2x32", "rbg", "unsafe_rbg")
    with jax.enable_x64(dtype in ("int64", "uint64", "float64", "complex128")):

        def draw(*shape):
            if is_key:
                seeds = rng.integers(0, 2**31, shape)
                return jax.random.split(jax.random.key(seeds.sum(), impl=dtype), shape)
            size = jnp.dtype(dtype).itemsize
            if dtype == "bool":
                return jnp.asarray(rng.integers(0, 2, shape), bool)
            data = rng.integers(0, 256, (*shape, size), np.uint8).view(jnp.dtype(dtype))
            return jnp.asarray(data[..., 0])

        def bits(x):
            x = np.asarray(jax.random.key_data(x) if is_key else x)
            return x.tobytes()

        tree = {"a": draw(2, 3), "b": (draw(2, 3, 4), draw(2, 3, 2, 2))}
        like = jax.eval_shape(lambda: jax.tree.map(lambda x: x[:1, :1], tree))
        packed = _pack(tree)
        assert packed.dtype == jnp.uint32
        kept = _unpack(packed, like)
        for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(kept), strict=True):
            assert x.dtype == y.dtype and x.shape == y.shape
            assert bits(x) == bits(y)


def start_anywhere(parameters, key):
    start = jax.random.uniform(key, (1,))
    return start, start


def move_at_random(parameters, state, action, key):
    state = state + parameters * jax.random.uniform(key, (1,))
    return state, state, state[0], False


def noise_suite(speed, episode_length=50):
    """Moves at random, from the keys that the suite hands to its functions."""
    return from_functions(
        start_anywhere,
        move_at_random,
        jnp.array([speed]),
        action_space=ActionSpace(1, discrete=False),
        episode_length=episode_length,
    )


@pytest.mark.parametrize(
    ("make_key", "default"),
    [
        (jax.random.key, "threefry2x32"),
        (jax.random.PRNGKey, "threefry2x32"),
        (jax.random.PRNGKey, "rbg"),
        (lambda seed: jax.random.key(seed, impl="rbg"), "threefry2x32"),
        (lambda seed: jax.random.key(seed, impl="unsafe_rbg"), "threefry2x32"),
    ],
)
def test_keys_of_any_kind_give_what_the_members_give_alone(make_key, default):
    with jax.default_prng_impl(default):
        members = [noise_suite(1.0), noise_suite(-2.0)]
        suite = CollectionSuite.create(members)
        key = make_key(3)

        @jax.jit
        def play(suite, key):
            state = suite.reset(key, 2)
            return suite.step(state, jnp.zeros((suite.num_tasks, 2, 1))).observation

        together = play(suite, key)
        keys = jax.random.split(key, 2)
        alone = [play(x, k) for x, k in zip(members, keys, strict=True)]
        np.testing.assert_array_equal(together, np.concatenate(alone))
        assert len(np.unique(together)) == 4


def test_staggered_episodes_end_evenly_whatever_their_members_limits():
    """Of 256 episodes of 50 steps, each tenth ends in each 5 steps, up to chance."""
    suite = CollectionSuite.create([noise_suite(1.0, 50), noise_suite(1.0, 500)])
    suite = suite.select([1, 0, 1])
    assert suite.episode_lengths == (500, 50, 500)
    config = PPOConfig(num_envs=256, stagger_resets=True)
    ppo = PPO(config, make_actor_critic(1, 1, False, (2,)), 1)
    state = ppo.init(suite, jax.random.key(0)).suite_state
    for row, limit in enumerate((500, 50, 500)):
        left = limit - np.asarray(state.episode_length[row])
        assert left.min() >= 1 and left.max() <= limit
        ends, _ = np.histogram(left, bins=10, range=(0.5, limit + 0.5))
        expected = 25.6
        assert np.abs(ends - expected).max() < 4 * np.sqrt(expected * 0.9), ends
    assert dataclasses.replace(suite, name="other").episode_lengths == (500, 50, 500)
