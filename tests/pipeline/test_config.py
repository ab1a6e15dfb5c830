"""Settings are checked before any work starts."""

import pytest

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
        ({"sed": 1}, "no field 'sed'.*seed"),
        ({"ppo": {"lr": 1e-3}}, "no field 'ppo.lr'.*learning_rate"),
        ({"ppo": 3}, "'ppo' must be a dict"),
        ({"seed": "one"}, "'seed' must be int"),
        ({"seed": True}, "'seed' must be int"),
        ({"network": {"hidden_sizes": [8, "wide"]}}, "'network.hidden_sizes'"),
        ({"ppo": {"num_minibatches": 3}}, "ppo.num_minibatches must divide"),
        ({"group_training": {"start": "cold"}}, "group_training.start must be"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PipelineConfig.from_dict(values)
