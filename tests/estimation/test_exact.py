"""Estimation without a projection, against gradients written out and against P."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import pgx_jax as pge
from pgx_jax.estimation.exact import _factor, exact_dim, exact_features

KEY = jax.random.key(3)
SUBSETS = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])


def log_prob(params, observation, action):
    hidden = jnp.tanh(observation @ params["hidden"])
    return jax.nn.log_softmax(hidden @ params["out"])[action]


def make_problem(num_samples, width, seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "hidden": rng.normal(size=(3, width)).astype(np.float32),
        "out": rng.normal(size=(width, 2)).astype(np.float32),
    }
    batch = pge.Transitions(
        rng.normal(size=(3, num_samples, 3)).astype(np.float32),
        rng.integers(0, 2, size=(3, num_samples)),
        rng.normal(size=(3, num_samples)).astype(np.float32),
    )
    return params, batch


# Fewer parameters than transitions, and more.
PROBLEMS = [
    pytest.param(*make_problem(20, 4), id="p < N"),
    pytest.param(*make_problem(8, 12), id="p > N"),
]


def all_gradients(params, batch):
    gradients = jax.vmap(jax.vmap(jax.grad(log_prob), (None, 0, 0)), (None, 0, 0))(
        params, batch.observation, batch.action
    )
    return np.concatenate(
        [np.reshape(x, (*x.shape[:2], -1)) for x in jax.tree.leaves(gradients)], axis=2
    )


@pytest.mark.parametrize("params, batch", PROBLEMS)
def test_inner_products_and_lengths_are_those_of_the_gradients(params, batch):
    gradients = all_gradients(params, batch).reshape(-1, 5 * params["out"].shape[0])
    observation, action = (x.reshape(-1, *x.shape[2:]) for x in batch[:2])
    exact = exact_features(
        log_prob, params, observation, action, jnp.ones(len(action), bool)
    )
    size = np.abs(gradients @ gradients.T).max()
    np.testing.assert_allclose(
        exact.values @ exact.values.T, gradients @ gradients.T, atol=1e-4 * size
    )
    # A direction in the span goes back to the same combination of gradients.
    weight = np.random.default_rng(0).normal(size=(2, len(gradients)))
    change = exact.expand(jnp.asarray(weight, jnp.float32) @ exact.values)
    flat = np.concatenate(
        [np.reshape(x, (2, -1)) for x in jax.tree.leaves(change)], axis=1
    )
    expected = weight @ gradients
    np.testing.assert_allclose(flat, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("params, batch", PROBLEMS)
def test_the_exact_estimate_is_the_regression_on_the_gradients(params, batch):
    l2 = 0.1
    estimates = pge.estimate_subsets(
        log_prob, params, batch, SUBSETS, key=KEY, dim=None, l2=l2, tolerance=1e-6
    )
    gradients = all_gradients(params, batch).astype(float)
    gradients = gradients - gradients.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.mean(np.sum(gradients**2, axis=2)) / 400.0)
    features = gradients / scale
    weight = np.abs(batch.advantage)
    weight = weight / weight.mean(axis=1, keepdims=True)
    signed = features * np.sign(batch.advantage)[..., None]
    for index, subset in enumerate(SUBSETS.astype(bool)):

        def objective(delta, subset=subset):
            logits = signed[subset] @ delta
            losses = weight[subset] * np.logaddexp(0, -logits)
            slope = -weight[subset] / (1 + np.exp(logits))
            gradient = np.einsum("it,itp->p", slope, signed[subset])
            return (
                losses.mean() + 0.5 * l2 * delta @ delta,
                gradient / losses.size + l2 * delta,
            )

        delta = optimize.minimize(
            objective, np.zeros(features.shape[2]), jac=True, tol=1e-12
        ).x
        np.testing.assert_allclose(
            estimates.loss[index], objective(delta)[0], rtol=1e-3
        )
        gains = np.log(2) - np.logaddexp(0, -(signed @ delta))
        expected = np.where(subset, np.mean(weight * gains, axis=1), 0.0)
        np.testing.assert_allclose(estimates.scores[index], expected, atol=1e-3)


def test_the_projected_answer_approaches_the_exact_one():
    params, batch = make_problem(40, 170)
    exact = pge.estimate_subsets(
        log_prob, params, batch, SUBSETS, key=KEY, dim=None
    ).scores
    errors = [
        np.mean(
            [
                np.abs(
                    pge.estimate_subsets(
                        log_prob, params, batch, SUBSETS, key=jax.random.key(s), dim=dim
                    ).scores
                    - exact
                ).max()
                for s in range(3)
            ]
        )
        for dim in (25, 800)
    ]
    # The error falls as 1 / sqrt(d).
    assert errors[1] < errors[0] / 3
    assert errors[1] < 0.06 * np.abs(exact).max()


def test_padding_changes_nothing():
    params, batch = make_problem(8, 12)
    padding = ((0, 0), (0, 4))
    padded = pge.Transitions(
        np.pad(batch.observation, (*padding, (0, 0)), constant_values=np.nan),
        np.pad(batch.action, padding),
        np.pad(batch.advantage, padding),
        np.arange(12) < np.full((3, 1), 8),
    )
    plain, masked = (
        pge.estimate_subsets(
            log_prob, params, x, SUBSETS, key=KEY, dim=None, evaluator=evaluator
        ).scores
        for evaluator in ("surrogate",)
        for x in (batch, padded)
    )
    np.testing.assert_allclose(masked, plain, rtol=1e-3, atol=1e-5)


def test_a_gradient_of_zero_has_coordinates_of_zero():
    observation = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    observation[2] = 0.0
    exact = exact_features(
        lambda params, observation, action: action * jnp.sum(params * observation),
        jnp.zeros(40),
        observation,
        jnp.ones(6),
        jnp.ones(6, bool),
    )
    np.testing.assert_array_equal(exact.values[2], 0.0)
    np.testing.assert_allclose(
        exact.values @ exact.values.T, observation @ observation.T, atol=1e-3
    )


def test_too_many_transitions_are_refused():
    params = {"w": np.zeros((300, 100))}
    assert exact_dim(params, 1000) == 1000
    with pytest.raises(ValueError, match="dim=None .* at most 16384"):
        exact_dim(params, 20_000)


def test_a_gram_matrix_of_low_rank_is_factored_without_eigenvalues():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(40, 5)).astype(np.float32)
    gram = (rows @ rows.T).astype(np.float32)
    factor = np.asarray(jax.jit(_factor)(gram), float)
    assert np.abs(factor @ factor.T - gram).max() < 1e-4 * gram.max()
    assert "eigh" not in str(jax.make_jaxpr(_factor)(gram))
    # What is not finite ends, and stays so.
    failed = np.asarray(jax.jit(_factor)(gram * np.nan))
    assert np.isnan(failed[np.tril_indices(40)]).all()
    assert np.abs(np.asarray(_factor(0 * gram))).max() < 1e-15
