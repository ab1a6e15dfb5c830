"""The bootstrap: of transitions in the estimate, of subsets in the affinity."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import pgx_jax as pge
from pgx_jax.estimation.samples import error_of_mean, run_length
from pgx_jax.grouping.affinity import _draw_times, _share_of_all

KEY = jax.random.key(11)
NUM_TASKS = 6
SUBSETS = pge.sample_subsets(KEY, NUM_TASKS, 20, 3)
TRUE_LABELS = np.array([0, 0, 0, 1, 1, 1])


def log_prob(params, observation, action):
    return jax.nn.log_softmax(observation @ params)[..., action]


def make_batch(seed, num_samples=200, noise=1.0):
    """Tasks whose advantage favors action 1 where +x (group 0) or -x (group 1)."""
    rng = np.random.default_rng(seed)
    observation = rng.normal(size=(NUM_TASKS, num_samples, 4)).astype(np.float32)
    action = rng.integers(0, 2, size=(NUM_TASKS, num_samples))
    direction = np.where(TRUE_LABELS == 0, 1.0, -1.0)[:, None]
    signal = direction * observation[..., 0] * (2 * action - 1)
    advantage = signal + noise * rng.normal(size=action.shape)
    return pge.Transitions(observation, action, advantage.astype(np.float32))


PARAMS = np.zeros((4, 2), np.float32)


def estimate(batch, **settings):
    return pge.estimate_subsets(
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
    repeated = pge.Transitions(
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
    padded = pge.Transitions(
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


def within(affinity, matrix):
    """Which entries the intervals hold; bool [n, n]."""
    assert affinity.lower is not None and affinity.upper is not None
    return (affinity.lower <= matrix) & (matrix <= affinity.upper)


def test_intervals_hold_the_affinity_of_endless_transitions():
    truth = pge.task_affinity(estimate(make_batch(0, num_samples=20000))).matrix
    pairs = np.triu_indices(NUM_TASKS, 1)
    inside = []
    for seed in range(1, 31):
        estimates = estimate(make_batch(seed), num_resamples=100)
        affinity = pge.task_affinity(estimates, key=KEY)
        assert affinity.resamples.shape == (100, NUM_TASKS, NUM_TASKS)
        assert np.all(within(affinity, affinity.lower))
        assert affinity.includes_transitions
        inside.append(within(affinity, truth)[pairs])
    # All twenty subsets of three are there: only the transitions vary. 95% in the long
    # run, and 100% if subsets were drawn anew beside.
    assert 0.88 <= np.mean(inside) <= 0.99


EVERY = pge.sample_subsets(KEY, 8, 56, 3)
# Interactions of three tasks, which no choice of pairs balances.
WORTH = np.random.default_rng(0).normal(size=(56, 1)).astype(np.float32)


def some_of_every(seed):
    """42 of the 56 subsets of three tasks, with scores that are known."""
    rows = np.random.default_rng(seed).permutation(56)[:42]
    nothing = np.zeros(42)
    return pge.SubsetEstimates(
        EVERY[rows], WORTH[rows] * EVERY[rows], nothing[:, None], *[nothing] * 5
    )


def test_intervals_of_the_choice_of_subsets_hold_the_affinity_of_all():
    truth = (WORTH * EVERY).T @ EVERY / (EVERY.astype(float).T @ EVERY)
    pairs = np.triu_indices(8, 1)
    inside = []
    for seed in range(40):
        affinity = pge.task_affinity(
            some_of_every(seed),
            score="mean",
            key=jax.random.key(seed),
            num_resamples=400,
        )
        assert not affinity.includes_transitions
        inside.append(within(affinity, truth)[pairs])
    # A pair is in four or five subsets: few for percentiles. With no regard to how many
    # subsets there are it would be 98%.
    assert 0.75 <= np.mean(inside) <= 0.96


def test_resamples_vary_as_a_sample_without_replacement_does():
    some = some_of_every(1)
    affinity = pge.task_affinity(some, score="mean", key=KEY, num_resamples=3000)
    actual = np.asarray(affinity.resamples).std(axis=0)
    for i, j in ((0, 1), (2, 5), (6, 7)):
        both = some.subsets[:, i] & some.subsets[:, j]
        values = some.scores[both][:, i]
        # Of 42 draws of 56: a quarter of the variance of draws with replacement, but
        # for the ratio's second order.
        expected = np.sqrt(0.25 * values.var() / both.sum())
        np.testing.assert_allclose(actual[i, j], expected, rtol=0.1)


def test_nothing_is_drawn_where_all_subsets_are_there():
    estimates = estimate(make_batch(0))
    with pytest.raises(ValueError, match="all 20 subsets.*pass num_resamples"):
        pge.task_affinity(estimates, key=KEY)
    inside = jax.jit(lambda e: pge.task_affinity(e, key=KEY, num_resamples=5))(
        estimates
    )
    for sample in np.asarray(inside.resamples):
        np.testing.assert_allclose(sample, inside.matrix, atol=1e-6)


def test_subsets_are_drawn_among_those_of_their_size():
    subsets = np.concatenate([SUBSETS[:12], np.eye(NUM_TASKS, dtype=bool)])
    share = np.asarray(_share_of_all(jnp.asarray(subsets)))
    np.testing.assert_allclose(share, [12 / 20] * 12 + [1.0] * 6)
    copies = subsets[[*range(18), 0, 0, 13]]
    np.testing.assert_allclose(
        _share_of_all(jnp.asarray(copies)), share[[*range(18), 0, 0, 13]]
    )
    times = np.stack(
        [
            _draw_times(jax.random.key(seed), jnp.asarray(subsets), jnp.asarray(share))
            for seed in range(100)
        ]
    )
    np.testing.assert_array_equal(times[:, 12:], 1.0)
    np.testing.assert_allclose(times[:, :12].sum(axis=1), 12.0, rtol=1e-5)
    # Whole draws, drawn together: multinomial of variance 11 / 12, less 12 / 20 of it.
    np.testing.assert_allclose(times[:, :12].var(), 0.4 * 11 / 12, rtol=0.1)


def test_many_tasks_take_more_than_one_word():
    subsets = np.zeros((4, 70), bool)
    subsets[0, [0, 69]] = subsets[1, [0, 33]] = subsets[2, [0, 69]] = True
    subsets[3, [1, 69]] = True
    share = _share_of_all(jnp.asarray(subsets))
    np.testing.assert_allclose(share, 3 / (70 * 69 / 2), rtol=1e-6)


@pytest.mark.parametrize(("length", "low", "high"), [(1, 0.0, 0.75), (8, 0.88, 0.99)])
def test_intervals_of_dependent_transitions_need_runs(length, low, high):
    # Runs of eight with the same value each, of mean 0, with padding in between.
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(400, 25)), 8, axis=1)
    valid = rng.permutation(np.arange(300) < 200)
    padded = np.zeros((400, 300), np.float32)
    padded[:, valid] = values - values.mean(axis=1, keepdims=True)
    error = np.asarray(error_of_mean(jnp.asarray(padded), jnp.asarray(valid), length))
    if length == 8:
        blocks = values[:, ::8]
        np.testing.assert_allclose(error, stats.sem(blocks, axis=1), rtol=1e-4)
    covered = np.abs(values.mean(axis=1)) <= 1.96 * error
    assert low <= covered.mean() <= high


def test_standard_errors_are_of_runs():
    batch = make_batch(1, num_samples=60)
    repeated = pge.Transitions(
        *[None if x is None else np.repeat(x, 4, axis=1) for x in batch]
    )
    member = SUBSETS.astype(bool)
    for evaluator in ("surrogate", "off_policy"):
        honest = estimate(batch, evaluator=evaluator).standard_error[member]
        settings = dict(evaluator=evaluator, resample_length=4)
        runs = estimate(repeated, **settings).standard_error[member]
        np.testing.assert_allclose(runs, honest, rtol=2e-3)


def test_runs_are_shorter_where_transitions_are_held_out():
    assert run_length(32, 0.25) == 8
    assert run_length(2, 0.1) == 1
    seen = []

    def spy(adapted):
        seen.append(adapted.run_length)
        return jnp.zeros(adapted.subsets.shape)

    estimate(make_batch(0), evaluator=spy, resample_length=32, held_out_fraction=0.25)
    assert set(seen) == {8}


def test_stability_is_full_for_clear_groups_and_low_for_none():
    def stability(noise, signal=True):
        batch = make_batch(3, noise=noise)
        if not signal:
            rng = np.random.default_rng(0)
            advantage = rng.normal(size=batch.advantage.shape).astype(np.float32)
            batch = batch._replace(advantage=advantage)
        affinity = pge.task_affinity(estimate(batch, num_resamples=20), key=KEY)
        grouping = pge.cluster_tasks(affinity, 2)
        return grouping, pge.grouping_stability(affinity, grouping, 2)

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
    with pytest.raises(ValueError, match="needs at least 202 transitions.*are 200"):
        estimate(batch, resample_length=101)
    mask = np.broadcast_to(np.arange(200) < 30, (NUM_TASKS, 200))
    with pytest.raises(ValueError, match="resample_length=16.*fewest are 30"):
        estimate(batch._replace(mask=mask), resample_length=16)
    affinity = pge.task_affinity(estimate(batch))
    with pytest.raises(ValueError, match="affinity has no resamples"):
        pge.grouping_stability(affinity, pge.cluster_tasks(affinity, 2))
