"""Ten hoppers of other mass, friction, strength and length, then fifty unseen ones.

For a GPU. 400,000 steps a task before grouping, 800,000 after, 80,000 of adaptation.
Results: experiments/results/hopper_body.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import robot_defaults


def get_config() -> config_dict.ConfigDict:
    config = robot_defaults("hopper_body")
    config.ppo.num_envs = 64
    config.meta_training.num_updates = 100
    config.group_training.num_updates = 200
    config.adaptation.num_updates = 20
    config.grouping.num_random_draws = 1
    return config
