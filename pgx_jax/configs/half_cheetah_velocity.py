"""Ten half-cheetahs that keep one speed each, then fifty unseen speeds.

For a GPU. 100,000 steps a task before grouping, 400,000 after, 40,000 of adaptation.
Results: experiments/results/half_cheetah_velocity.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import robot_defaults


def get_config() -> config_dict.ConfigDict:
    config = robot_defaults("half_cheetah_velocity")
    config.meta_training.num_updates = 50
    config.group_training.num_updates = 200
    config.adaptation.num_updates = 20
    config.grouping.num_random_draws = 1
    return config
