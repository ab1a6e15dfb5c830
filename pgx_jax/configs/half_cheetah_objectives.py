"""Six objectives of one half-cheetah, normalized, and one number from all of them.

For a GPU. 100,000 steps a task before grouping, 400,000 after.
Results: experiments/results/half_cheetah_objectives.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import robot_defaults


def get_config() -> config_dict.ConfigDict:
    config = robot_defaults("half_cheetah_objectives")
    config.meta_training.num_updates = 50
    config.group_training.num_updates = 200
    config.estimation.num_subsets = 20  # every three tasks
    config.evaluation.scalarization = "concave"
    config.grouping.num_random_draws = 2
    return config
