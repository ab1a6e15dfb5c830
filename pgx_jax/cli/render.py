"""Writes a video of policies at work, or of an environment under an untrained policy.

    pgx_jax render --workdir=runs/cartpole_planted --task=A1,B1 --output=cartpole.mp4
    pgx_jax render --suite=half_cheetah_velocity --output=cheetahs.gif

Robots are rendered by MuJoCo where OpenGL starts; `MUJOCO_GL` set to egl or osmesa
names the backend where there is no display.
"""

from __future__ import annotations

import math
import sys

from absl import flags

from pgx_jax import runtime
from pgx_jax.arguments import shorten
from pgx_jax.cli.common import parse_flags, quiet
from pgx_jax.settings import Problem, SettingsError

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a run, also unfinished.")
_SUITE = flags.DEFINE_string(
    "suite", None, "In place of a workdir: a suite, under an untrained policy."
)
_TASK = flags.DEFINE_string(
    "task", "all", "Tasks by name or index, separated by commas, or all."
)
_OUTPUT = flags.DEFINE_string("output", None, "The video; ends in .mp4 or .gif.")
_STAGE = flags.DEFINE_string(
    "stage", None, "group_training or meta_training; by default the later one begun."
)
_METHOD = flags.DEFINE_string(
    "method", "estimated groups", "Way of grouping, by its name in the report."
)
_EPISODES = flags.DEFINE_integer("episodes", 1, "Episodes, one after the other.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of initial states and actions.")
_FPS = flags.DEFINE_float("fps", None, "Frames a second; by default one a step.")
_SPEED = flags.DEFINE_float("speed", 1.0, "1 is real time, 2 twice as fast.")
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    None,
    "Take the most likely action, else sample; by default only trained policies do.",
)
_OPENGL = flags.DEFINE_bool(
    "opengl", True, "Use MuJoCo's renderer where it starts, else plain drawings."
)


def main() -> None:
    """Writes the video that the flags describe, or says in one line why not."""
    parse_flags(sys.argv, most_arguments=0)
    runtime.choose_opengl()
    quiet()
    try:
        render()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


def check_flags() -> None:
    """Refuses flags that no video could be made by.

    Raises:
      SettingsError: the message has a line for each.
    """
    problems = [
        Problem(f"--{flag.name}", f"{allowed}, got {shorten(flag.value)}")
        for flag, holds, allowed in (
            (_OUTPUT, bool(_OUTPUT.value), "must name a video"),
            (_WORKDIR, _WORKDIR.value != "", "must name a directory"),
            (
                _WORKDIR,
                (_WORKDIR.value is None) != (_SUITE.value is None),
                "or --suite must be given, and not both",
            ),
            (_EPISODES, _EPISODES.value >= 1, "must be at least 1"),
            (_SEED, 0 <= _SEED.value < 2**32, "must be in [0, 2^32)"),
            (
                _FPS,
                _FPS.value is None or 0 < _FPS.value < math.inf,
                "must be positive and finite",
            ),
            (_SPEED, 0 < _SPEED.value < math.inf, "must be positive and finite"),
        )
        if not holds
    ]
    if problems:
        raise SettingsError(problems)


def render() -> None:
    """Writes the video that the flags describe."""
    import jax
    from rich.progress import track

    from pgx_jax import rendering
    from pgx_jax.envs import as_tasks, make_suite

    check_flags()
    output = str(_OUTPUT.value)
    rendering.check_output(output)
    workdir, suite_name = _WORKDIR.value, _SUITE.value
    play_key, policy_key = jax.random.split(jax.random.key(_SEED.value))
    if workdir is not None:
        suite, policies = rendering.restore_policies(
            workdir, _STAGE.value, _METHOD.value
        )
    else:
        assert suite_name is not None
        suite = as_tasks(make_suite(suite_name))
        policies = rendering.untrained_policies(suite, policy_key)
    deterministic = _DETERMINISTIC.value
    tiles = rendering.play_tasks(
        suite,
        policies,
        rendering.find_tasks(suite, _TASK.value),
        play_key,
        num_episodes=_EPISODES.value,
        deterministic=suite_name is None if deterministic is None else deterministic,
    )
    speed = _SPEED.value
    fps = rendering.natural_fps(tiles, speed) if _FPS.value is None else _FPS.value
    frames = rendering.draw_frames(tiles, fps, speed=speed, opengl=_OPENGL.value)
    count = rendering.count_frames(tiles, fps, speed=speed)
    shown = track(frames, "drawing", total=count, transient=True)
    rendering.write_video(output, shown, fps)
    print(f"{output}: {count} frames, {count / fps:.1f} s")
