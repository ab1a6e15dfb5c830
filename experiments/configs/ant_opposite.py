"""Ten ants in two groups known beforehand: five run along x, five against it.

For a GPU; nine minutes on an H100 that others share. Directions within a group differ
by up to 40 degrees. Measured over three seeds (experiments/results/ant_opposite.md):
two groups, NMI 1.0 with the planted ones; they earn 570, one policy for all, which
stands still, 199, random groups 215. The budget is 20,000 steps a task before grouping
and 1.2 M after.

What tasks have in common, to stay upright and to save effort, hides how they differ:
with 8,192 transitions a task, and twice the steps before, NMI on seeds 0 to 2 was 0.54,
0.47 and 0.80. The settings here were chosen after that, on seed 100; so was the budget,
since 400,000 steps teach no ant to run, whatever its group.
"""

from ml_collections import config_dict

from pgx_jax.config import robot_config


def get_config() -> config_dict.ConfigDict:
    config = config_dict.ConfigDict(robot_config("ant_opposite").to_dict())
    config.meta_training.num_updates = 10
    config.group_training.num_updates = 600
    config.estimation.num_transitions = 32_768
    config.grouping.num_random_draws = 1
    return config
