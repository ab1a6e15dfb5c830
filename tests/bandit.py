"""A bandit whose arms pay vectors: its best policies are known."""

import jax.numpy as jnp
import numpy as np

from pgx_jax.envs import ActionSpace, from_functions

# What the three arms pay: the best of two objectives of very different units, or nearly
# as much of both.
PAYS = np.array([[1.0, 0.0], [0.0, 100.0], [0.8, 80.0]], np.float32)


def make_bandit(pays=PAYS, objective_names=("small", "large")):
    """One task; every step is an episode."""

    def step(parameters, state, action, key):
        return state, jnp.ones((1,)), parameters[action], jnp.ones((), bool)

    return from_functions(
        lambda parameters, key: (jnp.zeros(()), jnp.ones((1,))),
        step,
        jnp.asarray(pays)[None],
        action_space=ActionSpace(3, discrete=True),
        episode_length=2,
        objective_names=objective_names,
    )
