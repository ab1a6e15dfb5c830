"""Ten ants that run in directions all round the circle, then fifty unseen directions.

For a GPU. Neighbouring directions should be learned together. The budget is 40,000
steps a task before grouping, 1.2 M after and 40,000 of adaptation, the one after
grouping being that of ant_opposite, and is not measured yet. With 400,000 steps no
group learned to run: on seeds 0 and 1 estimated groups earned 153 and 174, random ones
173 and 196, and one policy for all, which stood still, 198.
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
