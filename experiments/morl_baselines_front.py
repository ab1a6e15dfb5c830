"""A front of morl-baselines' PGMORL on a robot of MO-Gymnasium, for a comparison.

    python experiments/morl_baselines_front.py --robot=half_cheetah --steps=1000000 \
        --output=experiments/results/pgmorl_half_cheetah.json

It runs in an environment of its own with morl-baselines and mo-gymnasium[mujoco], which
pgx_jax does not need. `experiments/multi_objective.py --others=...` reads its file.

PGMORL's settings are the library's, except for a quarter of its steps between updates,
and for warmup and evolutionary iterations that make up a third and a fifth of the run,
so that short runs get to its evolution. Policies are those of its archive. Evaluation
normalizes observations by the statistics of training, where the library's example
starts new ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib import metadata
from typing import Any

import gymnasium
import mo_gymnasium  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from morl_baselines.multi_policy.pgmorl.pgmorl import (  # pyright: ignore[reportMissingImports]
    PGMORL,
)

EPISODE_LENGTH = 500  # steps, of evaluation
# The environment trained in, the one evaluated in, which has all that fronts are
# compared in, and what makes discounted returns positive.
ROBOTS = {
    "half_cheetah": ("mo-halfcheetah-v5", "mo-halfcheetah-v5", (200.0, 1200.0)),
    "hopper": ("mo-hopper-2obj-v5", "mo-hopper-v5", (100.0, 100.0)),
}
POLICIES, ENVS, STEPS = 6, 4, 512  # of every iteration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", choices=ROBOTS, required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=16)
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trained, evaluated, origin = ROBOTS[arguments.robot]
    iterations = arguments.steps // (POLICIES * ENVS * STEPS)
    began = time.perf_counter()
    learner = PGMORL(
        env_id=trained,
        origin=np.array(origin),
        num_envs=ENVS,
        pop_size=POLICIES,
        steps_per_iteration=STEPS,
        warmup_iterations=max(1, iterations // 3),
        evolutionary_iterations=max(1, iterations // 5),
        seed=arguments.seed,
        log=False,
        device="cpu",
    )
    statistics = find_normalization(learner.env.envs[0]).obs_rms
    learner.train(
        total_timesteps=arguments.steps,
        eval_env=make_evaluated(trained, statistics),
        ref_point=-np.array(origin),
    )
    seconds = time.perf_counter() - began
    env = make_evaluated(evaluated, statistics)
    played = [
        [play(policy, env, 1000 * i + j) for j in range(arguments.episodes)]
        for i, policy in enumerate(learner.archive.individuals)
    ]
    returns = np.array([[x[0] for x in of_policy] for of_policy in played])
    lengths = np.array([[x[1] for x in of_policy] for of_policy in played])
    packages = ("morl-baselines", "mo-gymnasium", "gymnasium", "mujoco", "torch")
    versions = ", ".join(f"{x} {metadata.version(x)}" for x in packages)
    result = {
        "method": "PGMORL",
        "robot": arguments.robot,
        "returns": returns.mean(axis=1)[None].tolist(),
        "lengths": lengths.mean(axis=1)[None].tolist(),
        "steps": int(learner.global_step),
        "training_seconds": seconds,
        "about": f"`python {' '.join(sys.argv)}`, one thread of {platform.machine()} "
        f"CPU, {os.cpu_count()} cores that other programs shared; python "
        f"{platform.python_version()}, {versions}.",
    }
    with open(arguments.output, "w") as file:
        json.dump(result, file, indent=1)
    print({x: result[x] for x in ("steps", "training_seconds", "returns")})


def find_normalization(env: gymnasium.Env) -> gymnasium.wrappers.NormalizeObservation:
    """The wrapper of an environment that normalizes its observations."""
    while not isinstance(env, gymnasium.wrappers.NormalizeObservation):
        env = env.env  # pyright: ignore[reportAttributeAccessIssue]
    return env


def make_evaluated(name: str, statistics: Any) -> gymnasium.Env:
    """An environment whose observations are those of training, and rewards in units."""
    env = mo_gymnasium.make(name, max_episode_steps=EPISODE_LENGTH)
    env = gymnasium.wrappers.NormalizeObservation(gymnasium.wrappers.ClipAction(env))
    env.obs_rms = statistics
    env.update_running_mean = False
    space = env.observation_space
    return gymnasium.wrappers.TransformObservation(
        env, lambda x: np.clip(x, -10.0, 10.0), space
    )


def play(policy: Any, env: gymnasium.Env, seed: int) -> tuple[np.ndarray, int]:
    """Returns and length of an episode under the mean actions of a policy."""
    observation, _ = env.reset(seed=seed)
    total, length, ended = 0.0, 0, False
    while not ended:
        with torch.no_grad():
            batch = torch.as_tensor(observation).float()[None]
            action = policy.networks.actor_mean(batch)[0].numpy()
        observation, reward, terminated, truncated, _ = env.step(action)
        total, length = total + np.asarray(reward, np.float64), length + 1
        ended = terminated or truncated
    return np.asarray(total), length


if __name__ == "__main__":
    main()
