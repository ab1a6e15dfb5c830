"""Ten CartPoles in two groups known beforehand: in five, the force is reversed.

Some minutes on two CPU cores. 41,000 steps a task before and after grouping.
Results: experiments/results/cartpole_planted.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import suite_defaults


def get_config() -> config_dict.ConfigDict:
    config = suite_defaults("cartpole_planted")
    config.meta_training.num_updates = 20
    config.group_training.num_updates = 20
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    return config
