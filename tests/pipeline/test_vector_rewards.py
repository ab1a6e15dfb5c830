"""Runs on the objectives of one environment, whose samples they share."""

import jax
import numpy as np
import pytest
from bandit import make_bandit
from small_run import SMALL, without_clock

from pgx_jax.envs import register_suite
from pgx_jax.pipeline.checks import make_checked_suite
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.policies import load_policies, route
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.runs.metrics import read_metrics

# The first arm pays two objectives, the second the other two.
PAYS = np.array([[1, 2, 0, 0], [0, 0, 1, 30], [0.4, 0.8, 0.4, 10]], np.float32)
NAMES = ("a", "b", "c", "d")
BANDIT = make_bandit(PAYS, NAMES)  # one, so that programs are compiled once
SUITE = {"name": "paid_in_vectors"}
SETTINGS = SMALL | {
    "suite": SUITE,
    "ppo": SMALL["ppo"] | {"learning_rate": 0.03, "num_epochs": 4},
    "estimation": {"num_transitions": 64, "dim": 8, "num_subsets": 12},
    "grouping": {
        "num_groups": 2,
        "num_candidates": 2,
        "num_race_episodes": 4,
        "num_random_draws": 1,
    },
    "group_training": {"num_updates": 4},
}
STEPS = 4 * 16  # of a task in an update


class Stop(Exception):
    """Raised in the middle of a run."""


@pytest.fixture(scope="module", autouse=True)
def suites(registry):
    register_suite("paid_in_vectors", source=lambda: BANDIT)
    two = BANDIT.select([0, 0])
    register_suite("two_paid_in_vectors", source=lambda: two)
    register_suite(
        "other_targets",
        source=lambda: BANDIT,
        target=lambda: make_bandit(PAYS, NAMES[::-1]),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    config = PipelineConfig.from_dict(SETTINGS)
    return workdir, run_pipeline(config, workdir, tensorboard=False)


def test_every_step_of_a_group_serves_all_its_objectives(finished):
    workdir, results = finished
    assert results.task_names == list(NAMES)
    ours, one, *_ = results.methods
    assert results.groups["estimated"] == [0, 0, 1, 1]
    np.testing.assert_allclose(np.mean(ours["source"], axis=-1), [[1, 2, 1, 30]])
    assert ours["success"] is None
    steps = {x["stage"]: x["env_steps"] for x in results.timings}
    assert steps["meta training"] == 4 * 4 * STEPS
    assert steps["estimation"] == 64  # collected once for all four
    # Eight policies: of all, of each one alone, of two pairs and of three objectives.
    assert steps["race training"] == (4 + 4 + 2 + 2 + 3) * 4 * STEPS
    assert steps["race evaluation"] == 8 * 4  # episodes of one step each
    assert ours["env_steps"]["meta_training"] == one["env_steps"]["meta_training"]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(finished, tmp_path):
    workdir, whole = finished
    config = PipelineConfig.from_dict(SETTINGS)
    seen = []

    def stop(stage, step, metrics):
        seen.append(stage)
        if seen.count("race_training") == 3:  # one after its checkpoint
            raise Stop

    with pytest.raises(Stop):
        run_pipeline(config, tmp_path, tensorboard=False, callback=stop)
    resumed = run_pipeline(config, tmp_path, tensorboard=False)
    assert without_clock(resumed) == without_clock(whole)
    assert read_metrics(tmp_path) == read_metrics(workdir)


def test_its_policies_are_routed_by_objective(finished):
    policies = load_policies(finished[0])
    assert [policies.group_of(name) for name in NAMES] == [0, 0, 1, 1]
    found = route(policies, BANDIT, jax.random.key(0), 2)
    np.testing.assert_array_equal(found.groups, [0, 0, 1, 1])
    np.testing.assert_allclose(found.returns, PAYS[:2], rtol=1e-6)
    assert found.env_steps == 4  # two episodes of one step, of each policy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"suite": SUITE | {"task_id": True}},
            "suite.task_id must be False of 'functions'",
        ),
        ({"network": {"name": "film"}}, "network.name must be 'mlp' of"),
        ({"meta_training": {"learner": "maml"}}, "meta_training.learner must be 'ppo'"),
        ({"group_training": {"learner": "reptile"}}, "learner must be 'ppo' of"),
        ({"ppo": {"gradients": {"method": "pcgrad"}}}, "method must be 'mean' of"),
        ({"ppo": {"return_weights": {"name": "concave"}}}, "name must be 'none' of"),
        ({"suite": {"name": "two_paid_in_vectors"}}, "must have one task where.*not 2"),
        (
            {"suite": {"name": "other_targets"}, "adaptation": {"num_updates": 1}},
            "num_updates must be 0, since the target tasks .* have other objectives",
        ),
    ],
)
def test_what_shared_samples_do_not_allow_is_refused(changes, message):
    values = SETTINGS | changes
    with pytest.raises(ValueError, match=message):
        make_checked_suite(PipelineConfig.from_dict(values))
