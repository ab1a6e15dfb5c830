"""Small networks of every architecture, and parts of them written in NumPy."""

import jax
import numpy as np

from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.networks.architectures import ARCHITECTURES

NUM_TASKS = 3
OBSERVATION_SIZE = 2
PER_TASK = [name for name, x in ARCHITECTURES.items() if x.reads_task_id]
# Where a setting leads to other parameters.
VARIANTS = {name: {"name": name} for name in ARCHITECTURES} | {
    "moore, shared head": {"name": "moore", "shared_head": True},
    "care, embeddings": {"name": "care", "task_embeddings": np.eye(3, 5)},
    "wide residual critic": {"critic": "wide_residual", "critic_width": 8},
}


def make_networks(discrete=True, **settings):
    """Networks of two hidden layers, of observations that end in a task id."""
    chosen = {"hidden_sizes": (8, 6), "num_tasks": NUM_TASKS} | settings
    return make_actor_critic(OBSERVATION_SIZE + NUM_TASKS, 2, discrete, **chosen)


def draw_params(networks, part="policy"):
    """Random parameters, also where they start as zeros."""
    shapes = jax.eval_shape(networks.init, jax.random.key(0))[part]
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: rng.normal(scale=0.5, size=x.shape).astype(x.dtype), shapes
    )


def draw_observations(num=7):
    """Observations [NUM_TASKS, num, ...] of every task, which end in its id."""
    rng = np.random.default_rng(1)
    ids = np.broadcast_to(np.eye(NUM_TASKS)[:, None], (NUM_TASKS, num, NUM_TASKS))
    noise = rng.normal(size=(NUM_TASKS, num, OBSERVATION_SIZE))
    return np.concatenate([noise, ids], axis=-1).astype(np.float32)


def dense(params, x):
    """A dense layer, or one of a stack where an index was applied."""
    return x @ params["kernel"] + params["bias"]


def one(params, i):
    """The i-th layer of a stack."""
    return jax.tree.map(lambda x: x[i], params)


def softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def check_equation(equation, **settings):
    """Holds logits and values against `equation(params, observation, task)`."""
    networks = make_networks(**settings)
    x = draw_observations()
    for part, compute in (
        ("policy", lambda p, x: networks.distribution(p, x).logits),
        ("value", lambda p, x: networks.value(p, x)[..., None]),
    ):
        params = draw_params(networks, part)
        expected = np.array(
            [
                [equation(params, s[:OBSERVATION_SIZE], task) for s in x[task]]
                for task in range(NUM_TASKS)
            ]
        )
        np.testing.assert_allclose(
            jax.jit(compute)(params, x), expected, rtol=1e-4, atol=1e-5
        )
