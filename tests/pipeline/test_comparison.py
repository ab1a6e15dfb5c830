"""That methods are compared fairly: steps, states, sizes and starting points."""

import dataclasses
import io
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.envs import SUITES, ActionSpace, from_functions
from pgx_jax.pipeline.assembly import count_env_steps
from pgx_jax.pipeline.checks import make_networks, stage_key
from pgx_jax.pipeline.config import GroupingConfig, PipelineConfig
from pgx_jax.pipeline.grouping import choose_groups
from pgx_jax.pipeline.methods import Groupings, Method, list_methods
from pgx_jax.pipeline.run import adapt, run_pipeline, train_groups
from pgx_jax.pipeline.runner import Runner, TrainingDiverged
from pgx_jax.pipeline.stages import (
    Adaptation,
    Policies,
    Problem,
    count_group_updates,
    evaluate_groupings,
)
from pgx_jax.runs.metrics import MetricsWriter, read_metrics
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.ppo import PPO

NUM_TASKS, NUM_UPDATES = 6, 2
SETTINGS = {
    "suite": {"name": "arms"},
    "network": {"hidden_sizes": [4]},
    "ppo": {
        "num_envs": 2,
        "unroll_length": 8,
        "num_epochs": 1,
        "num_minibatches": 1,
        "learning_rate": 1e-9,
    },
    "meta_training": {"num_updates": 3},
    # Of 16 steps an update: two and a half updates' worth of transitions.
    "estimation": {
        "regression": "logistic",
        "num_transitions": 40,
        "resample_length": 20,
    },
    "group_training": {"num_updates": NUM_UPDATES},
    "grouping": {"method": "clustering", "num_random_draws": 3},
    "evaluation": {"num_episodes": 3},
    "adaptation": {"num_updates": 1, "num_selection_episodes": 2},
}


def arms_suite(arms):
    """Pays 1 for every pull of a task's arm, five in an episode."""

    def reset(arm, key):
        return arm, jnp.zeros(1)

    def step(arm, state, action, key):
        return state, jnp.zeros(1), (action == arm).astype(jnp.float32), False

    suite = from_functions(
        reset,
        step,
        jnp.array(arms),
        action_space=ActionSpace(2, discrete=True),
        episode_length=5,
    )
    labels = (7, 7, -2, -2, 7, 7)[: len(arms)]
    return dataclasses.replace(suite, planted_labels=labels)


class Run(NamedTuple):
    """A config, and what runs its stages."""

    config: PipelineConfig
    runner: Runner

    def group(self, estimates):
        return choose_groups(
            self.config.grouping,
            self.config.estimation.score,
            estimates,
            stage_key(self.config.seed, "grouping"),
        )


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    monkeypatch.setitem(
        SUITES,
        "arms",
        {
            "source": lambda: arms_suite([0] * NUM_TASKS),
            "target": lambda: arms_suite([1, 0, 1]),
        },
    )

    def make(**changes):
        merged = {name: SETTINGS[name] | change for name, change in changes.items()}
        config = PipelineConfig.from_dict(SETTINGS | merged)
        suite = arms_suite([0] * NUM_TASKS)
        runner = Runner(
            Problem(suite, make_networks(config, suite), config.ppo),
            Workdir(tmp_path, config.to_dict()),
            MetricsWriter(tmp_path, tensorboard=False, task_names=suite.task_names),
            Progress(stream=io.StringIO()),
            config.checkpoint_every,
        )
        return Run(config, runner)

    return make


def meta_policy(run):
    """A policy for all tasks whose value statistics differ by task."""
    ppo = PPO(run.config.ppo, run.runner.problem.actor_critic, 1)
    meta = ppo.init(run.runner.problem.suite, jax.random.key(0))
    mean = 1000.0 * jnp.arange(NUM_TASKS, dtype=jnp.float32)
    return meta._replace(value_statistics=meta.value_statistics._replace(mean=mean))


def method(name, *draws, uses_estimate=False):
    return Method(name, "", name, np.array(draws), uses_estimate)


HALVES, PAIRS = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]


def block_affinity(labels):
    labels = np.array(labels)
    return np.where(labels[:, None] == labels, 1.0, -0.5).astype(np.float32)


def test_each_way_of_grouping_is_of_its_own_matrix(make_run):
    """By the estimate halves, and by gradients even and odd tasks."""
    run = make_run()
    estimates = {
        "affinity": block_affinity(HALVES),
        "pair_counts": np.full((NUM_TASKS, NUM_TASKS), 10),
        "gradient_similarity": block_affinity([0, 1, 0, 1, 0, 1]),
    }
    labels = run.group(estimates)
    np.testing.assert_array_equal(labels["estimated"], HALVES)
    np.testing.assert_array_equal(labels["similarity"], [0, 1, 0, 1, 0, 1])


def test_gradient_similarity_chooses_its_own_number_of_groups(make_run):
    run = make_run()
    noise = np.random.default_rng(0).normal(size=(NUM_TASKS, NUM_TASKS))
    estimates = {
        "affinity": (noise + noise.T).astype(np.float32),
        "pair_counts": np.full((NUM_TASKS, NUM_TASKS), 10),
        "gradient_similarity": block_affinity(HALVES),
    }
    labels = run.group(estimates)
    assert pge.cluster_tasks(estimates["affinity"]).num_groups == 1
    np.testing.assert_array_equal(labels["estimated"], 0)
    np.testing.assert_array_equal(labels["similarity"], HALVES)


def test_random_groups_have_the_sizes_of_the_estimated_ones(make_run):
    run = make_run(grouping={"num_groups": 2, "num_random_draws": 5})
    labels = [0, 1, 1, 1, 1, 1]
    estimates = {
        "affinity": block_affinity(labels),
        "pair_counts": np.full((NUM_TASKS, NUM_TASKS), 10),
        "gradient_similarity": block_affinity(labels),
    }
    draws = run.group(estimates)["random"]
    assert draws.shape == (5, NUM_TASKS)
    for draw in draws:
        assert sorted(np.bincount(draw).tolist()) == [1, 5]
    assert len(np.unique(draws, axis=0)) > 1


def test_transfer_gains_are_held_against_tasks_alone(make_run):
    run = make_run(estimation={"num_transitions": 40, "score": "transfer_gain"})
    harm = -1.0 + np.eye(NUM_TASKS, dtype=np.float32)
    estimates = {
        "affinity": harm,
        "pair_counts": np.full((NUM_TASKS, NUM_TASKS), 10),
        "gradient_similarity": np.eye(NUM_TASKS, dtype=np.float32),
    }
    np.testing.assert_array_equal(run.group(estimates)["estimated"], range(NUM_TASKS))


def test_planted_labels_of_any_names_are_numbered(make_run):
    run = make_run()
    labels = {"estimated": np.array([3, 3, 1, 1, 3, 3]), "similarity": np.zeros(6, int)}
    methods = {
        m.name: m
        for m in list_methods(
            run.config.grouping, labels, np.array([7, 7, -2, -2, 7, 7])
        )
    }
    np.testing.assert_array_equal(methods["planted groups"].draws, [[0, 0, 1, 1, 0, 0]])
    # Two names of one partition are one partition.
    np.testing.assert_array_equal(
        methods["estimated groups"].draws, methods["planted groups"].draws
    )


@pytest.mark.parametrize("method", ["clustering", "partition", "race"])
def test_estimated_groups_are_described_by_how_they_were_found(method):
    labels = {"estimated": np.array(HALVES), "similarity": np.zeros(6, int)}
    first = list_methods(GroupingConfig(method=method), labels, None)[0]
    described = [x in first.description for x in ("affinity", "scores", "race")]
    assert described == [method == x for x in ("clustering", "partition", "race")]


def test_partitions_are_trained_once_for_each_number_of_updates(make_run):
    run = make_run()
    groupings = Groupings.create(
        [
            method("estimated", HALVES, uses_estimate=True),
            method("one", [0] * 6),
            method("random", PAIRS, HALVES, PAIRS),
            method("similarity", HALVES, uses_estimate=True),
        ]
    )
    np.testing.assert_array_equal(groupings.labels, [HALVES, [0] * 6, PAIRS, HALVES])
    np.testing.assert_array_equal(groupings.uses_estimate, [True, False, False, False])
    assert [x.tolist() for x in groupings.of_method] == [[0], [1], [2, 3, 2], [0]]
    # 40 transitions are two and a half updates, which others take three for.
    np.testing.assert_array_equal(
        count_group_updates(run.config, groupings, 6 * 40), [2, 5, 5, 5]
    )


def test_every_row_starts_with_the_value_statistics_of_its_task(make_run):
    run = make_run()
    groupings = Groupings.create(
        [method("ours", HALVES, uses_estimate=True), method("random", PAIRS, [0] * 6)]
    )
    meta = meta_policy(run)
    trained = train_groups(run.config, run.runner, meta, groupings, 6 * 40)
    # Returns are 5 at most: an update moves the mean by 1% of what differs at most.
    expected = np.tile(1000.0 * np.arange(NUM_TASKS), 3)
    np.testing.assert_allclose(trained.value_statistics.mean, expected, atol=300.0)
    assert trained.observation_statistics.mean.shape == (2 + 3 + 1, 1)
    leaves = zip(
        jax.tree.leaves(trained.params), jax.tree.leaves(meta.params), strict=True
    )
    for new, old in leaves:
        np.testing.assert_allclose(new, np.broadcast_to(old, new.shape), atol=1e-6)


def test_groupings_train_each_for_its_own_number_of_updates(make_run):
    """In one stage; returns are logged of the first grouping while it trains."""
    run = make_run()
    groupings = Groupings.create(
        [method("ours", HALVES, uses_estimate=True), method("random", PAIRS, [0] * 6)]
    )
    train_groups(run.config, run.runner, meta_policy(run), groupings, 6 * 40)
    assert run.runner.stages == ["group_training"]
    directory = run.runner.directory
    env_steps = 2 * 16 * 6 + 5 * 16 * 6 * 2
    assert directory.info("group_training")["env_steps"] == env_steps
    stored = directory.result("group_training")
    # Updates of one epoch and one minibatch: gradient steps of every policy.
    counts = [x for x in jax.tree.leaves(stored["optimizer_state"]) if x.dtype == int]
    np.testing.assert_array_equal(counts, [[2] * 2 + [5] * 3 + [5]] * len(counts))
    lines = read_metrics(directory.path)
    assert [line["step"] for line in lines] == [16, 32, 48, 64, 80]
    assert [len(line.get("return", [])) for line in lines] == [6, 6, 0, 0, 0]
    # Of two environments whose episodes take 5 steps, in updates of 8 steps each.
    assert [line["episodes"] for line in lines] == [2, 4, 2, 4, 4]
    assert all(line["entropy"] == pytest.approx(np.log(2), abs=0.2) for line in lines)


def test_divergences_are_shares_of_the_steps_that_a_policy_trains(make_run):
    """Every fifth step of a task that trains for one update of five."""
    run = make_run()

    def step(broken, time, action, key):
        failing = broken & (time % 5 == 4)
        return time + 1, jnp.where(failing, jnp.nan, 1.0)[None], 1.0, False

    suite = from_functions(
        lambda broken, key: (jnp.zeros((), jnp.int32), jnp.zeros(1)),
        step,
        jnp.array([False, True]),
        action_space=ActionSpace(2, discrete=True),
        episode_length=100,
        task_names=["sound", "broken"],
    )
    ppo = PPO(run.config.ppo, run.runner.problem.actor_critic, [5, 1])
    start = ppo.init(suite, jax.random.key(0), [0, 1])
    # In two environments of 8 steps each, one of them fails.
    with pytest.raises(TrainingDiverged, match="12% of the steps of task 'broken'"):
        run.runner.train(
            "broken", ppo, suite, np.arange(2), lambda _: start, np.arange(2)
        )


def trained_policies(run, groupings):
    """Policy p pulls arm p modulo 2, always."""
    meta = meta_policy(run)
    num = groupings.num_policies
    params = jax.tree.map(lambda x: jnp.repeat(0 * x, num, axis=0), meta.params)
    params["policy"]["Dense_1"]["bias"] = 50.0 * jnp.eye(2)[jnp.arange(num) % 2]
    observation = jax.tree.map(
        lambda x: jnp.repeat(x, num, axis=0), meta.observation_statistics
    )
    values = jax.tree.map(
        lambda x: jnp.tile(x, len(groupings.labels)), meta.value_statistics
    )
    return Policies(params, observation, values)


def test_adaptation_starts_from_the_policy_that_is_best_on_the_target(make_run):
    """Targets pay for arms 1, 0 and 1; groupings have two policies, and one."""
    run = make_run()
    groupings = Groupings.create(
        [method("ours", HALVES, uses_estimate=True), method("one", [0] * 6)]
    )
    result = adapt(run.config, run.runner, trained_policies(run, groupings), groupings)
    # The mean over episodes of 5 steps; policy 2, the only one of its grouping, has
    # arm 0, and the rate of learning lets none change.
    np.testing.assert_array_equal(result.returns.mean(axis=-1), [[5, 5, 5], [0, 5, 0]])
    stored = run.runner.directory.result("adaptation_selection")
    np.testing.assert_array_equal(stored["best"], [[1, 0, 1], [2, 2, 2]])
    # Two policies, two episodes of five steps on each of three targets.
    np.testing.assert_array_equal(stored["steps"], [60, 0])
    # 20 steps a target are two updates of 16, which the other one takes more.
    np.testing.assert_array_equal(result.env_steps, [60 + 1 * 16 * 3, 0 + 3 * 16 * 3])


def test_steps_of_a_method_are_all_that_it_took(make_run):
    run = make_run()
    methods = [method("ours", HALVES, uses_estimate=True), method("one", [0] * 6)]
    groupings = Groupings.create(methods)
    run.runner.directory.finish(
        "estimation", {"a": np.ones(1)}, {"env_steps": 240, "seconds": 0.0}
    )
    adaptation = Adaptation(np.zeros((2, 3, 1)), np.array([108, 144]))
    ours, one = (
        count_env_steps(run.config, run.runner, method, groupings, i, 240, adaptation)
        for i, method in enumerate(methods)
    )
    assert ours == {
        "meta_training": 3 * 16 * 6,
        "estimation": 240,
        "group_training": 2 * 16 * 6,
        "adaptation": 108,
    }
    assert one == {
        "meta_training": 3 * 16 * 6,
        "group_training": 5 * 16 * 6,
        "adaptation": 144,
    }
    # Equal to within an update, of which the transitions' share is rounded up.
    assert 0 <= one["group_training"] - ours["group_training"] - 240 < 16 * 6


def test_all_methods_are_evaluated_on_the_same_states(make_run, monkeypatch):
    """Two partitions with the same policies return the same to the last digit."""

    def reset(arm, key):
        drawn = jax.random.uniform(key)
        return drawn, drawn[None]

    def step(arm, state, action, key):
        noise = jax.random.uniform(key)
        reward = state + noise + action.astype(jnp.float32)
        return state, state[None], reward, False

    run = make_run(evaluation={"num_episodes": 3, "deterministic": False})
    suite = from_functions(
        reset,
        step,
        jnp.zeros(NUM_TASKS),
        action_space=ActionSpace(2, discrete=True),
        episode_length=5,
    )
    groupings = Groupings.create(
        [method("ours", HALVES, uses_estimate=True), method("random", PAIRS, [0] * 6)]
    )
    policies = trained_policies(run, groupings)
    same = policies._replace(params=jax.tree.map(lambda x: 0 * x, policies.params))
    values, _ = evaluate_groupings(
        run.runner.problem._replace(suite=suite),
        run.config.evaluation,
        same,
        groupings,
        stage_key(run.config.seed, "evaluation"),
    )
    returns = values["source"]
    assert returns.shape == (3, NUM_TASKS, 3)
    np.testing.assert_array_equal(returns[0], returns[1])
    np.testing.assert_array_equal(returns[0], returns[2])
    assert len(np.unique(returns[0])) == NUM_TASKS * 3


def test_planted_labels_of_another_length_are_refused(tmp_path, monkeypatch):
    suite = arms_suite([0] * NUM_TASKS)
    suite = dataclasses.replace(suite, planted_labels=(0, 1))
    monkeypatch.setitem(SUITES, "arms", {"source": lambda: suite})
    config = PipelineConfig.from_dict(SETTINGS | {"adaptation": {}})
    with pytest.raises(ValueError, match="planted_labels of suite .* 6 labels.*got 2"):
        run_pipeline(config, tmp_path / "run", tensorboard=False)
    assert not (tmp_path / "run").exists()
