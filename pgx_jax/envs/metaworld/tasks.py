"""The tasks as numbers: where objects start and what the goal may be.

Source: Meta-World 3.1.1 (v3 environments); Yu et al., "Meta-World: A Benchmark and
Evaluation for Multi-Task and Meta Reinforcement Learning", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jax.Array

# The ten of MT10.
TASKS = (
    "reach-v3",
    "push-v3",
    "pick-place-v3",
    "door-open-v3",
    "drawer-open-v3",
    "drawer-close-v3",
    "button-press-topdown-v3",
    "peg-insert-side-v3",
    "window-open-v3",
    "window-close-v3",
)
# Others of MT50, which suites of MT10 alone compute nothing for.
MORE_TASKS = (
    "reach-wall-v3",
    "push-wall-v3",
    "pick-place-wall-v3",
)
ALL_TASKS = TASKS + MORE_TASKS
# Tasks that put the puck, and the goal, at the height at which it rests.
KEEPS_HEIGHT = ("push-v3", "push-wall-v3")

# Of a puck task's placements 8% are rejected, so that all of these are with a
# probability of 1e-13; the first of them would then be taken. No peg is ever rejected.
NUM_CANDIDATES = 12


class TaskSpec(NamedTuple):
    """The numbers of one task; m, world frame, float32; with a task axis when stacked.

    A placement, shape [6], is what an episode draws: in its first half where the puck
    or the peg (its body), or the body of the door, drawer, button box or window is
    put; in its second half the goal, for the peg the position of the block's body.
    Tasks whose goal follows from the first half leave the second at 0.

    Attributes:
      index: the task's place in `ALL_TASKS`; int32, shape [].
      hand_init: where the mocap body is held while the hand resets; shape [3].
      mocap_low: lowest position of the mocap body; shape [3].
      mocap_high: its highest position; shape [3].
      placement_low: lowest placement; shape [6].
      placement_high: highest placement, drawn from uniformly; shape [6].
      min_distance: the two halves of a placement are at least this far apart in x and
        y; 0 where any placement will do; shape [].
      goal_low: lowest goal that an observation shows; shape [3].
      goal_high: the highest one; shape [3].
    """

    index: Array
    hand_init: Array
    mocap_low: Array
    mocap_high: Array
    placement_low: Array
    placement_high: Array
    min_distance: Array
    goal_low: Array
    goal_high: Array


_MOCAP = ((-0.5, 0.4, 0.05), (0.5, 1.0, 0.5))
_NEAR, _FAR = (0.0, 0.4, 0.2), (0.0, 0.6, 0.2)  # where the hand begins
_PUCK = ((-0.1, 0.6, 0.02), (0.1, 0.7, 0.02))
_DRAWER = ((-0.1, 0.9, 0.0), (0.1, 0.9, 0.0))
_IN_THE_AIR = ((-0.1, 0.8, 0.05), (0.1, 0.9, 0.3))
_ON_THE_TABLE = ((-0.1, 0.8, 0.01), (0.1, 0.9, 0.02))
_BEFORE_THE_WALL = ((-0.05, 0.6, 0.015), (0.05, 0.65, 0.015))
_BEHIND_THE_WALL = ((-0.05, 0.85, 0.05), (0.05, 0.9, 0.3))
_BEHIND_AND_DOWN = ((-0.05, 0.85, 0.01), (0.05, 0.9, 0.02))
_BLOCK = ((-0.35, 0.4, -0.001), (-0.25, 0.7, 0.001))
_HOLE = ((-0.32, 0.4, 0.129), (-0.22, 0.7, 0.131))
_UNUSED = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def _spec(name, hand, placed, goal=_UNUSED, shown=_MOCAP, min_distance=0.0) -> TaskSpec:
    """One task's numbers; boxes are pairs of a lowest and a highest point."""
    numbers = {
        "hand_init": hand,
        "mocap_low": _MOCAP[0],
        "mocap_high": _MOCAP[1],
        "placement_low": placed[0] + goal[0],
        "placement_high": placed[1] + goal[1],
        "min_distance": min_distance,
        "goal_low": shown[0],
        "goal_high": shown[1],
    }
    return TaskSpec(
        index=np.array(ALL_TASKS.index(name), np.int32),
        **{k: np.array(v, np.float32) for k, v in numbers.items()},
    )


SPECS = (
    _spec("reach-v3", _FAR, _PUCK, _IN_THE_AIR, _IN_THE_AIR, min_distance=0.15),
    _spec("push-v3", _FAR, _PUCK, _ON_THE_TABLE, _ON_THE_TABLE, min_distance=0.15),
    _spec("pick-place-v3", _FAR, _PUCK, _IN_THE_AIR, _IN_THE_AIR, min_distance=0.15),
    _spec(
        "door-open-v3",
        _FAR,
        ((0.0, 0.85, 0.15), (0.1, 0.95, 0.15)),
        shown=((-0.3, 0.4, 0.1499), (-0.2, 0.5, 0.1501)),
    ),
    _spec("drawer-open-v3", _FAR, _DRAWER),
    _spec("drawer-close-v3", _FAR, _DRAWER),
    _spec("button-press-topdown-v3", _NEAR, ((-0.1, 0.8, 0.115), (0.1, 0.9, 0.115))),
    _spec(
        "peg-insert-side-v3",
        _FAR,
        ((0.0, 0.5, 0.02), (0.2, 0.7, 0.02)),
        _BLOCK,
        _HOLE,
        min_distance=0.1,
    ),
    _spec("window-open-v3", _NEAR, ((-0.1, 0.7, 0.16), (0.1, 0.9, 0.16))),
    _spec("window-close-v3", _NEAR, ((0.0, 0.75, 0.2), (0.0, 0.9, 0.2))),
    *(
        _spec(name, _FAR, _BEFORE_THE_WALL, goal, goal)
        for name, goal in (
            ("reach-wall-v3", _BEHIND_THE_WALL),
            ("push-wall-v3", _BEHIND_AND_DOWN),
            ("pick-place-wall-v3", _BEHIND_THE_WALL),
        )
    ),
)


def stack_specs(names: Sequence[str] = TASKS) -> TaskSpec:
    """The numbers of n tasks, for `jax.vmap` over tasks; leaves of shape [n, ...].

    Raises:
      ValueError: if a name is not in `ALL_TASKS`.
    """
    specs = [SPECS[ALL_TASKS.index(name)] for name in names]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *specs)


def draw_placement(spec: TaskSpec, key: jax.Array) -> jax.Array:
    """Draws where one episode's things are; float32, shape [6].

    Uniform in the task's box among the placements that are not too close: the first
    such candidate of a fixed number, which has the distribution of drawing until one
    is found.
    """
    candidates = jax.random.uniform(
        key,
        (NUM_CANDIDATES, 6),
        jnp.float32,
        jnp.asarray(spec.placement_low),
        jnp.asarray(spec.placement_high),
    )
    distance = jnp.linalg.norm(candidates[:, :2] - candidates[:, 3:5], axis=-1)
    return candidates[jnp.argmax(distance >= spec.min_distance)]
