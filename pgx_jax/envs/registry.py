"""Suites by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from pgx_jax.envs import cartpole, highway, locomotion, lunar_lander, metaworld
from pgx_jax.envs.core import TaskSuite

# name -> split -> the function that builds the suite.
SUITES: dict[str, Mapping[str, Callable[[], TaskSuite]]] = {
    "cartpole_v1": {"source": cartpole.cartpole_v1},
    "cartpole": {
        "source": cartpole.cartpole,
        "target": functools.partial(cartpole.cartpole, "target"),
    },
    "cartpole_planted": {"source": cartpole.cartpole_planted},
    "cartpole_planted_3": {
        "source": functools.partial(cartpole.cartpole_planted, 3, 12)
    },
    "cartpole_planted_4": {
        "source": functools.partial(cartpole.cartpole_planted, 4, 12)
    },
    "lunar_lander_v3": {"source": lunar_lander.lunar_lander_v3},
    "lunar_lander": {
        "source": lunar_lander.lunar_lander,
        "target": functools.partial(lunar_lander.lunar_lander, "target"),
    },
    "highway_fast": {"source": highway.highway_fast},
    "highway": {
        "source": highway.highway,
        "target": functools.partial(highway.highway, "target"),
    },
    "half_cheetah": {
        "source": functools.partial(locomotion.single_robot, "half_cheetah")
    },
    "half_cheetah_velocity": {
        "source": locomotion.half_cheetah_velocity,
        "target": functools.partial(locomotion.half_cheetah_velocity, "target"),
    },
    "half_cheetah_direction": {"source": locomotion.half_cheetah_direction},
    "half_cheetah_objectives": {"source": locomotion.half_cheetah_objectives},
    # Of vector rewards, whose objectives are a run's tasks.
    "half_cheetah_vector": {
        "source": functools.partial(
            locomotion.half_cheetah_objectives, vector_rewards=True
        )
    },
    "mo_half_cheetah": {"source": locomotion.mo_half_cheetah},
    "mo_hopper": {"source": locomotion.mo_hopper},
    "ant": {"source": functools.partial(locomotion.single_robot, "ant")},
    "ant_direction": {
        "source": locomotion.ant_direction,
        "target": functools.partial(locomotion.ant_direction, "target"),
    },
    "ant_opposite": {"source": locomotion.ant_opposite},
    "hopper_body": {
        "source": functools.partial(locomotion.changed_bodies, "hopper"),
        "target": functools.partial(locomotion.changed_bodies, "hopper", "target"),
    },
    "walker2d_body": {
        "source": functools.partial(locomotion.changed_bodies, "walker2d"),
        "target": functools.partial(locomotion.changed_bodies, "walker2d", "target"),
    },
    "metaworld_mt10": {"source": metaworld.mt10},
    # For trying things out: quick to learn.
    "metaworld_mt3": {
        "source": functools.partial(
            metaworld.mt10, ("reach-v3", "drawer-close-v3", "window-open-v3")
        )
    },
    **{
        task: {"source": functools.partial(metaworld.build_suite, (task,))}
        for task in metaworld.ALL_TASKS
    },
}


def make_suite(name: str, split: str = "source") -> TaskSuite:
    """Builds a suite by name.

    Args:
      name: one of `SUITES`.
      split: "source", or "target" where the suite has tasks kept for adaptation.

    Raises:
      ValueError: there is no such suite, or it has no such split; the message lists
        those that exist.
    """
    if not isinstance(name, str) or name not in SUITES:
        raise ValueError(
            f"suite name {name!r} does not exist; there are {', '.join(sorted(SUITES))}"
        )
    if not isinstance(split, str) or split not in SUITES[name]:
        raise ValueError(
            f"split must be one of {', '.join(SUITES[name])} for suite {name!r}, got "
            f"{split!r}"
        )
    return SUITES[name][split]()


def register_suite(name: str, **splits: Callable[[], TaskSuite]) -> None:
    """Adds a suite to `SUITES`, so that configs and commands find it by name.

    Args:
      name: not yet taken.
      **splits: functions that build the suite: `source=...`, and `target=...` where
        there are tasks kept for adaptation.

    Raises:
      ValueError: the name is taken, or `source` is missing.
    """
    if name in SUITES and SUITES[name] != splits:
        raise ValueError(f"name must not be taken, got {name!r}, which exists already")
    if "source" not in splits:
        raise ValueError(
            f"splits of suite {name!r} must include source, got {list(splits)}"
        )
    SUITES[name] = splits
