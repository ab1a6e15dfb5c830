"""Settings are checked before any work starts."""

import pytest

from pgx_jax.configs.defaults import suite_defaults
from pgx_jax.pipeline.config import PipelineConfig


def test_round_trip():
    config = PipelineConfig.from_dict(
        {"seed": 3, "network": {"hidden_sizes": [8, 16]}, "ppo": {"learning_rate": 1}}
    )
    assert config.network.hidden_sizes == (8, 16)
    assert config.ppo.learning_rate == 1.0
    assert PipelineConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "field sed does not exist .did you mean seed"),
        ({"ppo": {"lr": 1e-3}}, "field ppo.lr does not exist.*learning_rate"),
        ({"ppo": 3}, "ppo must be a dict"),
        ({"seed": "one"}, "seed must be int"),
        ({"seed": True}, "seed must be int"),
        (
            {"network": {"hidden_sizes": [8, "wide"]}},
            "network.hidden_sizes must be tuple",
        ),
        ({"ppo": {"num_minibatches": 3}}, "ppo.num_minibatches must divide"),
        ({"group_training": {"start": "cold"}}, "group_training.start must be one of"),
        (
            {"group_training": {"num_updates": 0}},
            "group_training.num_updates.* least 1",
        ),
        ({"meta_training": {"num_updates": 0}}, "meta_training.num_updates.* least 1"),
        ({"estimation": {"dim": 0}}, "estimation.dim must be at least 1"),
        ({"estimation": {"l2": 0.0}}, "estimation.l2 must be positive"),
        ({"estimation": {"l2": float("nan")}}, "estimation.l2 must be positive"),
        ({"estimation": {"held_out_fraction": 1.0}}, "held_out_fraction must be in"),
        ({"estimation": {"max_relative_distance": 0.0}}, "must be positive"),
        ({"estimation": {"num_transitions": 0}}, "num_transitions must be at least 1"),
        ({"estimation": {"num_rollouts": 1}}, "num_rollouts must be at least 2"),
        ({"estimation": {"resample_length": 0}}, "resample_length must be at least 1"),
        ({"estimation": {"score": "best"}}, "estimation.score must be one of"),
        ({"grouping": {"num_groups": 0}}, "grouping.num_groups must be at least 1"),
        ({"grouping": {"num_random_draws": -1}}, "num_random_draws must be at least 0"),
        ({"evaluation": {"num_episodes": 0}}, "num_episodes must be at least 1"),
        ({"evaluation": {"scalarization": ""}}, "scalarization must be one of"),
        ({"adaptation": {"num_selection_episodes": 0}}, "num_selection_episodes"),
        ({"network": {"activation": "sine"}}, "network.activation must be one of"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PipelineConfig.from_dict(values)


def test_none_means_choose_and_keeps_its_type_on_the_command_line():
    config = suite_defaults("cartpole")
    assert config.grouping.num_groups is None
    assert PipelineConfig.from_dict(config.to_dict()).grouping.num_groups is None
    config.grouping.num_groups = 3
    config.estimation.regression = "logistic"
    config.estimation.max_relative_distance = 0.05
    with pytest.raises(TypeError):
        config.grouping.num_groups = "three"
    settings = PipelineConfig.from_dict(config.to_dict())
    assert settings.grouping.num_groups == 3
    assert settings.estimation.max_relative_distance == 0.05
    limited = PipelineConfig.from_dict(
        {"estimation": {"regression": "logistic", "max_relative_distance": 1}}
    )
    assert limited.estimation.max_relative_distance == 1.0
