"""Six combination locks, where three tasks together do what no pair of them does.

A lock is a code of ten digits; the time is all that a policy sees, and each step it
enters one digit of four. Of a first half task, each of the first five right digits pays
1; of a second half task, each of the last five; and an open task pays 10 at the end if
all ten were right, which chance does once in 4^10 times. There are two locks whose
digits all differ, and the three tasks of each:

* the halves of one lock share no step that pays: they neither help nor harm each other;
* with one half only, an open task is paid once in 4^5 episodes, so that a pair gives
  little evidence of it, while both halves together open the lock;
* tasks of different locks pay for different digits at the same steps.

So any pair of one lock looks as if it might as well be apart, and the three together
are the best group there is.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.locks.env import NUM_DIGITS, NUM_SYMBOLS, Lock, LockParameters

OPEN_REWARD = 10.0


def combination_locks() -> FamilySuite:
    """Two locks of three tasks each: first half, second half, open."""
    code = np.random.default_rng(0).integers(NUM_SYMBOLS, size=NUM_DIGITS)
    codes = np.repeat(np.stack([code, (code + 1) % NUM_SYMBOLS]), 3, axis=0)
    half = np.arange(NUM_DIGITS) < NUM_DIGITS // 2
    pays = np.tile(np.stack([half, ~half, np.zeros_like(half)]), (2, 1))
    return FamilySuite(
        make_env=Lock,
        parameters=LockParameters(
            code=jnp.asarray(codes, jnp.int32),
            pays=jnp.asarray(pays, jnp.float32),
            open_reward=jnp.asarray(np.tile([0, 0, OPEN_REWARD], 2), jnp.float32),
        ),
        name="combination_locks",
        task_names=tuple(
            f"{lock} {kind}"
            for lock in "AB"
            for kind in ("first half", "second half", "open")
        ),
        observation_size=NUM_DIGITS + 1,
        action_space=ActionSpace(size=NUM_SYMBOLS, discrete=True),
        episode_length=NUM_DIGITS,
        planted_labels=(0, 0, 0, 1, 1, 1),
    )
