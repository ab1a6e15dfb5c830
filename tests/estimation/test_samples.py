"""Which transitions are fitted and which are scored, recomputed in NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import optimize

import pgx_jax as pgx
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
    return pgx.Transitions(
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
    settings = dict(held_out_fraction=FRACTION, dim=None, tolerance=1e-6) | settings
    return pgx.estimate_subsets(log_prob, PARAMS, batch, SUBSETS, key=key, **settings)


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
