"""What must hold for any transitions: symmetries of the estimate and the affinity."""

from __future__ import annotations

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge

NUM_TASKS, NUM_SAMPLES, DIM = 5, 16, 4
KEY = jax.random.key(11)
# All 20 subsets of two and three tasks: closed under any permutation of the tasks.
SUBSETS = np.array(
    [
        [s >> i & 1 for i in range(NUM_TASKS)]
        for s in range(2**NUM_TASKS)
        if s.bit_count() in (2, 3)
    ],
    bool,
)

few_examples = hypothesis.settings(
    max_examples=12, deadline=None, derandomize=True, database=None
)
seeds = st.integers(0, 2**32 - 1)
permutations = st.permutations(range(NUM_TASKS)).map(np.array)


def log_prob(params, observation, action):
    """A Gaussian policy; the gradient of `extra` is the last observation."""
    mean = jnp.tanh(observation[..., :-1] @ params["kernel"])
    log_prob = jax.scipy.stats.norm.logpdf(action, mean, 0.7)
    return log_prob + params["extra"] * observation[..., -1]


PARAMS = {"kernel": jnp.array([0.3, -0.8, 0.5]), "extra": jnp.array(0.4)}


def draw_batch(seed):
    """Observations whose last entry is 0; advantages with tasks on unequal scales."""
    rng = np.random.default_rng(seed)
    observation = rng.normal(size=(NUM_TASKS, NUM_SAMPLES, 4))
    observation[..., -1] = 0.0
    action = rng.normal(size=(NUM_TASKS, NUM_SAMPLES))
    advantage = rng.normal(size=(NUM_TASKS, NUM_SAMPLES))
    advantage = advantage + observation[..., 0] * action * rng.normal(size=(5, 1))
    arrays = (observation, action, advantage)
    return pge.Transitions(*(x.astype(np.float32) for x in arrays))


@functools.partial(jax.jit, static_argnames="score")
def estimate_affinity(batch, subsets, score="standardized"):
    """U, not made symmetric, through all stages."""
    estimates = pge.estimate_subsets(
        log_prob, PARAMS, batch, subsets, key=KEY, dim=DIM, l2=0.1, tolerance=1e-6
    )
    return pge.task_affinity(estimates, score=score, symmetric=False).matrix


def assert_close(actual, expected):
    """Equal up to rounding; entries of U are at most about one."""
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def finite_affinity(batch):
    """U, once it is seen to say something."""
    affinity = estimate_affinity(batch, SUBSETS)
    assert np.isfinite(affinity).all()
    assert np.abs(affinity).max() > 0.05
    return affinity


@few_examples
@hypothesis.given(seeds, permutations)
def test_permuted_tasks_have_the_permuted_affinity(seed, order):
    batch = draw_batch(seed)
    expected = finite_affinity(batch)[np.ix_(order, order)]
    permuted = jax.tree.map(lambda x: x[order], batch)
    # The same subsets under their new names, and all of them anyhow.
    assert_close(estimate_affinity(permuted, SUBSETS[:, order]), expected)
    assert_close(estimate_affinity(permuted, SUBSETS), expected)


@few_examples
@hypothesis.given(seeds, st.integers(0, NUM_TASKS - 1), st.floats(-3, 3))
def test_the_scale_of_a_tasks_advantages_changes_nothing(seed, task, exponent):
    batch = draw_batch(seed)
    expected = finite_affinity(batch)
    advantage = batch.advantage.copy()
    advantage[task] *= np.float32(10.0**exponent)
    scaled = batch._replace(advantage=advantage)
    assert_close(estimate_affinity(scaled, SUBSETS), expected)


@few_examples
@hypothesis.given(seeds, permutations)
def test_twins_have_the_same_affinities(seed, order):
    twin, other, *rest = order
    batch = draw_batch(seed)
    batch = jax.tree.map(lambda x: x.copy(), batch)
    for array in batch[:3]:
        array[twin] = array[other]
    affinity = np.asarray(finite_affinity(batch))
    assert_close(affinity[twin, rest], affinity[other, rest])
    assert_close(affinity[rest, twin], affinity[rest, other])
    assert_close(affinity[twin, twin], affinity[other, other])
    assert_close(affinity[twin, other], affinity[other, twin])


@few_examples
@hypothesis.given(seeds, st.floats(-10, 10))
def test_a_feature_that_is_constant_in_each_task_changes_nothing(seed, size):
    batch = draw_batch(seed)
    expected = finite_affinity(batch)
    observation = batch.observation.copy()
    observation[..., -1] = np.float32(size) * np.arange(NUM_TASKS)[:, None]
    shifted = batch._replace(observation=observation)
    assert_close(estimate_affinity(shifted, SUBSETS), expected)


def test_a_feature_that_varies_does_change_the_affinity():
    batch = draw_batch(0)
    observation = batch.observation.copy()
    observation[..., -1] = np.random.default_rng(1).normal(
        size=(NUM_TASKS, NUM_SAMPLES)
    )
    changed = estimate_affinity(batch._replace(observation=observation), SUBSETS)
    assert np.abs(changed - estimate_affinity(batch, SUBSETS)).max() > 0.05


@few_examples
@hypothesis.given(seeds, st.permutations(range(len(SUBSETS))), st.sampled_from([3, 7]))
def test_order_and_blocks_of_subsets_change_nothing(seed, order, block):
    batch = draw_batch(seed)
    expected = finite_affinity(batch)
    order = np.array(order)
    assert_close(estimate_affinity(batch, SUBSETS[order]), expected)

    solve = jitted_solver(block)
    features = batch.observation[..., :3]
    np.testing.assert_allclose(
        solve(features, batch.advantage, SUBSETS[order]).delta,
        jitted_solver(len(SUBSETS))(features, batch.advantage, SUBSETS).delta[order],
        rtol=1e-3,
        atol=1e-5,
    )


@functools.cache
def jitted_solver(block):
    return jax.jit(
        lambda features, advantage, subsets: pge.solve_regressions(
            features, advantage, subsets, l2=0.1, tolerance=1e-6, subset_block=block
        )
    )


@few_examples
@hypothesis.given(seeds)
def test_opposite_advantages_move_the_policy_the_opposite_way(seed):
    batch = draw_batch(seed)
    features = batch.observation[..., :3]
    solve = jitted_solver(len(SUBSETS))
    forth = solve(features, batch.advantage, SUBSETS)
    back = solve(features, -batch.advantage, SUBSETS)
    np.testing.assert_allclose(back.delta, -forth.delta, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(back.loss, forth.loss, rtol=1e-5)


@few_examples
@hypothesis.given(seeds)
def test_each_solution_beats_doing_nothing_and_other_subsets_solutions(seed):
    batch = draw_batch(seed)
    features = batch.observation[..., :3].astype(float)
    solution = jitted_solver(len(SUBSETS))(
        batch.observation[..., :3], batch.advantage, SUBSETS
    )
    deltas = np.concatenate([np.zeros((1, 3)), solution.delta]).astype(float)
    logits = np.einsum("ntd,bd->bnt", features, deltas) * np.sign(batch.advantage)
    task_losses = np.mean(np.abs(batch.advantage) * np.logaddexp(0, -logits), axis=2)
    for index, subset in enumerate(SUBSETS):
        losses = task_losses[:, subset].mean(axis=1) + 0.05 * np.sum(deltas**2, axis=1)
        assert losses[index + 1] <= losses.min() + 1e-6
        np.testing.assert_allclose(solution.loss[index], losses[index + 1], rtol=1e-5)
