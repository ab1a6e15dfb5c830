"""MT10 under policies that do what they should not, in the original and in ours.

    P=/tmp/metaworld/bin/python  # see metaworld_runs.py
    $P tests/reference/metaworld_stress.py official
    python tests/reference/metaworld_stress.py ours --python $P
    python tests/reference/metaworld_stress.py table
    $P tests/reference/metaworld_stress.py record

Five kinds of policies, in whole episodes from the same placements: each task's scripted
policy; the same with normal noise of 0.5 added to its actions; the scripted policy of
another task, `FOREIGN`; constant actions of -1 and 1 in all 16 combinations; uniformly
random ones. Noise is the same in both. Success at any step hides what is reached and
then lost, so success at the last step and the number of steps in success
are reported too.

- official: in whichever version of MuJoCo the interpreter has. Recorded are that of
  Meta-World and the one that ours came out with, in metaworld_stress_<version>.npz
  beside this file: what these differ by is how closely ours can be expected to follow.
- ours: at the recorded placements.
- record: the fixture of the tests, shorter episodes whose actions are kept, so that
  they can be repeated without the policies; in Meta-World's version of MuJoCo.
- table: of what is recorded and stress_ours.npz in --folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pathlib
from collections.abc import Callable

import numpy as np
from metaworld_client import (
    ACTION_SIZE,
    ALL_TASKS,
    DEFAULT_PYTHON,
    TASKS,
    PolicyClient,
)

MUJOCO = "3.3.0"  # that of Meta-World 3.1.1
RECORDED = {
    version: pathlib.Path(__file__).with_name(f"metaworld_stress_{version}.npz")
    for version in (MUJOCO, "4.0.0")
}
FIXTURE = (
    pathlib.Path(__file__).parents[1] / "envs" / "fixtures" / "metaworld_stress.npz"
)
KINDS = ("scripted", "noisy", "foreign", "extreme", "random")
# Whose scripted policy a task is given: one that reaches for something there.
FOREIGN = {
    "reach-v3": "push-v3",
    "push-v3": "reach-v3",
    "pick-place-v3": "peg-insert-side-v3",
    "door-open-v3": "drawer-open-v3",
    "drawer-open-v3": "door-open-v3",
    "drawer-close-v3": "button-press-topdown-v3",
    "button-press-topdown-v3": "drawer-close-v3",
    "peg-insert-side-v3": "pick-place-v3",
    "window-open-v3": "window-close-v3",
    "window-close-v3": "window-open-v3",
    "reach-wall-v3": "push-wall-v3",
    "push-wall-v3": "pick-place-wall-v3",
    "pick-place-wall-v3": "push-wall-v3",
}
EPISODE_LENGTH = 500
NOISE = 0.5
SEED = 0
OBJECT = slice(4, 7)
HEIGHT = 6
HAND = slice(0, 3)
LIFTED = 0.05  # m
# Of the fixture: the kinds of a task's episodes, their steps, how many of them lie
# between positions that are kept, and how many parts an action's range has.
FIXTURE_KINDS = ("noisy",) * 4 + ("foreign",) * 4 + ("extreme",) * 2
FIXTURE_LENGTH, EVERY, PARTS = 150, 10, 127

# Of an observation, at which goal and step, both from 0, the action that is taken.
Act = Callable[[np.ndarray, int, int], np.ndarray]


def draw_noise(kind: str, task: str, num_goals: int) -> np.ndarray:
    """What is added to the actions, or the actions; float64 [goals, steps, 4]."""
    rng = np.random.default_rng([SEED, KINDS.index(kind), ALL_TASKS.index(task)])
    shape = (num_goals, EPISODE_LENGTH, ACTION_SIZE)
    if kind == "noisy":
        return NOISE * rng.standard_normal(shape)
    if kind == "random":
        return rng.uniform(-1.0, 1.0, shape)
    if kind == "extreme":
        bits = (np.arange(num_goals)[:, None] >> np.arange(ACTION_SIZE)) & 1
        return np.broadcast_to(2.0 * bits[:, None] - 1.0, shape)
    return np.zeros(shape)


class Tally:
    """What episodes come to, for any leading shape of them.

    Attributes:
      first: step of the first success, from 1; 0 where there is none.
      steps: how many were in success.
      last: whether the last one was.
      rise: m, of the object's height above its first at most.
      final: the object's position, last.
    """

    def __init__(self, observation: np.ndarray) -> None:
        shape = observation.shape[:-1]
        self.returns = np.zeros(shape)
        self.first, self.steps = np.zeros(shape, int), np.zeros(shape, int)
        self.last, self.rise = np.zeros(shape, bool), np.zeros(shape)
        self.final = observation[..., OBJECT]
        self._height = observation[..., HEIGHT]
        self._step = 0

    def add(self, observation, reward, success) -> None:
        self._step += 1
        self.returns = self.returns + reward
        self.first = np.where((self.first == 0) & success, self._step, self.first)
        self.steps = self.steps + success
        self.last = success
        self.rise = np.maximum(self.rise, observation[..., HEIGHT] - self._height)
        self.final = observation[..., OBJECT]

    def results(self) -> dict[str, np.ndarray]:
        return {
            "return": np.asarray(self.returns, np.float32),
            "first": np.asarray(self.first, np.int16),
            "steps": np.asarray(self.steps, np.int16),
            "last": np.asarray(self.last, bool),
            "rise": np.asarray(self.rise, np.float32),
            "final": np.asarray(self.final, np.float32),
        }


def run_official_task(job: tuple[str, str, int]) -> dict[str, np.ndarray]:
    """One kind of policy in one task; arrays with a leading axis of goals."""
    import metaworld_runs as runs

    allow_newer_mujoco()
    task, kind, num_goals = job
    env, act = runs.make_env(task), make_policy(task, kind, num_goals)
    rows = []
    for goal, placement in enumerate(runs.draw_placements(task, num_goals)):
        observation = runs.reset_at(env, placement)
        tally = Tally(observation)
        for step in range(EPISODE_LENGTH):
            action = act(observation, goal, step)
            observation, reward, _, _, info = env.step(action)
            tally.add(observation, float(reward), info["success"] > 0)
        rows.append(tally.results())
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def allow_newer_mujoco() -> None:
    """A weld has 11 numbers in MuJoCo 3.3, which Meta-World sets, and later 12."""
    import metaworld_runs as runs
    import mujoco
    from metaworld.sawyer_xyz_env import SawyerMocapBase

    def reset_mocap_welds(self) -> None:
        welds = self.model.eq_type == mujoco.mjtEq.mjEQ_WELD
        self.model.eq_data[welds, : len(runs.WELD)] = runs.WELD

    SawyerMocapBase.reset_mocap_welds = reset_mocap_welds


def make_policy(task: str, kind: str, num_goals: int) -> Act:
    """A policy of the original; its actions are what float32 makes of them."""
    import metaworld_runs as runs

    own = {"scripted": task, "noisy": task, "foreign": FOREIGN[task]}.get(kind)
    policy = runs.make_policies([own])[own] if own else None
    noise = draw_noise(kind, task, num_goals)

    def act(observation, goal, step):
        action = noise[goal, step]
        if policy is not None:
            # A copy, since the door's policy writes into what it is given.
            action = action + policy.get_action(observation.copy())
        return np.clip(np.asarray(action, np.float32), -1.0, 1.0).astype(np.float64)

    return act


def record_task(task: str) -> dict[str, np.ndarray]:
    """Of every episode of the fixture; arrays with a leading axis of goals."""
    import metaworld_runs as runs

    num_goals = len(FIXTURE_KINDS)
    env, rows = runs.make_env(task), []
    placements = runs.draw_placements(task, num_goals)
    for goal, kind in enumerate(FIXTURE_KINDS):
        act = make_policy(task, kind, num_goals)
        observation, steps = runs.reset_at(env, placements[goal]), []
        for step in range(FIXTURE_LENGTH):
            action = np.round(PARTS * act(observation, goal, step)) / PARTS
            observation, reward, _, _, info = env.step(action)
            steps.append((action, observation, float(reward), info["success"] > 0))
        actions, observations, rewards, success = map(
            np.array, zip(*steps, strict=True)
        )
        rows.append(
            {
                "actions": np.round(PARTS * actions).astype(np.int8),
                "hand": observations[EVERY - 1 :: EVERY, HAND].astype(np.float32),
                "object": observations[EVERY - 1 :: EVERY, OBJECT].astype(np.float32),
                "return": rewards.sum().astype(np.float32),
                "steps": success.sum().astype(np.int16),
                "last": success[-1],
            }
        )
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return stacked | {"placements": runs.pad(placements).astype(np.float32)}


def run_record(arguments: argparse.Namespace) -> None:
    import mujoco

    if mujoco.__version__ != MUJOCO:
        raise SystemExit(f"error: MuJoCo is {mujoco.__version__}, not {MUJOCO}")
    with multiprocessing.Pool(arguments.workers) as pool:
        rows = pool.map(record_task, ALL_TASKS[arguments.kept :], chunksize=1)
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    if arguments.kept:
        with np.load(FIXTURE) as file:
            kept = {name: file[name][: arguments.kept] for name in arrays}
        arrays = {k: np.concatenate([kept[k], arrays[k]]) for k in arrays}
    kinds = np.array(FIXTURE_KINDS)
    np.savez_compressed(FIXTURE, kinds=kinds, mujoco=np.array(MUJOCO), **arrays)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size / 1024:.0f} KiB")


def run_official(arguments: argparse.Namespace) -> None:
    import metaworld_runs as runs
    import mujoco

    allow_newer_mujoco()
    goals = arguments.goals
    jobs = [(task, kind, goals) for task in TASKS for kind in KINDS]
    with multiprocessing.Pool(arguments.workers) as pool:
        rows = pool.map(run_official_task, jobs, chunksize=1)
    shape = (len(TASKS), len(KINDS))
    arrays = {
        name: np.stack([row[name] for row in rows]).reshape(
            *shape, *rows[0][name].shape
        )
        for name in rows[0]
    }
    placements = [runs.pad(runs.draw_placements(task, goals)) for task in TASKS]
    arrays["placements"] = np.array(placements, np.float32)
    arrays["mujoco"] = np.array(mujoco.__version__)
    path = RECORDED.get(mujoco.__version__, arguments.folder / "stress_official.npz")
    np.savez_compressed(path, **arrays)
    print(path)


def run_ours(arguments: argparse.Namespace) -> None:
    from metaworld_compare import our_environment

    with np.load(RECORDED[MUJOCO]) as file:
        placements = file["placements"][:, : arguments.goals]
    goals = placements.shape[1]
    environment = our_environment()
    starts = range(0, goals, arguments.at_once)
    noises = np.stack(
        [[draw_noise(kind, task, goals) for kind in KINDS] for task in TASKS]
    )
    with (
        PolicyClient(arguments.python) as own,
        PolicyClient(arguments.python, [FOREIGN[x] for x in TASKS]) as foreign,
    ):
        parts = [
            run_batch(
                environment, own, foreign, placements[:, part], noises[:, :, part]
            )
            for part in (slice(i, i + arguments.at_once) for i in starts)
        ]
    arrays = {
        name: np.concatenate([part[name] for part in parts], axis=2)
        for name in parts[0]
    }
    path = arguments.folder / "stress_ours.npz"
    np.savez_compressed(path, **arrays)
    print(path)
    print_table(arguments, arrays)


def run_batch(environment, own, foreign, placements, noise) -> dict[str, np.ndarray]:
    """All kinds and tasks at once; arrays with axes of tasks, kinds and goals."""
    tasks, kinds, goals = noise.shape[:3]
    repeated = np.broadcast_to(placements[:, None], (tasks, kinds, goals, 6))
    state, observation = environment.reset_at(repeated.reshape(tasks, -1, 6))
    shape = (tasks, kinds, goals)
    tally = Tally(observation.reshape(*shape, -1))
    for step in range(EPISODE_LENGTH):
        seen = observation.reshape(*shape, -1)
        actions = noise[:, :, :, step].copy()
        scripted = own(seen[:, :2].reshape(tasks, 2 * goals, -1))
        actions[:, :2] += scripted.reshape(tasks, 2, goals, -1)
        actions[:, 2] += foreign(seen[:, 2])
        actions = np.clip(actions, -1.0, 1.0).reshape(tasks, kinds * goals, -1)
        state, outcome = environment.step(state, actions)
        observation = outcome.observation
        tally.add(
            observation.reshape(*shape, -1),
            outcome.reward.reshape(shape),
            outcome.success.reshape(shape),
        )
    return tally.results()


def print_table(arguments: argparse.Namespace, ours: dict[str, np.ndarray]) -> None:
    """Of every kind: the original in both versions of MuJoCo, and ours."""
    goals = ours["return"].shape[2]
    results = []
    for path in RECORDED.values():
        with np.load(path) as file:
            results.append({name: file[name][:, :, :goals] for name in ours})
    results.append(ours)
    lines = []
    for j, kind in enumerate(KINDS):
        lines += [
            f"\n{kind}\n",
            "| task | success | last step | steps in success | return | lifted |",
            "|---|---|---|---|---|---|",
        ]
        for i, task in enumerate(TASKS):
            cells = [task] + [
                " / ".join(f"{np.mean(x[name][i, j] > 0):.0%}" for x in results)
                for name in ("first", "last")
            ]
            cells += [
                " / ".join(f"{np.mean(x[name][i, j]):.0f}" for x in results)
                for name in ("steps", "return")
            ]
            cells.append(
                " / ".join(f"{np.mean(x['rise'][i, j] > LIFTED):.0%}" for x in results)
            )
            lines.append(f"| {' | '.join(cells)} |")
    versions = " / ".join(f"MuJoCo {version}" for version in RECORDED)
    lines.append(f"\n{versions} / ours, at {goals} placements a task and kind.")
    arguments.folder.joinpath("stress.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def run_table(arguments: argparse.Namespace) -> None:
    with np.load(arguments.folder / "stress_ours.npz") as file:
        print_table(arguments, dict(file))


RUNS = {
    "official": run_official,
    "ours": run_ours,
    "table": run_table,
    "record": run_record,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", choices=RUNS)
    parser.add_argument(
        "--folder", type=pathlib.Path, default=pathlib.Path("runs/metaworld")
    )
    parser.add_argument("--goals", type=int, default=50, help="placements a task")
    parser.add_argument("--at-once", type=int, default=5, help="of ours, a program's")
    parser.add_argument("--workers", type=int, help="of official; default: all cores")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="that has Meta-World")
    parser.add_argument(
        "--kept", type=int, default=0, help="tasks of the fixture that stay, the first"
    )
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    RUNS[arguments.run](arguments)


if __name__ == "__main__":
    main()
