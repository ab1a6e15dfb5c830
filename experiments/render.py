"""Writes a video of policies at work, or of an environment under an untrained policy.

    python experiments/render.py --workdir=runs/cartpole_planted --task=A1,B1 \
        --output=cartpole.mp4
    python experiments/render.py --suite=half_cheetah_velocity --output=cheetahs.gif

The same as `pgx_jax render`.
"""

from pgx_jax.cli.render import main

if __name__ == "__main__":
    main()
