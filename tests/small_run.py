"""A whole run of the pipeline at its smallest, by the paper's way of grouping."""

import json

from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.results import RunResults
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.reporting.page import write_report

SMALL = {
    "checkpoint_every": 2,
    "network": {"hidden_sizes": [8]},
    "ppo": {"num_envs": 4, "unroll_length": 16, "num_epochs": 1, "num_minibatches": 2},
    "meta_training": {"num_updates": 4},
    "estimation": {
        "regression": "logistic",
        "num_transitions": 64,
        "num_subsets": 40,
        "dim": 16,
        "num_resamples": 4,
    },
    "grouping": {"method": "clustering", "num_random_draws": 2},
    "group_training": {"num_updates": 2},
    "evaluation": {"num_episodes": 4},
}


def run(workdir, **changes):
    """The results of such a run with some settings changed, and its report's path."""
    for name, change in changes.items():
        if isinstance(change, dict):
            changes[name] = SMALL.get(name, {}) | change
    config = PipelineConfig.from_dict(SMALL | changes)
    results = run_pipeline(config, workdir, tensorboard=False)
    return results, write_report(results, workdir)


def without_clock(results: RunResults) -> str:
    """All numbers to the last digit, as text, in which NaN equals NaN."""
    values = dict(vars(results))
    for name in ("timings", "resumed", "command", "commit"):
        del values[name]
    return json.dumps(values)
