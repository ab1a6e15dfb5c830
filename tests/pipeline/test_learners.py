"""Every learner as the trainer of the meta-policy and inside of groups."""

import numpy as np
import pytest
from small_run import SMALL, without_clock

from pgx_jax.envs import SUITES
from pgx_jax.pipeline.checks import find_problems
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.pipeline.seeds import run_seeds
from pgx_jax.reporting.page import write_report
from pgx_jax.training.learners import LEARNERS

# A race of two tasks, then two unseen ones.
CHANGES = {
    "suite": {"name": "clocks"},
    "checkpoint_every": 1,
    "meta_training": {"num_updates": 2},
    "estimation": {"num_transitions": 64, "dim": 8, "num_resamples": 0}
    | {"num_subsets": 1, "subset_size": 2},
    "grouping": {"num_random_draws": 0, "num_candidates": 1, "num_race_episodes": 2},
    "group_training": {"num_updates": 1},
    "adaptation": {"num_updates": 2, "num_selection_episodes": 2},
}


class Stopped(Exception):
    """The run was stopped."""


@pytest.fixture(autouse=True)
def clocks(clock_suite, monkeypatch):
    suites = {
        "source": lambda: clock_suite([0, 1], [4, 4]),
        "target": lambda: clock_suite([1, 0, 1], [4, 4, 4]),
    }
    monkeypatch.setitem(SUITES, "clocks", suites)


def config_of(learner, adapter="policy_gradient", **changes):
    config = SMALL | CHANGES | changes
    for stage, name in (
        ("meta_training", learner),
        ("group_training", learner),
        ("adaptation", adapter),
    ):
        config[stage] = config[stage] | {"learner": name}
    return config


@pytest.mark.reliability
@pytest.mark.parametrize("learner", LEARNERS[1:])
def test_a_run_goes_on_exactly_where_it_was_stopped(learner, tmp_path):
    config = PipelineConfig.from_dict(config_of(learner))
    results = run_pipeline(config, tmp_path / "whole", tensorboard=False)
    curves = results.adaptation_curves
    assert list(curves) == [x["name"] for x in results.methods]
    for curve in curves.values():
        assert np.shape(curve["returns"]) == (len(curve["steps"]), 3)
        assert np.isfinite(curve["returns"]).all()
        assert curve["steps"][:2] == [64, 128]
    if learner == "reptile":
        page = write_report(results, tmp_path / "whole").read_text()
        assert "Return during adaptation." in page

    workdir = tmp_path / "stopped"
    for where in (("meta_training", 128), ("race_training", 64)):

        def stop(stage, step, metrics, where=where):
            if (stage, step) == where:
                raise Stopped

        with pytest.raises(Stopped):
            run_pipeline(config, workdir, tensorboard=False, callback=stop)
    resumed = run_pipeline(config, workdir, tensorboard=False)
    assert without_clock(resumed) == without_clock(results)


def test_meta_learners_of_several_seeds_train_side_by_side(tmp_path):
    config = config_of("maml")
    config["adaptation"] = {"num_updates": 0}
    one, other = run_seeds(
        PipelineConfig.from_dict(config), [0, 1], tmp_path / "runs", tensorboard=False
    )
    for stage, curve in one.learning_curves.items():
        assert np.isfinite(curve["returns"]).all()
        assert curve["returns"] != other.learning_curves[stage]["returns"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"group_training": {"learner": "reptil"}},
            "group_training.learner must be one of ppo, maml.*did you mean",
        ),
        (
            {"adaptation": {"learner": "maml"}},
            "adaptation.learner must be one of ppo, policy_gradient",
        ),
        (
            {"group_training": {"learner": "maml"}, "inner": {"num_steps": 2}},
            r"ppo.num_envs must be a multiple of inner.num_steps \+ 1 = 3.*got 4",
        ),
        (
            {
                "ppo": SMALL["ppo"] | {"return_weights": {"name": "concave"}},
                "group_training": {"learner": "reptile"},
            },
            "group_training.learner must be 'ppo' where tasks are weighted",
        ),
        (
            {
                "ppo": SMALL["ppo"] | {"gradients": {"method": "pcgrad"}},
                "adaptation": {"num_updates": 2, "learner": "policy_gradient"},
            },
            "adaptation.learner must be 'ppo' where gradients of tasks are combined",
        ),
        (
            {"adaptation": {"learner": "policy_gradient"}},
            "adaptation.learner must be 'ppo' where num_updates is 0, without use",
        ),
        (
            {"inner": {"num_steps": 2}, "meta_training": {"learner": "reptile"}},
            "inner.num_steps must be 1 where no learner is maml or first_order_maml",
        ),
        ({"inner": {"learning_rate": 0.0}}, "inner.learning_rate must be positive"),
    ],
)
def test_learners_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PipelineConfig.from_dict(SMALL | CHANGES | changes)
    assert len(find_problems(SMALL | CHANGES | changes)[1]) == 1
