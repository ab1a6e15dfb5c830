"""Ten walkers of other mass, friction, strength and length, then fifty unseen ones.

For a GPU. 400,000 steps a task before grouping, 800,000 after, 80,000 of adaptation.
Results: experiments/results/walker2d_body.md.
"""

from ml_collections import config_dict

from pgx_jax.configs import hopper_body


def get_config() -> config_dict.ConfigDict:
    config = hopper_body.get_config()
    config.update({"suite": {"name": "walker2d_body"}})
    return config
