"""Runs the whole pipeline of one config, or resumes an interrupted run.

    python experiments/run.py --config=cartpole_planted --workdir=runs/planted \
        --config.seed=1

The same as `pgx_jax run`.
"""

from pgx_jax.cli import run_command

if __name__ == "__main__":
    run_command("run")
