"""A whole run of the pipeline at its smallest, a few seconds of it compiling."""

from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.reporting.page import write_report

SMALL = {
    "checkpoint_every": 2,
    "network": {"hidden_sizes": [8]},
    "ppo": {"num_envs": 4, "unroll_length": 16, "num_epochs": 1, "num_minibatches": 2},
    "meta_training": {"num_updates": 4},
    "estimation": {
        "num_transitions": 64,
        "num_subsets": 40,
        "dim": 16,
        "num_resamples": 4,
    },
    "grouping": {"num_random_draws": 2},
    "group_training": {"num_updates": 2},
    "evaluation": {"num_episodes": 4},
}


def run(workdir, **changes):
    """The results of such a run, and the path of its report."""
    config = PipelineConfig.from_dict(SMALL | changes)
    results = run_pipeline(config, workdir, tensorboard=False)
    return results, write_report(results, workdir)
