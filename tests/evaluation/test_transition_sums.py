"""Sums of a stream against those of the same transitions kept."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.least_squares import least_squares_scores
from pgx_jax.estimation.sums import accumulate
from pgx_jax.evaluation.transition_sums import collect_sums
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.ppo import PPO, PPOConfig

PROJECTION = pge.GaussianProjection(7)
PROJECTION_KEY = jax.random.key(8)


@pytest.fixture(scope="module")
def trained(clock_suite):
    """A policy that is halfway between arm 0, which two tasks want, and arm 1."""
    suite = clock_suite([0, 1, 0], [4, 5, 9])
    networks = make_actor_critic(suite.observation_size, 2, True, (8,))
    config = PPOConfig(num_envs=4, unroll_length=6, num_minibatches=2, num_epochs=1)
    ppo = PPO(config, networks, 2)
    state, _ = ppo.run(suite, ppo.init(suite, jax.random.key(1)), 2)
    return ppo, suite, state


def test_one_unroll_gives_the_sums_of_the_transitions_collected(trained):
    ppo, suite, state = trained
    key = jax.random.key(2)
    # The stream splits its key into one for each unroll.
    unroll_key = jax.random.split(key, 1)[0]
    batch = ppo.collect_transitions(suite, state, unroll_key, 24)
    policy = jax.tree.map(lambda x: x[0], state.params["policy"])
    expected = accumulate(
        ppo.actor_critic.log_prob,
        policy,
        batch,
        PROJECTION_KEY,
        PROJECTION,
        num_parts=2,
    )
    _, found = collect_sums(
        ppo, suite, state, key, 24, PROJECTION_KEY, PROJECTION, num_parts=2
    )
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_stream_goes_on_where_it_stopped_and_adds_up(trained):
    ppo, suite, state = trained
    arguments = (PROJECTION_KEY, PROJECTION)
    moved, first = collect_sums(
        ppo, suite, state, jax.random.key(3), 48, *arguments, num_parts=4
    )
    assert not np.array_equal(
        moved.suite_state.episode_return, state.suite_state.episode_return
    )
    _, second = collect_sums(
        ppo, suite, moved, jax.random.key(4), 480, *arguments, num_parts=4
    )
    total = first + second
    np.testing.assert_array_equal(total.count, np.full((4, 3), 132.0))
    # Tasks 0 and 2 want the same arm, at all times: together they do each other good.
    subsets = np.array([[1, 0, 1], [1, 1, 0]], bool)
    scores = np.asarray(least_squares_scores(total, subsets).scores)
    assert scores[0, 0] > 5 * abs(scores[1, 0])


def test_memory_does_not_grow_with_transitions(trained):
    ppo, suite, state = trained

    def temporary_bytes(num_transitions):
        from pgx_jax.evaluation import transition_sums

        settings = (PROJECTION, num_transitions // 24, 2, True)
        compiled = transition_sums._collect.lower(
            ppo, settings, suite, state, jax.random.key(0), PROJECTION_KEY
        ).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # A key for each unroll is all that grows.
    assert temporary_bytes(24_000) < temporary_bytes(2_400) + 900 * 32


def test_bad_arguments_are_refused_by_name(trained):
    ppo, suite, state = trained
    for num_transitions, parts, message in (
        (25, 2, "num_transitions must be a positive multiple of .* = 24, got 25"),
        (24, 3, "num_parts must divide num_envs = 4, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            collect_sums(
                ppo,
                suite,
                state,
                jax.random.key(0),
                num_transitions,
                PROJECTION_KEY,
                num_parts=parts,
            )
    other = state._replace(policy_ids=jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="must be of the 3 tasks of suite"):
        collect_sums(
            ppo, suite, other, jax.random.key(0), 24, PROJECTION_KEY, num_parts=2
        )
