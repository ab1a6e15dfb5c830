"""Three tasks of Meta-World's MT10 that are quick to learn, for a CPU.

About seven minutes on two cores. 20,000 steps a task before grouping, 31,000 after.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import metaworld_defaults


def get_config() -> config_dict.ConfigDict:
    config = metaworld_defaults("metaworld_mt3")
    config.ppo.num_envs = 16
    config.ppo.unroll_length = 64
    config.meta_training.num_updates = 20
    config.estimation.num_transitions = 2048
    config.estimation.num_subsets = 3  # every two tasks
    config.estimation.subset_size = 2
    config.estimation.dim = 100
    config.grouping.num_groups = 2
    config.group_training.num_updates = 30
    config.evaluation.num_episodes = 8
    return config
