"""The projected estimate against the exact one, for growing d.

python benchmarks/dimension.py            # about five minutes on a CPU
python benchmarks/dimension.py --small

A meta-policy of `cartpole_planted` (p = 4,610; 20 PPO updates) is estimated from
N = 304 transitions of each of 10 tasks on all 120 subsets of three. The reference is
`dim=None`, the estimate from the same transitions without a projection. The table
holds, for every d, Spearman's rank correlation of U (the 45 pairs) and of the scores
f_i(S), and the NMI of the two groups with those of the reference and with the planted
ones: means over seeds of the meta-policy, each with its own P.
"""

from __future__ import annotations

import statistics

import common
import jax
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis.statistics import normalized_mutual_information, rank_correlation
from pgx_jax.appearance import GROUP_COLORS
from pgx_jax.envs import make_suite
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.ppo import PPO, PPOConfig

# Written down before measuring.
PREDICTED = {"rank correlation of U at d = 400": 0.95, "at d = 50": 0.7}
FULL = {
    "dims": [50, 100, 200, 400, 800, 1600],
    "seeds": [0, 1, 2, 3, 4],
    "samples": 304,
}
SMALL = {"dims": [20, 100], "seeds": [0], "samples": 64}
COLUMNS = {
    "d": "dim",
    "rank correlation of U": "affinity_correlation",
    "lowest": "affinity_correlation_min",
    "of f": "score_correlation",
    "NMI with exact": "nmi_exact",
    "NMI with planted": "nmi_planted",
    "exact's NMI with planted": "exact_nmi_planted",
}


def measure_seed(seed: int, sizes: dict) -> list[dict]:
    """One row for each d, of one meta-policy."""
    suite = make_suite("cartpole_planted")
    networks = make_actor_critic(4, 2, True, (64, 64))
    keys = jax.random.split(jax.random.key(seed), 3)
    ppo = PPO(PPOConfig(), networks, 20)
    meta, _ = ppo.run(suite, ppo.init(suite, keys[0]), 20)
    batch = ppo.collect_transitions(suite, meta, keys[1], sizes["samples"])
    policy = jax.tree.map(lambda x: x[0], meta.params["policy"])
    subsets = pge.sample_subsets(jax.random.key(0), 10, 120, 3)
    pairs = np.triu_indices(10, 1)

    def estimate(dim):
        estimates = pge.estimate_subsets(
            networks.log_prob, policy, batch, subsets, key=keys[2], dim=dim
        )
        affinity = np.asarray(pge.task_affinity(estimates).matrix)
        labels = pge.cluster_tasks(affinity, 2).labels
        return np.asarray(estimates.scores)[subsets], affinity[pairs], labels

    exact_scores, exact_affinity, exact_labels = estimate(None)
    rows = []
    for dim in sizes["dims"]:
        scores, affinity, labels = estimate(dim)
        nmi = normalized_mutual_information
        planted = np.asarray(suite.planted_labels)
        rows.append(
            {
                "seed": seed,
                "dim": dim,
                "affinity_correlation": rank_correlation(affinity, exact_affinity),
                "score_correlation": rank_correlation(scores, exact_scores),
                "nmi_exact": nmi(labels, exact_labels),
                "nmi_planted": nmi(labels, planted),
                "exact_nmi_planted": nmi(exact_labels, planted),
            }
        )
    return rows


def summarize(cells: list[dict]) -> list[dict]:
    """Means over seeds, one row for each d."""
    rows = []
    for dim in dict.fromkeys(cell["dim"] for cell in cells):
        chosen = [cell for cell in cells if cell["dim"] == dim]
        row = {
            name: statistics.mean(cell[name] for cell in chosen)
            for name in chosen[0]
            if name not in ("seed", "dim")
        }
        correlations = [cell["affinity_correlation"] for cell in chosen]
        row |= {"affinity_correlation_min": min(correlations), "cells": chosen}
        rows.append({"dim": dim, **row})
    return rows


def plot(rows: list[dict]):
    """Agreement with the exact estimate against d, a dot for each seed."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(3.4, 2.6), layout="constrained")
    dims = [row["dim"] for row in rows]
    for color, (name, label) in zip(
        GROUP_COLORS,
        {
            "affinity_correlation": "rank correlation of U",
            "score_correlation": "rank correlation of f",
            "nmi_exact": "NMI of the groups",
        }.items(),
        strict=False,
    ):
        axes.plot(dims, [row[name] for row in rows], "-", color=color, label=label)
        for row in rows:
            dots = [cell[name] for cell in row["cells"]]
            axes.plot([row["dim"]] * len(dots), dots, ".", color=color, alpha=0.5)
    common.log_axis(axes.xaxis, dims)
    axes.set_xlabel("d, columns of P")
    axes.set_ylabel("agreement with no projection")
    axes.set_ylim(top=1.02)
    axes.legend()
    return figure


def measure(arguments, sizes: dict, budget: common.Budget) -> common.Outcome:
    """All seeds that the time allows."""
    del arguments
    cells = []
    for seed in sizes["seeds"]:
        if budget.allows(f"seed {seed}"):
            cells += measure_seed(seed, sizes)
    return common.Outcome(summarize(cells))


def main() -> None:
    common.run(globals(), seconds=900)


if __name__ == "__main__":
    main()
