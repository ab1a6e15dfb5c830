"""What is compiled, and how often, as JAX itself reports it."""

from __future__ import annotations

import contextlib

import jax
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.blocks import plan_blocks
from pgx_jax.estimation.evaluators import EVALUATORS
from pgx_jax.estimation.subsets import distinct_subsets, round_up

COMPILED = []


def _count(event, duration, **_):
    del duration
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(event)


jax.monitoring.register_event_duration_secs_listener(_count)


@contextlib.contextmanager
def compilations():
    """A list that grows by an entry for every program that is compiled."""
    COMPILED.clear()
    yield COMPILED


def log_prob(params, observation, action):
    return jax.scipy.stats.norm.logpdf(action, observation @ params, 1.0)


NUM_TASKS = 6
PARAMS = np.array([0.1, -0.2, 0.3], np.float32)


def make_batch(seed):
    rng = np.random.default_rng(seed)
    shape = (NUM_TASKS, 20)
    observation = rng.normal(size=(*shape, 3)).astype(np.float32)
    draws = rng.normal(size=(2, *shape)).astype(np.float32)
    return pge.Transitions(observation, *draws)


def draw_subsets(seed):
    return pge.sample_subsets(jax.random.key(seed), NUM_TASKS, 16, 3)


def estimate(seed, log_prob=log_prob):
    return pge.estimate_subsets(
        log_prob,
        PARAMS,
        make_batch(seed),
        draw_subsets(seed),
        key=jax.random.key(seed),
        dim=3,
        num_resamples=2,
    )


def solve(seed):
    batch = make_batch(seed)
    return pge.solve_regressions(
        batch.observation, batch.advantage, draw_subsets(seed), l2=0.1 + seed
    )


def affinity(seed):
    rng = np.random.default_rng(seed)
    subsets = draw_subsets(seed)
    estimates = estimate(0)
    scores = rng.normal(size=subsets.shape).astype(np.float32)
    estimates = estimates._replace(subsets=subsets, scores=scores)
    return pge.task_affinity(estimates, key=jax.random.key(seed))


CALLS = {
    "estimate_subsets": estimate,
    "solve_regressions": solve,
    "task_affinity": affinity,
    "task_gradients": lambda seed: pge.task_gradients(
        log_prob, PARAMS, make_batch(seed)
    ),
    "gradient_similarity": lambda seed: pge.gradient_similarity(
        log_prob, PARAMS, make_batch(seed), center_features=True
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name):
    # Whatever draws the inputs is compiled before.
    first, second = 3, 8
    for seed in (first, second):
        jax.block_until_ready((make_batch(seed), draw_subsets(seed)))
    CALLS[name](first)
    with compilations() as compiled:
        CALLS[name](second)
    assert not compiled
    # The count would have seen it.
    with compilations() as compiled:
        jax.jit(lambda x: x + len(name))(1.0)
    assert len(compiled) == 1


def by_chance(seed):
    """Three of six tasks each, with no care for how often each comes."""
    draws = np.random.default_rng(seed).random((60, NUM_TASKS))
    return np.argsort(draws, axis=1) < 3


@pytest.mark.parametrize(("draw", "most_programs"), [(draw_subsets, 1), (by_chance, 3)])
def test_draws_of_subsets_share_their_sizes(draw, most_programs):
    shape = (NUM_TASKS, 20, 3)
    draws = [draw(seed) for seed in range(20)]
    assert len({subsets.sum(axis=0).max() for subsets in draws}) > most_programs
    assert len({plan_blocks(subsets, shape) for subsets in draws}) <= most_programs
    for subsets in draws:
        plan, most = plan_blocks(subsets, shape), subsets.sum(axis=0).max()
        # At most a quarter is for nothing.
        assert most <= plan.most_subsets <= 1.25 * most
        assert plan.most_tasks == 3


def test_sizes_have_so_many_steps_in_every_doubling():
    sizes = {round_up(size, 8) for size in range(65, 129)}
    assert sizes == {72, 80, 88, 96, 104, 112, 120, 128}
    assert [round_up(size, 8) for size in range(1, 17)] == list(range(1, 17))
    assert {round_up(size, 4) for size in range(33, 65)} == {40, 48, 56, 64}


def test_a_subset_that_comes_often_is_solved_once():
    rows = draw_subsets(0)[:7]
    order = np.random.default_rng(0).integers(0, 7, 100)
    order[:7] = np.arange(7)
    seen = []

    def spy(adapted):
        seen.append(adapted.subsets.shape)
        return EVALUATORS["surrogate"](adapted)

    def compute(subsets):
        return pge.estimate_subsets(
            log_prob,
            PARAMS,
            make_batch(0),
            subsets,
            key=jax.random.key(0),
            dim=3,
            evaluator=spy,
            num_resamples=2,
        )

    often, once = compute(rows[order]), compute(rows)
    assert set(seen) == {(7, NUM_TASKS)}
    for name, values in often._asdict().items():
        expected = getattr(once, name)
        if expected is None:
            assert values is None, name
            continue
        if name == "resampled_scores":
            values, expected = (np.moveaxis(x, 0, 1) for x in (values, expected))
        # Bit by bit: nothing was computed twice.
        np.testing.assert_array_equal(values, np.asarray(expected)[order], name)


def test_every_row_has_its_place_among_the_distinct_ones():
    rng = np.random.default_rng(0)
    subsets = rng.random((300, 9)) < 0.1
    rows, place = distinct_subsets(subsets)
    num_distinct = len(np.unique(subsets, axis=0))
    assert num_distinct < len(rows) == round_up(num_distinct, 4) < 225
    np.testing.assert_array_equal(rows[place], subsets)
    assert place.max() == num_distinct - 1


def test_a_list_of_all_subsets_loses_every_copy():
    # 6 tasks have 20 subsets of three, and 6 of one.
    subsets = pge.sample_subsets(jax.random.key(0), 6, 22, 3, singletons=True)
    rows, place = distinct_subsets(subsets)
    assert len(rows) == 26
    np.testing.assert_array_equal(rows[place], subsets)
    assert distinct_subsets(rows)[1] is None
    # A few copies by chance are no reason for another program.
    assert distinct_subsets(rows[[*range(12), 0, 1]])[1] is None
