"""Candidate groups that are trained, and what the best of their partitions is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import SUITES, ActionSpace, from_functions
from pgx_jax.pipeline import load_policies, route
from pgx_jax.pipeline.checks import stage_key
from pgx_jax.pipeline.config import GroupingConfig, PipelineConfig
from pgx_jax.pipeline.methods import Groupings, Method, locate_policies
from pgx_jax.pipeline.race import (
    Race,
    choose_raced_groups,
    join_policies,
    list_groups,
    measure_gains,
    predict_similarity,
)
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.pipeline.stages import Policies, count_group_updates
from pgx_jax.reporting.page import write_report
from pgx_jax.reporting.summary import summary_table
from pgx_jax.runs.metrics import read_metrics
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.running_statistics import RunningStatistics

NUM_TASKS = 4
SETTINGS = {
    "suite": {"name": "arms"},
    "network": {"hidden_sizes": [4]},
    "ppo": {
        "num_envs": 4,
        "unroll_length": 10,
        "num_epochs": 4,
        "num_minibatches": 1,
        "learning_rate": 0.05,
    },
    "meta_training": {"num_updates": 1},
    "estimation": {
        "regression": "least_squares",
        "num_transitions": 80,
        "num_subsets": 6,
        "subset_size": 2,
        "dim": 8,
        "num_resamples": 2,
    },
    "grouping": {
        "method": "race",
        "num_candidates": 2,
        "num_race_episodes": 4,
        "num_random_draws": 1,
    },
    "group_training": {"num_updates": 12, "match_race": True},
    "evaluation": {"num_episodes": 4},
}


def arms_suite():
    """Pays for arm 0 in two tasks and for arm 1 in two, five pulls an episode."""

    def step(arm, state, action, key):
        return state, jnp.zeros(1), (action == arm).astype(jnp.float32), False

    return from_functions(
        lambda arm, key: (arm, jnp.zeros(1)),
        step,
        jnp.array([0, 0, 1, 1]),
        action_space=ActionSpace(2, discrete=True),
        episode_length=5,
    )


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """A whole run: config, workdir and results."""
    workdir = tmp_path_factory.mktemp("race")
    config = PipelineConfig.from_dict(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "arms", {"source": arms_suite})
        yield config, workdir, run_pipeline(config, workdir, tensorboard=False)


def test_the_best_groups_are_found_and_their_policies_kept(raced):
    _, workdir, results = raced
    assert results.groups["estimated"] == [0, 0, 1, 1]
    assert np.mean(results.methods[0]["source"]) == 5.0
    policies = load_policies(workdir)
    assert policies.labels.tolist() == [0, 0, 1, 1]
    found = route(policies, arms_suite(), jax.random.key(0), 2)
    np.testing.assert_array_equal(found.returns, [[5, 5, 0, 0], [0, 0, 5, 5]])
    stored = Workdir.open(workdir).read_policies()
    assert stored["estimated groups"]["stage"] == "race_training"
    assert stored["one policy"]["stage"] == "group_training"
    one = load_policies(workdir, "one policy")
    played = route(one, arms_suite(), stage_key(0, "evaluation"), 4)
    reported = np.mean(results.methods[1]["source"][0], axis=-1)
    np.testing.assert_allclose(played.returns[0], reported)


def test_all_methods_take_as_many_steps_as_the_race(raced):
    """To within an update and a half: both shares are rounded up."""
    config, _, results = raced
    total = {m["name"]: sum(m["env_steps"].values()) for m in results.methods}
    ours = total["estimated groups"]
    update = config.ppo.steps_per_update * NUM_TASKS
    for name, steps in total.items():
        assert 0 <= steps - ours < 2 * update, name
    race = results.methods[0]["env_steps"]["race"]
    # Rows of one policy, single tasks and two candidates, less groups that are alike,
    # of 12 updates, and four episodes of five steps of each row.
    rows = race // (12 * config.ppo.steps_per_update + 4 * 5)
    assert race == rows * (12 * config.ppo.steps_per_update + 4 * 5)
    assert 2 * NUM_TASKS < rows <= 4 * NUM_TASKS


def test_the_report_begins_with_the_verdict(raced, tmp_path):
    _, _, results = raced
    gains = {gain["num_groups"]: gain for gain in results.gains}
    assert {1, 2, 4} <= gains.keys()
    assert gains[2]["labels"] == [0, 0, 1, 1] and gains[2]["measured"] == 5.0
    assert gains[1]["over_one_policy"]["mean"] == 0.0
    assert gains[2]["over_one_policy"]["mean"] > 0
    described = results.methods[0]["description"]
    assert described.endswith("best partition by the returns of a race.")
    first = summary_table(results).splitlines()[0]
    verdict = gains[2]["over_one_policy"]["verdict"]
    assert first.startswith({"pays": "Groups pay", "cannot tell": "The data"}[verdict])
    page = write_report(results, tmp_path).read_text()
    assert first.split(":")[0] in page
    assert (tmp_path / "figures" / "gains.png").exists()


def test_learning_curves_are_of_the_groups_chosen(raced):
    _, workdir, results = raced
    curve = results.learning_curves["group training"]
    assert np.shape(curve["returns"]) == (12, NUM_TASKS)
    assert np.mean(curve["returns"][-1]) > 4.0  # of 5; one policy has 2.5 at most
    lines = [x for x in read_metrics(workdir) if x["stage"] == "race_training"]
    assert len(lines) == 12


def test_a_finished_race_is_not_repeated(raced, monkeypatch):
    config, workdir, results = raced
    monkeypatch.setattr("pgx_jax.training.ppo.PPO.run", None)
    monkeypatch.setattr("pgx_jax.pipeline.race.evaluate", None)
    again = run_pipeline(config, workdir, tensorboard=False)
    assert again.gains == results.gains
    assert [m["source"] for m in again.methods] == [
        m["source"] for m in results.methods
    ]


SIMILAR = np.array(
    [[1.0, 0.9, 0.1, 0.0], [0.9, 1.0, 0.2, 0.1], [0.1, 0.2, 1.0, 0.8], [0, 0.1, 0.8, 1]]
)


def test_groups_to_train_are_those_of_the_candidates_once_each():
    """Two groups are the pairs; three the pair of 0 and 1 beside single tasks."""
    groups = list_groups(GroupingConfig(method="race", num_candidates=2), SIMILAR)
    sets = [np.flatnonzero(row).tolist() for row in groups]
    assert sets == [[0, 1, 2, 3], [0], [1], [2], [3], [0, 1], [2, 3]]
    settings = GroupingConfig(method="race", num_groups=3, num_candidates=2)
    sets = [np.flatnonzero(row).tolist() for row in list_groups(settings, SIMILAR)]
    assert sets[5:] == [[0, 1], [2, 3]]


def make_race():
    """Seven groups whose policies have their row as parameter."""
    subsets = list_groups(GroupingConfig(method="race", num_candidates=2), SIMILAR)
    number = jnp.arange(7.0)
    rows = jnp.arange(float(subsets.sum()))
    trained = Policies(
        {"policy": {"number": number}},
        RunningStatistics(number, number[:, None], number[:, None]),
        RunningStatistics(rows, rows, rows),
    )
    returns = np.where(subsets, 1.0, np.nan)
    returns[5, :2], returns[6, 2:] = 3.0, 0.5  # {0, 1} helps, {2, 3} harms
    return Race(subsets, trained, returns, env_steps=4000)


def test_groups_that_were_trained_are_combined():
    """The pair that helps beside single tasks, no candidate itself but for k = 3."""
    race = make_race()
    settings = GroupingConfig(method="race", other_num_groups=(2, 4))
    labels = choose_raced_groups(settings, race)
    np.testing.assert_array_equal(labels["estimated"], [0, 0, 1, 2])
    np.testing.assert_array_equal(labels["estimated_2"], [0, 0, 1, 1])
    np.testing.assert_array_equal(labels["estimated_4"], [0, 1, 2, 3])
    gains = measure_gains(race, SIMILAR)
    assert [g["num_groups"] for g in gains] == [1, 2, 3, 4]
    assert [g["measured"] for g in gains] == [1.0, 1.75, 2.0, 1.0]


def test_policies_of_the_race_stand_before_the_others():
    race = make_race()
    methods = [
        Method("ours", "", "ours", np.array([[0, 0, 1, 2]]), True, raced=True),
        Method("one", "", "one", np.array([[0, 0, 0, 0]])),
    ]
    groupings = Groupings.create(methods)
    np.testing.assert_array_equal(groupings.raced, [True, False])
    rest = Policies(
        {"policy": {"number": jnp.array([100.0])}},
        RunningStatistics(*[jnp.full((1, *s), 100.0) for s in ((), (1,), (1,))]),
        RunningStatistics(*[jnp.full(4, 100.0)] * 3),
    )
    joined = join_policies(race, groupings, rest)
    np.testing.assert_array_equal(joined.params["policy"]["number"], [5, 3, 4, 100])
    # Rows of training: four of one policy, four single tasks, and the pairs' four.
    np.testing.assert_array_equal(
        joined.value_statistics.mean, [8, 9, 6, 7, 100, 100, 100, 100]
    )
    places = locate_policies(methods, groupings, race.subsets)
    assert places["ours"] == {"stage": "race_training", "policy_ids": [[5, 5, 3, 4]]}
    assert places["one"] == {"stage": "group_training", "policy_ids": [[0] * 4]}


def test_others_train_for_as_long_as_the_race_took():
    """4,000 steps of four tasks are 25 updates of 40 steps each; 320 more are two."""
    config = PipelineConfig.from_dict(SETTINGS)
    labels = np.array([[0, 0, 1, 1], [0, 0, 0, 0]])
    no = np.zeros(2, bool)
    groupings = Groupings(labels, np.array([True, False]), no, [])
    found = count_group_updates(config, groupings, 320, race_steps=4000)
    np.testing.assert_array_equal(found, [25, 27])
    training = dataclasses.replace(config.group_training, match_race=False)
    config = dataclasses.replace(config, group_training=training)
    found = count_group_updates(config, groupings, 320, race_steps=4000)
    np.testing.assert_array_equal(found, [12, 14])


def test_predictions_are_mean_similarities():
    labels = np.array([[0, 0, 1, 1], [0, 1, 2, 3]])
    # Of pairs (1 + 0.9) / 2 and (1 + 0.8) / 2; of a task with itself 1.
    np.testing.assert_allclose(predict_similarity(SIMILAR, labels), [0.925, 1.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grouping": {"method": "derby"}}, "method must be one of .*race"),
        ({"grouping": {"num_candidates": 0}}, "num_candidates must be at least 1"),
        (
            {
                "grouping": {"method": "race"},
                "estimation": {"max_transitions": 65_536},
            },
            "estimation.max_transitions must be None or num_transitions = 32768",
        ),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PipelineConfig.from_dict(changes)
