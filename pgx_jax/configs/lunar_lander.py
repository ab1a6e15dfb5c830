"""Ten LunarLanders of different physics, then fifty unseen ones.

100,000 steps a task before grouping, 200,000 after, 41,000 of adaptation.
Results: experiments/results/lunar_lander.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import suite_defaults


def get_config() -> config_dict.ConfigDict:
    config = suite_defaults("lunar_lander")
    # Landings take some 400 steps, with most of the reward at their end.
    config.ppo.discount = 0.999
    config.ppo.gae_lambda = 0.98
    config.ppo.num_epochs = 6
    config.estimation.num_subsets = 120  # every three tasks
    config.meta_training.num_updates = 50
    config.group_training.num_updates = 100
    config.grouping.single_tasks = True
    config.adaptation.num_updates = 20
    return config
