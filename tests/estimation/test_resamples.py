"""The bootstrap: of transitions in the estimate, of subsets in the affinity."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pgx

KEY = jax.random.key(11)
NUM_TASKS = 6
SUBSETS = pgx.sample_subsets(KEY, NUM_TASKS, 20, 3)
TRUE_LABELS = np.array([0, 0, 0, 1, 1, 1])


def log_prob(params, observation, action):
    return jax.nn.log_softmax(observation @ params)[..., action]


def make_batch(seed, num_samples=200, noise=1.0):
    """Tasks whose advantage favours action 1 where +x (group 0) or -x (group 1)."""
    rng = np.random.default_rng(seed)
    observation = rng.normal(size=(NUM_TASKS, num_samples, 4)).astype(np.float32)
    action = rng.integers(0, 2, size=(NUM_TASKS, num_samples))
    direction = np.where(TRUE_LABELS == 0, 1.0, -1.0)[:, None]
    signal = direction * observation[..., 0] * (2 * action - 1)
    advantage = signal + noise * rng.normal(size=action.shape)
    return pgx.Transitions(observation, action, advantage.astype(np.float32))


PARAMS = np.zeros((4, 2), np.float32)


def estimate(batch, **settings):
    return pgx.estimate_subsets(
        log_prob, PARAMS + 0.1, batch, SUBSETS, key=KEY, dim=None, **settings
    )


def test_resampled_scores_spread_as_scores_of_new_transitions_do():
    scores = np.stack(
        [estimate(make_batch(seed, noise=0.3)).scores for seed in range(60)]
    )
    resampled = np.asarray(
        estimate(make_batch(100, noise=0.3), num_resamples=100).resampled_scores
    )
    member = SUBSETS.astype(bool)
    actual = scores.std(axis=0)[member].mean()
    estimated = resampled.std(axis=0)[member].mean()
    assert 0.75 < estimated / actual < 1.33
    # Not one sample drawn over and over, nor the same in every task.
    assert np.unique(resampled[:, member], axis=0).shape[0] == 100


@pytest.mark.parametrize("held_out", [0.0, 0.5])
def test_the_plain_scores_stay_as_they_are(held_out):
    batch = make_batch(0)
    plain = estimate(batch, held_out_fraction=held_out)
    with_resamples = estimate(batch, held_out_fraction=held_out, num_resamples=2)
    np.testing.assert_array_equal(plain.scores, with_resamples.scores)


def test_runs_of_transitions_are_resampled_together():
    # Every transition four times in a row: the spread is that of a quarter of them.
    batch = make_batch(1, num_samples=60)
    repeated = pgx.Transitions(
        *[None if x is None else np.repeat(x, 4, axis=1) for x in batch]
    )
    member = SUBSETS.astype(bool)

    def spread(batch, length):
        scores = estimate(batch, num_resamples=60, resample_length=length)
        return np.asarray(scores.resampled_scores).std(axis=0)[member].mean()

    honest = spread(batch, 1)
    assert 0.35 < spread(repeated, 1) / honest < 0.65
    assert 0.75 < spread(repeated, 16) / honest < 1.33


def test_padding_is_never_drawn():
    batch = make_batch(2)
    extra = ((0, 0), (0, 50))
    padded = pgx.Transitions(
        np.pad(batch.observation, (*extra, (0, 0)), constant_values=np.nan),
        np.pad(batch.action, extra),
        np.pad(batch.advantage, extra, constant_values=np.nan),
        np.broadcast_to(np.arange(250) < 200, (NUM_TASKS, 250)),
    )
    resampled = np.asarray(estimate(padded, num_resamples=20).resampled_scores)
    assert np.isfinite(resampled).all()
    plain = np.asarray(estimate(batch, num_resamples=20).resampled_scores)
    np.testing.assert_allclose(
        resampled.mean(axis=0), plain.mean(axis=0), atol=0.2 * plain.max()
    )


def test_intervals_hold_the_affinity_of_endless_transitions():
    truth = pgx.task_affinity(estimate(make_batch(0, num_samples=5000))).matrix
    pairs = np.triu_indices(NUM_TASKS, 1)
    inside = []
    for seed in range(1, 9):
        estimates = estimate(make_batch(seed, noise=3.0), num_resamples=100)
        affinity = pgx.task_affinity(estimates, key=KEY)
        assert affinity.resamples.shape == (100, NUM_TASKS, NUM_TASKS)
        assert np.all(affinity.lower <= affinity.upper)
        inside.append(((affinity.lower <= truth) & (truth <= affinity.upper))[pairs])
    # 95% in the long run. U of noisy transitions shrinks towards 0, so not quite here.
    assert np.mean(inside) > 0.7


def test_subsets_are_resampled_where_transitions_are_not():
    estimates = estimate(make_batch(0))
    plain = pgx.task_affinity(estimates)
    assert plain.resamples is None and plain.lower is None
    affinity = pgx.task_affinity(estimates, key=KEY, num_resamples=50)
    np.testing.assert_array_equal(affinity.matrix, plain.matrix)
    assert affinity.resamples.shape == (50, NUM_TASKS, NUM_TASKS)

    # By hand, for one resample: the key's own rows, each as often as drawn.
    key = jax.random.split(KEY, 50)[7]
    rows = np.asarray(jax.random.randint(key, (20,), 0, 20))
    subsets, scores = SUBSETS[rows], np.asarray(estimates.scores)[rows]
    by_hand = pgx.task_affinity(
        estimates._replace(subsets=subsets, scores=jnp.asarray(scores))
    )
    np.testing.assert_allclose(affinity.resamples[7], by_hand.matrix, atol=1e-5)


def test_stability_is_full_for_clear_groups_and_low_for_none():
    def stability(noise, signal=True):
        batch = make_batch(3, noise=noise)
        if not signal:
            rng = np.random.default_rng(0)
            advantage = rng.normal(size=batch.advantage.shape).astype(np.float32)
            batch = batch._replace(advantage=advantage)
        affinity = pgx.task_affinity(estimate(batch, num_resamples=20), key=KEY)
        grouping = pgx.cluster_tasks(affinity, 2)
        return grouping, pgx.grouping_stability(affinity, grouping, 2)

    grouping, clear = stability(noise=0.1)
    np.testing.assert_array_equal(grouping.labels, TRUE_LABELS)
    np.testing.assert_array_equal(clear.nmi, 1.0)
    same = grouping.labels[:, None] == grouping.labels
    np.testing.assert_array_equal(clear.co_assignment, same)
    _, unclear = stability(noise=0.1, signal=False)
    assert unclear.nmi.mean() < 0.7
    np.testing.assert_array_equal(np.diag(unclear.co_assignment), 1.0)
    np.testing.assert_array_equal(unclear.co_assignment, unclear.co_assignment.T)


def test_bad_arguments_are_refused():
    batch = make_batch(0)
    with pytest.raises(ValueError, match="num_resamples must be at least 0"):
        estimate(batch, num_resamples=-1)
    with pytest.raises(ValueError, match="resample_length must be at least 1"):
        estimate(batch, resample_length=0)
    affinity = pgx.task_affinity(estimate(batch))
    with pytest.raises(ValueError, match="affinity has no resamples"):
        pgx.grouping_stability(affinity, pgx.cluster_tasks(affinity, 2))
