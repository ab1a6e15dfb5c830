"""Ten half-cheetahs in two known groups: five run forward, five backward.

For a GPU. 20,000 steps a task before grouping, 400,000 after.
Results: experiments/results/half_cheetah_direction.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import robot_defaults


def get_config() -> config_dict.ConfigDict:
    config = robot_defaults("half_cheetah_direction")
    config.meta_training.num_updates = 10
    config.group_training.num_updates = 200
    return config
