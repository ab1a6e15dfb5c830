"""Objectives of one task as the tasks of an estimate: sums, and rollouts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandit import PAYS, make_bandit

import pgx_jax as pge
from pgx_jax.envs import ObjectiveTasks, PreferenceSuite
from pgx_jax.estimation.sums import accumulate
from pgx_jax.evaluation.oracle import Oracle
from pgx_jax.evaluation.rollouts import RolloutEvaluator
from pgx_jax.evaluation.transition_sums import collect_sums
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO, PPOConfig

CONFIG = PPOConfig(num_envs=4, unroll_length=6, num_minibatches=2, num_epochs=1)
NETWORKS = make_actor_critic(1, 3, discrete=True, hidden_sizes=(4,), num_objectives=2)
SUITE = make_bandit()
SUBSETS = np.array([[1, 0], [0, 1], [1, 1]])


@pytest.fixture(scope="module")
def trained():
    ppo = PPO(CONFIG, NETWORKS, 2)
    state, _ = ppo.run(SUITE, ppo.init(SUITE, jax.random.key(1)), 2)
    return ppo, state, jax.tree.map(lambda x: x[0], state.params["policy"])


def test_sums_of_a_stream_are_those_of_each_objective_by_itself(trained):
    ppo, state, policy = trained
    key, projection = jax.random.key(2), pge.GaussianProjection(5)
    batch = ppo.collect_transitions(SUITE, state, jax.random.split(key, 1)[0], 24)
    _, found = collect_sums(
        ppo, SUITE, state, key, 24, jax.random.key(8), projection, num_parts=2
    )
    assert found.num_tasks == 2
    for k in range(2):
        alone = batch._replace(advantage=batch.advantage[k : k + 1])
        expected = accumulate(
            NETWORKS.log_prob,
            policy,
            alone,
            jax.random.key(8),
            projection,
            num_parts=2,
        )
        for name in found._fields:
            mine = getattr(found, name)
            mine = mine if name == "fingerprint" else mine[:, k : k + 1]
            np.testing.assert_allclose(
                mine, getattr(expected, name), rtol=1e-4, atol=1e-3, err_msg=name
            )


def test_rollouts_play_each_subset_once_for_all_objectives(trained):
    ppo, state, policy = trained
    batch = ppo.collect_transitions(SUITE, state, jax.random.key(3), 64)
    evaluator = RolloutEvaluator(
        SUITE, NETWORKS, state.observation_statistics, num_episodes=50
    )
    seen = {}

    def spy(adapted):
        jax.debug.callback(
            lambda **x: seen.update(jax.tree.map(np.asarray, x)),
            params=adapted.adapt(adapted.delta),
            key=jax.random.key_data(adapted.key),
        )
        return evaluator(adapted)

    found = pge.estimate_subsets(
        NETWORKS.log_prob,
        policy,
        batch,
        SUBSETS,
        key=jax.random.key(4),
        dim=20,
        max_relative_distance=0.5,
        evaluator=spy,
    )
    jax.effects_barrier()
    scores = np.asarray(found.scores)
    for i, subset in enumerate(SUBSETS):
        played = evaluate(
            SUITE,
            NETWORKS,
            jax.tree.map(lambda x, i=i: jnp.asarray(x[i : i + 1]), seen["params"]),
            state.observation_statistics,
            [0],
            jax.random.wrap_key_data(jnp.asarray(seen["key"])),
            50,
            deterministic=False,
            row_ids=jnp.zeros((1,), jnp.int32),
        )
        expected = np.asarray(played.episode_return[0]).mean(axis=0) * subset
        np.testing.assert_allclose(scores[i], expected, rtol=1e-5)


def test_what_rollouts_of_objectives_cannot_score_is_refused(trained):
    ppo, state, _ = trained
    two = PreferenceSuite.create(SUITE, np.ones((2, 2)))
    statistics = state.observation_statistics
    with pytest.raises(ValueError, match="suite must have one task.*got 2"):
        RolloutEvaluator(two, NETWORKS, statistics)
    with pytest.raises(ValueError, match="metric must be 'return' where rewards are"):
        RolloutEvaluator(SUITE, NETWORKS, statistics, metric="success")
    with pytest.raises(ValueError, match="suite must be ObjectiveTasks.create"):
        Oracle(ppo).run(SUITE, state, SUBSETS[:, :1], jax.random.key(0))
    tasks = ObjectiveTasks.create(SUITE)
    with pytest.raises(ValueError, match="score must be 'return' where rewards are"):
        Oracle(ppo, score="success").run(tasks, state, SUBSETS, jax.random.key(0))
    with pytest.raises(ValueError, match="take suite.distinct"):
        ppo.collect_transitions(tasks, ppo.init(tasks, jax.random.key(0)), 1, 4)
    with pytest.raises(ValueError, match="must have one task.*got 2 tasks and 2 obj"):
        ObjectiveTasks.create(two)


def test_the_oracle_trains_a_policy_on_the_objectives_of_each_subset():
    tasks = ObjectiveTasks.create(SUITE)
    config = dataclasses.replace(
        CONFIG, learning_rate=0.1, anneal_learning_rate=False, num_epochs=4
    )
    ppo = PPO(config, NETWORKS, 20)
    meta = ppo.init(tasks, jax.random.key(0))
    alone = SUBSETS[:2]
    run = Oracle(ppo, num_episodes=2).run(tasks, meta, alone, jax.random.key(1))
    np.testing.assert_allclose(run.result.scores, PAYS[:2])
    assert run.env_steps == 2 * 20 * 24
