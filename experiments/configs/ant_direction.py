"""Ten ants that run in directions all round the circle, then fifty unseen directions.

For a GPU. Neighbouring directions should be learned together. The budget is 40,000
steps a task before grouping, 400,000 after and 40,000 of adaptation.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "ant_direction"
    config.network.hidden_sizes = (128, 128)
    config.network.activation = "swish"
    config.ppo.num_envs = 32
    config.ppo.unroll_length = 64
    config.ppo.num_epochs = 4
    config.ppo.num_minibatches = 4
    config.ppo.discount = 0.97
    config.ppo.entropy_cost = 1e-3
    config.meta_training.num_updates = 20
    config.group_training.num_updates = 200
    config.adaptation.num_updates = 20
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.evaluation.num_episodes = 32
    return config
