"""LunarLander as a family of tasks: one task is one set of physical parameters."""

from pgx_jax.envs.lunar_lander.body import LanderMotion, LunarLanderParameters
from pgx_jax.envs.lunar_lander.env import LunarLander
from pgx_jax.envs.lunar_lander.tasks import lunar_lander, lunar_lander_v3

__all__ = [
    "LanderMotion",
    "LunarLander",
    "LunarLanderParameters",
    "lunar_lander",
    "lunar_lander_v3",
]
