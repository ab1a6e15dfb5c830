"""What configs start from: a `ConfigDict` of the settings.

Its fields are known at run time only, so that a type checker takes it for Any.
"""

from __future__ import annotations

from typing import Any

from ml_collections import config_dict

from pgx_jax.pipeline.config import (
    EstimationConfig,
    EvaluationConfig,
    NetworkConfig,
    PipelineConfig,
    SuiteConfig,
)
from pgx_jax.training.ppo import PPOConfig


def suite_defaults(suite: str) -> Any:
    """The package's defaults for the suite of that name."""
    return config_dict.ConfigDict(PipelineConfig(suite=SuiteConfig(suite)).to_dict())


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
    return config_dict.ConfigDict(config.to_dict())
