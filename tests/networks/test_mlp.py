"""The MLP actor-critic."""

import jax
import numpy as np
import pytest
import scipy.stats

from pgx_jax.networks.actor_critic import make_actor_critic


def forward(params, x):
    """The network written out in NumPy: tanh between the dense layers."""
    layers = [params[f"Dense_{i}"] for i in range(3)]
    for layer in layers[:-1]:
        x = np.tanh(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))
    return x @ np.asarray(layers[-1]["kernel"]) + np.asarray(layers[-1]["bias"])


def test_outputs_are_those_of_a_tanh_network():
    networks = make_actor_critic(3, 4, discrete=True, hidden_sizes=(8, 8))
    params = networks.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    logits = networks.distribution(params["policy"], x).logits
    np.testing.assert_allclose(
        logits, forward(params["policy"], x), rtol=1e-4, atol=1e-6
    )
    value = networks.value(params["value"], x)
    np.testing.assert_allclose(
        value, forward(params["value"], x)[..., 0], rtol=1e-4, atol=1e-6
    )


def test_weights_start_orthogonal_and_the_policy_near_uniform():
    networks = make_actor_critic(64, 4, discrete=True)
    params = networks.init(jax.random.key(0))
    kernel = np.asarray(params["policy"]["Dense_1"]["kernel"])
    np.testing.assert_allclose(kernel @ kernel.T, 2 * np.eye(64), atol=1e-5)
    x = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    entropy = networks.distribution(params["policy"], x).entropy()
    np.testing.assert_allclose(entropy, np.log(4.0), atol=1e-3)


def test_continuous_policy_starts_as_a_standard_normal():
    networks = make_actor_critic(3, 2, discrete=False, hidden_sizes=(8,))
    params = networks.init(jax.random.key(0))
    action = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    log_prob = networks.log_prob(params["policy"], np.zeros((7, 3)), action)
    expected = scipy.stats.norm.logpdf(action).sum(-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


def test_a_bounded_mean_stays_within_one():
    networks = make_actor_critic(3, 2, False, hidden_sizes=(8,), bounded_mean=True)
    free = make_actor_critic(3, 2, False, hidden_sizes=(8,))
    params = networks.init(jax.random.key(0))["policy"]
    params = jax.tree.map(lambda x: 100.0 * x, params)
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    mean = networks.distribution(params, x).mode()
    assert np.abs(free.distribution(params, x).mode()).max() > 2.0
    np.testing.assert_allclose(
        mean, np.tanh(free.distribution(params, x).mode()), atol=1e-6
    )


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="activation must be one of.*'gelu'"):
        make_actor_critic(3, 2, True, activation="gelu")
    for sizes in ((), (8, 0)):
        with pytest.raises(ValueError, match="hidden_sizes must be"):
            make_actor_critic(3, 2, True, hidden_sizes=sizes)
