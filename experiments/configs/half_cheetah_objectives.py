"""Six objectives of one half-cheetah, normalised, and one number from all of them.

For a GPU; eight minutes on an H100 that others share. Speed forward and speed backward
exclude each other; little power, smooth actions and joints away from their limits go
together. The last column of the table of methods is the concave scalarisation of the
six. Measured over three seeds (experiments/results/half_cheetah_objectives.md), mean
return and scalarisation: estimated groups, two or three, 144 and -0.63, one policy for
all 104 and -2.40, random groups 133 and -0.74, gradient similarity 131 and -0.53. The
budget is 100,000 steps a task before grouping and 400,000 after.
"""

from ml_collections import config_dict

from pgx_jax.config import robot_config


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(robot_config("half_cheetah_objectives").to_dict())
    config.meta_training.num_updates = 50
    config.group_training.num_updates = 200
    config.estimation.num_subsets = 20  # every three tasks
    config.evaluation.scalarization = "concave"
    config.grouping.num_random_draws = 2
    return config
