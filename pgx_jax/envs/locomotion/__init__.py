"""Brax's robots in MJX as families of tasks that differ in goal, body or objective."""

from pgx_jax.envs.locomotion.env import (
    Locomotion,
    LocomotionParameters,
    MakeLocomotion,
)
from pgx_jax.envs.locomotion.mo_gymnasium import mo_half_cheetah, mo_hopper
from pgx_jax.envs.locomotion.objectives import (
    HALF_CHEETAH_OBJECTIVES,
    Objective,
    WeightedObjectives,
    half_cheetah_objectives,
    objective_suite,
)
from pgx_jax.envs.locomotion.rewards import (
    Reward,
    RobotMotion,
    keep_speed,
    run_along,
)
from pgx_jax.envs.locomotion.robots import RULES, Robot, Rules, load_robot
from pgx_jax.envs.locomotion.tasks import (
    ant_direction,
    ant_opposite,
    changed_bodies,
    half_cheetah_direction,
    half_cheetah_velocity,
    locomotion,
    single_robot,
)

__all__ = [
    "HALF_CHEETAH_OBJECTIVES",
    "RULES",
    "Locomotion",
    "LocomotionParameters",
    "MakeLocomotion",
    "Objective",
    "Reward",
    "Robot",
    "RobotMotion",
    "Rules",
    "WeightedObjectives",
    "ant_direction",
    "ant_opposite",
    "changed_bodies",
    "half_cheetah_direction",
    "half_cheetah_objectives",
    "half_cheetah_velocity",
    "keep_speed",
    "load_robot",
    "locomotion",
    "mo_half_cheetah",
    "mo_hopper",
    "objective_suite",
    "run_along",
    "single_robot",
]
