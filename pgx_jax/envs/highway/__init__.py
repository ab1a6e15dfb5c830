"""Multi-lane highway driving as a family of tasks: highway-env's traffic in JAX."""

from pgx_jax.envs.highway.env import Highway, HighwayParameters, HighwayState
from pgx_jax.envs.highway.tasks import highway, highway_fast
from pgx_jax.envs.highway.vehicle import Vehicles

__all__ = [
    "Highway",
    "HighwayParameters",
    "HighwayState",
    "Vehicles",
    "highway",
    "highway_fast",
]
