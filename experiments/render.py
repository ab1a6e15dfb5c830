"""Writes a video of policies at work, or of an environment under an untrained policy.

    python experiments/render.py --workdir=runs/cartpole_planted --task=A1,B1 \
        --output=cartpole.mp4
    python experiments/render.py --suite=half_cheetah_velocity --output=cheetahs.gif

The same as `pgx_jax render`.
"""

from pgx_jax.cli import run_command

if __name__ == "__main__":
    run_command("render")
