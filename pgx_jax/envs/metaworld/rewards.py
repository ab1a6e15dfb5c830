"""The reward and the success of each task.

Pure functions of what a scene reads off (`Readings`) and of what an episode fixes at
its start (`Start`). Lengths are in m, positions in the world frame, arrays are float32.

Source: Meta-World 3.1.1, the v3 environments with their reward version v2; `tolerance`
is dm_control's. Kept as they are, for the returns to be comparable:

- What pick-place means for the pads' initial position is their current one.
- push counts the grasp four times once the puck is held; pick-place and peg-insert
  count it once.
- Success and the reward's bonus have radii of their own: pick-place succeeds within
  0.07 m and rewards 0.05 m; push succeeds at 0.05 m and rewards what is closer.
- drawer-close uses the common radius of 0.05 m, not its own of 0.04 m, and compares a
  point 0.05 m above the handle with the target: when shut it is still 0.051 m away.
- button-press scales its reach by how far the button, as it now is, was from the
  initial gripper.
- reach scales by the hand's initial position, other tasks by the gripper's.

Where the original raises (a Hamacher product of values outside [0, 1], a negative
margin), values are clipped.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.envs.metaworld.observations import (
    DRAWER_TRAVEL,
    REACH,
    Readings,
    Start,
    distance_between,
)
from pgx_jax.envs.metaworld.tasks import ALL_TASKS, SPECS, TASKS, Array

MAX_REWARD = 10.0

_VALUE_AT_MARGIN = 0.1
_RADIUS = 0.05  # m around the target, where a task says nothing else
_LIFT = 0.01  # m above the initial position, from where what is held is rewarded
_BUTTON_TRAVEL = 0.0935  # m from the button's top to its goal
_WALL_PASSED = 0.75  # m, in y
# Two boxes in front of the block, below and above its hole, as two corners each; from
# the target.
BLOCK_BOXES = np.array(
    [
        [[0.0800796, 0.0999124, -0.120], [0.1199203, -0.1001194, -0.034]],
        [[0.0800796, 0.0999124, 0.030], [0.1399203, -0.1001354, 0.060]],
    ],
    np.float32,
)


def reward(
    task_index: int | Array,
    readings: Readings,
    observation: jax.Array,
    action: jax.Array,
    start: Start,
    tasks: tuple[str, ...] = TASKS,
) -> tuple[jax.Array, jax.Array]:
    """The reward of a step and whether it is a success.

    With an integer only that task is computed. With a traced index it is a
    `lax.switch`: under `jax.vmap` over the index all of `tasks` are computed, some
    hundred operations that share their subexpressions, and one is selected; where the
    index is not batched only the one is computed, which a selection among all would not
    save.

    Args:
      task_index: place in `ALL_TASKS`; int, or int32 of shape [].
      readings: after the step.
      observation: of `stack`; only its first 7 numbers are used; shape [39].
      action: shape [4]; of it only the gripper's effort, clipped to [-1, 1].
      start: what the episode fixes.
      tasks: names of those that a traced index may be of.

    Returns:
      The reward, float32 in [0, 10], and whether the goal is reached, bool; shapes [].
    """
    scene = (readings, observation, action, start)
    if isinstance(task_index, jax.Array):
        places = [ALL_TASKS.index(task) for task in tasks]
        branch = np.zeros(len(ALL_TASKS), np.int32)
        branch[places] = range(len(places))
        branches = [_REWARDS[place] for place in places]
        return jax.lax.switch(jnp.asarray(branch)[task_index], branches, *scene)
    return _REWARDS[int(task_index)](*scene)


def tolerance(
    x: jax.Array,
    upper: float | jax.Array,
    margin: float | jax.Array,
    *,
    lower: float = 0.0,
    gaussian: bool = False,
) -> jax.Array:
    """1 within bounds, 0.1 at a margin from them and less beyond; any shape.

    Of the distance d in margins, it is 1 / (1 + 9 d^2) or the Gaussian 0.1^(d^2).

    Args:
      x: of any shape.
      upper: upper bound, included.
      margin: in the unit of x; nothing is added outside the bounds where it is not
        positive.
      lower: lower bound, included.
      gaussian: whether the Gaussian is used.
    """
    outside = jnp.maximum(lower - x, x - upper)
    distance = outside / jnp.where(margin > 0.0, margin, 1.0)
    if gaussian:
        value = jnp.exp(math.log(_VALUE_AT_MARGIN) * distance**2)
    else:
        value = 1.0 / (1.0 + (1.0 / _VALUE_AT_MARGIN - 1.0) * distance**2)
    return jnp.where(outside <= 0.0, 1.0, jnp.where(margin > 0.0, value, 0.0))


def hamacher_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b / (a + b - a b), a smooth "and" of two values in [0, 1]; 0 where both are."""
    a, b = jnp.clip(a, 0.0, 1.0), jnp.clip(b, 0.0, 1.0)
    denominator = a + b - a * b
    positive = denominator > 0.0
    return jnp.where(positive, a * b / jnp.where(positive, denominator, 1.0), 0.0)


def _effort(action):
    """How hard the gripper is asked to close, from 0 to 1."""
    return jnp.clip(action[3], 0.0, 1.0)


def _cage(sides, readings, object_pos, action, start):
    """How well the pads enclose the object, and close on it then; in [0, 1].

    Args:
      sides: how well the left and the right pad are beside the object; shape [2].
      readings: after the step.
      object_pos: shape [3].
      action: shape [4].
      start: what the episode fixes.
    """
    across = np.array([0, 2])  # x and z: the pads close along y
    slack = 0.005
    margin = distance_between(start.object_init[across], start.tcp_init[across]) - slack
    centered = tolerance(
        distance_between(readings.tcp[across], object_pos[across]), slack, margin
    )
    caging = hamacher_product(hamacher_product(sides[0], sides[1]), centered)
    gripping = jnp.where(caging > 0.97, _effort(action), 0.0)
    return caging, hamacher_product(caging, gripping)


def _grasp(sides, readings, object_pos, action, start):
    """The mean of what `_cage` returns."""
    caging, gripping = _cage(sides, readings, object_pos, action, start)
    return (gripping + caging) / 2.0


def _enclose(radius, reach, readings, object_pos, start):
    """How well each pad is beside the object, scaled by the distance it began from.

    Args:
      radius: of the object, m.
      reach: distance of a pad that counts as beside it, m.
      readings: after the step.
      object_pos: shape [3].
      start: what the episode fixes.
    """
    pads = jnp.stack([readings.left_pad[1], readings.right_pad[1]])
    margin = jnp.abs(jnp.abs(pads - start.object_init[1]) - reach)
    return tolerance(jnp.abs(pads - object_pos[1]), reach, margin, lower=radius)


def _grasp_from_start(radius, reach, readings, object_pos, action, start):
    """`_grasp` of pads as `_enclose` has them."""
    sides = _enclose(radius, reach, readings, object_pos, start)
    return _grasp(sides, readings, object_pos, action, start)


def _reach(readings, observation, action, start):
    distance = distance_between(readings.tcp, start.target)
    margin = distance_between(SPECS[REACH].hand_init, start.target)
    reward = MAX_REWARD * tolerance(distance, _RADIUS, margin)
    return reward, distance <= _RADIUS


def _push(readings, observation, action, start):
    opening, object_pos = observation[3], observation[4:7]
    to_target = distance_between(object_pos, start.target)
    in_place = tolerance(
        to_target, _RADIUS, distance_between(start.object_init, start.target)
    )
    grasp = _grasp_from_start(0.015, 0.05, readings, object_pos, action, start)
    held = (distance_between(object_pos, readings.tcp) < 0.02) & (opening > 0.0)
    reward = jnp.where(held, 4.0 * grasp + 1.0 + 5.0 * in_place, 2.0 * grasp)
    reward = jnp.where(to_target < _RADIUS, MAX_REWARD, reward)
    return reward, to_target <= _RADIUS


def _pick_place(readings, observation, action, start):
    opening, object_pos = observation[3], observation[4:7]
    to_target = distance_between(object_pos, start.target)
    in_place = tolerance(
        to_target, _RADIUS, distance_between(start.object_init, start.target)
    )
    beside, radius = 0.05, 0.015
    gaps = jnp.stack(
        [
            readings.left_pad[1] - object_pos[1],
            object_pos[1] - readings.right_pad[1],
        ]
    )
    # The margin is meant to be that of the initial pads, but is that of these: a pad
    # too far out is worth 0.1 however far it is.
    margin = jnp.abs(jnp.abs(gaps) - beside)
    sides = tolerance(gaps, beside, margin, lower=radius)
    grasp = _grasp(sides, readings, object_pos, action, start)
    held = (distance_between(object_pos, readings.tcp) < 0.02) & (opening > 0.0)
    lifted = object_pos[2] - _LIFT > start.object_init[2]
    bonus = jnp.where(held & lifted, 1.0 + 5.0 * in_place, 0.0)
    reward = hamacher_product(grasp, in_place) + bonus
    reward = jnp.where(to_target < _RADIUS, MAX_REWARD, reward)
    return reward, to_target <= 0.07


def _door_open(readings, observation, action, start):
    hand, handle = observation[:3], observation[4:7]
    closing = (jnp.clip(action[3], -1.0, 1.0) + 1.0) / 2.0
    door = handle + np.array([-0.05, 0.0, 0.0], np.float32)

    # A funnel round the handle keeps the hand above it until it is near.
    radius = 0.12
    beyond = distance_between(hand[:2], door[:2]) - radius
    tiny = np.finfo(np.float32).tiny
    floor = jnp.where(beyond > 0.0, 0.04 * jnp.log(jnp.maximum(beyond, tiny)) + 0.4, 0)
    above = tolerance(floor - hand[2], 0.01, floor / 2.0)
    above = jnp.where(hand[2] >= floor, 1.0, above)
    behind_handle = door + np.array([0.05, 0.03, -0.01], np.float32)
    ready = hamacher_product(
        above, tolerance(distance_between(hand, behind_handle), radius / 2.0, 0.5)
    )

    begun = (readings.angle < -math.pi / 90.0).astype(jnp.float32)
    to_open = math.pi / 2.0 + math.pi / 6.0 + readings.angle
    opened = 0.2 * begun + 0.8 * tolerance(to_open, 0.5, math.pi / 3.0)

    success = jnp.abs(handle[0] - start.target[0]) <= 0.08
    reward = 2.0 * hamacher_product(ready, closing) + 8.0 * opened
    return jnp.where(success, MAX_REWARD, reward), success


def _drawer_open(readings, observation, action, start):
    hand, handle = observation[:3], observation[4:7]
    to_target = distance_between(handle, start.target)
    opened = tolerance(to_target, 0.02, DRAWER_TRAVEL)
    # Errors in x and y weigh more, so that the gripper drops onto the handle.
    weights = np.array([3.0, 3.0, 1.0], np.float32)
    handle_init = start.target + np.array([0.0, DRAWER_TRAVEL, 0.0], np.float32)
    reached = tolerance(
        distance_between(handle * weights, hand * weights),
        0.01,
        distance_between(handle_init * weights, start.tcp_init * weights),
    )
    return 5.0 * (reached + opened), to_target <= 0.03


def _drawer_close(readings, observation, action, start):
    handle = observation[4:7]
    to_target = distance_between(handle, start.target)
    margin = jnp.abs(distance_between(start.object_init, start.target) - _RADIUS)
    in_place = tolerance(to_target, _RADIUS, margin)
    radius = 0.005
    reached = tolerance(
        distance_between(handle, readings.tcp),
        radius,
        jnp.abs(distance_between(start.object_init, start.tcp_init) - radius),
        gaussian=True,
    )
    reached = hamacher_product(reached, _effort(action))
    success = to_target <= _RADIUS + 0.015
    reward = jnp.where(success, 1.0, hamacher_product(reached, in_place))
    return MAX_REWARD * reward, success


def _button_press(readings, observation, action, start):
    closed, button = 1.0 - observation[3], observation[4:7]
    to_button = distance_between(button, readings.tcp)
    to_target = jnp.abs(start.target[2] - button[2])
    near = tolerance(to_button, 0.01, distance_between(button, start.tcp_init))
    pressed = tolerance(to_target, 0.005, _BUTTON_TRAVEL)
    reward = 5.0 * hamacher_product(closed, near)
    reward += jnp.where(to_button <= 0.03, 5.0 * pressed, 0.0)
    return reward, to_target <= 0.024


def _peg_insert(readings, observation, action, start):
    opening, peg = observation[3], observation[4:7]
    radius = 0.07
    weights = np.array([1.0, 2.0, 2.0], np.float32)
    to_target = distance_between(readings.head * weights, start.target * weights)
    margin = distance_between(start.head_init * weights, start.target * weights)
    clear = [_clearance(readings.head - start.target, box) for box in BLOCK_BOXES]
    in_place = hamacher_product(
        tolerance(to_target, radius, margin), hamacher_product(*clear)
    )
    grasp = _grasp_from_start(0.0075, 0.03, readings, peg, action, start)
    held = (distance_between(peg, readings.tcp) < 0.08) & (opening > 0.0)
    held &= peg[2] - _LIFT > start.object_init[2]
    grasp = jnp.where(held, 1.0, grasp)
    bonus = jnp.where(held, 1.0 + 5.0 * in_place, 0.0)
    reward = hamacher_product(grasp, in_place) + bonus
    success = to_target <= radius
    return jnp.where(success, MAX_REWARD, reward), success


def _clearance(point, box):
    """1 outside a box; inside, the product of the way made along each of its axes.

    Args:
      point: shape [3].
      box: the corner where the product is 0 and the one where it is 1; shape [2, 3].
    """
    way = (point - box[0]) / (box[1] - box[0])
    inside = jnp.all((way >= 0.0) & (way <= 1.0))
    return jnp.where(inside, jnp.prod(way), 1.0)


def _window_open(readings, observation, action, start):
    return _slide_window(start.object_init, False, readings, start)


def _window_close(readings, observation, action, start):
    return _slide_window(start.handle_init, True, readings, start)


def _slide_window(initial, gaussian, readings, start):
    """Both window tasks.

    Args:
      initial: what the progress is scaled by the distance of, in x; shape [3].
      gaussian: the form of the reward for reaching the handle.
      readings: after the step.
      start: what the episode fixes.
    """
    handle, radius = readings.object_pos, 0.02
    to_target = jnp.abs(handle[0] - start.target[0])
    margin = jnp.abs(jnp.abs(initial[0] - start.target[0]) - _RADIUS)
    in_place = tolerance(to_target, _RADIUS, margin)
    reached = tolerance(
        distance_between(handle, readings.tcp),
        radius,
        jnp.abs(distance_between(start.handle_init, start.tcp_init) - radius),
        gaussian=gaussian,
    )
    return MAX_REWARD * hamacher_product(reached, in_place), to_target <= _RADIUS


def _push_wall(readings, observation, action, start):
    object_pos = observation[4:7]
    beside = jnp.array([-0.05, 0.77, 0.0]).at[2].set(object_pos[2])
    way = _pass_wall(object_pos, beside, (3.0, 1.0, 1.0), start)
    grasp = _grasp_from_start(0.015, 0.05, readings, object_pos, action, start)
    held = (distance_between(object_pos, readings.tcp) < 0.02) & (observation[3] > 0.0)
    reward = 2.0 * grasp + jnp.where(held, way, 0.0)
    return _end_behind_wall(object_pos, reward, start)


def _pick_place_wall(readings, observation, action, start):
    object_pos = observation[4:7]
    above = jnp.array([0.0, 0.77, 0.25]).at[0].set(start.target[0])
    weights = (1.0, 1.0, 3.0)
    way = _pass_wall(object_pos, above, weights, start)
    sides = _enclose(0.015, 0.05, readings, object_pos, start)
    _, gripping = _cage(sides, readings, object_pos, action, start)
    held = (distance_between(object_pos, readings.tcp) < 0.02) & (observation[3] > 0.0)
    held &= object_pos[2] - 0.015 > start.object_init[2]
    reward = hamacher_product(gripping, _approach(object_pos, above, weights, start))
    return _end_behind_wall(object_pos, reward + jnp.where(held, way, 0.0), start)


def _approach(object_pos, midpoint, weights, start):
    """How near a puck is to a point beside or above the wall, in [0, 1]."""
    weights = np.array(weights, np.float32)
    return tolerance(
        distance_between(object_pos * weights, midpoint * weights),
        _RADIUS,
        distance_between(start.object_init * weights, midpoint * weights),
    )


def _pass_wall(object_pos, midpoint, weights, start):
    """What a held puck earns on its way by such a point to the goal behind the wall."""
    in_place = tolerance(
        distance_between(object_pos, start.target),
        _RADIUS,
        distance_between(start.object_init, start.target),
    )
    before = 4.0 * _approach(object_pos, midpoint, weights, start)
    return 1.0 + jnp.where(object_pos[1] > _WALL_PASSED, 4.0 + 3.0 * in_place, before)


def _end_behind_wall(object_pos, reward, start):
    """Reward and success, with the bonus at the goal."""
    to_target = distance_between(object_pos, start.target)
    return jnp.where(to_target < _RADIUS, MAX_REWARD, reward), to_target <= 0.07


# In the order of `ALL_TASKS`.
_REWARDS = (
    _reach,
    _push,
    _pick_place,
    _door_open,
    _drawer_open,
    _drawer_close,
    _button_press,
    _peg_insert,
    _window_open,
    _window_close,
    _reach,
    _push_wall,
    _pick_place_wall,
)
