"""Puts the results of several finished runs of one suite, one per seed, in one table.

    python experiments/aggregate.py --output=experiments/results/cartpole \
        runs/cartpole_0 runs/cartpole_1 runs/cartpole_2

The same as `pgx_jax aggregate`.
"""

from pgx_jax.cli import run_command

if __name__ == "__main__":
    run_command("aggregate")
