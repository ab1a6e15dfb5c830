"""Baseline groupings against counts, and gradients against jax.grad."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import pgx_jax as pge

NUM_TASKS, NUM_SAMPLES = 4, 11


def log_prob(params, observation, action):
    log_probs = jax.nn.log_softmax(jnp.tanh(observation @ params["w"]) @ params["v"])
    return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]


def batch_log_prob(params, observation, action):
    """The same, for batches only."""
    log_probs = jax.nn.log_softmax(jnp.tanh(observation @ params["w"]) @ params["v"], 1)
    return log_probs[jnp.arange(len(action)), action]


RNG = np.random.default_rng(0)
PARAMS = {
    "w": RNG.normal(size=(3, 5)).astype(np.float32),
    "v": RNG.normal(size=(5, 3)).astype(np.float32),
}
BATCH = pge.Transitions(
    RNG.normal(size=(NUM_TASKS, NUM_SAMPLES, 3)).astype(np.float32),
    RNG.integers(0, 3, size=(NUM_TASKS, NUM_SAMPLES)),
    RNG.normal(size=(NUM_TASKS, NUM_SAMPLES)).astype(np.float32),
)


def gradients_one_by_one(batch):
    """The mean of A_t grad log pi over the transitions of each task; float64."""
    gradient = jax.jit(jax.grad(log_prob))
    tasks = []
    for i in range(NUM_TASKS):
        kept = (
            range(NUM_SAMPLES) if batch.mask is None else np.flatnonzero(batch.mask[i])
        )
        rows = []
        for t in kept:
            leaves = jax.tree.leaves(
                gradient(PARAMS, batch.observation[i, t], batch.action[i, t])
            )
            flat = np.concatenate([np.ravel(x) for x in leaves]).astype(float)
            rows.append(float(batch.advantage[i, t]) * flat)
        tasks.append(np.mean(rows, axis=0))
    return np.array(tasks)


MASK = np.arange(NUM_SAMPLES) < np.array([11, 4, 1, 8])[:, None]


@pytest.mark.parametrize("function", [log_prob, batch_log_prob])
@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
def test_task_gradients_are_the_mean_policy_gradients(function, mask):
    batch = BATCH._replace(mask=mask)
    gradients = pge.task_gradients(function, PARAMS, batch)
    assert gradients.shape == (NUM_TASKS, 30)
    assert gradients.dtype == jnp.float32
    np.testing.assert_allclose(
        gradients, gradients_one_by_one(batch), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
def test_gradient_similarity_is_scikit_learns_cosine(mask):
    batch = BATCH._replace(mask=mask)
    affinity = pge.gradient_similarity(log_prob, PARAMS, batch)
    expected = cosine_similarity(gradients_one_by_one(batch))
    np.testing.assert_allclose(affinity.matrix, expected, atol=1e-5)
    np.testing.assert_array_equal(affinity.pair_counts, 1)


def test_gradient_similarity_under_jit_is_the_same():
    similarity = jax.jit(lambda p, b: pge.gradient_similarity(log_prob, p, b).matrix)
    expected = cosine_similarity(gradients_one_by_one(BATCH))
    np.testing.assert_allclose(similarity(PARAMS, BATCH), expected, atol=1e-5)


def test_opposite_and_idle_tasks():
    advantage = BATCH.advantage.copy()
    action = BATCH.action.copy()
    observation = BATCH.observation.copy()
    for array in (advantage, action, observation):
        array[1] = array[0]
    advantage[1] *= -3
    advantage[2] = 0
    batch = pge.Transitions(observation, action, advantage)
    matrix = pge.gradient_similarity(log_prob, PARAMS, batch).matrix
    np.testing.assert_allclose(matrix[0, 1], -1.0, rtol=1e-5)
    np.testing.assert_array_equal(matrix[2], 0.0)


@pytest.mark.parametrize(
    ("num_tasks", "num_groups"), [(1, 1), (5, 1), (5, 5), (7, 3), (10, 4), (12, 3)]
)
def test_random_groups_differ_in_size_by_at_most_one(num_tasks, num_groups):
    for seed in range(5):
        grouping = pge.random_grouping(jax.random.key(seed), num_tasks, num_groups)
        sizes = np.bincount(grouping.labels, minlength=num_groups)
        assert grouping.num_groups == num_groups == len(sizes)
        assert sizes.sum() == num_tasks
        assert sizes.max() - sizes.min() <= 1 and sizes.min() >= 1
        _, first = np.unique(grouping.labels, return_index=True)
        assert (np.diff(first) > 0).all()
        assert grouping.relaxation is grouping.objective is grouping.bound is None


def test_random_groups_are_reproducible_and_random():
    labels = [
        pge.random_grouping(jax.random.key(seed), 6, 2).labels.tolist()
        for seed in range(200)
    ]
    again = pge.random_grouping(jax.random.key(3), 6, 2).labels.tolist()
    assert again == labels[3]
    # Of the ten partitions into threes each comes about 20 times.
    partitions, counts = np.unique(labels, axis=0, return_counts=True)
    assert len(partitions) == 10
    assert counts.min() >= 6 and counts.max() <= 40


def test_random_groups_have_the_sizes_asked_for():
    for seed in range(5):
        grouping = pge.random_grouping(jax.random.key(seed), 7, sizes=[1, 4, 2])
        assert sorted(np.bincount(grouping.labels).tolist()) == [1, 2, 4]
        assert grouping.num_groups == 3 and grouping.labels[0] == 0
    # Of the 15 ways to take two of six tasks, each comes about 20 times.
    labels = [
        pge.random_grouping(jax.random.key(seed), 6, sizes=[2, 4]).labels.tolist()
        for seed in range(300)
    ]
    partitions, counts = np.unique(labels, axis=0, return_counts=True)
    assert len(partitions) == 15 and counts.min() >= 6 and counts.max() <= 40


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": [2, 2]}, r"sizes must be positive.*num_tasks = 5, got \[2, 2\]"),
        ({"sizes": [5, 0]}, "sizes must be positive"),
        ({"sizes": [2.5, 2.5]}, "sizes must be positive"),
        ({"num_groups": 2.5}, r"num_groups must be an integer.*1\.\.5, got 2\.5"),
        ({}, "exactly one of num_groups and sizes"),
        ({"num_groups": 2, "sizes": [2, 3]}, "exactly one of num_groups and sizes"),
    ],
)
def test_sizes_of_random_groups_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        pge.random_grouping(jax.random.key(0), 5, **settings)


LONGER = np.arange(NUM_SAMPLES) < np.array([11, 5, 7, 8])[:, None]


@pytest.mark.parametrize("mask", [None, LONGER], ids=["full", "padded"])
def test_centering_subtracts_the_mean_of_grad_log_pi(mask):
    batch = BATCH._replace(mask=mask, advantage=BATCH.advantage + 0.3)
    valid = np.ones((NUM_TASKS, NUM_SAMPLES), bool) if mask is None else mask
    ones = batch._replace(advantage=np.ones_like(batch.advantage))
    mean = (batch.advantage * valid).sum(1) / valid.sum(1)
    centered = gradients_one_by_one(batch) - mean[:, None] * gradients_one_by_one(ones)
    for asked in (True, None):
        affinity = pge.gradient_similarity(
            log_prob, PARAMS, batch, center_features=asked
        )
        np.testing.assert_allclose(
            affinity.matrix, cosine_similarity(centered), atol=1e-4
        )


def test_advantages_of_one_sign_are_not_centered():
    batch = BATCH._replace(advantage=np.ones_like(BATCH.advantage))
    affinity = pge.gradient_similarity(log_prob, PARAMS, batch, center_features=None)
    expected = cosine_similarity(gradients_one_by_one(batch))
    np.testing.assert_allclose(affinity.matrix, expected, atol=1e-5)
    with pytest.raises(ValueError, match="center_features=True"):
        pge.gradient_similarity(log_prob, PARAMS, batch, center_features=True)


@pytest.mark.parametrize("num_groups", [0, -1, 6])
def test_numbers_of_random_groups_out_of_range_are_refused(num_groups):
    with pytest.raises(ValueError, match=rf"num_groups must.*1\.\.5, got {num_groups}"):
        pge.random_grouping(jax.random.key(0), 5, num_groups)


def test_groups_at_random_take_an_integer_for_a_key():
    seeded, drawn = (pge.random_grouping(key, 9, 3) for key in (5, jax.random.key(5)))
    np.testing.assert_array_equal(seeded.labels, drawn.labels)
    with pytest.raises(ValueError, match="key must be one key.*got 0.5"):
        pge.random_grouping(0.5, 9, 3)
