"""The two-objective problem with a deep valley that the papers plot.

Its equations are those of Liu et al., 2021 (CAGrad), appendix B, and its starting
points those of Navon et al., 2022 (Nash-MTL). Runs last 50,000 steps of Adam of 0.001
as there, or 100,000 of the methods whose paper takes as many.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pgx_jax.optim import Weighting, cagrad, combine_gradients, famo, nash_mtl, pcgrad

pytestmark = [pytest.mark.slow, pytest.mark.optimized]

STARTS = np.float32([[-8.5, 7.5], [-8.5, 5.0], [0.0, 0.0], [9.0, 9.0], [10.0, -8.0]])
LEAST = -20.0  # of either objective
MEAN = Weighting(
    lambda num_tasks, key: (),
    lambda state, gram, losses, mask: (jnp.full((2,), 0.5), state),
)


def objectives(x):
    """A valley of logarithms above x_2 = 0, two parabolas beneath; float32 [2]."""
    a, b = x
    gaps = jnp.stack(
        [0.5 * (-a - 7.0) - jnp.tanh(-b), 0.5 * (-a + 3.0) + jnp.tanh(-b) + 2.0]
    )
    valley = jnp.log(jnp.maximum(jnp.abs(gaps), 5e-6)) + 6.0
    centers = jnp.array([7.0, -7.0])
    bowls = ((-a + centers) ** 2 + 0.1 * (-b - 8.0) ** 2) / 10.0 - 20.0
    above = jnp.maximum(jnp.tanh(0.5 * b), 0.0)
    beneath = jnp.maximum(jnp.tanh(-0.5 * b), 0.0)
    return valley * above + bowls * beneath


@functools.cache
def final_points(name):
    """Where a method ends from every start; [5, 2]."""
    weighting, num_steps = {
        "mean": (MEAN, 50_000),
        "nash_mtl": (nash_mtl(), 50_000),
        # Here the decay outweighs the small decrease of a step, as its authors say.
        "famo": (famo(decay=0.0), 50_000),
        "cagrad": (cagrad(0.5), 100_000),
        "pcgrad": (pcgrad(), 100_000),
    }[name]
    optimizer = optax.chain(combine_gradients(weighting, 2), optax.adam(1e-3))

    def run(start):
        def step(carry, _):
            x, state = carry
            losses = objectives(x) - LEAST + 1e-2
            gradients = jax.jacrev(objectives)(x)
            updates, state = optimizer.update(gradients, state, x, losses=losses)
            return (optax.apply_updates(x, updates), state), None

        start = (start, optimizer.init(start))
        return jax.lax.scan(step, start, None, num_steps)[0][0]

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.jit(jax.vmap(run))(STARTS))


def on_the_front(x):
    """Whether no direction decreases both objectives: gradients are opposite."""
    gradients = np.asarray(jax.jacrev(objectives)(jnp.asarray(x)), np.float64)
    norms = np.linalg.norm(gradients, axis=1)
    cosine = gradients[0] @ gradients[1] / max(norms[0] * norms[1], 1e-12)
    return x[1] < -7.5 and abs(x[0]) <= 7.01 and (cosine < -0.95 or min(norms) < 0.05)


@pytest.mark.parametrize("name", ["cagrad", "nash_mtl", "famo", "pcgrad"])
def test_the_methods_reach_the_pareto_front_from_everywhere(name):
    for start, x in zip(STARTS, final_points(name), strict=True):
        assert on_the_front(x), (start, x)


def test_the_mean_gradient_stays_in_the_valley():
    """From the three starts above it."""
    found = [bool(on_the_front(x)) for x in final_points("mean")]
    assert found == [False, False, True, False, True]


def test_cagrad_goes_to_the_minimum_of_the_mean_and_pcgrad_does_not():
    """PCGrad stops where it meets the front."""
    apart = {}
    for name in ("cagrad", "pcgrad"):
        values = np.array([objectives(jnp.asarray(x)) for x in final_points(name)])
        apart[name] = np.abs(values[:, 0] - values[:, 1]).max()
    assert apart["cagrad"] < 0.1
    assert apart["pcgrad"] > 5
