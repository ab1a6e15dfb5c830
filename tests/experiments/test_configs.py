"""Every config of a suite is one that the pipeline takes."""

import importlib.util
from pathlib import Path

import pytest

from pgx_jax.configs import config_names, find_config, paper
from pgx_jax.envs import SUITES
from pgx_jax.pipeline.checks import find_problems
from pgx_jax.pipeline.config import PipelineConfig

# Configs of other scripts than the pipeline's.
OTHERS = sorted(
    path
    for folder in ("benchmarks", "experiments")
    for path in (Path(__file__).parents[2] / folder / "configs").glob("*.py")
)


def load(path):
    spec = importlib.util.spec_from_file_location("config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config().to_dict()


@pytest.mark.parametrize("name", sorted({*config_names()} - {"paper"}))
def test_config_is_of_its_suite(name):
    config = PipelineConfig.from_dict(load(find_config(name)))
    assert config.suite.name == name
    assert bool(config.adaptation.num_updates) == ("target" in SUITES[name])


@pytest.mark.parametrize("suite", paper.SUITES)
def test_the_papers_setting_is_one_config_of_each_of_its_suites(suite):
    config, problems = find_problems(paper.get_config(suite).to_dict())
    assert not problems
    assert config.suite.name == suite
    adapts = suite != "metaworld_mt10"
    assert config.group_training.learner == ("maml" if adapts else "ppo")
    assert config.network.name == ("mlp" if adapts else "soft_modularization")
    assert config.adaptation.num_updates == (200 if adapts else 0)
    assert find_config(f"paper:{suite}").endswith(f"paper.py:{suite}")
    with pytest.raises(ValueError, match="must be one of metaworld_mt10.*'hopper'"):
        paper.get_config("hopper")


@pytest.mark.parametrize("path", OTHERS, ids=lambda x: x.stem)
def test_configs_of_other_experiments_are_of_known_suites(path):
    values = load(path)
    if "tables" in values:
        configs = {table["config"] for table in values["tables"].values()}
        assert configs <= set(config_names())
    else:
        assert set(values["suites"]) <= set(SUITES)


def test_every_suite_of_several_tasks_has_a_config():
    several = {name for name in SUITES if SUITES[name]["source"]().num_tasks > 1}
    assert several - set(config_names()) == {"cartpole_planted_4"}


def test_a_config_is_found_by_name_or_by_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("")
    assert find_config(str(path)) == str(path)
    assert find_config(f"{path}:argument") == f"{path}:argument"
    assert Path(find_config("cartpole")).is_file()
    with pytest.raises(ValueError, match="one of ant_direction.*got 'cartpol'"):
        find_config("cartpol")
