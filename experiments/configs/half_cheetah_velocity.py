"""Ten half-cheetahs that keep one speed each, of 0 to 3 m/s, then fifty unseen speeds.

For a GPU. Tasks of neighbouring speeds should be learned together: a policy sees its
own speed and not the one asked for. The budget is 100,000 steps a task before grouping,
400,000 after and 40,000 of adaptation.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "half_cheetah_velocity"
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
    config.adaptation.num_updates = 20
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.evaluation.num_episodes = 32
    return config
