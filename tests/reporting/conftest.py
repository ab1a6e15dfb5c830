"""Results such as a run leaves them."""

import dataclasses

import numpy as np
import pytest

from pgx_jax.pipeline.results import RunResults

# Name, description, and mean return, that of one policy being two-sided.
METHODS = [
    ("affinity groups", "One policy per group found from the affinity.", 485),
    ("one policy", "One policy for all tasks.", None),
    ("random groups", "Groups of the same sizes, drawn at random.", 330),
    ("gradient similarity", "Groups from the cosine of task gradients.", 380),
    ("one policy per task", "Every task alone.", 470),
]
TIMINGS = [
    {"stage": "meta-training", "seconds": 14.2, "env_steps": 15_000_000},
    {"stage": "projection", "seconds": 2.1, "env_steps": 20_480},
    {"stage": "estimation", "seconds": 1.3, "env_steps": None},
    {"stage": "clustering", "seconds": 0.04, "env_steps": None},
    {"stage": "group training", "seconds": 95.7, "env_steps": 60_000_000},
]
PROVENANCE = {
    "config": {"seed": 0, "ppo": {"learning_rate": 3e-4, "layers": (64, 64)}},
    "device": "NVIDIA H100 80GB HBM3",
    "versions": {"jax": "0.10.2", "python": "3.11.7"},
    "commit": "ad3c788",
    "command": "python -m experiments.run --config=cartpole",
}


def make_curve(rng, num_tasks, num_updates, start, level):
    """Returns that rise from `start` to `level`, unknown in the first two updates."""
    steps = np.linspace(0, 1_500_000, num_updates)
    rise = 1 - np.exp(-steps / 3e5)
    noise = rng.normal(0, 22, (num_updates, num_tasks))
    values = start + (level - start) * rise[:, None] + noise
    values[:2] = np.nan
    return {"steps": steps, "returns": np.clip(values, 9, 500)}


def make_results(num_tasks=10, num_groups=2, planted=True, num_updates=60, **changes):
    """Results as a run on CartPoles gives them, with the groups it should find."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_tasks) * num_groups // num_tasks
    labels = rng.permutation(labels) if num_tasks > 12 else labels
    same = labels[:, None] == labels[None, :]
    noise = rng.normal(0.0, 0.12, (num_tasks, num_tasks))
    affinity = np.where(same, 0.75, -0.55) + (noise + noise.T) / 2
    pair_counts = rng.integers(90, 130, (num_tasks, num_tasks))

    def returns(mean, num_columns=num_tasks, draws=1, spread=1.0):
        means = np.clip(mean + rng.normal(0, 25, (draws, num_columns, 1)), 20, 490)
        means = means + spread * rng.normal(0, 15, (draws, 1, 1))
        return np.clip(rng.normal(means, 40, (draws, num_columns, 16)), 9, 500)

    def curve(start, level):
        return make_curve(rng, num_tasks, num_updates, start, level)

    side = np.where(labels == 0, 470.0, 120.0 + 60 * labels)
    policies = (num_groups, 1, num_groups, num_groups, num_tasks)
    target = {"num_columns": 50} if num_tasks <= 12 else None
    options = {
        "name": "cartpole-opposed",
        "task_names": [f"cartpole-{i}" for i in range(num_tasks)],
        "episode_length": 500,
        "seed": 0,
        "affinity": affinity,
        "affinity_method": "standardized",
        "pair_counts": pair_counts + pair_counts.T,
        "num_subsets": 2_000,
        "subset_size": 3,
        "relative_distance": {"median": 0.0081, "max": 0.0313},
        "converged_share": 1.0,
        "groups": {"estimated": labels, "gradient similarity": rng.permutation(labels)},
        "methods": [
            {
                "name": name,
                "description": description,
                "num_policies": count,
                "source": returns(
                    side[:, None] if mean is None else mean,
                    draws=5 if name == "random groups" else 1,
                ),
                "target": target
                and returns(
                    285 if mean is None else mean - 40,
                    draws=5 if name == "random groups" else 1,
                    **target,
                ),
            }
            for (name, description, mean), count in zip(METHODS, policies, strict=True)
        ],
        "learning_curves": {
            "meta-training": curve(25.0, side),
            "group training": curve(side, np.full(num_tasks, 486.0)),
        },
        "timings": TIMINGS,
        **PROVENANCE,
    }
    if planted:
        options["groups"]["planted"] = labels
        options["nmi"] = {"estimated": 1.0, "gradient similarity": 0.15}
    return RunResults(**(options | changes))


def add_uncertainty(results, **changes):
    """The same with resamples of which half find the groups again."""
    matrix = np.array(results.affinity)
    same = np.equal.outer(results.groups["estimated"], results.groups["estimated"])
    uncertainty = {
        "lower": matrix - 0.3,
        "upper": matrix + 0.3,
        "co_assignment": np.where(same, 0.9, 0.1),
        "nmi": [1.0, 1.0, 0.5, 0.8],
    }
    return dataclasses.replace(results, uncertainty=uncertainty | changes)


@pytest.fixture(name="make_results", scope="session")
def make_results_fixture():
    return make_results


@pytest.fixture(name="add_uncertainty", scope="session")
def add_uncertainty_fixture():
    return add_uncertainty
