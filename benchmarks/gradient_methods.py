"""What it costs to combine the gradients of ten tasks, beside their joint gradient.

python benchmarks/gradient_methods.py            # a GPU, about a minute
python benchmarks/gradient_methods.py --small    # a CPU

One minibatch of PPO, as training computes it: the gradient of the mean loss over ten
tasks, and gradients of all tasks in one vmapped pass, added up and combined by each
method. Networks are those of Meta-World's MT10 (actor and critic of three layers
of 400) and of CartPole (two of 64); 256 samples a task and minibatch, PPO's default.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.appearance import GROUP_COLORS
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.gradients import start_combination
from pgx_jax.training.learning import Batch, compute_gradients, row_loss
from pgx_jax.training.ppo_config import GRADIENT_METHODS, GradientConfig, PPOConfig

NUM_TASKS = 10
# Written down before measuring.
PREDICTED = {
    "ratio of PCGrad, MT10's network, H100": 1.4,
    "of the vmapped gradients alone": 1.15,
    "of Nash-MTL": 3.0,
    "of CAGrad": 5.0,
    "of PCGrad, CartPole's network, H100": 2.0,
}
FULL = {"samples": 256, "networks": ("MT10", "CartPole")}
SMALL = {"samples": 64, "networks": ("MT10", "CartPole")}
COLUMNS = {
    "network": "network",
    "gradient": "gradient",
    "parameters": "num_params",
    "ms": "median_ms",
    "ratio to the joint one": "ratio",
}


class Network(NamedTuple):
    """Sizes of an actor and a critic, and the kind of their actions."""

    observation_size: int
    action_size: int
    discrete: bool
    hidden_sizes: tuple[int, ...]


NETWORKS = {
    "MT10": Network(49, 4, False, (400, 400, 400)),
    "CartPole": Network(4, 2, True, (64, 64)),
}


def make_batch(network: Network, samples: int) -> Batch:
    """Ten tasks' samples, half of them with reversed advantages."""
    rng = np.random.default_rng(0)
    shape = (NUM_TASKS, samples)
    observation = rng.standard_normal((*shape, network.observation_size), np.float32)
    if network.discrete:
        action = rng.integers(0, network.action_size, shape)
    else:
        action = rng.standard_normal((*shape, network.action_size), np.float32)
    sign = np.where(np.arange(NUM_TASKS) % 2 == 0, 1, -1)[:, None]
    advantage = sign * observation[..., 0] + rng.standard_normal(shape)
    log_prob = np.full(shape, -1.0)
    target = rng.standard_normal(shape)
    numbers = (jnp.asarray(x, jnp.float32) for x in (log_prob, advantage, target))
    return Batch(jnp.asarray(observation), jnp.asarray(action), *numbers)


def gradient_of_each(actor_critic):
    """The gradients of all tasks in one pass, and their mean."""

    def gradient(params, batch):
        shared = jax.tree.map(lambda x: x[0], params)
        loss = functools.partial(row_loss, PPOConfig(), actor_critic)
        stacked, _ = jax.vmap(jax.grad(loss, has_aux=True), (None, 0))(shared, batch)
        return jax.tree.map(lambda x: x.mean(axis=0), stacked)

    return gradient


def row(name: str, kind: str, params, times: list[float], before: list[dict]) -> dict:
    """The measurement of one kind; the first one before it is the joint gradient's."""
    median = statistics.median(times)
    return {
        "network": name,
        "gradient": kind,
        "num_params": common.count_params(params),
        **common.summarize_times(times),
        "median_ms": 1e3 * median,
        "ratio": median / before[0]["median_s"] if before else 1.0,
    }


def measure_network(name: str, sizes: dict, repeats: int, budget) -> list[dict]:
    """A row for each kind of gradient."""
    network = NETWORKS[name]
    actor_critic = make_actor_critic(*network)
    params = jax.vmap(actor_critic.init)(jax.random.split(jax.random.key(0), 1))
    batch = make_batch(network, sizes["samples"])
    policy_ids = jnp.zeros((NUM_TASKS,), jnp.int32)
    members = jnp.arange(NUM_TASKS, dtype=jnp.int32)[None]
    kinds = {"joint": "mean", "of each task, added": "sum"}
    kinds |= {x: x for x in GRADIENT_METHODS if x != "mean"}
    rows = []
    for kind, method in kinds.items():
        if not budget.allows(f"{name}, {kind}"):
            continue
        state = ()
        if kind == "of each task, added":
            of_each = jax.jit(gradient_of_each(actor_critic))
            times = common.time_calls(of_each, params, batch, repeats=repeats)
            rows.append(row(name, kind, params, times, rows))
            continue
        config = dataclasses.replace(PPOConfig(), gradients=GradientConfig(method))
        if method != "mean":
            state = start_combination(
                config.gradients, params, members, jax.random.key(1), ()
            )

        def gradient(params, state, batch, config=config):
            combined, state, _ = compute_gradients(
                config, actor_critic, params, state, policy_ids, batch
            )
            return combined, state

        times = common.time_calls(
            jax.jit(gradient), params, state, batch, repeats=repeats
        )
        rows.append(row(name, kind, params, times, rows))
    return rows


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All networks and methods that the time allows."""
    rows = []
    for name in sizes["networks"]:
        rows += measure_network(name, sizes, arguments.repeats, budget)
    return common.Outcome(rows)


def plot(rows: list[dict]):
    """Bars of the ratios, a group for each method."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
    kinds = list(dict.fromkeys(row["gradient"] for row in rows))
    for i, name in enumerate(dict.fromkeys(row["network"] for row in rows)):
        own = [row for row in rows if row["network"] == name]
        place = [kinds.index(row["gradient"]) + 0.36 * i - 0.18 for row in own]
        height = [row["ratio"] or 0.0 for row in own]
        axes.bar(place, height, 0.33, color=GROUP_COLORS[i], label=name)
    axes.axhline(1.5, color="gray", linestyle="--", linewidth=0.8)
    axes.set_xticks(range(len(kinds)), kinds, rotation=20, ha="right")
    axes.grid(False, axis="x")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("time over the joint gradient's")
    axes.legend()
    return figure


def main() -> None:
    common.run(globals(), seconds=85, repeats=30)


if __name__ == "__main__":
    main()
