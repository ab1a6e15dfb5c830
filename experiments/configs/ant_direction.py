"""Ten ants that run in directions all round the circle, then fifty unseen directions.

For a GPU. Neighbouring directions should be learned together. The budget is 40,000
steps a task before grouping, 400,000 after and 40,000 of adaptation.
"""

from ml_collections import config_dict

from pgx_jax.config import robot_config


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(robot_config("ant_direction").to_dict())
    config.meta_training.num_updates = 20
    config.group_training.num_updates = 600
    config.adaptation.num_updates = 20
    config.grouping.num_random_draws = 1
    return config
