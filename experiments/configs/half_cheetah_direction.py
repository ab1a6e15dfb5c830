"""Ten half-cheetahs in two groups known beforehand: five run forward, five backward.

For a GPU. Expected: two groups, NMI 1.0 with the planted ones, from a meta-policy that
has hardly moved (20,000 steps a task), and group policies that run where one policy for
all stays where it is. The budget after grouping is 400,000 steps a task.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "half_cheetah_direction"
    config.network.hidden_sizes = (128, 128)
    config.network.activation = "swish"
    config.ppo.num_envs = 32
    config.ppo.unroll_length = 64
    config.ppo.num_epochs = 4
    config.ppo.num_minibatches = 4
    config.ppo.discount = 0.97
    config.ppo.entropy_cost = 1e-3
    config.meta_training.num_updates = 10
    config.group_training.num_updates = 200
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.evaluation.num_episodes = 32
    return config
