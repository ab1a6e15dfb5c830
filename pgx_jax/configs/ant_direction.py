"""Ten ants that run in directions all round the circle, then fifty unseen ones.

For a GPU. 40,000 steps a task before grouping, 1.2 M after, 40,000 of adaptation.
Results: experiments/results/ant_direction.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import robot_defaults


def get_config() -> config_dict.ConfigDict:
    config = robot_defaults("ant_direction")
    config.meta_training.num_updates = 20
    config.group_training.num_updates = 600
    config.adaptation.num_updates = 20
    config.grouping.num_random_draws = 1
    return config
