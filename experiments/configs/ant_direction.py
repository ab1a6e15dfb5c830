"""Ten ants that run in directions all round the circle, then fifty unseen directions.

For a GPU; seven minutes on an H100 that others share. Measured over three seeds
(experiments/results/ant_direction.md): estimated groups, two to four of directions that
are mostly neighbours, 453, one policy for all 200, which stands still, random groups
225, gradient similarity 412; on unseen directions after adaptation 491, 259, 341 and
466. The budget is 40,000 steps a task before grouping, 1.2 M after, as in ant_opposite,
and 40,000 of adaptation. With 400,000 after grouping no group learned to run.
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
