"""Rollouts of adapted policies, against the evaluation of each by itself."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.envs import TaskIdSuite, TaskSuite
from pgx_jax.evaluation.rollouts import RolloutEvaluator
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.running_statistics import RunningStatistics

NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(4,))
STATISTICS = RunningStatistics.create(1, (5,))
KEY = jax.random.key(2)
SUBSETS = np.array(
    [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1]]
)
PARAMS = NETWORKS.init(jax.random.key(0))["policy"]


@dataclasses.dataclass(frozen=True)
class Ungathered:
    """A suite whose tasks cannot be chosen by a traced index."""

    suite: object

    def __getattr__(self, name):
        return getattr(self.suite, name)

    def step_tasks(self, tasks, state, action):
        return TaskSuite.step_tasks(self, tasks, state, action)


jax.tree_util.register_dataclass(Ungathered, data_fields=["suite"], meta_fields=[])


def make_batch():
    rng = np.random.default_rng(0)
    observation = np.eye(5, dtype=np.float32)[rng.integers(0, 5, (4, 40))]
    action = rng.integers(0, 2, (4, 40))
    arm = np.array([0, 0, 1, 1])[:, None]
    advantage = np.where(action == arm, 1.0, -1.0).astype(np.float32)
    return pge.Transitions(observation, action, advantage)


def estimate(evaluator, **settings):
    settings = {"key": KEY, "dim": 12, "max_relative_distance": 0.5, **settings}
    return pge.estimate_subsets(
        NETWORKS.log_prob,
        PARAMS,
        make_batch(),
        SUBSETS,
        evaluator=evaluator,
        **settings,
    )


def episodes_by_hand(suite, num_episodes, metric):
    """Each adapted policy played on all tasks, one after another; [m, n, episodes]."""
    seen = {}

    def spy(adapted):
        jax.debug.callback(
            lambda **x: seen.update(jax.tree.map(np.asarray, x)),
            params=adapted.adapt(adapted.delta),
            key=jax.random.key_data(adapted.key),
        )
        return jnp.zeros(adapted.subsets.shape)

    estimate(spy)
    jax.effects_barrier()
    key = jax.random.wrap_key_data(jnp.asarray(seen["key"]))
    results = [
        evaluate(
            suite,
            NETWORKS,
            jax.tree.map(lambda x, s=s: x[s : s + 1], seen["params"]),
            STATISTICS,
            np.zeros(4, int),
            key,
            num_episodes,
            deterministic=False,
        )
        for s in range(len(SUBSETS))
    ]
    return np.stack([getattr(x, metric) for x in results])


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("kind", ["gathered", "ungathered"])
def test_scores_are_the_mean_returns_of_the_members(clock_suite, kind, block_size):
    suite = clock_suite([0, 0, 1, 1], [99, 99, 3, 99])
    wrapped = Ungathered(suite) if kind == "ungathered" else suite
    evaluator = RolloutEvaluator(
        wrapped, NETWORKS, STATISTICS, num_episodes=16, block_size=block_size
    )
    estimates = estimate(evaluator)
    returns = episodes_by_hand(suite, 16, "episode_return")
    member = SUBSETS.astype(bool)
    np.testing.assert_allclose(
        estimates.scores, np.where(member, returns.mean(axis=2), 0.0), rtol=1e-5
    )
    np.testing.assert_allclose(
        estimates.standard_error,
        np.where(member, returns.std(axis=2, ddof=1) / 4, 0.0),
        rtol=1e-4,
    )
    np.testing.assert_array_equal(estimates.effective_sample_size, 16.0 * SUBSETS)
    # They differ, so that the above can tell policies and tasks apart.
    assert np.ptp(np.asarray(estimates.scores)[member]) > 0.3


@pytest.mark.parametrize("wrap", [lambda suite: suite, Ungathered])
def test_some_tasks_step_as_they_do_among_all(clock_suite, wrap):
    suite = clock_suite([0, 1, 1], [99, 99, 2])
    with_id = TaskIdSuite.create(wrap(suite))
    state = with_id.reset(KEY, 4)
    action = jnp.array([[0, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0]])
    every = with_id.step(state, action)._replace(key=None)
    tasks = jnp.array([2, 0])
    chosen = jax.tree.map(lambda x: x[tasks], (state, action))
    some = jax.jit(TaskIdSuite.step_tasks)(with_id, tasks, *chosen)
    some = some._replace(key=None)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[tasks], y), every, some)
    np.testing.assert_array_equal(some.observation[:, 0, -3:], [[0, 0, 1], [1, 0, 0]])


def test_a_quantile_and_the_success_rate(clock_suite):
    suite = clock_suite([0, 0, 1, 1], [99, 99, 3, 99])
    quantile = RolloutEvaluator(
        suite, NETWORKS, STATISTICS, num_episodes=16, quantile=0.25
    )
    returns = episodes_by_hand(suite, 16, "episode_return")
    expected = np.where(SUBSETS, np.quantile(returns, 0.25, axis=2), 0.0)
    np.testing.assert_allclose(estimate(quantile).scores, expected, rtol=1e-5)
    success = RolloutEvaluator(
        suite, NETWORKS, STATISTICS, num_episodes=16, metric="success"
    )
    returns = episodes_by_hand(suite, 16, "episode_success")
    expected = np.where(SUBSETS, returns.mean(axis=2), 0.0)
    np.testing.assert_allclose(estimate(success).scores, expected, rtol=1e-5)


def test_it_goes_as_far_as_it_asks_unless_told(clock_suite):
    suite = clock_suite([0, 0, 1, 1], [99] * 4)
    evaluator = RolloutEvaluator(
        suite, NETWORKS, STATISTICS, num_episodes=2, max_relative_distance=0.03
    )
    own = estimate(evaluator, max_relative_distance="auto")
    np.testing.assert_allclose(own.relative_distance.max(), 0.03, rtol=1e-4)
    told = estimate(evaluator, max_relative_distance=0.02)
    np.testing.assert_allclose(told.relative_distance.max(), 0.02, rtol=1e-4)


@pytest.mark.parametrize(
    "field, value",
    [("metric", "gold"), ("num_episodes", 1), ("quantile", 1.0), ("block_size", 0)],
)
def test_bad_settings_are_refused(clock_suite, field, value):
    suite = clock_suite([0], [99])
    with pytest.raises(ValueError, match=field):
        RolloutEvaluator(suite, NETWORKS, STATISTICS, **{field: value})


def test_a_suite_of_other_tasks_is_refused(clock_suite):
    evaluator = RolloutEvaluator(clock_suite([0, 1], [99, 99]), NETWORKS, STATISTICS)
    with pytest.raises(ValueError, match="has 2 tasks, the transitions 4"):
        estimate(evaluator)
