"""Twelve CartPoles in three groups known beforehand: the three actions are permuted.

About half a minute on two CPU cores. Expected: three groups, NMI 1.0.
"""

from ml_collections import config_dict

from experiments.configs import cartpole_planted


def get_config() -> config_dict.ConfigDict:
    config = cartpole_planted.get_config()
    config.suite.name = "cartpole_planted_3"
    return config
