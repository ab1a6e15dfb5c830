"""Writes a trained policy as plain arrays, for the official environments to play.

    python tests/reference/metaworld_export.py runs/metaworld_mt10 policy.npz \
        --method "one policy"
    $P tests/reference/metaworld_runs.py play --policy policy.npz

What was learned in our scene is then tried in the original ($P is the interpreter of
the virtual environment that metaworld_runs.py describes).
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np

from pgx_jax import rendering
from pgx_jax.training.rollouts import OBSERVATION_LIMIT


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--stage")
    parser.add_argument("--method", default="estimated groups")
    arguments = parser.parse_args()
    suite, policies = rendering.restore_policies(
        arguments.workdir, arguments.stage, arguments.method
    )
    network = json.loads((arguments.workdir / "config.json").read_text())["network"]
    # A run holds the policies of every way of grouping.
    used, policy_ids = np.unique(policies.policy_ids, return_inverse=True)
    layers = policies.params["mean"]
    arrays = {
        "tasks": np.array(suite.task_names),
        "policy_ids": policy_ids,
        "mean": np.asarray(policies.observation_statistics.mean)[used],
        "std": np.asarray(policies.observation_statistics.std)[used],
        "limit": np.array(OBSERVATION_LIMIT),
        "activation": np.array(network["activation"]),
        "bounded": np.array(network["bounded_mean"]),
    }
    for i in range(len(layers)):
        arrays[f"kernel{i}"] = np.asarray(layers[f"Dense_{i}"]["kernel"])[used]
        arrays[f"bias{i}"] = np.asarray(layers[f"Dense_{i}"]["bias"])[used]
    np.savez_compressed(arguments.output, **arrays)
    print(arguments.output)


if __name__ == "__main__":
    main()
