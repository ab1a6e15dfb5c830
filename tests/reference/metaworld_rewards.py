"""Regenerates tests/envs/fixtures/metaworld_rewards.npz from the public Meta-World.

    python -m venv /tmp/metaworld
    /tmp/metaworld/bin/pip install metaworld==3.1.1 packaging
    /tmp/metaworld/bin/python tests/reference/metaworld_rewards.py

Takes about 8 seconds a task on one CPU core; with --kept 10 MT10's ten keep their
record. For each task, episodes of four kinds are run through the official environment,
whose goals are shown: of its scripted policy, of the same with noise, of random actions
that are each kept for a while, and of the scripted policy where something puts the
object elsewhere before every step. Kept are

- task_*: the numbers of each task;
- episode_*: the task, the placement, what `Readings` holds before and after things were
  placed, the first observation, and what the environment then had fixed;
- step_*: of some steps of each, the readings, action, observation, reward and success.
"""

import argparse
import copy
import pathlib
from collections.abc import Sequence

import metaworld_runs as runs
import mujoco
import numpy as np
from metaworld_client import ALL_TASKS, TASKS

FIXTURE = (
    pathlib.Path(__file__).parents[1] / "envs" / "fixtures" / "metaworld_rewards.npz"
)
EPISODES_PER_KIND = 3
STEPS_PER_EPISODE = 12
# Joints of one degree of freedom: the range they are put in.
SLIDES = {
    "door-open-v3": ("doorjoint", -1.5, 0.0),
    "drawer-open-v3": ("goal_slidey", -0.16, 0.0),
    "drawer-close-v3": ("goal_slidey", -0.16, 0.0),
    "button-press-topdown-v3": ("btnbox_joint", -0.06, 0.0),
    "window-open-v3": ("window_slide", 0.0, 0.2),
    "window-close-v3": ("window_slide", 0.0, 0.2),
}
KINDS = ("scripted", "noisy", "random", "moved")


def block_boxes() -> np.ndarray:
    """[2 boxes, 2 corners, 3]: where peg-insert fears collisions, from the target."""
    env = make_env("peg-insert-side-v3")
    env.reset()
    env.step(np.zeros(4, np.float32))
    corners = [
        [
            env._get_site_pos(f"{corner}_corner_collision_box_{box}")
            for corner in ("bottom_right", "top_left")
        ]
        for box in (1, 2)
    ]
    boxes = np.array(corners) - env._target_pos
    env.close()
    return boxes.astype(np.float32)


def read(env, data) -> dict:
    """What `Readings` holds, of `data`."""
    own, env.data = env.data, data
    bodies = {
        "hand": "hand",
        "left_claw": "leftclaw",
        "right_claw": "rightclaw",
        "left_pad": "leftpad",
        "right_pad": "rightpad",
    }
    readings = {name: data.body(body).xpos.copy() for name, body in bodies.items()}
    readings["tcp"] = env.tcp_center
    readings["object_pos"] = np.array(env._get_pos_objects())
    readings["object_quat"] = np.array(env._get_quat_objects())
    readings["head"], readings["angle"] = np.zeros(3), np.zeros(())
    if "Peg" in env.task_name:
        readings["head"] = data.site("pegHead").xpos.copy()
    if "Door" in env.task_name:
        readings["angle"] = data.joint("doorjoint").qpos.copy().reshape(())
    env.data = own
    return readings


def make_env(name: str):
    """The environment of a task as the MT benchmarks set it, of a drawn placement."""
    drawn = runs.make_env(name)
    drawn._freeze_rand_vec, drawn._set_task_called = False, True
    drawn.reset()
    drawn.close()
    env = runs.make_env(name)
    runs.set_placement(env, drawn._last_rand_vec)
    return env


def task_numbers(name: str) -> dict:
    """What `TaskSpec` holds, and the whole observation space."""
    env = make_env(name)
    placements = np.zeros((2, 6))
    for row, bound in zip(
        placements,
        (env._random_reset_space.low, env._random_reset_space.high),
        strict=True,
    ):
        row[: len(bound)] = bound
    numbers = {
        "hand_init": env.hand_init_pos,
        "mocap_low": env.mocap_low,
        "mocap_high": env.mocap_high,
        "placement_low": placements[0],
        "placement_high": placements[1],
        "observation_low": env.sawyer_observation_space.low,
        "observation_high": env.sawyer_observation_space.high,
    }
    env.close()
    return {k: np.array(v) for k, v in numbers.items()}


def reset(env) -> tuple[np.ndarray, dict]:
    """Resets; returns the first observation and the record of the episode."""
    reset_hand = env._reset_hand
    before = {}

    def record_before(*args, **kwargs):
        reset_hand(*args, **kwargs)
        # Called twice: an episode begins with the second one.
        before.update(read(env, env.data))

    env._reset_hand = record_before
    observation, _ = env.reset()
    data = copy.copy(env.data)
    mujoco.mj_forward(env.model, data)
    placement = np.zeros(6)
    placement[: len(env._last_rand_vec)] = env._last_rand_vec
    none = np.full(3, np.nan)
    record = {
        "placement": placement,
        "observation": observation.copy(),
        "target": env._target_pos,
        "object_init": env.obj_init_pos,
        "tcp_init": env.init_tcp,
        "head_init": getattr(env, "peg_head_pos_init", none),
        "handle_init": getattr(env, "window_handle_pos_init", none),
        **{f"before_{k}": v for k, v in before.items()},
        **{f"after_{k}": v for k, v in read(env, data).items()},
    }
    return observation, {k: np.array(v) for k, v in record.items()}


def move_object(env, name: str, rng: np.random.Generator) -> None:
    """Puts the object to where a reward has its branches."""
    qpos, qvel = env.data.qpos.copy(), env.data.qvel.copy()
    qvel[9:] = 0.0
    if name in SLIDES:
        joint, low, high = SLIDES[name]
        env.data.joint(joint).qpos[:] = rng.uniform(low, high)
        env.data.joint(joint).qvel[:] = 0.0
        mujoco.mj_forward(env.model, env.data)
        return
    where = rng.choice([0, 1, 1, 2])
    near = rng.normal(0.0, 0.005, 3)
    if name == "peg-insert-side-v3":
        # Its head in the hole, in front of the block, or its grip in the gripper.
        block = env._target_pos - np.array([0.03, 0.0, 0.13])
        front = rng.uniform((0.11, -0.1, 0.0), (0.16, 0.1, 0.2))
        head = np.array([0.1, 0.0, 0.0])
        grip = np.array([-0.03, 0.0, -0.01])
        place = (env._target_pos + head, block + front + head, env.tcp_center + grip)
    else:
        place = (env._target_pos, env._target_pos + 8 * near, env.tcp_center)
    qpos[9:12] = place[where] + near
    qpos[12:16] = 1.0, 0.0, 0.0, 0.0
    env.set_state(qpos, qvel)


def run_episode(name: str, policy, kind: str, rng: np.random.Generator):
    """One episode's record, and those of the steps that are kept of it."""
    env = make_env(name)
    observation, episode = reset(env)
    length = 200 if name == "peg-insert-side-v3" else 120
    held = rng.uniform(-1, 1, 4)
    steps = []
    for time in range(length):
        action = policy.get_action(observation)
        if kind == "noisy":
            action = action + rng.normal(0.0, 0.5, 4)
        elif kind == "random":
            if time % 10 == 0:
                held = rng.uniform(-1.5, 1.5, 4)
            action = held
        elif kind == "moved":
            action[3] = rng.uniform(-1.5, 1.5)
            move_object(env, name, rng)
        action = np.asarray(action, np.float32)
        observation, reward, _, _, info = env.step(action)
        steps.append(
            {
                "action": action,
                "observation": observation.copy(),
                "reward": reward,
                "success": info["success"],
                **{k: np.array(v) for k, v in read(env, env.data).items()},
            }
        )
    env.close()
    kept = set(np.linspace(0, length - 1, STEPS_PER_EPISODE).round().astype(int))
    # Where success begins, and where the reward changes most.
    success = np.array([step["success"] for step in steps])
    reward = np.array([step["reward"] for step in steps])
    changes = np.flatnonzero(np.diff(success) != 0)[:1]
    changes = [*changes, *np.argsort(-np.abs(np.diff(reward)))[:2]]
    kept |= {int(i) for t in changes for i in (t, t + 1)}
    return episode, [steps[t] for t in sorted(kept)]


def record(tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of some tasks, of which each but those of MT10 has its own seed."""
    episodes, steps = [], []
    for name, policy in runs.make_policies(tasks).items():
        task = ALL_TASKS.index(name)
        if task == 0 or task >= len(TASKS):
            np.random.seed(task)  # placements are drawn from NumPy's global generator
            rng = np.random.default_rng(task)
        for kind in KINDS:
            for _ in range(EPISODES_PER_KIND):
                episode, kept = run_episode(name, policy, kind, rng)
                number = len(episodes)
                episodes.append({**episode, "task": task})
                steps += [{**step, "episode": number} for step in kept]
    arrays = {}
    numbers = [task_numbers(name) for name in tasks]
    for prefix, rows in (("task", numbers), ("episode", episodes), ("step", steps)):
        for key in rows[0]:
            values = np.array([row[key] for row in rows])
            whole = key in ("task", "episode")
            dtype = np.int16 if whole else bool if key == "success" else np.float32
            arrays[f"{prefix}_{key}"] = values.astype(dtype)
    return arrays


def append(first: dict[str, np.ndarray], then: dict[str, np.ndarray]) -> dict:
    """Two records in one."""
    then["step_episode"] = then["step_episode"] + len(first["episode_task"])
    return {
        name: np.concatenate([first[name], then[name]]).astype(first[name].dtype)
        for name in then
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kept",
        type=int,
        default=0,
        choices=(0, *range(len(TASKS), len(ALL_TASKS))),
        help="so many tasks, the first, keep their record",
    )
    kept = parser.parse_args().kept
    arrays = record(ALL_TASKS[kept:])
    boxes = block_boxes()
    if kept:
        with np.load(FIXTURE) as file:
            old = dict(file)
        rows = {
            "task": np.arange(len(old["task_hand_init"])),
            "episode": old["episode_task"],
            "step": old["episode_task"][old["step_episode"]],
        }
        arrays = append(
            {k: old[k][rows[k.split("_")[0]] < kept] for k in arrays}, arrays
        )
    np.savez_compressed(FIXTURE, block_boxes=boxes, **arrays)
    num_steps = len(arrays["step_episode"])
    print(f"{FIXTURE}: {FIXTURE.stat().st_size / 1024:.0f} KiB, {num_steps} steps")


if __name__ == "__main__":
    main()
