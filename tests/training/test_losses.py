"""Losses against slow loops written from their definitions."""

import numpy as np
import pytest

from pgx_jax.training.losses import (
    clipped_policy_loss,
    generalized_advantages,
    normalize_advantages,
)

DISCOUNT, GAE_LAMBDA = 0.97, 0.9


def slow_advantages(reward, value, next_value, termination, truncation):
    """From every step, the discounted sum of errors to the end of its episode."""
    advantage = np.zeros_like(reward)
    for start in range(len(reward)):
        for time in range(start, len(reward)):
            future = 0.0 if termination[time] else next_value[time]
            error = reward[time] + DISCOUNT * future - value[time]
            advantage[start] += (DISCOUNT * GAE_LAMBDA) ** (time - start) * error
            if termination[time] or truncation[time]:
                break
    return advantage


def test_advantages_match_their_definition():
    rng = np.random.default_rng(0)
    shape = (40, 6)
    reward, value, next_value = rng.normal(size=(3, *shape))
    ending = rng.choice(3, shape, p=[0.8, 0.1, 0.1])
    termination, truncation = ending == 1, ending == 2
    columns = np.stack([reward, value, next_value, termination, truncation], axis=-1)
    expected = np.stack(
        [slow_advantages(*columns[:, i].T) for i in range(shape[1])], axis=1
    )
    advantages = generalized_advantages(
        reward.astype(np.float32),
        value.astype(np.float32),
        next_value.astype(np.float32),
        termination,
        truncation,
        np.zeros(shape, bool),
        discount=DISCOUNT,
        gae_lambda=GAE_LAMBDA,
    )
    np.testing.assert_allclose(advantages, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_advantages_at_the_ends_of_lambda(gae_lambda):
    """One-step errors at 0, and the discounted return less the value at 1."""
    reward = np.array([1.0, 2.0, 4.0], np.float32)
    value = np.array([3.0, 5.0, 7.0], np.float32)
    next_value = np.array([5.0, 7.0, 8.0], np.float32)
    ending = np.zeros(3, bool)
    advantages = generalized_advantages(
        reward,
        value,
        next_value,
        *[ending] * 3,
        discount=0.5,
        gae_lambda=gae_lambda,
    )
    expected = {0.0: [0.5, 0.5, 1.0], 1.0: [1 + 1 + 1 + 1 - 3, 2 + 2 + 2 - 5, 1.0]}
    np.testing.assert_allclose(advantages, expected[gae_lambda], rtol=1e-6)


@pytest.mark.parametrize("name", ["value", "next_value", "termination", "divergence"])
def test_an_axis_too_many_is_refused(name):
    """It would be broadcast to [time, time, ...], whose sums are of another thing."""
    arrays = {"reward": np.zeros((4, 1), np.float32)}
    arrays |= {x: arrays["reward"] for x in ("value", "next_value")}
    arrays |= {
        x: np.zeros((4, 1), bool) for x in ("termination", "truncation", "divergence")
    }
    with pytest.raises(AssertionError, match="[sS]hape"):
        generalized_advantages(
            **arrays | {name: arrays[name][None]}, discount=0.5, gae_lambda=0.5
        )


def test_a_column_of_advantages_is_refused():
    log_prob = np.zeros(5, np.float32)
    with pytest.raises(AssertionError, match="[sS]hape"):
        clipped_policy_loss(log_prob, log_prob, log_prob[:, None], 0.2)


def test_clipped_loss_matches_a_loop():
    rng = np.random.default_rng(0)
    log_prob, old_log_prob = rng.normal(scale=0.3, size=(2, 200)).astype(np.float32)
    advantage = rng.normal(size=200).astype(np.float32)
    objective, kl, clipped = 0.0, 0.0, 0
    for new, old, a in zip(log_prob, old_log_prob, advantage, strict=True):
        ratio = np.exp(float(new) - float(old))
        # A gain stops counting beyond the clip; a loss always counts.
        limit = min(ratio, 1.2) if a > 0 else max(ratio, 0.8)
        objective += limit * a / 200
        kl += (ratio - 1 - np.log(ratio)) / 200
        clipped += ratio < 0.8 or ratio > 1.2
    assert 20 < clipped < 180
    loss = clipped_policy_loss(log_prob, old_log_prob, advantage, 0.2)
    np.testing.assert_allclose(loss.loss, -objective, rtol=1e-4)
    np.testing.assert_allclose(loss.approximate_kl, kl, rtol=1e-3)
    np.testing.assert_allclose(loss.clip_fraction, clipped / 200, rtol=1e-5)


def test_advantages_of_every_row_have_one_size():
    rows = np.array([[1.0, 2.0, 3.0], [-4e3, 0.0, 4e3], [5.0, 5.0, 5.0]])
    step = np.sqrt(1.5)
    expected = [[-step, 0.0, step], [-step, 0.0, step], [0.0, 0.0, 0.0]]
    found = normalize_advantages(rows.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
