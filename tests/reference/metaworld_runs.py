"""What the official Meta-World does: references for our port of it to MJX.

    python3.11 -m venv /tmp/metaworld
    /tmp/metaworld/bin/pip install metaworld==3.1.1 packaging
    P=/tmp/metaworld/bin/python
    $P tests/reference/metaworld_runs.py episodes
    $P tests/reference/metaworld_runs.py openloop
    python tests/reference/metaworld_runs.py replay --assets $($P -c \
        "import metaworld as m; print(m.__path__[0] + '/assets')")
    python tests/reference/metaworld_runs.py record

Together less than three minutes on one CPU core. Results go to --folder, but those of
`record` to tests/envs/fixtures/metaworld_openloop.npz.

- episodes: success, first success and return of the scripted policies, without noise,
  in whole episodes with the goal shown; 50 placements a task.
- openloop: 100 actions of the scripted policies from the first ten of these placements,
  with the trajectory and all that it takes to start from the same state.
- replay: the same actions from the same states in the same scenes, in whichever version
  of MuJoCo the interpreter has, which need not have Meta-World. By how far it diverges
  is how closely a port can be expected to follow. In MuJoCo 3.3.0, the version that
  Meta-World pins, the divergence is exactly 0.
- record: the fixture, from the results of `openloop` and `replay`.
- play: a policy trained in our scene, see metaworld_export.py, in whole episodes of the
  original; 50 placements a task.
- speed: steps per second of the original on one core.
- serve: answers observations with the actions of the scripted policies, see
  metaworld_client.py.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import pickle
import sys
import time
import warnings

import mujoco
import numpy as np
from metaworld_client import ACTION_SIZE, ALL_TASKS, receive, send

FIXTURE = (
    pathlib.Path(__file__).parents[1] / "envs" / "fixtures" / "metaworld_openloop.npz"
)
SEED = 0
EPISODE_LENGTH = 500
OPENLOOP_LENGTH = 100
PLACEMENT_SIZE = 6
OBSERVATION_SIZE = 39
EVERY = 5  # steps between the positions that the fixture keeps
NUM_SUBSTEPS = 5
MOCAP_QUAT = (1.0, 0.0, 1.0, 0.0)
# Anchor, relative position and orientation of the hand's weld, and its torque scale.
WELD = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0)
# Where an observation shows the object: kind and name of an element, and an offset.
OBJECTS = {
    "reach-v3": ("body", "obj", (0.0, 0.0, 0.0)),
    "push-v3": ("body", "obj", (0.0, 0.0, 0.0)),
    "pick-place-v3": ("body", "obj", (0.0, 0.0, 0.0)),
    "door-open-v3": ("geom", "handle", (0.0, 0.0, 0.0)),
    "drawer-open-v3": ("body", "drawer_link", (0.0, -0.16, 0.0)),
    "drawer-close-v3": ("body", "drawer_link", (0.0, -0.16, 0.05)),
    "button-press-topdown-v3": ("body", "button", (0.0, 0.0, 0.193)),
    "peg-insert-side-v3": ("site", "pegGrasp", (0.0, 0.0, 0.0)),
    "window-open-v3": ("site", "handleOpenStart", (0.0, 0.0, 0.0)),
    "window-close-v3": ("site", "handleCloseStart", (0.0, 0.0, 0.0)),
    "reach-wall-v3": ("body", "obj", (0.0, 0.0, 0.0)),
    "push-wall-v3": ("body", "obj", (0.0, 0.0, 0.0)),
    "pick-place-wall-v3": ("body", "obj", (0.0, 0.0, 0.0)),
}


def make_policies(tasks):
    """The scripted policies, by task."""
    from metaworld.policies import ENV_POLICY_MAP

    # They warn of actions that the environment clips.
    warnings.filterwarnings("ignore", module="metaworld")
    return {task: ENV_POLICY_MAP[task]() for task in tasks}


def make_env(task: str):
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    return ALL_V3_ENVIRONMENTS[task]()


def draw_placements(task: str, num_goals: int) -> np.ndarray:
    """What the official reset accepts of its own draws; float64 [num_goals, 3 or 6]."""
    env = make_env(task)
    env.seed(SEED + ALL_TASKS.index(task))
    env.seeded_rand_vec, env._freeze_rand_vec, env._set_task_called = True, False, True
    placements = []
    for _ in range(num_goals):
        env.reset()
        placements.append(env._last_rand_vec.copy())
    return np.array(placements)


def set_placement(env, placement: np.ndarray) -> None:
    """What the next reset puts things at, as the MT benchmarks set it: goal shown."""
    from metaworld.types import Task

    content = {
        "rand_vec": placement,
        "env_cls": type(env),
        "partially_observable": False,
    }
    env.set_task(Task(env_name=env.task_name, data=pickle.dumps(content)))


def reset_at(env, placement: np.ndarray) -> np.ndarray:
    """Begins an episode at a placement with the goal shown; returns the observation."""
    set_placement(env, placement)
    observation, _ = env.reset()
    return observation


def act(policy, observation: np.ndarray) -> np.ndarray:
    """The policy's action as the environment will take it; float64 [ACTION_SIZE]."""
    # A copy, since the door's policy writes into what it is given.
    action = policy.get_action(observation.copy())
    return np.clip(np.asarray(action, np.float64), -1.0, 1.0)


def pad(placements: np.ndarray) -> np.ndarray:
    """[goals, PLACEMENT_SIZE]: zeros where a task draws no goal."""
    missing = PLACEMENT_SIZE - placements.shape[1]
    return np.pad(placements, ((0, 0), (0, missing)))


def summarize(success: np.ndarray, first: np.ndarray, returns: np.ndarray) -> dict:
    """Means over goals, and of those that succeed the median first step, from 1."""
    return {
        "success_rate": float(np.mean(success)),
        "median_first_step": float(np.median(first[success])) if any(success) else None,
        "mean_return": float(np.mean(returns)),
    }


def run_episode(env, policy, placement: np.ndarray) -> tuple[bool, int, float]:
    """Whether and at which step, from 1, it first succeeded (0: never); its return."""
    observation = reset_at(env, placement)
    first, total = 0, 0.0
    for step in range(1, EPISODE_LENGTH + 1):
        observation, reward, _, _, info = env.step(act(policy, observation))
        total += float(reward)
        if info["success"] and not first:
            first = step
    return first > 0, first, total


def run_episodes(arguments: argparse.Namespace) -> None:
    policies = make_policies(arguments.tasks)
    results = {}
    for task in arguments.tasks:
        env = make_env(task)
        placements = draw_placements(task, arguments.goals or 50)
        rows = [run_episode(env, policies[task], p) for p in placements]
        success, first, returns = map(np.array, zip(*rows, strict=True))
        results[task] = {
            **summarize(success, first, returns),
            "placements": pad(placements).tolist(),
            "success": success.tolist(),
            "first_step": first.tolist(),
            "return": returns.tolist(),
        }
        print(
            f"{task}: success {100 * success.mean():.0f}%, first step "
            f"{results[task]['median_first_step']}, return {returns.mean():.0f}",
            flush=True,
        )
    path = arguments.folder / "episodes.json"
    path.write_text(json.dumps({"seed": SEED, "tasks": results}, indent=1))
    print(path)


def hand_position(data: mujoco.MjData) -> np.ndarray:
    return data.body("hand").xpos.copy()


def object_position(task: str, data: mujoco.MjData) -> np.ndarray:
    kind, name, offset = OBJECTS[task]
    return getattr(data, kind)(name).xpos + offset


def find_arm(model: mujoco.MjModel) -> np.ndarray:
    """Which geoms belong to the robot; bool [ngeom]."""
    base = model.body("base").id
    bodies = np.zeros(model.nbody, bool)
    for body in range(1, model.nbody):
        bodies[body] = body == base or bodies[model.body_parentid[body]]
    return bodies[model.geom_bodyid]


def is_touching(model: mujoco.MjModel, data: mujoco.MjData, arm: np.ndarray) -> bool:
    """Whether the robot presses on anything but itself."""
    force = np.zeros(6)
    for index, contact in enumerate(data.contact):
        if arm[contact.geom1] != arm[contact.geom2]:
            mujoco.mj_contactForce(model, data, index, force)
            if force[0] > 0:
                return True
    return False


def find_moved(model: mujoco.MjModel, path: str) -> dict[str, np.ndarray]:
    """Bodies and sites that the reset has moved, as `body:name` to their position."""
    original = mujoco.MjModel.from_xml_path(path)
    moved = {}
    for kind, count in (("body", model.nbody), ("site", model.nsite)):
        for index in range(count):
            new = getattr(model, kind)(index)
            if not np.array_equal(new.pos, getattr(original, kind)(index).pos):
                moved[f"{kind}:{new.name}"] = new.pos.copy()
    return moved


def run_actions(env, task: str, policy, placement: np.ndarray) -> dict:
    """One trajectory; leaves with a leading axis of steps but those of the start."""
    observation = reset_at(env, placement)
    data, arm = env.data, find_arm(env.model)
    moved = find_moved(env.model, env.model_name)
    start = {
        "start_qpos": data.qpos.copy(),
        "start_qvel": data.qvel.copy(),
        "start_warmstart": data.qacc_warmstart.copy(),
        "start_mocap": data.mocap_pos[0].copy(),
        "start_observation": observation,
        "moved_names": np.array(list(moved)),
        "moved_positions": np.array(list(moved.values())).reshape(-1, 3),
    }
    rows = []
    for _ in range(OPENLOOP_LENGTH):
        action = act(policy, observation)
        observation, reward, _, _, info = env.step(action)
        position = object_position(task, data)
        assert np.allclose(position, env._get_pos_objects(), atol=1e-12), task
        rows.append(
            {
                "actions": action,
                "observations": observation,
                "rewards": float(reward),
                "success": bool(info["success"]),
                "hand": hand_position(data),
                "object": position,
                "opening": observation[3],
                "qpos": data.qpos.copy(),
                "qvel": data.qvel.copy(),
                "mocap": data.mocap_pos[0].copy(),
                "touching": is_touching(env.model, data, arm),
            }
        )
    return start | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def run_openloop(arguments: argparse.Namespace) -> None:
    policies = make_policies(arguments.tasks)
    arrays = {}
    for task in arguments.tasks:
        env = make_env(task)
        placements = draw_placements(task, arguments.goals or 10)
        runs = [run_actions(env, task, policies[task], p) for p in placements]
        stacked = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
        stacked["placements"] = pad(placements)
        stacked["first_contact"] = first_true(stacked["touching"])
        stacked["scene"] = np.array(pathlib.Path(env.model_name).name)
        arrays |= {f"{task}/{name}": value for name, value in stacked.items()}
        print(f"{task}: first contact {stacked['first_contact'].tolist()}", flush=True)
    path = arguments.folder / "openloop.npz"
    np.savez_compressed(path, **arrays)
    print(path)


def first_true(flags: np.ndarray) -> np.ndarray:
    """The step, from 1, of each row's first True; 0 where it has none; int32."""
    return np.where(flags.any(axis=1), flags.argmax(axis=1) + 1, 0).astype(np.int32)


def load(path: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of one file, by task and by name."""
    tasks: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            task, name = key.split("/")
            tasks.setdefault(task, {})[name] = arrays[key]
    return tasks


def replay(task: str, folder: pathlib.Path, saved: dict, goal: int) -> np.ndarray:
    """Positions of hand and object after every step; float64 [steps, 2, 3]."""
    model = mujoco.MjModel.from_xml_path(str(folder / str(saved["scene"])))
    for index in np.flatnonzero(model.eq_type == mujoco.mjtEq.mjEQ_WELD):
        model.eq_data[index, : len(WELD)] = WELD
    names, positions = saved["moved_names"][goal], saved["moved_positions"][goal]
    for moved, position in zip(names, positions, strict=True):
        kind, name = str(moved).split(":")
        getattr(model, kind)(name).pos = position

    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = saved["start_qpos"][goal], saved["start_qvel"][goal]
    data.qacc_warmstart[:] = saved["start_warmstart"][goal]
    rows = []
    for action, mocap in zip(saved["actions"][goal], saved["mocap"][goal], strict=True):
        data.mocap_pos[0], data.mocap_quat[0] = mocap, MOCAP_QUAT
        data.ctrl[:] = action[3], -action[3]
        mujoco.mj_step(model, data, nstep=NUM_SUBSTEPS)
        mujoco.mj_forward(model, data)
        rows.append([hand_position(data), object_position(task, data)])
    return np.array(rows)


def run_replay(arguments: argparse.Namespace) -> None:
    folder = arguments.assets / "sawyer_xyz"
    report, arrays = {}, {}
    print(f"MuJoCo {mujoco.__version__}; mm, hand/object, medians over goals")
    for task, saved in load(arguments.folder / "openloop.npz").items():
        goals = range(len(saved["placements"]))
        ours = np.stack([replay(task, folder, saved, goal) for goal in goals])
        official = np.stack([saved["hand"], saved["object"]], axis=2)
        divergence = 1000 * np.linalg.norm(ours - official, axis=-1)
        arrays[f"{task}/divergence"] = divergence
        report[task] = {
            "step_50": np.median(divergence[:, 49], axis=0).tolist(),
            "step_100": np.median(divergence[:, 99], axis=0).tolist(),
            "median_of_highest": np.median(divergence.max(axis=1), axis=0).tolist(),
            "highest": divergence.max(axis=(0, 1)).tolist(),
        }
        text = ", ".join(
            f"{name} {hand:.1f}/{thing:.1f}"
            for name, (hand, thing) in report[task].items()
        )
        print(f"{task}: {text}", flush=True)
    content = {"mujoco": mujoco.__version__, "unit": "mm", "tasks": report}
    name = f"replay_{mujoco.__version__}"
    (arguments.folder / f"{name}.json").write_text(json.dumps(content, indent=1))
    np.savez_compressed(arguments.folder / f"{name}.npz", **arrays)
    print(arguments.folder / f"{name}.npz")


def run_record(arguments: argparse.Namespace) -> None:
    """Of the tasks that were run, with positions and divergences after every 5 steps.

    What the fixture has of others stays.
    """
    divergences = load(arguments.folder / f"replay_{mujoco.__version__}.npz")
    with np.load(FIXTURE) as file:
        arrays = dict(file)
    for task, saved in load(arguments.folder / "openloop.npz").items():
        kept = {
            name: saved[name]
            for name in (
                "placements",
                "start_qpos",
                "start_qvel",
                "start_mocap",
                "start_observation",
                "actions",
            )
        }
        kept["hand"] = saved["hand"][:, EVERY - 1 :: EVERY]
        kept["object"] = saved["object"][:, EVERY - 1 :: EVERY]
        kept["returns"] = saved["rewards"].sum(axis=1)
        between = divergences[task]["divergence"][:, EVERY - 1 :: EVERY]
        kept["version_divergence"] = np.median(between, axis=0) / 1000  # m
        arrays |= {f"{task}/{k}": v.astype(np.float32) for k, v in kept.items()}
        arrays[f"{task}/first_contact"] = saved["first_contact"]
    np.savez_compressed(FIXTURE, **arrays)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size / 1024:.0f} KiB")


def run_speed(arguments: argparse.Namespace) -> None:
    """Steps per second of every task under random actions, and over all of them."""
    rng = np.random.default_rng(SEED)
    seconds = []
    for task in arguments.tasks:
        env = make_env(task)
        reset_at(env, draw_placements(task, 1)[0])
        actions = rng.uniform(-1.0, 1.0, (EPISODE_LENGTH, ACTION_SIZE))
        began = time.perf_counter()
        for action in actions:
            env.step(action)
        seconds.append(time.perf_counter() - began)
        print(f"{task}: {EPISODE_LENGTH / seconds[-1]:.0f} steps a second", flush=True)
    total = EPISODE_LENGTH * len(seconds) / sum(seconds)
    print(f"all: {total:.0f} steps a second, resets not counted")


class LearnedPolicy:
    """A policy of ours for one task: the mean action of an MLP.

    Args:
      saved: what metaworld_export.py has written.
      task: its place among the tasks there.
    """

    ACTIVATIONS = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0.0),
        "swish": lambda x: x / (1.0 + np.exp(-x)),
    }

    def __init__(self, saved: dict[str, np.ndarray], task: int) -> None:
        policy = saved["policy_ids"][task]
        count = sum(name.startswith("kernel") for name in saved)
        self._layers = [
            (saved[f"kernel{i}"][policy], saved[f"bias{i}"][policy])
            for i in range(count)
        ]
        self._mean, self._std = saved["mean"][policy], saved["std"][policy]
        self._limit = float(saved["limit"])
        self._activation = self.ACTIVATIONS[str(saved["activation"])]
        self._bounded = bool(saved["bounded"])
        # A one-hot task id, where the policy was trained with one.
        has_id = len(self._mean) > OBSERVATION_SIZE
        self._id = np.eye(len(saved["tasks"]))[task] if has_id else np.zeros(0)

    def get_action(self, observation: np.ndarray) -> np.ndarray:
        x = (np.concatenate([observation, self._id]) - self._mean) / self._std
        x = np.clip(x, -self._limit, self._limit)
        for kernel, bias in self._layers[:-1]:
            x = self._activation(x @ kernel + bias)
        kernel, bias = self._layers[-1]
        x = x @ kernel + bias
        return np.tanh(x) if self._bounded else x


def run_play(arguments: argparse.Namespace) -> None:
    """A policy that was trained in our scene, in the original one."""
    if arguments.policy is None:
        raise SystemExit("error: give --policy, see metaworld_export.py")
    with np.load(arguments.policy) as file:
        saved = dict(file)
    summaries = {}
    for index, task in enumerate(saved["tasks"].tolist()):
        if task not in arguments.tasks:
            continue
        env, policy = make_env(task), LearnedPolicy(saved, index)
        placements = draw_placements(task, arguments.goals or 50)
        rows = [run_episode(env, policy, placement) for placement in placements]
        success, first, returns = (np.array(x) for x in zip(*rows, strict=True))
        summaries[task] = summarize(success, first, returns)
        summary = summaries[task]
        print(
            f"{task}: success {summary['success_rate']:.0%}, "
            f"return {summary['mean_return']:.0f}",
            flush=True,
        )
    rates = [summary["success_rate"] for summary in summaries.values()]
    print(f"all: success {np.mean(rates):.1%}")
    path = arguments.folder / "play.json"
    path.write_text(json.dumps({"seed": SEED, "tasks": summaries}, indent=1))
    print(path)


def run_serve(arguments: argparse.Namespace) -> None:
    """[tasks, goals, 39] in, [tasks, goals, ACTION_SIZE] out, until the input ends."""
    policies = list(make_policies(arguments.tasks).values())
    while (observations := receive(sys.stdin.buffer)) is not None:
        actions = np.zeros((*observations.shape[:2], ACTION_SIZE), np.float32)
        for task, policy in enumerate(policies):
            for goal, observation in enumerate(observations[task]):
                actions[task, goal] = policy.get_action(observation)
        send(sys.stdout.buffer, actions)


RUNS = {
    "episodes": run_episodes,
    "openloop": run_openloop,
    "replay": run_replay,
    "record": run_record,
    "speed": run_speed,
    "play": run_play,
    "serve": run_serve,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", choices=RUNS)
    parser.add_argument(
        "--folder", type=pathlib.Path, default=pathlib.Path("runs/metaworld")
    )
    parser.add_argument("--tasks", nargs="+", choices=ALL_TASKS, default=ALL_TASKS)
    parser.add_argument("--goals", type=int, help="placements a task")
    parser.add_argument("--assets", type=pathlib.Path, help="of Meta-World, for replay")
    parser.add_argument("--policy", type=pathlib.Path, help="for play")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    RUNS[arguments.run](arguments)


if __name__ == "__main__":
    main()
