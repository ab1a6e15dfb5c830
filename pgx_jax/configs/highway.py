"""Ten highways of different traffic, then fifty unseen ones.

61,440 steps a task before and after grouping, 8,192 of adaptation.
Results: experiments/results/highway.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import suite_defaults


def get_config() -> config_dict.ConfigDict:
    config = suite_defaults("highway")
    # Episodes last 30 steps, and what a driver does is paid off within ten.
    config.ppo.num_envs = 32
    config.ppo.unroll_length = 32
    config.ppo.discount = 0.9
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.meta_training.num_updates = 60
    config.group_training.num_updates = 60
    config.grouping.single_tasks = True
    config.adaptation.num_updates = 8
    return config
