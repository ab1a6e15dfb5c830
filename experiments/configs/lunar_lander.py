"""Ten LunarLanders of different physics, then fifty unseen ones.

A policy leans into a wind from either side and finds engines of any strength, and is
told of neither. With 300,000 steps a task, one policy for all ten earned a mean return
of 206 and one for each 227 (seed 101): most tasks gain from a policy of their own, and
some are not landed on without the others. The budget here is 100,000 steps a task
before grouping and 200,000 after.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "lunar_lander"
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
