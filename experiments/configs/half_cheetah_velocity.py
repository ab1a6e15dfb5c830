"""Ten half-cheetahs that keep one speed each, of 0 to 3 m/s, then fifty unseen speeds.

For a GPU; eleven minutes on an H100 that others share. A policy sees its own speed and
not the one asked for, so that tasks of neighbouring speeds should be learned together.
Measured over three seeds (experiments/results/half_cheetah_velocity.md), the return
being minus the error in speed and the cost of actions over 200 steps: estimated groups,
two on each seed, -130, one policy for all -189, random groups -196, gradient similarity
-129; on unseen speeds after adaptation -105, -139, -139 and -103. The budget is 100,000
steps a task before grouping, 400,000 after and 40,000 of adaptation.
"""

from ml_collections import config_dict

from pgx_jax.config import robot_config


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(robot_config("half_cheetah_velocity").to_dict())
    config.meta_training.num_updates = 50
    config.group_training.num_updates = 200
    config.adaptation.num_updates = 20
    config.grouping.num_random_draws = 1
    return config
