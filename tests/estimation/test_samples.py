"""Which transitions are fitted and which are scored, recomputed in NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import optimize

import pgx_jax as pge
from pgx_jax.estimation.evaluators import EVALUATORS
from pgx_jax.estimation.samples import held_out_counts

NUM_VALID = np.array([4, 150, 2, 31])
NUM_TASKS, NUM_SAMPLES, FRACTION = 4, 150, 0.2
# A fifth of them, but at least one.
NUM_HELD_OUT = np.array([1, 30, 1, 6])
SUBSETS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1]], bool)
PARAMS = np.array([0.1, -0.2, 0.3], np.float32)


def log_prob(params, observation, action):
    return jax.scipy.stats.norm.logpdf(action, observation @ params, 1.0)


def make_batch():
    rng = np.random.default_rng(0)
    mask = np.zeros((NUM_TASKS, NUM_SAMPLES), bool)
    for row, count in zip(mask, NUM_VALID, strict=True):
        row[rng.permutation(NUM_SAMPLES)[:count]] = True
    observation = rng.normal(size=(NUM_TASKS, NUM_SAMPLES, 3)).astype(np.float32)
    action = rng.normal(size=mask.shape).astype(np.float32)
    # An advantage says which transition it is of.
    order = np.arange(mask.size).reshape(mask.shape) + 1.0
    advantage = np.where(rng.random(mask.shape) < 0.5, order, -order)
    padding = np.where(mask, 0.0, np.nan).astype(np.float32)
    return pge.Transitions(
        observation + padding[..., None],
        action + padding,
        advantage.astype(np.float32) + padding,
        mask,
    )


BATCH = make_batch()


SEEN = {}


def spy(adapted):
    """The surrogate, which also writes down what it was given."""
    jax.debug.callback(
        lambda **values: SEEN.update(jax.tree.map(np.asarray, values)),
        advantage=adapted.batch.advantage,
        valid=adapted.batch.valid,
        ordered=True,
    )
    return EVALUATORS["surrogate"](adapted)


def estimate(key, batch=BATCH, **settings):
    fixed = dict(dim=None, max_relative_distance=None, tolerance=1e-6)
    settings = dict(held_out_fraction=FRACTION) | fixed | settings
    return pge.estimate_subsets(log_prob, PARAMS, batch, SUBSETS, key=key, **settings)


def gradients(task):
    """grad log pi of the transitions of a task, in closed form; float64 [N, 3]."""
    observation = BATCH.observation[task].astype(float)
    residual = BATCH.action[task] - observation @ PARAMS.astype(float)
    return observation * residual[:, None]


def log_losses(features, advantage, delta):
    logits = np.sign(advantage) * (features @ delta)
    return np.abs(advantage) * np.logaddexp(0.0, -logits)


@pytest.mark.parametrize("seed", range(10))
def test_every_task_is_split_among_its_valid_transitions(seed):
    key = jax.random.key(seed)
    estimates = estimate(key, evaluator=spy, normalize_advantages=False)
    jax.effects_barrier()
    samples = []
    for task in range(NUM_TASKS):
        seen = SEEN["advantage"][task][SEEN["valid"][task]]
        # Unequal in size, advantages say which transition they are of.
        held_out = np.isin(BATCH.advantage[task], seen)
        assert held_out.sum() == len(seen) == NUM_HELD_OUT[task]
        assert np.all(held_out <= BATCH.mask[task])
        fitted = BATCH.mask[task] & ~held_out
        rows = gradients(task)
        rows = rows - rows[fitted].mean(axis=0)
        advantage = BATCH.advantage[task].astype(float)
        samples.append(
            ((rows[fitted], advantage[fitted]), (rows[held_out], advantage[held_out]))
        )

    squares = [np.mean(np.sum(fitted[0] ** 2, axis=1)) for fitted, _ in samples]
    counts = NUM_VALID - NUM_HELD_OUT
    ridge = 0.1 * np.average(squares, weights=counts) / 400.0
    for subset, scores in zip(SUBSETS, np.asarray(estimates.scores), strict=True):
        members = np.flatnonzero(subset)

        def objective(x, members=members):
            losses = [log_losses(*samples[i][0], x).mean() for i in members]
            return np.mean(losses) + 0.5 * ridge * x @ x

        best = optimize.minimize(objective, np.zeros(3), tol=1e-12).x
        np.testing.assert_allclose(
            scores[members],
            [
                np.mean(np.abs(samples[i][1][1])) * np.log(2.0)
                - log_losses(*samples[i][1], best).mean()
                for i in members
            ],
            rtol=2e-3,
            atol=2e-2,
        )
    np.testing.assert_array_equal(
        estimates.effective_sample_size, SUBSETS * NUM_HELD_OUT
    )


def test_another_key_holds_out_others():
    drawn = []
    for seed in range(4):
        estimate(jax.random.key(seed), evaluator=spy, normalize_advantages=False)
        jax.effects_barrier()
        drawn.append(SEEN["advantage"][0][SEEN["valid"][0]])
    assert len(np.unique(drawn)) > 1


def test_tasks_without_a_mask_are_split_as_the_fraction_says():
    np.testing.assert_array_equal(
        held_out_counts(10, 0.25), [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    )
    np.testing.assert_array_equal(held_out_counts(4, 0.9), [0, 0, 1, 2, 3])
    np.testing.assert_array_equal(held_out_counts(4, 0.0), 0)


def test_a_task_of_one_transition_is_refused_by_name():
    mask = BATCH.mask.copy()
    mask[2] = np.arange(NUM_SAMPLES) == np.flatnonzero(mask[2])[0]
    with pytest.raises(ValueError, match=r"held_out_fraction=0.2.*tasks \[2\]"):
        estimate(jax.random.key(0), BATCH._replace(mask=mask))


PAIRS = pge.sample_subsets(jax.random.key(0), 6, 15, 2)


def supervised(num_tasks=6, num_samples=60, sign=1.0):
    """Labels of two planted groups, with advantage 1: what to imitate."""
    rng = np.random.default_rng(3)
    group = np.arange(num_tasks) % 2
    observation = rng.normal(size=(num_tasks, num_samples, 3)).astype(np.float32)
    direction = np.where(group == 0, 1.0, -1.0)[:, None]
    action = direction * observation[..., 0] + 0.5 * rng.normal(
        size=(num_tasks, num_samples)
    )
    advantage = np.full(action.shape, sign, np.float32)
    return pge.Transitions(observation, action.astype(np.float32), advantage), group


def estimate_supervised(batch, **settings):
    settings = dict(key=jax.random.key(1), dim=None) | settings
    return pge.estimate_subsets(log_prob, PARAMS, batch, PAIRS, **settings)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("evaluator", ["surrogate", "off_policy"])
@pytest.mark.parametrize("inside_jit", [False, True])
def test_groups_of_supervised_data_are_found(sign, evaluator, inside_jit):
    batch, group = supervised(sign=sign)

    def affinity(batch):
        return pge.task_affinity(estimate_supervised(batch, evaluator=evaluator)).matrix

    matrix = (jax.jit(affinity) if inside_jit else affinity)(batch)
    labels = pge.cluster_tasks(matrix, 2).labels
    np.testing.assert_array_equal(labels, group)


def test_features_are_centered_unless_a_task_has_advantages_of_one_sign():
    batch, _ = supervised()
    mixed = np.where(np.arange(60) % 2, 1.0, -2.0) * batch.advantage
    both = batch._replace(advantage=mixed.astype(np.float32))
    for inside in (False, True):
        compute = jax.jit(estimate_supervised) if inside else estimate_supervised
        expected = estimate_supervised(both, center_features=True).scores
        np.testing.assert_allclose(compute(both).scores, expected, rtol=1e-4, atol=1e-5)
    mixed[2] = np.abs(mixed[2])
    one = batch._replace(advantage=mixed.astype(np.float32))
    expected = estimate_supervised(one, center_features=False).scores
    np.testing.assert_array_equal(estimate_supervised(one).scores, expected)
    # What is masked says nothing of the sign, and neither does 0.
    mixed[2, :30] *= np.where(np.arange(30) % 3, -1.0, 0.0)
    mask = np.ones(mixed.shape, bool)
    mask[2, :30] = np.arange(30) % 3 == 0
    masked = batch._replace(advantage=mixed.astype(np.float32), mask=mask)
    expected = estimate_supervised(masked, center_features=False).scores
    np.testing.assert_array_equal(estimate_supervised(masked).scores, expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_centering_advantages_of_one_sign_is_refused_with_the_remedy(sign):
    batch, _ = supervised(sign=sign)
    mixed = batch.advantage.copy()
    mixed[[0, 1, 2, 3, 5], :7] *= -1
    with pytest.raises(ValueError, match=r"tasks \[4\] are. Pass center_features=Fal"):
        estimate_supervised(batch._replace(advantage=mixed), center_features=True)
