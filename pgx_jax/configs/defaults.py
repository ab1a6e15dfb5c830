"""What configs start from: a `ConfigDict` of the settings.

Its fields are known at run time only, so that a type checker takes it for Any.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from ml_collections import config_dict

from pgx_jax.pipeline.config import (
    EstimationConfig,
    EvaluationConfig,
    NetworkConfig,
    PipelineConfig,
    SuiteConfig,
)
from pgx_jax.settings import field_types
from pgx_jax.training.ppo_config import PPOConfig


def suite_defaults(suite: str) -> Any:
    """The package's defaults for the suite of that name."""
    return to_config_dict(PipelineConfig(suite=SuiteConfig(suite)))


def robot_defaults(suite: str) -> Any:
    """What the robots of `pgx_jax.envs.locomotion` learn with."""
    config = PipelineConfig(
        suite=SuiteConfig(suite),
        network=NetworkConfig(hidden_sizes=(128, 128), activation="swish"),
        ppo=PPOConfig(
            num_envs=32,
            unroll_length=64,
            num_epochs=4,
            num_minibatches=4,
            discount=0.97,
            entropy_cost=1e-3,
        ),
        # Every three of ten tasks.
        estimation=EstimationConfig(num_subsets=120, dim=200),
        evaluation=EvaluationConfig(num_episodes=32),
    )
    return to_config_dict(config)


def metaworld_defaults(suite: str) -> Any:
    """What the tasks of `pgx_jax.envs.metaworld` learn with."""
    config = suite_defaults(suite)
    config.suite.task_id = True
    config.network.bounded_mean = True
    config.ppo.num_epochs = 5
    config.ppo.num_minibatches = 8
    config.ppo.gae_lambda = 0.97
    config.ppo.entropy_cost = 1e-2
    config.ppo.stagger_resets = True
    config.grouping.num_random_draws = 1
    return config


def to_config_dict(settings: Any) -> config_dict.ConfigDict:
    """The settings as a `ConfigDict`, in which a field that is None keeps its type."""
    fields = {}
    for name, hint in field_types(type(settings)).items():
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            value = to_config_dict(value)
        elif value is None:
            (kind,) = set(typing.get_args(hint)) - {type(None)}
            value = config_dict.placeholder(kind)
        fields[name] = value
    return config_dict.ConfigDict(fields)
