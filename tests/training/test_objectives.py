"""Vector rewards: advantages against the paper's cases, and bandits of known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandit import PAYS, make_bandit

import pgx_jax as pge
from pgx_jax.envs import PreferenceSuite
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.losses import generalized_advantages, normalize_advantages
from pgx_jax.training.objectives import (
    decoupled_advantages,
    objective_advantages,
    policy_preferences,
)
from pgx_jax.training.ppo import PPO, PPOConfig
from pgx_jax.training.running_statistics import (
    RunningStatistics,
    update_value_statistics,
)
from pgx_jax.training.weights_config import ReturnWeightsConfig

CONFIG = PPOConfig(
    num_envs=16,
    unroll_length=4,
    num_epochs=8,
    num_minibatches=4,
    learning_rate=1e-2,
    discount=0.9,
)
NETWORKS = make_actor_critic(1, 3, discrete=True, hidden_sizes=(16,), num_objectives=2)
TRAINER = PPO(CONFIG, NETWORKS, 40)


def trained(suite, policy_ids, num_updates=40):
    state = TRAINER.init(suite, jax.random.key(0), policy_ids)
    for _ in range(num_updates):
        state, metrics = TRAINER.run(suite, state, 1)
    return state, jax.tree.map(lambda x: np.asarray(x[0]), metrics)


@pytest.mark.parametrize(
    ("rewards", "decoupled"),
    [([[0, 0], [1, 0]], 0.7071), ([[0, 0], [1, 1]], 1.4142)],
)
def test_objectives_normalized_before_the_sum_stay_apart(rewards, decoupled):
    """Two rollouts; normalizing the sum gives -0.7071 and 0.7071 in both cases."""
    rewards = jnp.asarray(rewards, jnp.float32)
    found = decoupled_advantages(rewards)
    np.testing.assert_allclose(found, [-decoupled, decoupled], atol=1e-4)
    summed = decoupled_advantages(rewards.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(summed, [-0.7071, 0.7071], atol=1e-4)


def test_decoupled_advantages_match_a_slow_loop():
    rng = np.random.default_rng(0)
    advantages = rng.normal(size=(2, 7, 3)) * [1.0, 50.0, 1e-3]
    advantages[0, :, 1] = 4.0  # the same for all: worth nothing, and finite
    weights = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0]])
    expected = np.zeros((2, 7))
    for row in range(2):
        for k in range(3):
            x = advantages[row, :, k]
            if x.std() > 0:
                z = (x - x.mean()) / x.std(ddof=1)
                expected[row] += weights[row, k] * z
    found = decoupled_advantages(
        jnp.asarray(advantages, jnp.float32), jnp.asarray(weights, jnp.float32)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    white = normalize_advantages(found.reshape(1, -1))
    np.testing.assert_allclose([white.mean(), white.std()], [0, 1], atol=1e-5)


def test_advantages_of_an_objective_are_those_of_its_reward_alone():
    rng = np.random.default_rng(1)
    reward, value, next_value = rng.normal(size=(3, 9, 4, 2)).astype(np.float32)
    ending = rng.choice(4, (9, 4))
    flags = (ending == 1, ending >= 2, ending == 3)
    settings = {"discount": 0.9, "gae_lambda": 0.8}
    found = objective_advantages(reward, value, next_value, *flags, **settings)
    for k in range(2):
        alone = generalized_advantages(
            reward[..., k], value[..., k], next_value[..., k], *flags, **settings
        )
        np.testing.assert_allclose(found[..., k], alone, rtol=1e-6)


def test_value_statistics_of_objectives_are_kept_apart():
    returns = np.random.default_rng(2).normal(size=(3, 20, 2)).astype(np.float32)
    returns[..., 1] = 100.0 * returns[..., 1] + 7.0
    together = update_value_statistics(RunningStatistics.create(3, (2,)), returns, 0.99)
    for k in range(2):
        alone = update_value_statistics(
            RunningStatistics.create(3), returns[..., k], 0.99
        )
        np.testing.assert_allclose(together.mean[:, k], alone.mean, rtol=1e-6)
        np.testing.assert_allclose(together.variance[:, k], alone.variance, rtol=1e-6)


def test_a_policy_learns_all_objectives_of_its_rows():
    found = policy_preferences(jnp.array([2, 0, 2, 1]), jnp.array([0, 1, 1, 0]), 3)
    of_policy = np.array([[0, 1, 1], [1, 0, 1]])
    np.testing.assert_array_equal(found, of_policy[[0, 1, 1, 0]])


def test_policies_learn_what_their_preferences_are():
    """Both objectives count by default, in spite of units that differ by 100."""
    suite = PreferenceSuite.create(make_bandit(), [[1, 0], [0, 1], [1, 1]])
    state, metrics = trained(suite, [0, 1, 2])
    assert metrics["return"].shape == (3, 2)
    played = evaluate(
        suite,
        NETWORKS,
        state.params["policy"],
        state.observation_statistics,
        state.policy_ids,
        jax.random.key(1),
        4,
    )
    assert played.episode_return.shape == (3, 4, 2)
    np.testing.assert_allclose(played.episode_return.mean(1), PAYS)

    # The critic has a head for each, in units of reward. One policy each: its own arm.
    normalized = jax.vmap(NETWORKS.value, (0, None))(
        state.params["value"], jnp.zeros((1,))
    )
    values = normalized * state.value_statistics.std + state.value_statistics.mean
    np.testing.assert_allclose(values, metrics["return"], rtol=0.1, atol=0.1)


def test_objectives_weighted_by_their_returns_are_shared_fairly():
    """Alpha 2, arms that pay 1 and 4: the first is pulled two times of three."""
    suite = make_bandit(np.diag([1.0, 4.0, 0.0])[:, :2].astype(np.float32))
    config = PPOConfig(
        num_envs=64,
        unroll_length=4,
        num_epochs=2,
        num_minibatches=1,
        entropy_cost=0.0,
        return_weights=ReturnWeightsConfig(name="concave", alpha=2.0, decay=0.5),
    )
    trainer = PPO(config, NETWORKS, 300)
    state = trainer.init(suite, jax.random.key(0))
    assert state.return_weights.mean.shape == (1, 2)
    _, metrics = trainer.run(suite, state, 300)
    share = np.asarray(metrics["return"])[-100:, 0].mean(axis=0) / [1.0, 4.0]
    np.testing.assert_allclose(share, [2 / 3, 1 / 3], atol=0.03)
    weighed = PreferenceSuite.create(suite, [1, 1])
    with pytest.raises(ValueError, match="return_weights must be none where suite has"):
        trainer.init(weighed, jax.random.key(0))


def test_a_run_of_vector_rewards_in_two_parts_is_the_run_in_one():
    suite = PreferenceSuite.create(make_bandit(), [[1, 0], [0, 1], [1, 1]])
    parts, _ = trained(suite, [0, 1, 2], num_updates=2)
    again, _ = trained(suite, [0, 1, 2], num_updates=1)
    again, _ = TRAINER.run(suite, again, 1)
    kept = [
        x._replace(key=None, suite_state=x.suite_state.reward) for x in (parts, again)
    ]
    jax.tree.map(np.testing.assert_array_equal, *kept)


def test_objectives_are_tasks_of_the_estimator_that_share_their_samples():
    suite = make_bandit()
    state, _ = trained(suite, None, num_updates=2)
    batch = TRAINER.collect_transitions(suite, state, jax.random.key(3), 64)
    assert batch.observation.shape == (1, 64, 1) and batch.action.shape == (1, 64)
    assert batch.advantage.shape == (2, 64)
    # Of one-step episodes the advantage is what the arm pays less the value.
    paid = PAYS[np.asarray(batch.action[0])].T
    baseline = paid - np.asarray(batch.advantage)
    np.testing.assert_allclose(baseline.std(axis=1), 0.0, atol=1e-3)

    policy = jax.tree.map(lambda x: x[0], state.params["policy"])
    subsets = [[1, 0], [0, 1], [1, 1]]

    def estimate(transitions, chosen):
        return pge.estimate_subsets(
            NETWORKS.log_prob,
            policy,
            transitions,
            chosen,
            key=jax.random.key(4),
            dim=20,
            held_out_fraction=0.0,
        )

    shared = estimate(batch, subsets)
    for k in range(2):
        alone = estimate(batch._replace(advantage=batch.advantage[k : k + 1]), [[1]])
        np.testing.assert_allclose(
            shared.scores[k, k], alone.scores[0, 0], rtol=1e-3, atol=1e-5
        )

    rows = PreferenceSuite.create(suite, [[1, 0], [0, 1]])
    two = TRAINER.init(rows, jax.random.key(0))
    batch = TRAINER.collect_transitions(rows, two, jax.random.key(3), 64)
    assert batch.observation.shape == (4, 64, 1) and batch.advantage.shape == (4, 64)


def test_rewards_of_another_length_are_refused_by_name():
    key = jax.random.key(0)
    with pytest.raises(
        ValueError, match=r"reward of step must have shape \[3\].*got \[2\]"
    ):
        make_bandit(objective_names=("a", "b", "c"))
    with pytest.raises(
        ValueError, match=r"reward of step must have shape \[\].*got \[2\]"
    ):
        make_bandit(objective_names=())
    suite = make_bandit()
    with pytest.raises(ValueError, match=r"critic of 0 objectives.*rewards of 2"):
        networks = make_actor_critic(1, 3, discrete=True)
        PPO(CONFIG, networks, 1).init(suite, key)
    state = TRAINER.init(suite, key)
    with pytest.raises(ValueError, match=r"value_statistics must be of shape \[1, 2\]"):
        TRAINER.init_from(
            suite,
            key,
            [0],
            state.params,
            state.observation_statistics,
            RunningStatistics.create(1),
        )
    one = make_bandit(PAYS[:, :1], ("a",))
    networks = make_actor_critic(1, 3, discrete=True, num_objectives=1)
    with pytest.raises(ValueError, match=r"suite 'functions' gives rewards of 1"):
        TRAINER.run(one, state, 1)
    assert PPO(CONFIG, networks, 1).init(one, key).value_statistics.mean.shape == (1, 1)


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        (
            [1, 2, 3],
            r"last axis of 2, one for each of objective_names, got shape \[3\]",
        ),
        ([[1, -1]], "must not be negative"),
        ([[0, 0]], "one of every row positive"),
        ([[1, float("nan")]], "preferences must be finite"),
        (1.0, r"last axis of 2.*got shape \[\]"),
    ],
)
def test_preferences_that_weigh_nothing_are_refused(preferences, message):
    with pytest.raises(ValueError, match=message):
        PreferenceSuite.create(make_bandit(), preferences)


def test_preferences_need_vector_rewards_and_a_row_a_task(clock_suite):
    clocks = clock_suite([0, 1], [3, 3])
    with pytest.raises(ValueError, match="suite must have objective_names"):
        PreferenceSuite.create(clocks, [1.0])
    rows = PreferenceSuite.create(make_bandit(), [[1, 0], [0, 1]])
    np.testing.assert_array_equal(rows.select([1, 1, 0]).preferences[:, 0], [0, 0, 1])
    with pytest.raises(ValueError, match="a row for each of 2 tasks, got 3"):
        PreferenceSuite.create(rows.suite, np.ones((3, 2)))


@pytest.mark.parametrize(
    ("advantages", "preferences", "message"),
    [
        (np.ones(3), None, r"shape \[..., N, K\].*got \[3\]"),
        (np.ones((1, 2)), None, r"N >= 2 samples.*got \[1, 2\]"),
        (np.ones((4, 2)), np.ones(3), r"preferences must have shape.*got \[3\]"),
    ],
)
def test_advantages_that_cannot_be_decoupled_are_refused(
    advantages, preferences, message
):
    with pytest.raises(ValueError, match=message):
        decoupled_advantages(advantages, preferences)
