"""Every config of a suite is one that the pipeline takes."""

import importlib.util
from pathlib import Path

import pytest

from pgx_jax.config import PipelineConfig
from pgx_jax.envs import SUITES

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
# Those of other experiments.
OTHERS = {"speedup_cartpole", "single_task"}


def load(name):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config().to_dict()


@pytest.mark.parametrize("name", sorted(x.stem for x in CONFIGS.glob("*.py")))
def test_config_is_of_its_suite(name):
    values = load(name)
    if name in OTHERS:
        assert set(values["suites"]) <= set(SUITES)
        return
    config = PipelineConfig.from_dict(values)
    assert config.suite.name == name
    assert bool(config.adaptation.num_updates) == ("target" in SUITES[name])


def test_every_suite_of_several_tasks_has_a_config():
    several = {name for name in SUITES if SUITES[name]["source"]().num_tasks > 1}
    assert several - {x.stem for x in CONFIGS.glob("*.py")} == {"cartpole_planted_4"}
