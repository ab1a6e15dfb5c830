"""Ten highways of different traffic, then fifty unseen ones.

Density, speed limit, politeness and lanes differ by task (`pgx_jax.envs.highway`). The
budget is 61,440 steps a task before and after grouping, and 8,192 of adaptation. No
policy can earn more than 30 an episode. Measured over three seeds
(experiments/results/highway.md): 23.9 to 24.0 whatever the grouping, and 24.0 to 24.3
on unseen highways after adaptation; one policy is as good as any. Two lanes of slow
traffic (tasks 6 and 8) hold the ego up, which cannot aim at less than 20 m/s.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "highway"
    # Episodes last 30 steps, and what a driver does is paid off within ten.
    config.ppo.num_envs = 32
    config.ppo.unroll_length = 32
    config.ppo.discount = 0.9
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.meta_training.num_updates = 60
    config.group_training.num_updates = 60
    config.grouping.single_tasks = True
    config.adaptation.num_updates = 8
    return config
