"""Six objectives of one half-cheetah, normalised, and one number from all of them.

For a GPU. Speed forward and speed backward exclude each other; little power, smooth
actions and joints away from their limits go together. The last column of the table of
methods is the concave scalarisation of the six. The budget is 100,000 steps a task
before grouping and 400,000 after.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "half_cheetah_objectives"
    config.network.hidden_sizes = (128, 128)
    config.network.activation = "swish"
    config.ppo.num_envs = 32
    config.ppo.unroll_length = 64
    config.ppo.num_epochs = 4
    config.ppo.num_minibatches = 4
    config.ppo.discount = 0.97
    config.ppo.entropy_cost = 1e-3
    config.meta_training.num_updates = 50
    config.group_training.num_updates = 200
    config.estimation.num_subsets = 20  # every three tasks
    config.evaluation.scalarization = "concave"
    config.estimation.dim = 200
    config.evaluation.num_episodes = 32
    return config
