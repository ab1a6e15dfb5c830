"""Ten walkers of other mass, friction, strength and length, then fifty unseen ones.

For a GPU; eight minutes on an H100 that others share. Measured over three seeds
(experiments/results/walker2d_body.md): estimated groups, four on each, 622, one policy
for all 595, random groups 643, gradient similarity 634; on unseen walkers after
adaptation 688, 601, 664 and 665. Seeds differ by more than ways of grouping do. The
budget is 400,000 steps a task before grouping, 800,000 after and 80,000 of adaptation.
"""

from ml_collections import config_dict

from pgx_jax.config import robot_config


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(robot_config("walker2d_body").to_dict())
    config.ppo.num_envs = 64
    config.meta_training.num_updates = 100
    config.group_training.num_updates = 200
    config.adaptation.num_updates = 20
    config.grouping.num_random_draws = 1
    return config
