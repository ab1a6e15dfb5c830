"""Training from end to end beside Brax's PPO: steps per second, and the return reached.

python benchmarks/training.py            # a GPU, about eight minutes
python benchmarks/training.py --small    # a CPU

The environments are the half-cheetah and the ant in MJX. For the speed, both learn with
the same networks (Brax's own: four layers of 32 for the policy, five of 256 for the
value), numbers of environments, unroll lengths, minibatches and epochs; steps per
second are medians over chunks of updates in one process, without compilation and
without evaluation. For the return, both train for the same number of steps: Brax with
its published settings, ours with the settings below, once per seed. The policies are
then evaluated on 128 episodes of 1,000 steps, by their most likely actions.

Brax's settings are those of its notebook `training.ipynb`.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

import common
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from brax import envs as brax_envs
from brax.training.agents.ppo import train as brax_ppo

from pgx_jax.appearance import GROUP_COLORS
from pgx_jax.envs import make_suite
from pgx_jax.networks.actor_critic import (
    ActorCritic,
    GaussianHead,
    make_actor_critic,
)
from pgx_jax.networks.mlp import MLP
from pgx_jax.training.diagnostics import on_host
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO, PPOConfig

# On an H100, before measuring.
PREDICTED = {
    "half_cheetah, steps a second, ours / Brax's": 1.2,
    "ant, steps a second, ours / Brax's": 1.2,
    "half_cheetah, return of ours / of Brax's": 1.2,
    "ant, return of ours / of Brax's": 1.2,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A robot, Brax's settings for it, and ours.

    `unroll_length` is Brax's, where an update collects several unrolls.
    """

    suite: str
    brax_name: str
    num_envs: int
    unroll_length: int
    batch_size: int
    num_minibatches: int
    num_epochs: int
    discount: float
    entropy_cost: float
    reward_scaling: float
    ours: PPOConfig

    @property
    def equal(self) -> PPOConfig:
        """Our settings with all of Brax's numbers."""
        trajectories = self.batch_size * self.num_minibatches
        return PPOConfig(
            num_envs=self.num_envs,
            unroll_length=self.unroll_length * trajectories // self.num_envs,
            num_epochs=self.num_epochs,
            num_minibatches=self.num_minibatches,
            learning_rate=3e-4,
            anneal_learning_rate=False,
            discount=self.discount,
            clip_epsilon=0.3,
            entropy_cost=self.entropy_cost,
            max_gradient_norm=1e9,
        )


OURS = PPOConfig(
    num_envs=512,
    unroll_length=32,
    num_epochs=4,
    num_minibatches=16,
    learning_rate=1e-3,
    discount=0.97,
    entropy_cost=1e-3,
)
CASES = [
    Case("half_cheetah", "halfcheetah", 2048, 20, 512, 32, 8, 0.95, 1e-3, 1.0, OURS),
    Case("ant", "ant", 4096, 5, 2048, 32, 4, 0.97, 1e-2, 10.0, OURS),
]
FULL = {"steps": 10_000_000, "seeds": 3, "episodes": 128, "chunks": 4, "updates": 2}
SMALL = {"steps": 2_000, "seeds": 1, "episodes": 2, "chunks": 2, "updates": 8}
COLUMNS = {
    "environment": "environment",
    "of": "of",
    "steps a second": "steps_per_second",
    "min": "min_per_second",
    "max": "max_per_second",
    "steps": "steps",
    "return, mean over seeds": "return",
    "of each seed": "returns",
    "training s": "train_s",
}


def shrink(case: Case) -> Case:
    """The case at a size for a CPU."""
    ours = dataclasses.replace(
        case.ours, num_envs=8, unroll_length=8, num_minibatches=2, num_epochs=1
    )
    return dataclasses.replace(
        case, num_envs=8, batch_size=8, num_minibatches=2, num_epochs=1, ours=ours
    )


def brax_networks(suite) -> ActorCritic:
    """Networks with the sizes and the activation of Brax's own."""
    size = suite.action_space.size
    return ActorCritic(
        policy_network=GaussianHead(MLP((32,) * 4, size, 0.01, nn.swish)),
        value_network=MLP((256,) * 5, 1, 1.0, nn.swish),
        observation_size=suite.observation_size,
        discrete=False,
    )


def put_replicated(tree, devices):
    """`jax.device_put_replicated` for one device: Brax calls it, JAX has removed it."""
    (device,) = devices
    return jax.device_put(jax.tree.map(lambda x: jnp.asarray(x)[None], tree), device)


def run_brax(case: Case, sizes: dict) -> dict:
    """The row of Brax's PPO, evaluated by Brax."""
    jax.device_put_replicated = put_replicated
    reports = []
    began = time.perf_counter()
    brax_ppo.train(
        brax_envs.get_environment(case.brax_name, backend="mjx"),
        num_timesteps=sizes["steps"],
        max_devices_per_host=1,
        episode_length=1000,
        num_envs=case.num_envs,
        unroll_length=case.unroll_length,
        batch_size=case.batch_size,
        num_minibatches=case.num_minibatches,
        num_updates_per_batch=case.num_epochs,
        learning_rate=3e-4,
        entropy_cost=case.entropy_cost,
        discounting=case.discount,
        reward_scaling=case.reward_scaling,
        normalize_observations=True,
        num_evals=sizes["chunks"] + 1,
        num_eval_envs=sizes["episodes"],
        deterministic_eval=True,
        progress_fn=lambda steps, metrics: reports.append((steps, metrics)),
    )
    # The first chunk compiles.
    rates = [float(metrics["training/sps"]) for _, metrics in reports[2:]]
    steps, last = reports[-1]
    returns = [float(last["eval/episode_reward"])]
    return row(case, "Brax", rates, int(steps), returns) | {
        "train_s": time.perf_counter() - began,
        "curve": [[int(s), float(m["eval/episode_reward"])] for s, m in reports],
    }


def measure_speed(case: Case, sizes: dict) -> dict:
    """The row of our speed, with all settings as in Brax."""
    suite = make_suite(case.suite)
    ppo = PPO(case.equal, brax_networks(suite), 1_000)
    state = ppo.init(suite, jax.random.key(0))
    updates = sizes["updates"]
    rates = []
    for chunk in range(sizes["chunks"]):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(ppo.run(suite, state, updates))
        if chunk:  # the first compiles
            seconds = time.perf_counter() - began
            rates.append(updates * case.equal.steps_per_update / seconds)
    return row(case, "ours, Brax's settings", rates, None, [])


def reach_return(case: Case, sizes: dict) -> dict:
    """The row of our return with our settings, all seeds side by side."""
    num_seeds = sizes["seeds"]
    suite = make_suite(case.suite).select([0] * num_seeds)
    size = suite.action_space.size
    networks = make_actor_critic(
        suite.observation_size, size, False, (256, 256), activation="swish"
    )
    num_updates = max(1, sizes["steps"] // case.ours.steps_per_update)
    ppo = PPO(case.ours, networks, num_updates)
    policy_ids = np.arange(num_seeds)
    state = ppo.init(suite, jax.random.key(0), policy_ids)
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(ppo.run(suite, state, num_updates))
    seconds = time.perf_counter() - began
    result = evaluate(
        suite,
        networks,
        state.params["policy"],
        state.observation_statistics,
        policy_ids,
        jax.random.key(1),
        sizes["episodes"],
    )
    steps = num_updates * case.ours.steps_per_update
    returns = np.asarray(result.episode_return).mean(axis=1).tolist()
    return row(case, "ours", [], steps, returns) | {
        "train_s": seconds,
        "divergences": float(metrics["divergences"].sum()),
        "curve": on_host(metrics)["return"].tolist(),
        "ppo": dataclasses.asdict(case.ours),
    }


def row(case: Case, of: str, rates: list, steps: int | None, returns: list) -> dict:
    return {
        "environment": case.suite,
        "of": of,
        "steps_per_second": statistics.median(rates) if rates else None,
        "min_per_second": min(rates, default=None),
        "max_per_second": max(rates, default=None),
        "rates": rates,
        "steps": steps,
        "return": statistics.mean(returns) if returns else None,
        "returns": ", ".join(f"{x:,.0f}" for x in returns),
    }


PARTS = {"brax": run_brax, "speed": measure_speed, "return": reach_return}


def plot(rows: list[dict]):
    """Bars of speed and of return."""
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["environment"] for row in rows))
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.6), layout="constrained")
    for axis, quantity, label in (
        (axes[0], "steps_per_second", "steps a second"),
        (axes[1], "return", "return"),
    ):
        chosen = [row for row in rows if row[quantity] is not None]
        for i, kind in enumerate(("Brax", "ours")):
            of = [r for r in chosen if r["of"].startswith(kind)]
            place = [names.index(r["environment"]) + 0.36 * i - 0.18 for r in of]
            axis.bar(
                place,
                [r[quantity] for r in of],
                0.33,
                color=GROUP_COLORS[1 - i],
                label=kind,
            )
        axis.set_xticks(range(len(names)), names)
        axis.grid(False, axis="x")
        axis.set_ylabel(label)
    axes[0].legend()
    return figure


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All parts that the time allows."""
    sizes = {**sizes, "steps": arguments.steps or sizes["steps"]}
    cases = [c for c in CASES if not arguments.only or c.suite in arguments.only]
    cases = [shrink(case) for case in cases] if arguments.small else cases
    rows = []
    for case in cases:
        for part in arguments.parts:
            if budget.allows(f"{case.suite}, {part}"):
                rows.append(PARTS[part](case, sizes))
                print(rows[-1], flush=True)
    return common.Outcome(rows, more={"sizes": sizes})


def add_arguments(parser) -> None:
    parser.add_argument("--only", nargs="*", help="environments")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--steps", type=int, help="of each policy")


def main() -> None:
    common.run(globals(), seconds=500)


if __name__ == "__main__":
    main()
