"""The oracle on bandits and clocks whose best policies are known."""

import dataclasses

import jax
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.envs import TaskIdSuite
from pgx_jax.evaluation.oracle import Oracle, SubsetScores
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.ppo import PPO, PPOConfig

NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(16,))
CONFIG = PPOConfig(
    num_envs=8,
    unroll_length=4,
    num_epochs=4,
    num_minibatches=2,
    learning_rate=3e-2,
    anneal_learning_rate=False,
)
META = PPO(CONFIG, NETWORKS, 1)
ARMS = [0, 0, 1, 1]
PAIRS = np.array(
    [[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]
).astype(bool)
# A third size of subset leaves blocks of different sizes to be filled up.
MIXED = np.concatenate([PAIRS, [[1, 1, 1, 0], [1, 0, 0, 0]]]).astype(bool)


def oracle(num_updates=30, **settings):
    return Oracle(PPO(CONFIG, NETWORKS, num_updates), num_episodes=8, **settings)


@pytest.fixture(scope="module")
def bandits(clock_suite):
    """Four bandits of one pull, and a policy for all that prefers neither arm."""
    suite = clock_suite(ARMS, [1] * 4)
    return suite, META.init(suite, jax.random.key(0))


@pytest.fixture(scope="module")
def whole(bandits):
    """All subsets in one block for each of three sizes."""
    return oracle(block_size=8).run(*bandits, MIXED, jax.random.key(1))


def test_subsets_of_one_kind_get_all_and_opposite_ones_half(whole):
    scores = whole.result.scores
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores[~MIXED], 0.0)
    # Both tasks of a pair pay for the same arm.
    np.testing.assert_array_equal(scores[:2][PAIRS[:2]], 1.0)
    # One policy pulls one arm, whichever: one task of the pair has all, one nothing.
    opposite = scores[2:6]
    np.testing.assert_array_equal(np.sort(opposite, axis=1)[:, 2:], [[0, 1]] * 4)
    # The majority decides; a task alone is learned.
    np.testing.assert_array_equal(scores[6:], [[1, 1, 0, 0], [1, 0, 0, 0]])


def test_affinity_takes_the_scores(whole):
    pairs = SubsetScores(PAIRS, whole.result.scores[:6])
    affinity = np.asarray(pge.task_affinity(pairs).matrix)
    assert affinity[0, 1] > max(affinity[0, 2], affinity[0, 3])
    groups = pge.cluster_tasks(affinity, 2)
    np.testing.assert_array_equal(groups.labels, [0, 0, 1, 1])


def test_scores_do_not_depend_on_the_block(bandits, whole):
    """Blocks of four, the second filled up, and of one; tasks in other rows."""
    assert (whole.num_blocks, whole.block_size) == (3, 1)
    assert whole.evaluation_steps == 3  # one a block
    by_default = oracle().blocks(bandits[0], MIXED)
    assert len(by_default) == (8 if jax.default_backend() == "cpu" else 3)
    for block_size, num_blocks in ((4, 4), (1, 8)):
        run = oracle(block_size=block_size).run(*bandits, MIXED, jax.random.key(1))
        assert run.num_blocks == num_blocks
        np.testing.assert_array_equal(run.result.scores, whole.result.scores)
        assert run.env_steps == whole.env_steps == MIXED.sum() * 30 * 32


def test_policies_do_not_depend_on_the_subsets_beside_them(clock_suite):
    """Sampled returns of an unfinished policy, to the last digit but rounding."""
    suite = clock_suite(ARMS, [3, 99, 4, 5])
    meta = META.init(suite, jax.random.key(0))
    settings = {"num_updates": 2, "deterministic": False}
    together, alone = (
        oracle(block_size=size, **settings)
        .run(suite, meta, PAIRS, jax.random.key(2))
        .result.scores
        for size in (6, 1)
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(together[PAIRS])) > 6
    other = oracle(**settings).run(suite, meta, PAIRS, jax.random.key(3)).result.scores
    assert np.abs(together - other).max() > 0.1


def test_subsets_are_evaluated_on_the_same_random_numbers(clock_suite):
    """Policies that have not moved: what a task scores is the same in every subset."""
    suite = clock_suite(ARMS, [3, 99, 4, 5])
    meta = META.init(suite, jax.random.key(0))
    still = dataclasses.replace(CONFIG, learning_rate=1e-12)
    runner = Oracle(PPO(still, NETWORKS, 1), num_episodes=8, deterministic=False)
    scores = runner.run(suite, meta, PAIRS, jax.random.key(2)).result.scores
    for task in range(4):
        assert len(np.unique(scores[PAIRS[:, task], task])) == 1
    assert len(np.unique(scores[PAIRS])) > 1


def test_a_subset_trains_with_the_value_statistics_of_its_own_tasks(clock_suite):
    suite = clock_suite(ARMS, [3, 99, 4, 5])
    meta = META.init(suite, jax.random.key(0))
    subset = np.array([[True, False, True, False]])

    def scores(changed, subset=subset):
        mean = np.zeros(4, np.float32)
        mean[changed] = 1e3
        statistics = meta.value_statistics._replace(mean=mean)
        runner = oracle(num_updates=2, deterministic=False)
        state = meta._replace(value_statistics=statistics)
        return runner.run(suite, state, subset, jax.random.key(2)).result.scores

    own = scores([])
    np.testing.assert_array_equal(scores([1, 3]), own)
    assert np.abs(scores([0]) - own).max() > 0.0
    assert np.abs(scores([2]) - own).max() > 0.0
    # Tasks 0 and 2 in the order of the rows: a change of either is a change of its own.
    assert np.abs(scores([0]) - scores([2])).max() > 0.0


def test_resumed_blocks_give_the_same_scores(bandits, whole, tmp_path):
    class Killed(Exception):
        pass

    def kill(env_steps, mean_scores):
        raise Killed

    workdir, key = Workdir(tmp_path, {}), jax.random.key(1)
    runner = oracle(block_size=4)
    with pytest.raises(Killed):
        runner.run(*bandits, MIXED, key, workdir=workdir, on_block=kill)
    first = workdir.info("oracle_1_of_4")["seconds"]
    seen = []
    run = runner.run(
        *bandits, MIXED, key, workdir=workdir, on_block=lambda *x: seen.append(x)
    )
    np.testing.assert_array_equal(run.result.scores, whole.result.scores)
    assert workdir.info("oracle_1_of_4")["seconds"] == first < run.seconds
    assert [steps for steps, _ in seen] == sorted(steps for steps, _ in seen)
    mean = whole.result.scores.sum(axis=0) / MIXED.sum(axis=0)
    np.testing.assert_allclose(seen[-1][1], mean, rtol=1e-6)
    # All is there now: nothing compiles.
    again = runner.run(*bandits, MIXED, key, workdir=workdir)
    assert again.compile_seconds < 0.1
    np.testing.assert_array_equal(again.result.scores, whole.result.scores)


def test_success_and_task_ids(clock_suite):
    """With its id, one policy learns both arms; success is met by any pull."""
    suite = TaskIdSuite.create(clock_suite([0, 1], [4, 4]))
    networks = make_actor_critic(7, 2, True, (16,), name="film", num_tasks=2)
    meta = PPO(CONFIG, networks, 1).init(suite, jax.random.key(0))
    runner = Oracle(PPO(CONFIG, networks, 30), num_episodes=4, score="success")
    run = runner.run(suite, meta, np.ones((1, 2), bool), jax.random.key(1))
    np.testing.assert_array_equal(run.result.scores, 1.0)
    assert run.evaluation_steps == 4


def test_episodes_that_start_from_a_pool(clock_suite):
    suite = dataclasses.replace(clock_suite(ARMS, [1] * 4), pool_size=3)
    meta = META.init(suite, jax.random.key(0))
    run = oracle().run(suite, meta, PAIRS[:2], jax.random.key(1))
    np.testing.assert_array_equal(run.result.scores[PAIRS[:2]], 1.0)


def test_what_cannot_work_is_refused(bandits):
    suite, meta = bandits
    key = jax.random.key(0)
    for field, value in (
        ("score", "regret"),
        ("num_episodes", 0),
        ("block_size", 0),
    ):
        with pytest.raises(ValueError, match=field):
            Oracle(**({"ppo": META} | {field: value}))
    with pytest.raises(ValueError, match="subsets must be a 0/1 matrix"):
        oracle().run(suite, meta, PAIRS[:, :3], key)
    with pytest.raises(ValueError, match="subsets must not be empty"):
        oracle().run(suite, meta, np.zeros((2, 4)), key)
    two = META.init(suite, key, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="meta must be one policy"):
        oracle().run(suite, two, PAIRS, key)
    broken = meta._replace(params=jax.tree.map(lambda x: x * np.nan, meta.params))
    with pytest.raises(FloatingPointError, match=r"subset 0, tasks \[0, 1\]"):
        oracle().run(suite, broken, PAIRS, key)
