"""Ten CartPoles of different physics, then fifty unseen ones.

Some minutes on two CPU cores. 41,000 steps a task before and after grouping.
Results: experiments/results/cartpole.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import suite_defaults


def get_config() -> config_dict.ConfigDict:
    config = suite_defaults("cartpole")
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.meta_training.num_updates = 20
    config.group_training.num_updates = 20
    config.grouping.single_tasks = True
    config.adaptation.num_updates = 4
    return config
