"""What is observed of a scene in each task, and what an episode fixes.

Pure functions of what a scene reads off (`Readings`). Lengths are in m, positions in
the world frame, arrays are float32. Kept as they are in the original:

- Lengths that a reward is scaled by are taken from where the bodies were just before
  they were placed: the peg's head and the height of the puck in push from their resting
  place at the scene's default, the sliding window from its closed end.
- The first frame of drawer-open and of the window tasks is from then too: that of
  window-close shows a closed window, 0.2 m from where the handle is (`reset_frame`).
- Quaternions come in two orders: x, y, z, w for the puck, door and peg; w, x, y, z for
  drawer-open and the button; zeros for the others.

Source: Meta-World 3.1.1, the v3 environments.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.envs.metaworld.tasks import ALL_TASKS, KEEPS_HEIGHT, Array, TaskSpec

FRAME_SIZE = 18
OBSERVATION_SIZE = 2 * FRAME_SIZE + 3

(
    REACH,
    PUSH,
    PICK_PLACE,
    DOOR_OPEN,
    DRAWER_OPEN,
    DRAWER_CLOSE,
    BUTTON_PRESS,
    PEG_INSERT,
    WINDOW_OPEN,
    WINDOW_CLOSE,
    REACH_WALL,
    PUSH_WALL,
    PICK_PLACE_WALL,
) = range(len(ALL_TASKS))
_MAX_OPENING = 0.1  # m between the claws
_WINDOW_TRAVEL = 0.2  # m
DRAWER_TRAVEL = 0.2  # m from the closed drawer to the goal of drawer-open
# The range of the hand's position and the gripper's opening in an observation.
_FRAME_LOW = np.array([-0.525, 0.348, -0.0525, -1.0], np.float32)
_FRAME_HIGH = np.array([0.525, 1.025, 0.7, 1.0], np.float32)
# From the placement, or its second half in tasks that draw their goal, to the target.
_TARGET_OFFSETS = np.zeros((len(ALL_TASKS), 3), np.float32)
_TARGET_OFFSETS[DOOR_OPEN] = -0.3, -0.45, 0.0
_TARGET_OFFSETS[DRAWER_OPEN] = 0.0, -0.16 - DRAWER_TRAVEL, 0.09
_TARGET_OFFSETS[DRAWER_CLOSE] = 0.0, -0.16, 0.09
_TARGET_OFFSETS[BUTTON_PRESS] = 0.0, -7.963e-5, 0.1
_TARGET_OFFSETS[PEG_INSERT] = 0.03, 0.0, 0.13
_TARGET_OFFSETS[WINDOW_OPEN] = _WINDOW_TRAVEL, 0.0, 0.0


def _mark(*tasks: int) -> np.ndarray:
    return np.isin(range(len(ALL_TASKS)), tasks)


_DRAWS_GOAL = _mark(
    *(REACH, PUSH, PICK_PLACE, PEG_INSERT, REACH_WALL, PUSH_WALL, PICK_PLACE_WALL)
)
_STALE_FRAME = _mark(DRAWER_OPEN, WINDOW_OPEN, WINDOW_CLOSE)
_KEEPS_HEIGHT = _mark(*(ALL_TASKS.index(task) for task in KEEPS_HEIGHT))


class Readings(NamedTuple):
    """What a scene reads off at one instant; no leading axes; m, world frame, float32.

    After a step these are the positions that belong to the positions of the joints
    just reached.

    Attributes:
      hand: origin of the body "hand"; shape [3].
      left_claw: origin of the body "leftclaw"; shape [3].
      right_claw: origin of the body "rightclaw"; shape [3].
      left_pad: origin of the body "leftpad"; shape [3].
      right_pad: origin of the body "rightpad"; shape [3].
      tcp: mean of the sites "leftEndEffector" and "rightEndEffector"; shape [3].
      object_pos: what the observation shows of the object; shape [3]. Puck tasks: the
        origin of the body "obj". door: the geom "handle". drawer: the origin of
        "drawer_link" plus (0, -0.16, 0), or (0, -0.16, 0.05) for drawer-close. button:
        the origin of "button" plus (0, 0, 0.193). peg: the site "pegGrasp". window:
        the site "handleOpenStart" or "handleCloseStart".
      object_quat: its orientation as the observation shows it; shape [4]. Puck tasks,
        door and peg: `quaternion` of the rotation of "objGeom", of "handle" or of the
        site "pegGrasp", in the order x, y, z, w. drawer-open and button: of the bodies
        "drawer_link" and "button" in MuJoCo's order w, x, y, z. Others: zeros.
      head: the site "pegHead" in peg-insert; not used in the others; shape [3].
      angle: position of the joint "doorjoint" in door-open, rad, negative when open;
        not used in the others; shape [].
    """

    hand: jax.Array
    left_claw: jax.Array
    right_claw: jax.Array
    left_pad: jax.Array
    right_pad: jax.Array
    tcp: jax.Array
    object_pos: jax.Array
    object_quat: jax.Array
    head: jax.Array
    angle: jax.Array


class Start(NamedTuple):
    """What an episode fixes; no leading axes; m, world frame, float32.

    Attributes:
      target: the goal; shape [3].
      object_init: the object's initial position, of the body that is placed where
        readings show another point of it; shape [3].
      tcp_init: the gripper after the hand has been reset; shape [3].
      head_init: the peg's head before the peg is placed; shape [3]; only peg-insert
        uses it.
      handle_init: the window's handle where it begins; shape [3]; only the window
        tasks use it.
    """

    target: jax.Array
    object_init: jax.Array
    tcp_init: jax.Array
    head_init: jax.Array
    handle_init: jax.Array


def quaternion(rotation: jax.Array) -> jax.Array:
    """The unit quaternion of a rotation in the order x, y, z, w; shape [4].

    Of the two signs it has the one that makes its largest component positive, as SciPy
    has it.

    Args:
      rotation: rotation matrix, shape [3, 3].
    """
    m = rotation
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    # 4 q q^T, each row of which is the quaternion times a factor; the row of the
    # largest component is the one that does not vanish.
    x, y, z = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    w = jnp.stack([x, y, z, 1.0 + trace])
    vector = m + m.T + (1.0 - trace) * jnp.eye(3)
    outer = jnp.concatenate([jnp.column_stack([vector, w[:3]]), w[None]])
    row = outer[jnp.argmax(jnp.diagonal(outer))]
    return row / jnp.linalg.norm(row)


def observe(readings: Readings) -> jax.Array:
    """The present part of an observation; float32, shape [18].

    The hand's position, the gripper's opening (1 where the claws are 0.1 m apart or
    more), the object's position and orientation, and zeros in place of a second object.
    """
    opening = distance_between(readings.left_claw, readings.right_claw) / _MAX_OPENING
    parts = (
        readings.hand,
        jnp.clip(opening, 0.0, 1.0)[None],
        readings.object_pos,
        readings.object_quat,
    )
    frame = jnp.concatenate(parts)
    return jnp.pad(frame, (0, FRAME_SIZE - frame.shape[0]))


def reset_frame(
    task_index: int | Array, before: Readings, after: Readings
) -> jax.Array:
    """The frame of an episode's first observation, and the previous one of its second.

    Three tasks move a joint or a body and observe before the positions that follow from
    it are computed, so that they show what was read before.

    Args:
      task_index: place in `ALL_TASKS`; int, or int32 of shape [].
      before: readings before things were placed, see `start`.
      after: readings thereafter.

    Returns:
      float32, shape [18].
    """
    stale = jnp.asarray(_STALE_FRAME)[task_index]
    return jnp.where(stale, observe(before), observe(after))


def stack(
    current: jax.Array, previous: jax.Array, goal: jax.Array, spec: TaskSpec
) -> jax.Array:
    """An observation; float32, shape [39].

    Clipped to the official observation space, which bounds the hand, the gripper and
    the goal. In an episode's first observation, which the original leaves unclipped,
    both frames are the same.

    Args:
      current: frame after the step, shape [18].
      previous: frame before it, shape [18], unclipped.
      goal: shape [3].
      spec: leaves have no leading axes.
    """

    def clip(frame):
        gripper = jnp.clip(frame[:4], _FRAME_LOW, _FRAME_HIGH)
        return jnp.concatenate([gripper, frame[4:]])

    goal = jnp.clip(goal, spec.goal_low, spec.goal_high)
    return jnp.concatenate([clip(current), clip(previous), goal])


def start(
    task_index: int | Array,
    placement: jax.Array,
    before: Readings,
    after: Readings,
) -> Start:
    """What an episode fixes, from where its things are placed and from two readings.

    Args:
      task_index: place in `ALL_TASKS`; int, or int32 of shape [].
      placement: see `TaskSpec`; shape [6].
      before: when the hand has just been reset (50 steps in which the mocap body is
        held at `TaskSpec.hand_init` with an open gripper). The door, drawer, button box
        or window is already where the placement puts it, its joint at rest at 0: the
        original resets twice, and clears the joints but not these in between. The
        puck or peg still lies where the scene has it by default: the puck at rest at
        (0, 0.6, 0.0194), the peg's head at (-0.1, 0.6, 0.0148).
      after: when the object has been placed: the puck or peg, drawer-close's drawer
        pulled out by 0.15 m, window-close's window by 0.2 m.
    """
    goal = jnp.where(jnp.asarray(_DRAWS_GOAL)[task_index], placement[3:], placement[:3])
    target = goal + jnp.asarray(_TARGET_OFFSETS)[task_index]
    object_init = jnp.where(task_index == DRAWER_CLOSE, after.object_pos, placement[:3])
    # The heights that these tasks draw, of the puck and the goal, are not used.
    height = before.object_pos[2]
    keeps = jnp.asarray(_KEEPS_HEIGHT)[task_index]
    handle = before.object_pos.at[0].add(
        jnp.where(task_index == WINDOW_CLOSE, _WINDOW_TRAVEL, 0.0)
    )
    return Start(
        target=target.at[2].set(jnp.where(keeps, height, target[2])),
        object_init=object_init.at[2].set(jnp.where(keeps, height, object_init[2])),
        tcp_init=before.tcp,
        head_init=before.head,
        handle_init=handle,
    )


def distance_between(a: Array, b: Array) -> jax.Array:
    """Euclidean, of two vectors."""
    return jnp.linalg.norm(a - b)
