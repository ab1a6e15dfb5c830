"""Meta-World's MT10, ten tasks of one arm, with a one-hot task id.

For a GPU. 0.25 M steps a task before grouping, 1.6 M after, for every way of grouping.
Results: experiments/results/metaworld_mt10.md.
"""

from ml_collections import config_dict

from pgx_jax.configs.defaults import metaworld_defaults


def get_config() -> config_dict.ConfigDict:
    config = metaworld_defaults("metaworld_mt10")
    config.checkpoint_every = 20
    config.network.hidden_sizes = (400, 400, 400)
    config.network.activation = "swish"
    config.ppo.num_envs = 128
    config.ppo.unroll_length = 32
    config.meta_training.num_updates = 60
    config.estimation.num_transitions = 65_536
    config.estimation.num_subsets = 120  # every three tasks
    config.group_training.num_updates = 400
    config.grouping.num_groups = 3
    config.grouping.other_num_groups = (2, 4)
    config.evaluation.num_episodes = 50
    config.evaluation.sampled_too = True
    return config
