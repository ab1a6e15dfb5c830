"""Least squares from sums, against NumPy in float64 and closed forms."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.least_squares import (
    least_squares_scores,
    least_squares_steps,
    task_moments,
)
from pgx_jax.estimation.projection import draw_columns
from pgx_jax.estimation.sums import accumulate, weigh_parts

NUM_TASKS, NUM_SAMPLES, DIM, NUM_PARTS = 3, 240, 6, 4
PROJECTION = pge.GaussianProjection(DIM)
KEY = jax.random.key(5)
SUBSETS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]], bool)
MEAN = SUBSETS / SUBSETS.sum(axis=1, keepdims=True)  # weights of tasks


def log_prob(params, observation, action):
    logits = jnp.tanh(observation @ params["hidden"]) @ params["out"]
    return jax.nn.log_softmax(logits)[action]


@pytest.fixture(scope="module")
def policy():
    keys = jax.random.split(jax.random.key(0))
    return {
        "hidden": jax.random.normal(keys[0], (4, 5), jnp.float32),
        "out": jax.random.normal(keys[1], (5, 3), jnp.float32),
    }


def draw(seed, num_samples=NUM_SAMPLES, mask=None):
    rng = np.random.default_rng(seed)
    observation = rng.normal(size=(NUM_TASKS, num_samples, 4)).astype(np.float32)
    action = rng.integers(3, size=(NUM_TASKS, num_samples))
    # Tasks prefer different actions, on different scales, with an offset.
    preferred = np.eye(3)[action][..., 0] * np.array([1.0, -1.0, 0.5])[:, None]
    advantage = preferred + 0.3 * rng.normal(size=action.shape) + 0.1
    advantage = advantage * np.array([1.0, 7.0, 0.2])[:, None]
    return pge.Transitions(observation, action, advantage.astype(np.float32), mask)


@pytest.fixture(scope="module")
def batch():
    return draw(1)


@pytest.fixture(scope="module")
def sums(policy, batch):
    return accumulate(log_prob, policy, batch, KEY, PROJECTION, num_parts=NUM_PARTS)


@pytest.fixture(scope="module")
def features(policy, batch):
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch[:2])
    found = pge.project_gradients(
        log_prob, policy, *flat, key=KEY, projection=PROJECTION
    )
    return np.asarray(found, np.float64).reshape(NUM_TASKS, NUM_SAMPLES, DIM)


def reference(features, advantage, weights, ridge, num_folds, batch_transitions=None):
    """The formulas of the module in float64, from the transitions themselves."""
    advantage = np.asarray(advantage, np.float64)
    centered = features - features.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.mean(np.sum(centered**2, axis=2)) / features.shape[2])
    x = features / scale
    a = advantage / advantage.std(axis=1, keepdims=True)
    part = np.arange(x.shape[1]) // (x.shape[1] // NUM_PARTS)

    def moments(rows):
        g, y = x[:, rows], a[:, rows]
        g = g - g.mean(axis=1, keepdims=True)
        return (
            np.einsum("ntd,nte->nde", g, g) / g.shape[1],
            np.einsum("nt,ntd->nd", y, g) / g.shape[1],
            [np.cov((y[i][:, None] * g[i]).T, bias=True) for i in range(len(g))],
        )

    scores = []
    for fold in range(num_folds):
        inside = part % num_folds == fold
        gram, target, _ = moments(inside if num_folds == 1 else ~inside)
        score_gram, score_target, _ = moments(inside)
        for row in weights:
            matrix = np.tensordot(row, gram, axes=1) + ridge * np.eye(x.shape[2])
            delta = np.linalg.solve(matrix, row @ target)
            scores.append(
                2 * score_target @ delta
                - np.einsum("d,nde,e->n", delta, score_gram, delta)
            )
    scores = np.array(scores).reshape(num_folds, len(weights), -1)
    if batch_transitions is None:
        return scores
    gram, _, noise = moments(np.ones(len(part), bool))
    penalty = np.empty_like(scores[0])
    for m, row in enumerate(weights):
        inverse = np.linalg.inv(
            np.tensordot(row, gram, axes=1) + ridge * np.eye(x.shape[2])
        )
        covariance = np.tensordot(row**2, np.array(noise), axes=1)
        for i in range(len(gram)):
            penalty[m, i] = np.trace(inverse @ gram[i] @ inverse @ covariance)
    return scores, penalty / batch_transitions


@pytest.mark.parametrize("num_folds", [1, 2, 4])
@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_scores_are_those_of_numpy_in_float64(sums, batch, features, ridge, num_folds):
    found = least_squares_scores(sums, SUBSETS, ridge=ridge, num_folds=num_folds)
    expected = reference(features, batch.advantage, MEAN, ridge, num_folds)
    expected = np.where(SUBSETS, expected, 0.0)
    np.testing.assert_allclose(found.fold_scores, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.scores, expected.mean(axis=0), atol=1e-5)
    assert found.scores.dtype == jnp.float32


def test_weights_and_the_noise_of_a_batch_are_those_of_numpy(sums, batch, features):
    weights = np.random.default_rng(2).uniform(0.1, 2.0, SUBSETS.shape) * SUBSETS
    weights[0, 2] = 0.3  # A task that is trained on and not scored.
    found = least_squares_scores(
        sums, SUBSETS, weights=weights, ridge=0.5, batch_transitions=50
    )
    scores, noise = reference(features, batch.advantage, weights, 0.5, 2, 50)
    for got, expected in ((found.fold_scores, scores), (found.noise, noise)):
        expected = np.where(SUBSETS, expected, 0.0)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


def test_the_noise_takes_off_what_noise_on_the_target_does(sums):
    """A simulation: b plus a normal of covariance Sigma / N_b, scored without."""
    moments = task_moments(sums, noise=True)
    gram, target, noise = (np.asarray(x, np.float64) for x in moments[:3])
    rng = np.random.default_rng(0)
    for row in (4, 0):
        member = SUBSETS[row].astype(float)
        inverse = np.linalg.inv(np.tensordot(member, gram, axes=1) + np.eye(DIM))
        draws = sum(
            rng.multivariate_normal(target[i], noise[i] / 20, size=50_000)
            for i in np.flatnonzero(member)
        )
        delta = draws @ inverse
        lost = 2 * target @ (member @ target @ inverse) - np.einsum(
            "d,nde,e->n", member @ target @ inverse, gram, member @ target @ inverse
        )
        got = 2 * delta @ target.T - np.einsum("td,nde,te->tn", delta, gram, delta)
        lost = (lost - got.mean(axis=0))[SUBSETS[row]]
        found = least_squares_scores(
            sums, SUBSETS, weights=SUBSETS, batch_transitions=20
        )
        np.testing.assert_allclose(
            np.asarray(found.noise)[row][SUBSETS[row]], lost, rtol=0.05
        )


def test_sums_of_two_calls_add_up(policy, sums, batch):
    half = NUM_SAMPLES // 2
    # Each half has the first, or the last, half of every part.
    order = np.arange(NUM_SAMPLES).reshape(NUM_PARTS, 2, -1).swapaxes(0, 1).ravel()
    parts = [
        jax.tree.map(lambda x, rows=rows: x[:, rows], batch)
        for rows in (order[:half], order[half:])
    ]
    first, second = (
        accumulate(log_prob, policy, x, KEY, PROJECTION, num_parts=NUM_PARTS)
        for x in parts
    )
    for got, expected in zip(first + second, sums, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert (first + second).count.sum() == NUM_TASKS * NUM_SAMPLES


def test_padding_does_not_count(policy, batch, sums):
    mask = np.ones((NUM_TASKS, NUM_SAMPLES + 80), bool)
    mask[:, 240:] = False
    longer = jax.tree.map(
        lambda x: np.concatenate([x, np.full_like(x[:, :80], 99)], axis=1), batch[:3]
    )
    longer[1][:, 240:] = 0
    masked = accumulate(
        log_prob, policy, (*longer, mask), KEY, PROJECTION, num_parts=NUM_PARTS
    )
    for got, expected in zip(masked, sums, strict=True):
        if expected.ndim > 1:
            np.testing.assert_allclose(
                got.sum(axis=0), expected.sum(axis=0), rtol=1e-4, atol=1e-3
            )


def test_a_large_ridge_steps_along_the_policy_gradient(policy, batch):
    single = accumulate(log_prob, policy, batch, KEY, PROJECTION, num_parts=1)
    ridge = 1e6
    steps = least_squares_steps(
        single, SUBSETS, ridge=ridge, normalize_advantages=False
    )
    moments = task_moments(single, normalize_advantages=False)
    centered = batch.advantage - batch.advantage.mean(axis=1, keepdims=True)
    gradients = pge.task_gradients(log_prob, policy, batch._replace(advantage=centered))
    columns = draw_columns(PROJECTION, KEY, policy)
    flat = np.concatenate(
        [np.asarray(x).reshape(DIM, -1) for x in jax.tree.leaves(columns)], axis=1
    )
    expected = MEAN @ (np.asarray(gradients) @ flat.T)
    # Delta = b / (ridge scale^2) in the units of P, features being over scale.
    np.testing.assert_allclose(
        steps * ridge * moments.scale**2, expected, rtol=1e-4, atol=1e-5
    )


@dataclasses.dataclass(frozen=True)
class Identity:
    """P = I, of as many columns as there are parameters."""

    dim: int = 3

    def column(self, key, params, index):
        return jax.nn.one_hot(index, 3, dtype=jnp.float32)


def test_three_arms_get_the_optimal_policy():
    """Arms of reward (1, 0, -1), a uniform reference, beta = 1: V* = 0.3090."""
    reward = jnp.array([[1.0, 0.0, -1.0]])
    batch = pge.Transitions(jnp.zeros((1, 3, 1)), jnp.arange(3)[None], reward)
    logits = jnp.zeros(3, jnp.float32)
    found = accumulate(
        lambda p, _, action: jax.nn.log_softmax(p)[action],
        logits,
        batch,
        KEY,
        Identity(),
        num_parts=1,
    )
    delta = least_squares_steps(found, [[1]], ridge=1e-5, normalize_advantages=False)
    policy = jax.nn.softmax(logits + delta[0])
    np.testing.assert_allclose(policy, [0.6652, 0.2447, 0.0900], atol=1e-4)
    value = jax.nn.logsumexp(delta[0] - delta[0].mean()) - jnp.log(3.0)
    np.testing.assert_allclose(value, 0.3090, atol=1e-4)
    # All of the variance of the rewards is explained.
    scores = least_squares_scores(found, [[1]], ridge=1e-5, num_folds=1).scores
    np.testing.assert_allclose(scores, 1.0, atol=1e-4)


def test_cross_fitting_has_no_bias_from_noise(policy):
    """Advantages of pure noise: fitted scores are d / N, cross-fitted ones below 0."""
    rng = np.random.default_rng(3)
    fitted, crossed = [], []
    for seed in range(10):
        noise = draw(seed)._replace(
            advantage=rng.normal(size=(NUM_TASKS, NUM_SAMPLES)).astype(np.float32)
        )
        found = accumulate(log_prob, policy, noise, KEY, PROJECTION, num_parts=2)
        for folds, kept in ((1, fitted), (2, crossed)):
            scores = least_squares_scores(
                found, np.eye(3, dtype=bool), ridge=0.01, num_folds=folds
            )
            kept.append(np.diag(scores.scores))
    np.testing.assert_allclose(np.mean(fitted), DIM / NUM_SAMPLES, rtol=0.3)
    assert np.mean(crossed) < 0


def test_a_bootstrap_over_parts_is_the_sums_of_the_parts_drawn(sums):
    times = np.array([2.0, 0.0, 1.0, 1.0])
    drawn = weigh_parts(sums, times)
    np.testing.assert_allclose(drawn.outer[0], 2 * sums.outer[0])
    assert drawn.count.sum() == sums.count.sum()
    np.testing.assert_array_equal(drawn.fingerprint, sums.fingerprint)
    with pytest.raises(ValueError, match=r"tasks \[0, 1, 2\] in fold 1"):
        least_squares_scores(weigh_parts(sums, [1, 0, 1, 0]), SUBSETS, num_folds=2)


def test_sums_of_another_projection_or_policy_are_refused(policy, batch, sums):
    others = [
        (policy, jax.random.key(6), PROJECTION),
        (jax.tree.map(lambda x: 1.01 * x, policy), KEY, PROJECTION),
        (policy, KEY, pge.RademacherProjection(DIM)),
    ]
    for params, key, projection in others:
        other = accumulate(
            log_prob, params, batch, key, projection, num_parts=NUM_PARTS
        )
        with pytest.raises(ValueError, match="the same policy and projection"):
            _ = sums + other
    few = accumulate(log_prob, policy, batch, KEY, PROJECTION, num_parts=2)
    with pytest.raises(ValueError, match="same shapes to be added; their count is of"):
        _ = sums + few


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": 0.0}, "ridge must be positive and finite, got 0.0"),
        ({"ridge": np.nan}, "ridge must be positive and finite"),
        ({"num_folds": 5}, "num_folds must be in 1..4"),
        ({"weights": -np.ones((5, 3))}, "task 0 in row 0 is -1.0"),
        ({"weights": np.ones((4, 3))}, r"weights must have the shape of subsets"),
        ({"batch_transitions": -1}, "batch_transitions must be positive and finite"),
    ],
)
def test_bad_settings_are_refused_by_name(sums, change, message):
    with pytest.raises(ValueError, match=message):
        least_squares_scores(sums, SUBSETS, **change)


def test_bad_sums_are_refused_by_name(policy, batch, sums):
    quiet = accumulate(
        log_prob, policy, batch, KEY, PROJECTION, num_parts=NUM_PARTS, noise=False
    )
    assert quiet.noise_outer is None
    with pytest.raises(ValueError, match="needs sums with noise"):
        least_squares_scores(quiet, SUBSETS, batch_transitions=10)
    with pytest.raises(ValueError, match="product of task 1 in part 0 is not"):
        bad = sums._replace(product=sums.product.at[0, 1, 2].set(jnp.nan))
        least_squares_scores(bad, SUBSETS)
    with pytest.raises(ValueError, match="num_parts must be in 1..N = 1..240"):
        accumulate(log_prob, policy, batch, KEY, PROJECTION, num_parts=241)
