"""Meta-World's tasks as families."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.metaworld import scene
from pgx_jax.envs.metaworld.arm import HAND_QUAT, START_POSES
from pgx_jax.envs.metaworld.env import (
    ACTION_SIZE,
    EPISODE_LENGTH,
    SHOWN_QUATS,
    MetaWorld,
    Parameters,
    load_base,
    read_hand,
)
from pgx_jax.envs.metaworld.objects import OBJECTS
from pgx_jax.envs.metaworld.observations import OBSERVATION_SIZE
from pgx_jax.envs.metaworld.tasks import ALL_TASKS, KEEPS_HEIGHT, SPECS, TASKS
from pgx_jax.envs.mjx import (
    put_model,
    stack_differences,
)

POOL_SIZE = 128


def _describe(task: str) -> Parameters:
    """A task's parameters but for its model, with NumPy leaves."""
    spec, manipulated = SPECS[ALL_TASKS.index(task)], OBJECTS[task]
    pose = START_POSES[tuple(round(float(x), 6) for x in spec.hand_init)]
    begins = manipulated.rest if manipulated.begins is None else manipulated.begins
    offset = manipulated.offset
    rest = manipulated.rest if offset is None else np.add(manipulated.rest, offset)
    qpos = np.concatenate([pose.qpos, rest, (1, 0, 0, 0)])
    model = scene.build_model(task)
    data = mujoco.MjData(model)
    data.qpos[:], data.mocap_quat[0] = qpos, HAND_QUAT
    mujoco.mj_kinematics(model, data)
    values: dict[str, Any] = {
        "model": {},
        "spec": spec,
        "qpos": qpos,
        "qvel": np.concatenate([pose.qvel, np.zeros(6)]),
        "hand": read_hand(data.xpos, data.xmat.reshape(-1, 3, 3)),
        "hangs": np.asarray(offset is not None),
        "stays": np.asarray(manipulated.stays),
        "displaced": np.subtract(begins, manipulated.rest),
        "keeps_height": np.asarray(task in KEEPS_HEIGHT),
        "tracked": np.asarray(manipulated.tracked, float),
        "tracked_quat": np.asarray(manipulated.tracked_quat, float),
        "shown_quat": np.asarray(SHOWN_QUATS.index(manipulated.shown_quat), np.int32),
    }
    return Parameters(**values)


@functools.cache
def _describe_all(tasks: tuple[str, ...]) -> Parameters:
    """The parameters of tasks, stacked in their order."""

    def stack(*leaves):
        values = np.stack(leaves)
        is_float = np.issubdtype(values.dtype, np.floating)
        return jnp.asarray(values.astype(np.float32) if is_float else values)

    # Suites may be made inside jit, and what is kept must not be of one program.
    with jax.ensure_compile_time_eval():
        models = [put_model(scene.build_model(task)) for task in tasks]
        stacked = jax.tree.map(stack, *[_describe(task) for task in tasks])
        return stacked._replace(model=stack_differences(load_base()[0], models))


@functools.cache
def _make_maker(tasks: tuple[str, ...]) -> Callable[[Parameters], MetaWorld]:
    """Makes environments of some tasks; cached, as programs are by it."""
    return functools.partial(MetaWorld, tasks=tasks)


def _describe_nothing(parameters: Parameters) -> str:
    """Names say what sets the tasks apart."""
    del parameters
    return ""


def _check_names(tasks: Sequence[str], known: tuple[str, ...], where: str) -> None:
    if isinstance(tasks, str) or not tasks:
        raise ValueError(f"tasks must be a list of names, got {tasks!r}")
    wrong = [task for task in tasks if task not in known]
    if wrong:
        raise ValueError(
            f"tasks {', '.join(map(repr, wrong))} do not exist in {where}; there are "
            f"{', '.join(known)}"
        )
    if len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks must not repeat a name, got {', '.join(tasks)}")


def mt10(tasks: Sequence[str] = TASKS) -> FamilySuite:
    """Meta-World's MT10, or some of its tasks; one program for any of them.

    A one-hot task id is appended by `TaskIdSuite`, or `--config.suite.task_id`.

    Args:
      tasks: names from `TASKS`, each at most once.

    Raises:
      ValueError: a name does not exist, is of another benchmark or version, or is
        repeated, or there is none; the message says which.
    """
    _check_names(tasks, TASKS, "MT10 (v3)")
    return build_suite(tasks)


def build_suite(tasks: Sequence[str] = ALL_TASKS) -> FamilySuite:
    """Tasks of Meta-World, of MT10 or others of MT50; one program for all of them.

    Args:
      tasks: names from `ALL_TASKS`, each at most once.

    Raises:
      ValueError: a name does not exist or is repeated, or there is none; the message
        says which.
    """
    _check_names(tasks, ALL_TASKS, "what is ported of MT50 (v3)")
    tasks = tuple(tasks)
    family, make_env = TASKS, MetaWorld
    if not set(tasks) <= set(TASKS):
        family, make_env = ALL_TASKS, _make_maker(tasks)
    chosen = np.array([family.index(task) for task in tasks])
    return FamilySuite(
        make_env=make_env,
        parameters=jax.tree.map(lambda x: x[chosen], _describe_all(family)),
        name="metaworld_mt10" if tasks == TASKS else "metaworld",
        task_names=tasks,
        observation_size=OBSERVATION_SIZE,
        action_space=ActionSpace(ACTION_SIZE, discrete=False),
        episode_length=EPISODE_LENGTH,
        pool_size=POOL_SIZE,
        describe=_describe_nothing,
    )
