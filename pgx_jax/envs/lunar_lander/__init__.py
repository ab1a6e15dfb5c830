"""LunarLander as a family of tasks."""

from pgx_jax.envs.lunar_lander.env import (
    LunarLander,
    LunarLanderParameters,
    Motion,
    lunar_lander,
    lunar_lander_v3,
)

__all__ = [
    "LunarLander",
    "LunarLanderParameters",
    "Motion",
    "lunar_lander",
    "lunar_lander_v3",
]
