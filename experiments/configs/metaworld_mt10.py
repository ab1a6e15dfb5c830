"""Meta-World's MT10: ten tasks of one arm, for a GPU.

Observations end in a one-hot task id, as in the benchmark.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "metaworld_mt10"
    config.suite.task_id = True
    config.network.hidden_sizes = (400, 400, 400)
    config.network.activation = "swish"
    config.ppo.num_envs = 1024
    config.ppo.unroll_length = 32
    config.ppo.num_epochs = 5
    config.ppo.num_minibatches = 16
    config.ppo.learning_rate = 5e-4
    config.ppo.discount = 0.99
    config.ppo.gae_lambda = 0.97
    config.ppo.entropy_cost = 1e-3
    config.ppo.stagger_resets = True
    config.meta_training.num_updates = 30
    config.estimation.num_subsets = 120  # every three tasks
    config.group_training.num_updates = 300
    config.grouping.num_groups = 3
    config.evaluation.num_episodes = 50
    return config
