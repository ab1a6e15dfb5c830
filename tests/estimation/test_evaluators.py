"""Evaluators of the real network against loops from their definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.evaluators import CLIP, _loss_fall

KEY = jax.random.key(5)
NUM_TASKS, NUM_SAMPLES = 4, 30
SUBSETS = np.array(
    [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1]]
)


def log_prob(params, observation, action):
    hidden = jnp.tanh(observation @ params["hidden"])
    return jax.nn.log_softmax(hidden @ params["out"])[action]


def make_problem():
    rng = np.random.default_rng(0)
    params = {
        "hidden": rng.normal(size=(3, 8)).astype(np.float32),
        "out": rng.normal(size=(8, 2)).astype(np.float32),
    }
    observation = rng.normal(size=(NUM_TASKS, NUM_SAMPLES, 3)).astype(np.float32)
    action = rng.integers(0, 2, size=(NUM_TASKS, NUM_SAMPLES))
    advantage = rng.normal(size=(NUM_TASKS, NUM_SAMPLES)).astype(np.float32)
    return params, pge.Transitions(observation, action, advantage)


PARAMS, BATCH = make_problem()


def theta(delta_source):
    """theta_S of every subset, taken out of the estimate by an evaluator."""
    seen = {}

    def spy(adapted):
        jax.debug.callback(
            lambda **x: seen.update(jax.tree.map(np.asarray, x)),
            params=adapted.adapt(adapted.delta),
            advantage=adapted.batch.advantage,
        )
        return jnp.zeros(adapted.subsets.shape)

    pge.estimate_subsets(
        log_prob, PARAMS, BATCH, SUBSETS, evaluator=spy, **delta_source
    )
    jax.effects_barrier()
    return seen["params"], seen["advantage"]


# Near enough for ratios inside the clip, and far beyond it.
@pytest.mark.parametrize("limit", [0.01, 1.0])
def test_off_policy_equals_a_loop_over_transitions(limit):
    settings = dict(key=KEY, dim=20, max_relative_distance=limit)
    estimates = pge.estimate_subsets(
        log_prob, PARAMS, BATCH, SUBSETS, evaluator="off_policy", **settings
    )
    params, advantage = theta(settings)
    log_probs = jax.vmap(log_prob, (None, 0, 0))
    clipped = 0
    for s, subset in enumerate(SUBSETS):
        one = jax.tree.map(lambda x, s=s: x[s], params)
        for i in np.flatnonzero(subset):
            old = log_probs(PARAMS, BATCH.observation[i], BATCH.action[i])
            new = log_probs(one, BATCH.observation[i], BATCH.action[i])
            ratio = np.exp(np.asarray(new) - np.asarray(old)).astype(float)
            centered = advantage[i] - advantage[i].mean()
            gains = []
            for r, a in zip(ratio, centered, strict=True):
                gains.append(min(r * a, np.clip(r, 1 - CLIP, 1 + CLIP) * a) - a)
                clipped += abs(r - 1) > CLIP
            np.testing.assert_allclose(
                estimates.scores[s, i], np.mean(gains), rtol=1e-3, atol=1e-6
            )
            np.testing.assert_allclose(
                estimates.standard_error[s, i],
                np.std(gains, ddof=1) / np.sqrt(NUM_SAMPLES),
                rtol=1e-3,
            )
            np.testing.assert_allclose(
                estimates.effective_sample_size[s, i],
                ratio.sum() ** 2 / (ratio**2).sum(),
                rtol=1e-4,
            )
    assert (clipped > 0) == (limit == 1.0)
    assert np.all(np.asarray(estimates.scores)[SUBSETS == 0] == 0)


def test_the_surrogate_scores_at_the_distance_that_is_reported():
    seen = {}

    def spy(adapted):
        jax.debug.callback(
            lambda **x: seen.update(jax.tree.map(np.asarray, x)),
            advantage=adapted.batch.advantage,
            features=adapted.features,
            moved=adapted.adapt(adapted.delta),
        )
        return jnp.zeros(adapted.subsets.shape)

    def flat(tree):
        return np.concatenate(
            [np.reshape(x, (len(x), -1)) for x in jax.tree.leaves(tree)], axis=1
        ).astype(float)

    base = flat(jax.tree.map(lambda x: x[None], PARAMS))
    all_scores = {}
    for limit in (1e-4, 0.01, None, "auto"):
        settings = dict(key=KEY, dim=20, max_relative_distance=limit)
        estimates = pge.estimate_subsets(log_prob, PARAMS, BATCH, SUBSETS, **settings)
        scores = np.asarray(estimates.scores)
        all_scores[limit] = scores
        told = dict(settings, max_relative_distance=None if limit == "auto" else limit)
        pge.estimate_subsets(log_prob, PARAMS, BATCH, SUBSETS, evaluator=spy, **told)
        jax.effects_barrier()
        margin = np.einsum(
            "ntd,sd->snt", seen["features"].astype(float), estimates.delta
        ) * np.sign(seen["advantage"])
        gains = np.log(2) - np.logaddexp(0, -margin)
        expected = np.mean(np.abs(seen["advantage"]) * gains, axis=2) * SUBSETS
        size = np.abs(expected).max()
        np.testing.assert_allclose(scores, expected, atol=1e-4 * size)
        distance = np.linalg.norm(flat(seen["moved"]) - base, axis=1)
        np.testing.assert_allclose(
            estimates.relative_distance, distance / np.linalg.norm(base), rtol=5e-3
        )
        if isinstance(limit, float):
            largest = np.max(estimates.relative_distance)
            np.testing.assert_allclose(largest, limit, rtol=1e-4)
    np.testing.assert_array_equal(all_scores["auto"], all_scores[None])
    # The step is 100 times shorter, and its scores are of first order in it.
    ratio = all_scores[0.01][SUBSETS == 1] / all_scores[1e-4][SUBSETS == 1]
    assert 50 < np.median(ratio) < 150
    assert all_scores[None].max() > 2 * all_scores[0.01].max()


def test_the_fall_of_the_loss_keeps_small_margins_and_bears_large_ones():
    margin = np.array([-1e30, -200, -31, -29, -1, -1e-6, 0, 1e-9, 1e-3, 3, 200, 1e30])
    expected = np.log(2) - np.logaddexp(0, -margin)
    small = np.abs(margin) < 1e-2
    expected[small] = margin[small] / 2 - margin[small] ** 2 / 8
    actual = _loss_fall(jnp.asarray(margin, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_standard_error_of_the_surrogate_is_that_of_its_mean():
    estimates = pge.estimate_subsets(
        log_prob, PARAMS, BATCH, SUBSETS, key=KEY, dim=20, held_out_fraction=0.5
    )
    twice = pge.Transitions(
        *[
            None if x is None else np.tile(x, (1, 2) + (1,) * (x.ndim - 2))
            for x in BATCH
        ]
    )
    more = pge.estimate_subsets(log_prob, PARAMS, twice, SUBSETS, key=KEY, dim=20)
    once = pge.estimate_subsets(log_prob, PARAMS, BATCH, SUBSETS, key=KEY, dim=20)
    member = SUBSETS.astype(bool)
    np.testing.assert_allclose(more.scores, once.scores, atol=1e-4)
    np.testing.assert_allclose(
        np.asarray(more.standard_error)[member],
        np.asarray(once.standard_error)[member] / np.sqrt(2),
        rtol=1e-2,
    )
    sizes = np.asarray(estimates.effective_sample_size)[member]
    np.testing.assert_array_equal(sizes, NUM_SAMPLES / 2)


@pytest.mark.parametrize("evaluator", ["off_policy", "logistic_loss"])
def test_padding_changes_no_score_of_the_network(evaluator):
    extra = ((0, 0), (0, 5))
    padded = pge.Transitions(
        np.pad(BATCH.observation, (*extra, (0, 0)), constant_values=7.0),
        np.pad(BATCH.action, extra),
        np.pad(BATCH.advantage, extra, constant_values=9.0),
        np.broadcast_to(np.arange(35) < 30, (NUM_TASKS, 35)),
    )
    settings = dict(key=KEY, dim=20, evaluator=evaluator)
    plain = pge.estimate_subsets(log_prob, PARAMS, BATCH, SUBSETS, **settings)
    masked = pge.estimate_subsets(log_prob, PARAMS, padded, SUBSETS, **settings)
    for name in ("scores", "standard_error", "effective_sample_size"):
        np.testing.assert_allclose(
            getattr(masked, name), getattr(plain, name), rtol=2e-3, atol=1e-6
        )


def test_a_callable_may_return_scores_or_an_evaluation():
    def scores_only(adapted):
        return jnp.full(adapted.subsets.shape, 2.0)

    def evaluation(adapted):
        return pge.Evaluation(*[jnp.full(adapted.subsets.shape, x) for x in (2.0, 3.0)])

    settings = dict(key=KEY, dim=8)
    one = pge.estimate_subsets(
        log_prob, PARAMS, BATCH, SUBSETS, evaluator=scores_only, **settings
    )
    two = pge.estimate_subsets(
        log_prob, PARAMS, BATCH, SUBSETS, evaluator=evaluation, **settings
    )
    np.testing.assert_array_equal(one.scores, 2.0 * SUBSETS)
    np.testing.assert_array_equal(two.scores, one.scores)
    assert one.standard_error is None
    np.testing.assert_array_equal(two.standard_error, 3.0 * SUBSETS)


def test_an_evaluator_of_another_name_is_refused():
    with pytest.raises(ValueError, match="RolloutEvaluator"):
        pge.estimate_subsets(
            log_prob, PARAMS, BATCH, SUBSETS, key=KEY, evaluator="rollout"
        )
