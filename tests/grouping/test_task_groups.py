"""The whole way in one call, held against its four steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge


def log_prob_fn(params, observation, action):
    return jax.nn.log_softmax(observation @ params["weight"])[action]


@pytest.fixture(scope="module")
def problem():
    """Six tasks in two groups, which take the opposite action for the best one."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"weight": 0.1 * jax.random.normal(keys[0], (4, 2))}
    observation = jax.random.normal(keys[1], (6, 200, 4))
    action = jax.random.bernoulli(keys[2], shape=(6, 200)).astype(jnp.int32)
    reverse = jnp.array([0, 1, 0, 1, 1, 0], bool)[:, None]
    right = (observation[..., 0] > 0) ^ reverse
    advantage = jnp.where(action == right.astype(jnp.int32), 1.0, -1.0)
    return params, pge.Transitions(observation, action, advantage)


def test_finds_groups_known_beforehand(problem):
    groups = pge.group_tasks(log_prob_fn, *problem, key=jax.random.key(1))
    np.testing.assert_array_equal(groups.grouping.labels, [0, 1, 0, 1, 1, 0])
    assert groups.estimates.subsets.shape == (20, 6)  # every three of six tasks


def test_equals_its_four_steps(problem):
    params, batch = problem
    key = jax.random.key(1)
    groups = pge.group_tasks(
        log_prob_fn, params, batch, key=key, num_groups=3, num_subsets=15, subset_size=2
    )
    subset_key, estimate_key, _ = jax.random.split(key, 3)
    subsets = pge.sample_subsets(subset_key, 6, 15, 2)
    estimates = pge.estimate_subsets(
        log_prob_fn, params, batch, subsets, key=estimate_key, dim=8
    )
    affinity = pge.task_affinity(estimates)
    np.testing.assert_array_equal(groups.affinity.matrix, affinity.matrix)
    np.testing.assert_array_equal(
        groups.grouping.labels, pge.cluster_tasks(affinity, 3).labels
    )
    assert groups.grouping.num_groups == 3


def test_two_tasks_are_a_subset(problem):
    params, batch = problem
    two = jax.tree.map(lambda x: x[:2], batch)
    groups = pge.group_tasks(
        log_prob_fn, params, two, key=jax.random.key(0), num_groups=2
    )
    np.testing.assert_array_equal(groups.estimates.subsets, [[True, True]])
    np.testing.assert_array_equal(groups.grouping.labels, [0, 1])


def test_an_integer_key_is_the_key_of_that_seed(problem):
    one, other = (
        pge.group_tasks(log_prob_fn, *problem, key=key, num_resamples=2)
        for key in (3, jax.random.key(3))
    )
    np.testing.assert_array_equal(one.affinity.resamples, other.affinity.resamples)
    seeded, drawn = (
        pge.task_affinity(one.estimates, key=key) for key in (4, jax.random.key(4))
    )
    np.testing.assert_array_equal(seeded.resamples, drawn.resamples)


def test_a_dimension_above_the_number_of_parameters_is_refused(problem):
    with pytest.raises(ValueError, match="dim must be at most.*p = 8, got 400"):
        pge.group_tasks(log_prob_fn, *problem, key=jax.random.key(0), dim=400)


def test_a_single_task_has_no_groups(problem):
    params, batch = problem
    batch = jax.tree.map(lambda x: x[:1], batch)
    with pytest.raises(ValueError, match="data must be of at least 2 tasks, got 1"):
        pge.group_tasks(log_prob_fn, params, batch, key=jax.random.key(0))


@pytest.mark.parametrize("kind", ["batch", "stream", "sums"])
def test_least_squares_finds_groups_known_beforehand(problem, kind):
    params, batch = problem
    key = jax.random.key(1)
    data, arguments = batch, (log_prob_fn, params)
    if kind == "stream":
        halves = [jax.tree.map(lambda x, s=s: x[:, s::2], batch) for s in (0, 1)]
        data = iter(halves)
    if kind == "sums":
        data = pge.accumulate(
            *arguments, batch, jax.random.key(3), pge.GaussianProjection(8)
        )
        arguments = (None, None)
    groups = pge.group_tasks(*arguments, data, key=key, regression="least_squares")
    np.testing.assert_array_equal(groups.grouping.labels, [0, 1, 0, 1, 1, 0])
    assert groups.gain.verdict == "pays"
    assert groups.estimates.subsets.shape == (63, 6)
    np.testing.assert_array_equal(
        pge.cluster_tasks(groups.affinity, 2).labels, [0, 1, 0, 1, 1, 0]
    )


def test_arguments_of_the_other_regression_are_refused(problem):
    for name, value in (("subset_size", 3), ("num_subsets", 9), ("l2", 0.1)):
        with pytest.raises(ValueError, match=f"{name} is no argument of"):
            pge.group_tasks(
                log_prob_fn,
                *problem,
                key=0,
                regression="least_squares",
                **{name: value},
            )
    with pytest.raises(ValueError, match="ridge is no argument of"):
        pge.group_tasks(log_prob_fn, *problem, key=0, ridge=1.0)
    with pytest.raises(ValueError, match="data must have at least one batch"):
        pge.group_tasks(
            log_prob_fn, problem[0], iter([]), key=0, regression="least_squares"
        )
