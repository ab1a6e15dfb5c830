"""One environment for all objectives against one for each: samples per second.

python benchmarks/vector_rewards.py            # a GPU, about five minutes
python benchmarks/vector_rewards.py --small    # a CPU

The suite is `half_cheetah_objectives`, six objectives of a robot in MJX: as six tasks,
each with environments of its own, and as one task whose reward is a vector. Both step
the same number of environments in all. A sample is a step of which an objective has the
reward: with vector rewards every step is one for all six. "stepping" takes normal
actions in one `lax.scan`; "PPO" are updates of one policy with two layers of 64, at the
same number of environments.
"""

from __future__ import annotations

import time
from typing import Any

import common
import jax

from pgx_jax.envs import TaskSuite
from pgx_jax.envs.locomotion import half_cheetah_objectives
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.ppo import PPO, PPOConfig

# On an H100, before measuring.
PREDICTED = {
    "stepping, samples an objective, vector / tasks": 6.0,
    "PPO, samples an objective, vector / tasks": 5.0,
}
FULL = {"num_envs": (6144, 24576), "num_steps": 32}
SMALL = {"num_envs": (96,), "num_steps": 16}
COLUMNS = {
    "what": "what",
    "rewards": "rewards",
    "environments": "num_envs",
    "environment steps a second": "steps_per_second",
    "samples a second, of every objective": "samples_per_second",
    "median s": "median_s",
    "min s": "min_s",
    "max s": "max_s",
}


def stepping(suite: TaskSuite, num_envs: int, num_steps: int) -> tuple[Any, Any]:
    """A state, and a function from a state to the one `num_steps` later."""
    shape = (suite.num_tasks, num_envs, suite.action_space.size)

    @jax.jit
    def step(state):
        def take(state, key):
            return suite.step(state, jax.random.normal(key, shape)), None

        keys = jax.random.split(jax.random.key(1), num_steps)
        return jax.lax.scan(take, suite.refresh(state), keys)[0]

    return jax.jit(suite.reset, static_argnums=1)(jax.random.key(0), num_envs), step


def training(suite: TaskSuite, num_envs: int, num_steps: int) -> tuple[Any, Any]:
    """A state, and a function that takes one update."""
    networks = make_actor_critic(
        suite.observation_size,
        suite.action_space.size,
        discrete=False,
        num_objectives=len(suite.objective_names),
    )
    config = PPOConfig(
        num_envs=num_envs, unroll_length=num_steps, num_epochs=4, num_minibatches=4
    )
    ppo = PPO(config, networks, 1_000)
    return ppo.init(suite, jax.random.key(0)), lambda x: ppo.run(suite, x, 1)[0]


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """Both kinds of rewards, one after the other, at all numbers of environments."""
    rows = []
    suites = {
        "a task each": half_cheetah_objectives(),
        "vector": half_cheetah_objectives(vector_rewards=True),
    }
    num_objectives = suites["a task each"].num_tasks
    for num_envs in sizes["num_envs"]:
        for what, prepare in (("stepping", stepping), ("PPO", training)):
            for rewards, suite in suites.items():
                if not budget.allows(f"{what}, {rewards}, {num_envs:,}"):
                    continue
                each = num_envs // suite.num_tasks
                state, step = prepare(suite, each, sizes["num_steps"])
                state = jax.block_until_ready(step(state))
                times = []
                for _ in range(arguments.repeats):
                    began = time.perf_counter()
                    state = jax.block_until_ready(step(state))
                    times.append(time.perf_counter() - began)
                seconds = common.summarize_times(times)
                steps = num_envs * sizes["num_steps"] / seconds["median_s"]
                share = num_objectives if rewards == "a task each" else 1
                rows.append(
                    {
                        "what": what,
                        "rewards": rewards,
                        "num_envs": num_envs,
                        "steps_per_second": steps,
                        "samples_per_second": steps / share,
                        **seconds,
                    }
                )
    return common.Outcome(rows)


def main() -> None:
    common.run(globals(), seconds=300)


if __name__ == "__main__":
    main()
