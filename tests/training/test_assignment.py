"""Policies of different numbers of updates in one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.diagnostics import first_nonfinite, on_host
from pgx_jax.training.ppo import PPO, PPOConfig

NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(8,))
CONFIG = PPOConfig(
    num_envs=4, unroll_length=4, num_epochs=2, num_minibatches=2, learning_rate=1e-2
)
# Runs of two lengths are two programs, which round alike where XLA optimizes both.
pytestmark = pytest.mark.optimized

SHORT, LONG = 2, 4
POLICY_IDS = [0, 1, 0]


@pytest.fixture(scope="module")
def train(clock_suite):
    """`train(config, num_updates, count)`: the state after so many, and all metrics."""
    suite = clock_suite([0, 1, 0], [3, 99, 3])
    start = PPO(CONFIG, NETWORKS, LONG).init(suite, jax.random.key(0), POLICY_IDS)

    def train(config, num_updates, count):
        ppo = PPO(config, NETWORKS, num_updates)
        state, metrics = jax.tree.map(jnp.copy, start), []
        for _ in range(count):  # one compiled program for all counts
            state, some = ppo.run(suite, state, 1)
            metrics.append(jax.device_get(some))
        return state, jax.tree.map(lambda *x: np.concatenate(x), *metrics)

    return train


def of_policy(state, policy):
    """All that training changed of one policy."""
    rows = np.flatnonzero(np.array(POLICY_IDS) == policy)
    own = (state.params, state.optimizer_state, state.observation_statistics)
    return jax.device_get(
        (
            jax.tree.map(lambda x: x[policy], own),
            jax.tree.map(lambda x: x[rows], state.value_statistics),
        )
    )


def assert_same(one, other, **tolerance):
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


@pytest.fixture(scope="module")
def both(train):
    """Both lengths at once."""
    return train(CONFIG, np.array([SHORT, LONG]), LONG)


@pytest.mark.parametrize(("policy", "length"), [(0, SHORT), (1, LONG)])
def test_every_policy_is_that_of_a_run_of_its_own_length(train, both, policy, length):
    """Its learning rate is annealed over that length, and nothing follows it."""
    state, metrics = both
    alone, alone_metrics = train(CONFIG, length, length)
    assert_same(of_policy(state, policy), of_policy(alone, policy), rtol=1e-6)
    rows = np.array(POLICY_IDS) == policy
    for name, expected in alone_metrics.items():
        which = policy if name == "gradient_norm" else rows
        np.testing.assert_allclose(
            metrics[name][:length, which], expected[:, which], rtol=1e-6, err_msg=name
        )
    assert int(state.num_updates) == LONG


def test_finished_policies_stay_bit_by_bit(train):
    """With a learning rate that is not annealed, which would move them on."""
    config = dataclasses.replace(CONFIG, anneal_learning_rate=False)
    early, _ = train(config, [SHORT, LONG], SHORT)
    late, _ = train(config, [SHORT, LONG], SHORT + 1)
    assert_same(of_policy(early, 0), of_policy(late, 0), rtol=0)
    kernels = [x.params["policy"]["Dense_0"]["kernel"][1] for x in (early, late)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_metrics_of_finished_policies_are_zero(both):
    """So that a run passes under `jax_debug_nans`; returns of theirs are unknown."""
    state, metrics = both
    rows = np.array(POLICY_IDS) == 0
    for name, values in metrics.items():
        finished = 0 if name == "gradient_norm" else rows
        np.testing.assert_array_equal(values[SHORT:, finished], 0.0, err_msg=name)
    assert np.all(metrics["gradient_norm"][:, 1] > 0)
    assert np.isnan(on_host(metrics)["return"][SHORT:, rows]).all()
    assert np.isfinite(on_host(metrics)["return"][:SHORT, rows]).all()
    assert first_nonfinite(state, metrics) is None


def test_numbers_of_updates_that_cannot_be_are_refused(clock_suite):
    every = "every entry of num_updates must be a positive integer, got "
    for num_updates, message in (
        ([2, 0], f"{every}0"),
        ([2, True], f"{every}True"),
        (np.array([2.0, 3.0]), f"{every}2.0"),
        ([], "num_updates must be a positive integer"),
        (2.0, "num_updates must be a positive integer"),
        ("23", "num_updates must be a positive integer"),
    ):
        with pytest.raises(ValueError, match=message):
            PPO(CONFIG, NETWORKS, num_updates)
    assert PPO(CONFIG, NETWORKS, np.int64(3)).total_updates == 3
    ppo = PPO(CONFIG, NETWORKS, [2, 4, 3])
    assert ppo.total_updates == 4
    with pytest.raises(ValueError, match="one for each of 2 policies, got 3"):
        ppo.init(clock_suite([0, 1, 0], [3] * 3), jax.random.key(0), POLICY_IDS)
