"""Compares our tasks with the official ones of Meta-World.

    python tests/reference/metaworld_compare.py policies
    python tests/reference/metaworld_compare.py openloop

- policies: success, first success and return of the official scripted policies, without
  noise, in whole episodes of both. Needs the virtual environment of metaworld_runs.py,
  whose interpreter --python names, and the results of its `episodes` in --folder.
- openloop: by how far the hand and the object have moved apart after the same actions
  from the same placement; needs only the fixture.

Writes compare_<run>.json and compare_<run>.md, a table, to --folder. With
--environment official, in that virtual environment, it compares the official one with
itself: `policies` must show no difference; `openloop` shows what the fixture's float32
makes of the puck, 0.3 mm.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from metaworld_client import ALL_TASKS, DEFAULT_PYTHON, TASKS, PolicyClient

FIXTURE = (
    pathlib.Path(__file__).parents[1] / "envs" / "fixtures" / "metaworld_openloop.npz"
)
EPISODE_LENGTH = 500
GOALS_AT_ONCE = 10
# Of the fixture's arrays, those that have one shape in all tasks.
NAMES = (
    "placements",
    "actions",
    "hand",
    "object",
    "first_contact",
    "version_divergence",
)
HAND = slice(0, 3)
OBJECT = slice(4, 7)


class Outcome(NamedTuple):
    """What one step of every environment gave.

    Attributes:
      observation: [tasks, goals, 39], with the goal shown.
      reward: [tasks, goals].
      success: [tasks, goals].
    """

    observation: np.ndarray
    reward: np.ndarray
    success: np.ndarray


class Environment(NamedTuple):
    """Tasks behind two functions, at any number of goals.

    Attributes:
      tasks: their names.
      reset_at: from placements [tasks, goals, 6] to a state and observations.
      step: from a state and actions [tasks, goals, 4] to a state and an `Outcome`.
    """

    tasks: tuple[str, ...]
    reset_at: Callable[[np.ndarray], tuple[Any, np.ndarray]]
    step: Callable[[Any, np.ndarray], tuple[Any, Outcome]]


def our_environment(tasks: Sequence[str] = TASKS) -> Environment:
    """Tasks in one compiled program."""
    from pgx_jax import runtime

    runtime.configure()
    import jax
    import jax.numpy as jnp

    from pgx_jax.envs.metaworld import build_suite

    suite = build_suite(tasks)

    def reset_one(parameters, placement):
        return suite.make_env(parameters).reset_at(placement)

    def step_one(parameters, state, action):
        return suite.make_env(parameters).step(state, action)

    # Tasks, then goals.
    reset_all = jax.jit(jax.vmap(jax.vmap(reset_one, (None, 0)), (0, 0)))
    step_all = jax.jit(jax.vmap(jax.vmap(step_one, (None, 0, 0)), (0, 0, 0)))

    def reset_at(placements):
        state = reset_all(suite.parameters, jnp.asarray(placements, jnp.float32))
        return state, np.asarray(state.obs, np.float64)

    def step(state, actions):
        state = step_all(suite.parameters, state, jnp.asarray(actions, jnp.float32))
        outcome = Outcome(
            np.asarray(state.obs, np.float64),
            np.asarray(state.reward, np.float64),
            np.asarray(state.metrics["success"]) > 0,
        )
        return state, outcome

    return Environment(tuple(tasks), reset_at, step)


def official_environment(tasks: Sequence[str] = TASKS) -> Environment:
    import metaworld_runs as runs

    def reset_at(placements):
        state = [
            [
                # Some tasks draw no goal, which shows in the size of their space.
                (env, runs.reset_at(env, row[: env._random_reset_space.low.size]))
                for row in rows
                for env in [runs.make_env(task)]
            ]
            for task, rows in zip(tasks, placements, strict=True)
        ]
        observations = np.array([[pair[1] for pair in row] for row in state])
        return [[pair[0] for pair in row] for row in state], observations

    def step(state, actions):
        steps = [
            [env.step(action) for env, action in zip(*pair, strict=True)]
            for pair in zip(state, actions, strict=True)
        ]
        outcome = Outcome(
            np.array([[s[0] for s in row] for row in steps]),
            np.array([[float(s[1]) for s in row] for row in steps]),
            np.array([[s[4]["success"] > 0 for s in row] for row in steps]),
        )
        return state, outcome

    return Environment(tuple(tasks), reset_at, step)


ENVIRONMENTS = {"ours": our_environment, "official": official_environment}


def run_policies(
    environment: Environment, client: PolicyClient, placements: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the first success, from 1 (0: none), and returns; [tasks, goals]."""
    state, observation = environment.reset_at(placements)
    first = np.zeros(placements.shape[:2], int)
    total = np.zeros(placements.shape[:2])
    start = time.perf_counter()
    for step in range(1, EPISODE_LENGTH + 1):
        actions = np.clip(client(observation).astype(np.float64), -1.0, 1.0)
        state, outcome = environment.step(state, actions)
        observation = outcome.observation
        total += outcome.reward
        first = np.where((first == 0) & outcome.success, step, first)
        if step % 50 == 0:
            print(f"step {step}: {time.perf_counter() - start:.0f} s", flush=True)
    return first, total


def summarize(first: np.ndarray, returns: np.ndarray) -> dict:
    """Of one task; first successes count only the episodes that have one."""
    succeeded = first > 0
    return {
        "success_rate": float(succeeded.mean()),
        "median_first_step": (
            float(np.median(first[succeeded])) if succeeded.any() else None
        ),
        "mean_return": float(returns.mean()),
        "first_step": first.tolist(),
        "return": returns.tolist(),
    }


def compare_policies(environment: Environment, arguments: argparse.Namespace):
    reference = json.loads((arguments.folder / "episodes.json").read_text())["tasks"]
    goals = slice(arguments.goals)
    placements = np.array(
        [reference[task]["placements"][goals] for task in environment.tasks]
    )
    # Not all at once: XLA's batched decompositions can wait for each other for ever on
    # a CPU of few cores (jaxlib 0.10.2; seen with 500 environments, not with 200).
    starts = range(0, placements.shape[1], GOALS_AT_ONCE)
    with PolicyClient(arguments.python, environment.tasks) as client:
        parts = [
            run_policies(environment, client, placements[:, i : i + GOALS_AT_ONCE])
            for i in starts
        ]
    first, returns = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))

    report = {}
    lines = [
        "| task | success | first success | return |",
        "|---|---|---|---|",
    ]
    for index, task in enumerate(environment.tasks):
        official = summarize(
            np.array(reference[task]["first_step"][goals]),
            np.array(reference[task]["return"][goals]),
        )
        ours = summarize(first[index], returns[index])
        both = np.array(official["first_step"]) > 0, first[index] > 0
        difference = returns[index] - official["return"]
        report[task] = {
            "official": official,
            "ours": ours,
            "only_official_succeeds": int(np.sum(both[0] & ~both[1])),
            "only_ours_succeeds": int(np.sum(both[1] & ~both[0])),
            "return_difference": float(difference.mean()),
            "return_difference_error": float(
                difference.std(ddof=1) / np.sqrt(len(difference))
            ),
        }
        lines.append(
            f"| {task} | {percent(official)} / {percent(ours)} "
            f"| {official['median_first_step']} / {ours['median_first_step']} "
            f"| {official['mean_return']:.0f} / {ours['mean_return']:.0f} "
            f"({100 * difference.mean() / official['mean_return']:+.1f}%) |"
        )
    lines.append(
        f"\nOfficial / ours at the same {placements.shape[1]} placements a task; "
        "success at any of 500 steps, first success the median of those that succeed."
    )
    return report, lines


def percent(summary: dict) -> str:
    return f"{100 * summary['success_rate']:.0f}%"


def load_fixture(tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of tasks by name; the leading axis is the task."""
    with np.load(FIXTURE) as arrays:
        return {
            name: np.stack([arrays[f"{task}/{name}"] for task in tasks])
            for name in NAMES
        }


def run_actions(environment: Environment, saved: dict, every: int) -> np.ndarray:
    """[tasks, goals, steps / every, 2, 3]: hand and object after every few steps."""
    state, _ = environment.reset_at(saved["placements"])
    rows = []
    for step in range(saved["actions"].shape[2]):
        state, outcome = environment.step(state, saved["actions"][:, :, step])
        if (step + 1) % every == 0:
            rows.append(
                np.stack(
                    [outcome.observation[..., HAND], outcome.observation[..., OBJECT]],
                    axis=2,
                )
            )
    return np.stack(rows, axis=2)


def compare_openloop(environment: Environment, arguments: argparse.Namespace):
    saved = load_fixture(environment.tasks)
    versions = 1000 * saved.pop("version_divergence")
    saved = {name: array[:, : arguments.goals] for name, array in saved.items()}
    num_samples = saved["hand"].shape[2]
    every = saved["actions"].shape[2] // num_samples
    official = np.stack([saved["hand"], saved["object"]], axis=3)
    ours = run_actions(environment, saved, every)
    divergence = 1000 * np.linalg.norm(ours - official, axis=-1)  # mm

    steps = every * np.arange(1, num_samples + 1)
    contact = np.where(saved["first_contact"] == 0, np.inf, saved["first_contact"])
    free = steps < contact[..., None]
    report = {}
    lines = [
        "| task | hand before contact | step 50 | step 100 | versions: step 50 | 100 |",
        "|---|---|---|---|---|---|",
    ]
    for index, task in enumerate(environment.tasks):
        middle, end = (
            np.median(divergence[index, :, sample], axis=0).tolist()
            for sample in (num_samples // 2 - 1, num_samples - 1)
        )
        hand = float(np.max(divergence[index, ..., 0], where=free[index], initial=0.0))
        report[task] = {
            "hand_before_contact": hand,
            "step_50": middle,
            "step_100": end,
            "versions_step_50": versions[index, num_samples // 2 - 1].tolist(),
            "versions_step_100": versions[index, -1].tolist(),
            "median": np.median(divergence[index], axis=0).tolist(),
            "highest": divergence[index].max(axis=(0, 1)).tolist(),
        }
        cells = [f"{hand:.1f}"] + [
            f"{pair[0]:.1f} / {pair[1]:.1f}"
            for name, pair in report[task].items()
            if "step" in name
        ]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    lines.append(
        "\nDistance from the official hand / object in mm, median over "
        f"{saved['hand'].shape[1]} placements, after the same actions from the same "
        "placement; before the first contact the largest. versions: the official scene "
        "in our version of MuJoCo (C)."
    )
    return report, lines


COMPARISONS = {"policies": compare_policies, "openloop": compare_openloop}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", choices=COMPARISONS)
    parser.add_argument("--environment", choices=ENVIRONMENTS, default="ours")
    parser.add_argument(
        "--folder", type=pathlib.Path, default=pathlib.Path("runs/metaworld")
    )
    parser.add_argument("--goals", type=int, help="the first so many; default: all")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="that has Meta-World")
    parser.add_argument("--tasks", nargs="+", choices=ALL_TASKS, default=ALL_TASKS)
    arguments = parser.parse_args()
    environment = ENVIRONMENTS[arguments.environment](arguments.tasks)
    report, lines = COMPARISONS[arguments.run](environment, arguments)
    path = arguments.folder / f"compare_{arguments.run}.json"
    if arguments.environment != "ours":
        path = path.with_stem(f"{path.stem}_{arguments.environment}")
    path.write_text(json.dumps({"tasks": report}, indent=1))
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), path, sep="\n")


if __name__ == "__main__":
    main()
