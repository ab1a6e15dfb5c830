"""The policies that a workdir holds, by method and stage."""

import shutil

import jax
import numpy as np
import pytest

from pgx_jax import rendering
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.runs.digests import Damaged
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.ppo import TrainingState
from pgx_jax.training.running_statistics import RunningStatistics


def training_state(policy_ids, first=0.0):
    """A state whose policies differ by their numbers, from the first one on."""
    number = first + np.arange(max(policy_ids) + 1, dtype=np.float32)
    return TrainingState(
        params={"policy": {"number": number}, "value": {"number": -number}},
        optimizer_state=(number,),
        observation_statistics=RunningStatistics(
            number, number[:, None] * np.ones(4), number[:, None] * np.ones(4)
        ),
        value_statistics=RunningStatistics.create(len(policy_ids)),
        policy_ids=np.asarray(policy_ids, np.int32),
        suite_state=None,
        key=jax.random.key(0),
        num_updates=np.int32(2),
    )


@pytest.fixture
def workdir(tmp_path):
    """One whose meta-training is under way."""
    config = PipelineConfig.from_dict({"grouping": {"num_random_draws": 0}})
    directory = Workdir(tmp_path / "run", config.to_dict())
    checkpoints = directory.training_checkpoints("meta_training")
    checkpoints.save(2, training_state([0] * 10), {"seconds": 1.0})
    return directory


def begin_groups(directory):
    """The groups are known: those with the estimate train in a stage of their own."""
    halves, pairs = np.repeat([0, 1], 5).tolist(), np.tile([2, 3], 5).tolist()
    first, second = "group_training", "group_training_9_updates"
    directory.write_policies(
        {
            "estimated groups": {"stage": first, "policy_ids": [halves]},
            "one policy": {"stage": second, "policy_ids": [[0] * 10]},
            "random groups": {"stage": second, "policy_ids": [[1] * 10, [2] * 10]},
            "gradient similarity": {"stage": first, "policy_ids": [pairs]},
        }
    )


def finish_groups(directory):
    """Policies of the second stage have numbers from 100 on."""
    directory.finish("group_training", training_state([0, 1, 2, 3]), {})
    directory.finish(
        "group_training_9_updates", training_state([0, 1, 2], first=100.0), {}
    )


def test_policies_come_from_the_newest_stage(workdir):
    suite, policies = rendering.restore_policies(workdir.path)
    assert (suite.name, policies.params["number"].shape) == ("cartpole_planted", (1,))
    np.testing.assert_array_equal(policies.policy_ids, 0)

    begin_groups(workdir)
    finish_groups(workdir)
    for method, ids, numbers in (
        ("estimated groups", np.repeat([0, 1], 5), np.arange(4)),
        ("one policy", np.zeros(10), 100 + np.arange(3)),
        ("random groups", np.ones(10), 100 + np.arange(3)),  # the first draw
        ("gradient similarity", np.tile([2, 3], 5), np.arange(4)),
    ):
        _, policies = rendering.restore_policies(workdir.path, method=method)
        np.testing.assert_array_equal(policies.policy_ids, ids)
        np.testing.assert_array_equal(policies.params["number"], numbers)
        mean = policies.observation_statistics.mean
        np.testing.assert_array_equal(mean[2], np.full(4, numbers[2]))
    _, policies = rendering.restore_policies(workdir.path, "meta_training")
    assert policies.params["number"].shape == (1,)


def test_reading_policies_writes_nothing(workdir):
    def look():
        return {path: path.stat().st_mtime_ns for path in workdir.path.rglob("*")}

    before = look()
    rendering.restore_policies(workdir.path)
    assert look() == before
    begin_groups(workdir)
    finish_groups(workdir)
    before = look()
    rendering.restore_policies(workdir.path, method="one policy")
    assert look() == before


def test_no_earlier_policies_take_the_place_of_those_deleted(workdir):
    begin_groups(workdir)
    finish_groups(workdir)
    workdir.finish("evaluation", {"source": np.ones(1)}, {})
    workdir.finish("meta_training", training_state([0] * 10), {})
    shutil.rmtree(workdir.path / "stages" / "group_training")
    with pytest.raises(Damaged, match="stages/group_training is missing, though"):
        rendering.restore_policies(workdir.path)


def test_what_a_workdir_lacks_is_reported(tmp_path, workdir):
    with pytest.raises(ValueError, match="holds no run"):
        rendering.restore_policies(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    empty = Workdir(tmp_path / "empty", PipelineConfig().to_dict())
    with pytest.raises(ValueError, match="has no checkpoint yet$"):
        rendering.restore_policies(empty.path)
    with pytest.raises(ValueError, match="of group_training; it has .* meta_training"):
        rendering.restore_policies(workdir.path, "group_training")
    with pytest.raises(ValueError, match="stage must be one of group_training"):
        rendering.restore_policies(workdir.path, "evaluation")
    workdir.finish("group_training", training_state([0, 1, 2, 3]), {})
    with pytest.raises(ValueError, match="lacks policies.json"):
        rendering.restore_policies(workdir.path)
    begin_groups(workdir)
    with pytest.raises(ValueError, match="no checkpoint of 'one policy' yet"):
        rendering.restore_policies(workdir.path, method="one policy")
    with pytest.raises(ValueError, match="one of estimated groups, one policy"):
        rendering.restore_policies(workdir.path, method="mine")


def test_nothing_is_written_to_a_workdir_that_is_read(workdir):
    def snapshot():
        paths = sorted([workdir.path, *workdir.path.rglob("*")])
        return [(path, path.stat().st_mtime_ns) for path in paths]

    for step in (begin_groups, finish_groups):
        before = snapshot()
        rendering.restore_policies(workdir.path)
        assert snapshot() == before
        step(workdir)
