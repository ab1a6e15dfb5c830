"""The paper's setting of a suite: `paper:cartpole`, or another one of `SUITES` below.

For a GPU, but for CartPole. The logistic regression on 2,048 transitions a task and
clustering by its mean scores; on Meta-World Soft Modularization everywhere and three
groups, on the others MAML in groups and 200 steps of adaptation on fifty unseen tasks.
Source: arXiv 2511.12779. What it leaves open is as in the suite's own config.
"""

import importlib

from ml_collections import config_dict

SUITES = ("metaworld_mt10", "cartpole", "highway", "lunar_lander")


def get_config(suite: str = "metaworld_mt10") -> config_dict.ConfigDict:
    """The settings.

    Raises:
      ValueError: the paper has no such suite.
    """
    if suite not in SUITES:
        raise ValueError(
            f"the suite of paper:SUITE must be one of {', '.join(SUITES)}, got "
            f"{suite!r}"
        )
    config = importlib.import_module(f"pgx_jax.configs.{suite}").get_config()
    config.grouping.method = "clustering"
    config.estimation.regression = "logistic"
    config.estimation.score = "mean"
    config.estimation.num_transitions = 2048
    config.estimation.dim = 400
    if suite == "metaworld_mt10":
        config.network.name = "soft_modularization"
        config.network.hidden_sizes = (128, 128, 128, 128)
        return config
    config.network.hidden_sizes = (64, 64, 64, 64)
    config.grouping.num_groups = 3
    config.group_training.learner = "maml"
    config.adaptation.learner = "policy_gradient"
    config.adaptation.num_updates = 200
    return config
