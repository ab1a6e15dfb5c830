"""Ten ants in two groups known beforehand: five run along x, five against it.

For a GPU. 20,000 steps a task before grouping, 1.2 M after.
Results: experiments/results/ant_opposite.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import robot_defaults


def get_config() -> config_dict.ConfigDict:
    config = robot_defaults("ant_opposite")
    config.meta_training.num_updates = 10
    config.group_training.num_updates = 600
    config.estimation.num_transitions = 32_768
    config.grouping.num_random_draws = 1
    return config
