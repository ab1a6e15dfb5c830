"""Ten hoppers of other mass, friction, strength and length, then fifty unseen ones.

For a GPU. The budget is 400,000 steps a task before grouping, 800,000 after and 80,000
of adaptation.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "hopper_body"
    config.network.hidden_sizes = (128, 128)
    config.network.activation = "swish"
    config.ppo.unroll_length = 64
    config.ppo.num_epochs = 4
    config.ppo.num_minibatches = 4
    config.ppo.discount = 0.97
    config.ppo.entropy_cost = 1e-3
    config.ppo.num_envs = 64
    config.meta_training.num_updates = 100
    config.group_training.num_updates = 200
    config.adaptation.num_updates = 20
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.evaluation.num_episodes = 32
    return config
