"""Ten hoppers of other mass, friction, strength and length, then fifty unseen ones.

For a GPU; seven to eleven minutes on an H100 that others share. Measured over three
seeds (experiments/results/hopper_body.md): estimated groups, three or four on each,
459, one policy for all 385, random groups 454, gradient similarity 455; on unseen
hoppers after adaptation 469, 385, 461 and 461. Several policies help; which hoppers
share one does not matter. The budget is 400,000 steps a task before grouping, 800,000
after and 80,000 of adaptation.
"""

from ml_collections import config_dict

from pgx_jax.config import robot_config


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(robot_config("hopper_body").to_dict())
    config.ppo.num_envs = 64
    config.meta_training.num_updates = 100
    config.group_training.num_updates = 200
    config.adaptation.num_updates = 20
    config.grouping.num_random_draws = 1
    return config
