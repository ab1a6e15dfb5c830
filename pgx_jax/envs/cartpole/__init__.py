"""CartPole as a family of tasks."""

from pgx_jax.envs.cartpole.env import CartPole
from pgx_jax.envs.cartpole.physics import (
    ANGLE_LIMIT,
    POSITION_LIMIT,
    CartPoleParameters,
)
from pgx_jax.envs.cartpole.tasks import cartpole, cartpole_planted, cartpole_v1

__all__ = [
    "ANGLE_LIMIT",
    "POSITION_LIMIT",
    "CartPole",
    "CartPoleParameters",
    "cartpole",
    "cartpole_planted",
    "cartpole_v1",
]
