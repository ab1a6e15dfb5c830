"""What suites add to environments: task ids, episode statistics, one compilation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import Env, State

from pgx_jax.envs import (
    ActionSpace,
    FamilySuite,
    StepSuite,
    TaskIdSuite,
    TaskSuite,
    from_functions,
    make_suite,
)
from pgx_jax.envs.cartpole import cartpole_planted
from pgx_jax.envs.collection import CollectionSuite


class Counter(Env):
    """Counts its steps; succeeds at step `parameters`; ends with its 4th step."""

    def __init__(self, parameters):
        self.success_step = parameters

    def reset(self, rng):
        zero = jnp.zeros(())
        return State(None, jnp.zeros((1,)), zero, zero, {"success": zero})

    def step(self, state, action):
        time = state.obs + 1
        return state.replace(
            obs=time,
            reward=time[0],
            done=(time[0] >= 4).astype(jnp.float32),
            metrics={"success": (time[0] == self.success_step).astype(jnp.float32)},
        )

    observation_size = property(lambda self: 1)
    action_size = property(lambda self: 2)
    backend = property(lambda self: "jax")


def counter_suite(episode_length):
    return FamilySuite(
        make_env=Counter,
        parameters=jnp.array([2.0, 9.0]),
        name="counter",
        task_names=("succeeds", "fails"),
        observation_size=1,
        action_space=ActionSpace(size=2, discrete=True),
        episode_length=episode_length,
    )


@pytest.mark.parametrize("episode_length", [4, 3])
def test_episode_statistics(episode_length):
    suite = counter_suite(episode_length)
    state = suite.reset(jax.random.key(0), 1)
    step = jax.jit(suite.step)
    seen = []
    for _ in range(2 * episode_length):
        state = step(state, jnp.zeros((2, 1), jnp.int32))
        seen.append(state._replace(env_state=None, key=None))
    steps = jax.tree.map(lambda *x: np.stack(x)[:, :, 0], *seen)  # [time, task, ...]

    one_episode = np.arange(1.0, episode_length + 1)
    ends = np.tile(one_episode == episode_length, 2)
    np.testing.assert_array_equal(steps.reward[:, 0], np.tile(one_episode, 2))
    np.testing.assert_array_equal(
        steps.episode_return[:, 0], np.tile(np.cumsum(one_episode), 2)
    )
    np.testing.assert_array_equal(steps.episode_length[:, 0], np.tile(one_episode, 2))
    # Success counts from the step that met it to the end of its episode.
    np.testing.assert_array_equal(
        steps.episode_success[:, 0], np.tile(one_episode >= 2, 2)
    )
    np.testing.assert_array_equal(steps.episode_success[:, 1], 0.0)
    # A task's own ending wins over the time limit where both fall on one step.
    np.testing.assert_array_equal(
        steps.termination[:, 0], ends if episode_length == 4 else np.zeros(6)
    )
    np.testing.assert_array_equal(
        steps.truncation[:, 0], ends if episode_length == 3 else np.zeros(8)
    )
    np.testing.assert_array_equal(
        steps.next_observation[:, 0, 0], np.tile(one_episode, 2)
    )
    np.testing.assert_array_equal(
        steps.observation[:, 0, 0], np.tile(one_episode, 2) * ~ends
    )


def test_a_reset_and_a_step_have_one_type_and_compile_once():
    suite = TaskIdSuite.create(cartpole_planted())
    num_traces = 0

    @jax.jit
    def step(suite, state):
        nonlocal num_traces
        num_traces += 1
        return suite.step(state, jnp.zeros((10, 2), jnp.int32))

    state = jax.jit(lambda suite, key: suite.reset(key, 2))(suite, jax.random.key(0))
    for _ in range(3):
        state = step(suite, state)
    # The same program serves other tasks of the family.
    other = suite.select(range(10)[::-1])
    assert num_traces == 1
    renamed = jax.tree.unflatten(jax.tree.structure(suite), jax.tree.leaves(other))
    step(renamed, state)
    assert num_traces == 1


def test_task_ids_follow_their_tasks():
    family = cartpole_planted()
    suite = TaskIdSuite.create(family).select([7, 2, 7])
    assert suite.observation_size == 14
    assert suite.planted_labels == (1, 0, 1)
    state = suite.reset(jax.random.key(0), 2)
    state = suite.step(state, jnp.zeros((3, 2), jnp.int32))
    plain = family.select([7, 2, 7])
    expected = plain.step(
        plain.reset(jax.random.key(0), 2), jnp.zeros((3, 2), jnp.int32)
    )
    np.testing.assert_allclose(
        state.observation[..., :4], expected.observation, rtol=1e-6
    )
    for observation in (state.observation, state.next_observation):
        ids = np.asarray(observation[..., 4:])
        np.testing.assert_array_equal(ids.argmax(-1), [[7, 7], [2, 2], [7, 7]])
        np.testing.assert_array_equal(
            np.sort(ids, axis=-1)[..., -2:], [[[0, 1]] * 2] * 3
        )


def test_collections_keep_planted_labels_of_any_names_apart():
    """A label below 0 must not make groups of two members one."""
    members = [
        dataclasses.replace(counter_suite(5), planted_labels=labels)
        for labels in ((-5, -5), (3, 9))
    ]
    collection = CollectionSuite.create(members)
    assert collection.planted_labels == (0, 0, 1, 2)
    assert collection.select([3, 0]).planted_labels == (1, 0)


def test_suites_that_lack_a_method_cannot_be_made():
    class Rowless(TaskSuite):
        num_tasks = property(lambda self: 1)
        has_success = property(lambda self: False)

        def reset(self, key, num_envs):
            return None

        def step(self, state, action):
            return state

    with pytest.raises(TypeError, match="select"):
        Rowless()  # pyright: ignore[reportAbstractUsage]
    # What only steps lacks the other members, instead of having some that do nothing.
    assert not {"select", "task_names", "planted_labels"} & set(dir(StepSuite))


def test_success_is_known_of_families_and_collections():
    counter, other = counter_suite(5), TaskIdSuite.create(counter_suite(5))
    assert counter.has_success and other.has_success
    assert CollectionSuite.create([counter, counter]).has_success

    silent = dataclasses.replace(counter, make_env=SilentCounter)
    assert not silent.has_success
    assert not CollectionSuite.create([counter, silent]).has_success


class SilentCounter(Counter):
    """Reports no success."""

    def reset(self, rng):
        return super().reset(rng).replace(metrics={})


def test_the_environment_of_one_task():
    member = TaskIdSuite.create(counter_suite(5))
    suite = TaskIdSuite.create(CollectionSuite.create([member, member]))
    make_env, parameters, task_id = suite.select([0, 3]).task_environment(1)
    assert make_env is Counter and float(parameters) == 9.0
    # The member's own id of two comes before that of the collection's four tasks.
    np.testing.assert_array_equal(task_id, [0, 1, 0, 0, 0, 1])
    with pytest.raises(ValueError, match="task must be at most 3, got 4"):
        CollectionSuite.create([member, member]).task_environment(4)


def test_tasks_are_described_by_what_differs_or_as_the_suite_says():
    def step(parameters, state, action, key):
        return state, jnp.zeros((1,)), 0.0, False

    suite = from_functions(
        lambda parameters, key: (jnp.zeros(()), jnp.zeros((1,))),
        step,
        {
            "top_speed": jnp.array([1.5, -2.0]),
            "same": jnp.ones((2,)),
            "long": jnp.arange(8.0).reshape(2, 4),
        },
        action_space=ActionSpace(2, discrete=True),
        episode_length=3,
    )
    assert suite.describe_task(1) == "top speed \N{MINUS SIGN}2"
    collection = CollectionSuite.create([suite, suite])
    assert collection.describe_task(2) == "top speed 1.5"
    named = dataclasses.replace(suite, describe=lambda p: f"{p['same']:.0f} of a kind")
    assert TaskIdSuite.create(named).describe_task(0) == "1 of a kind"
    assert make_suite("metaworld_mt3").describe_task(1) == ""
