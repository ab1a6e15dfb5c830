"""Brax's robots: their models, and the rules of their environments.

Source: Brax (Freeman et al., 2021).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from mujoco import mjx

from pgx_jax.envs.mjx import (
    put_model,
)


@dataclasses.dataclass(frozen=True)
class Rules:
    """What Brax's environment of a robot adds to its model.

    Attributes:
      num_substeps: simulation steps per action.
      control_cost: weight of the squared actions.
      reset_noise: half width of the uniform noise on positions, and the scale of that
        on velocities; in their own units.
      normal_velocity: whether the velocities' noise is normal, else uniform.
      healthy_reward: of every step, for the robots that can fall.
      healthy_height: of the torso, in m; an episode terminates outside.
      healthy_angle: of the torso, in rad; an episode terminates outside.
      healthy_state: largest size of any position other than the torso's and of any
        velocity, in their own units; an episode terminates outside.
      velocity_limit: that observed velocities are clipped to.
      options: of the simulation; see `FEW_LINE_SEARCHES`.
    """

    num_substeps: int
    control_cost: float
    reset_noise: float
    normal_velocity: bool
    healthy_reward: float = 0.0
    healthy_height: tuple[float, float] = (-math.inf, math.inf)
    healthy_angle: tuple[float, float] = (-math.inf, math.inf)
    healthy_state: float = math.inf
    velocity_limit: float = math.inf
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# Brax leaves MJX's 50 steps of line search to all robots but the ant, and a batch waits
# for the slowest of its members. After 20 actions in each of 16 environments, four give
# the same positions as 50, to 1e-4 of those of MuJoCo with 100, in a third of the time;
# fewer than the model's four iterations of the solver do not.
FEW_LINE_SEARCHES = {"ls_iterations": 4}

RULES = {
    "half_cheetah": Rules(5, 0.1, 0.1, True, options=FEW_LINE_SEARCHES),
    "ant": Rules(
        5,
        0.5,
        0.1,
        True,
        healthy_reward=1.0,
        healthy_height=(0.2, 1.0),
        options={
            "iterations": 1,
            "ls_iterations": 4,
            "disableflags": mujoco.mjtDisableBit.mjDSBL_EULERDAMP,
        },
    ),
    "hopper": Rules(
        4,
        1e-3,
        5e-3,
        False,
        healthy_reward=1.0,
        healthy_height=(0.7, math.inf),
        healthy_angle=(-0.2, 0.2),
        healthy_state=100.0,
        velocity_limit=10.0,
        options=FEW_LINE_SEARCHES,
    ),
    "walker2d": Rules(
        4,
        1e-3,
        5e-3,
        False,
        healthy_reward=1.0,
        healthy_height=(0.8, 2.0),
        healthy_angle=(-1.0, 1.0),
        velocity_limit=10.0,
        options=FEW_LINE_SEARCHES,
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Robot:
    """A robot's model, and what Brax's environment makes of it.

    Attributes:
      rules: of its environment.
      spec: what other bodies are made from.
      mj_model: for rendering, and to compile others like it.
      model: on the device.
      data: of the model at rest.
    """

    rules: Rules
    spec: mujoco.MjSpec
    mj_model: mujoco.MjModel
    model: mjx.Model
    data: mjx.Data

    @property
    def is_planar(self) -> bool:
        """Whether the torso slides along x and z and turns about y, else it is free."""
        return self.mj_model.jnt_type[0] == mujoco.mjtJoint.mjJNT_SLIDE

    @functools.cached_property
    def start(self) -> np.ndarray:
        """Positions that resets add noise to, in m and rad; float64 [nq].

        As in Brax, the model's own `init_qpos` if it has one, as the ant does, whose
        ankles are outside their limits at zero.
        """
        model = self.mj_model
        names = [model.numeric(i).name for i in range(model.nnumeric)]
        if "init_qpos" in names:
            return np.array(model.numeric("init_qpos").data)
        return model.qpos0.copy()

    @property
    def observation_size(self) -> int:
        model = self.mj_model
        return model.nq + model.nv - (1 if self.is_planar else 2)


@functools.cache
def load_robot(name: str) -> Robot:
    """One of Brax's robots: "half_cheetah", "ant", "hopper" or "walker2d".

    Raises:
      ValueError: there is no such robot.
    """
    if name not in RULES:
        raise ValueError(f"robot must be one of {', '.join(RULES)}, got {name!r}")
    from etils import epath

    path = epath.resource_path("brax") / "envs" / "assets" / f"{name}.xml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the files' older syntax
        spec = mujoco.MjSpec.from_file(str(path))
        for option, value in RULES[name].options.items():
            setattr(spec.option, option, value)
        mj_model = spec.compile()
    model = put_model(mj_model)
    return Robot(RULES[name], spec, mj_model, model, mjx.make_data(mj_model))
