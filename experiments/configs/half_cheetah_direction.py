"""Ten half-cheetahs in two groups known beforehand: five run forward, five backward.

For a GPU; six minutes on an H100. Measured over three seeds
(experiments/results/half_cheetah_direction.md): two groups, NMI 1.0 with the planted
ones, from a meta-policy that has hardly moved (20,000 steps a task); they earn 785, one
policy for all -0.3, which stays where it is, random groups 77. The budget after
grouping is 400,000 steps a task.
"""

from ml_collections import config_dict

from pgx_jax.config import robot_config


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(robot_config("half_cheetah_direction").to_dict())
    config.meta_training.num_updates = 10
    config.group_training.num_updates = 200
    return config
