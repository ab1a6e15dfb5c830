"""Action distributions against SciPy."""

import jax
import numpy as np
import scipy.special
import scipy.stats

from pgx_jax.networks.distributions import Categorical, Gaussian

RNG = np.random.default_rng(0)


def test_categorical_matches_scipy():
    logits = RNG.normal(scale=3.0, size=(50, 5)).astype(np.float32)
    action = RNG.integers(0, 5, 50)
    ours = Categorical(logits)
    probs = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    np.testing.assert_allclose(
        ours.log_prob(action),
        np.log(probs[np.arange(50), action]),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        ours.entropy(), scipy.stats.entropy(probs, axis=-1), rtol=1e-4
    )
    np.testing.assert_array_equal(ours.mode(), probs.argmax(-1))


def test_gaussian_matches_scipy():
    mean, log_std = RNG.normal(size=(2, 50, 3)).astype(np.float32)
    action = RNG.normal(size=(50, 3)).astype(np.float32)
    ours = Gaussian(mean, log_std)
    normal = scipy.stats.norm(mean, np.exp(log_std.astype(np.float64)))
    np.testing.assert_allclose(
        ours.log_prob(action), normal.logpdf(action).sum(-1), rtol=1e-4
    )
    np.testing.assert_allclose(
        ours.entropy(), normal.entropy().sum(-1), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(ours.mode(), mean)


def test_samples_follow_their_distribution():
    keys = jax.random.split(jax.random.key(0), 20_000)
    probs = np.array([0.1, 0.2, 0.7])
    actions = jax.vmap(Categorical(np.log(probs)).sample)(keys)
    counts = np.bincount(actions, minlength=3)
    assert scipy.stats.chisquare(counts, 20_000 * probs).pvalue > 1e-3

    gaussian = Gaussian(np.array([1.0, -2.0]), np.log([0.5, 3.0]))
    actions = np.asarray(jax.vmap(gaussian.sample)(keys))
    for i in range(2):
        normal = scipy.stats.norm(gaussian.mean[i], np.exp(gaussian.log_std[i]))
        assert scipy.stats.kstest(actions[:, i], normal.cdf).pvalue > 1e-3
