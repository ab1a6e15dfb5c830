"""Ten CartPoles in two groups known beforehand: in five, the force is reversed.

About two minutes on two CPU cores. Expected: two groups, NMI 1.0 with the planted ones,
and group policies near the maximum of 500 where one policy for all stays below it.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "cartpole_planted"
    config.meta_training.num_updates = 20
    config.group_training.num_updates = 20
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    return config
