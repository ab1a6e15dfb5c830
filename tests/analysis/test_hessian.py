"""Traces of Hessians against those entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from pgx_jax.analysis.hessian import (
    exact_hessian_trace,
    hessian_trace,
    hessian_vector_product,
)


@pytest.fixture(scope="module")
def policy_loss():
    """Minus the mean of A r of a network of 26 parameters, and its Hessian [26, 26]."""
    rng = np.random.default_rng(0)
    state = jnp.asarray(rng.normal(size=(50, 3)), jnp.float32)
    action = jnp.asarray(rng.integers(0, 2, 50))
    advantage = jnp.asarray(rng.normal(size=50), jnp.float32)
    params = {
        "hidden": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=(1, 4)), jnp.float32),
        "output": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        "end": jnp.asarray(rng.normal(size=(1, 2)), jnp.float32),
    }

    def log_prob(p):
        hidden = jnp.tanh(state @ p["hidden"] + p["bias"])
        logits = jax.nn.log_softmax(hidden @ p["output"] + p["end"])
        return jnp.take_along_axis(logits, action[:, None], axis=1)[:, 0]

    def loss(p):
        old = jax.lax.stop_gradient(log_prob(p))
        return -jnp.mean(advantage * jnp.exp(log_prob(p) - old))

    flat, restore = ravel_pytree(params)
    hessian = jax.jit(jax.hessian(lambda x: loss(restore(x))))(flat)
    return params, loss, np.asarray(hessian)


def test_traces_are_those_of_the_whole_matrix(policy_loss):
    params, loss, hessian = policy_loss
    exact = jax.jit(lambda x: exact_hessian_trace(loss, x))(params)
    np.testing.assert_allclose(exact, np.trace(hessian), rtol=1e-4)
    # The span of Hutch++ is the whole space, where it is exact.
    found = jax.jit(
        lambda x: hessian_trace(loss, x, 0, num_products=3 * 26, method="hutch++")
    )(params)
    np.testing.assert_allclose(found.value, exact, rtol=1e-3)
    assert found.standard_error < 1e-3 * abs(exact)


def test_errors_are_those_that_theory_gives(policy_loss):
    """Variance of Hutchinson's: twice the squares off the diagonal, over vectors."""
    params, loss, hessian = policy_loss
    off = np.sum(hessian**2) - np.sum(np.diag(hessian) ** 2)

    def draw(key, method):
        return hessian_trace(loss, params, key, num_products=18, method=method)

    keys = jax.random.split(jax.random.key(1), 400)
    found = {
        x: jax.jit(jax.vmap(lambda key, x=x: draw(key, x)))(keys)
        for x in ("hutchinson", "hutch++")
    }
    expected = np.sqrt(2 * off / 18)
    plain, better = found["hutchinson"], found["hutch++"]
    np.testing.assert_allclose(np.std(plain.value), expected, rtol=0.12)
    mean_square = np.sqrt(np.mean(plain.standard_error**2))
    np.testing.assert_allclose(mean_square, expected, rtol=0.12)
    for estimate in found.values():
        error = abs(estimate.value.mean() - np.trace(hessian))
        assert error < 4 * np.std(estimate.value) / np.sqrt(len(keys))
    assert np.std(better.value) < 0.8 * np.std(plain.value)


def test_products_are_those_of_a_quadratic():
    matrix = np.array([[2.0, -1.0], [-1.0, 3.0]], np.float32)
    product = hessian_vector_product(
        lambda x: 0.5 * x @ matrix @ x, jnp.zeros(2), jnp.array([1.0, 2.0])
    )
    np.testing.assert_allclose(product, [0.0, 5.0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "lanczos"}, "method must be one of hutchinson, hutch"),
        ({"num_products": 5, "method": "hutch++"}, "num_products must be"),
        ({"num_products": 1}, "num_products must be"),
        ({"key": "a"}, "key must be one key"),
        ({"params": jnp.zeros(2)}, "finite second derivatives"),
    ],
)
def test_what_cannot_be_is_refused(arguments, match):
    given = {"params": jnp.ones(2), "key": 0} | arguments
    with pytest.raises(ValueError, match=match):
        hessian_trace(lambda x: jnp.sum(jnp.sqrt(x)), **given)
