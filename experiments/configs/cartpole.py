"""Ten CartPoles of different physics, then fifty unseen ones.

About four minutes on two CPU cores. Half of the motors are wired the other way round,
so that one policy for all falls behind at this budget (41,000 steps a task before and
after grouping); `experiments/results/cartpole.md` has the table of methods.
"""

from ml_collections import config_dict

from pgx_jax.config import PipelineConfig


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(PipelineConfig().to_dict())
    config.suite.name = "cartpole"
    config.estimation.num_subsets = 120  # every three tasks
    config.estimation.dim = 200
    config.meta_training.num_updates = 20
    config.group_training.num_updates = 20
    config.grouping.single_tasks = True
    config.adaptation.num_updates = 4
    return config
