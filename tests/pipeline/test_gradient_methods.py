"""Whole runs with every gradient method, interrupted and resumed."""

import json

import numpy as np
import pytest
from small_run import SMALL

from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.runs.metrics import read_metrics
from pgx_jax.training.ppo_config import GRADIENT_METHODS

SMALLEST = SMALL | {
    "checkpoint_every": 1,
    "meta_training": {"num_updates": 2},
    "group_training": {"num_updates": 2},
    "grouping": {"method": "clustering", "num_random_draws": 1, "num_groups": 2},
}


class Stop(Exception):
    """Raised in the middle of a run."""


def numbers(results):
    values = dict(vars(results))
    for name in ("timings", "resumed", "command", "commit"):
        del values[name]
    return json.dumps(values)


# One of them always, with a key and a count in its state; all take minutes.
METHODS = [
    pytest.param(name, marks=[] if name == "pcgrad" else pytest.mark.reliability)
    for name in GRADIENT_METHODS
    if name != "mean"
]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(method, tmp_path):
    ppo = SMALL["ppo"] | {"gradients": {"method": method}}
    config = PipelineConfig.from_dict(SMALLEST | {"ppo": ppo})
    whole = run_pipeline(config, tmp_path / "whole", tensorboard=False)
    seen = []

    def stop(stage, step, metrics):
        seen.append(stage)
        if seen.count("meta_training") == 2 or seen.count("group_training") == 2:
            raise Stop

    for _ in range(2):  # once in each training
        seen.clear()
        with pytest.raises(Stop):
            run_pipeline(config, tmp_path / "part", tensorboard=False, callback=stop)
    resumed = run_pipeline(config, tmp_path / "part", tensorboard=False)
    assert numbers(resumed) == numbers(whole)
    lines = read_metrics(tmp_path / "whole")
    assert lines == read_metrics(tmp_path / "part")
    for line in lines:
        if line["stage"] == "meta_training":
            assert np.shape(line["gradient_weight"]) == (10,)
            assert -1 <= line["gradient_cosine"] <= 1
            assert 0 <= line["gradient_conflicts"] <= 1
