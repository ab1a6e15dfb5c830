"""CartPole as a family of tasks."""

from pgx_jax.envs.cartpole.env import (
    ANGLE_LIMIT,
    CartPole,
    CartPoleParameters,
    cartpole,
    cartpole_planted,
    cartpole_v1,
)

__all__ = [
    "ANGLE_LIMIT",
    "CartPole",
    "CartPoleParameters",
    "cartpole",
    "cartpole_planted",
    "cartpole_v1",
]
