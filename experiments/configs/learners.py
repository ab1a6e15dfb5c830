"""Learners that are compared, and the suites and budgets that they are compared on.

Budgets were set before any learner but the MLP was run; Meta-World's is one at which a
single MLP does not solve all ten tasks. Every learner is tuned alike: three learning
rates, two policies each that are not counted, and else the settings of the suite.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict()
    config.learning_rates = (3e-4, 1e-3, 3e-3)
    config.num_tuned = 2  # policies of each rate, by which it is chosen
    config.num_counted = 3  # others, which are counted
    config.seed = 0
    config.num_episodes = 32
    # PPO updates of each suite's config, on all of its tasks.
    config.suites = {
        "cartpole": {"num_updates": 40},
        "lunar_lander": {"num_updates": 100},
        "half_cheetah_objectives": {"num_updates": 100},
        "metaworld_mt10": {"num_updates": 100},
    }
    config.learners = {
        "MLP": {},
        "multi-head": {"network": {"name": "multi_head"}},
        "Soft Modularization": {"network": {"name": "soft_modularization"}},
        "PaCo": {"network": {"name": "paco"}},
        "CARE": {"network": {"name": "care"}},
        "MOORE": {"network": {"name": "moore"}},
        "FiLM": {"network": {"name": "film"}},
        "MLP, wide critic": {"network": {"critic": "wide_residual"}},
        "PCGrad": {"ppo": {"gradients": {"method": "pcgrad"}}},
        "CAGrad": {"ppo": {"gradients": {"method": "cagrad"}}},
        "FAMO": {"ppo": {"gradients": {"method": "famo"}}},
        "Nash-MTL": {"ppo": {"gradients": {"method": "nash_mtl"}}},
        "GradNorm": {"ppo": {"gradients": {"method": "gradnorm"}}},
        "uncertainty weighting": {"ppo": {"gradients": {"method": "uncertainty"}}},
    }
    return config
