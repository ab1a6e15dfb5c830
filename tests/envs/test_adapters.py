"""Environments of others as suites: fresh resets, one trace, clear refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import Env, State

from pgx_jax.envs import (
    ActionSpace,
    CollectionSuite,
    FamilySuite,
    from_brax,
    from_functions,
    from_playground,
)
from pgx_jax.envs.cartpole import cartpole_planted
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.runtime import allow_promotion
from pgx_jax.training.ppo import PPO, PPOConfig


class Drift(Env):
    """Starts anywhere, then drifts by the action; `width` numbers of hidden state."""

    def __init__(self, width=1, observation_size=2, action_size=1, speed=1.0):
        self.width, self._sizes, self.speed = (
            width,
            (observation_size, action_size),
            speed,
        )

    def reset(self, rng):
        start = jax.random.uniform(rng, (self._sizes[0],))
        hidden = {"steps": jnp.zeros((self.width,), jnp.int32), "up": jnp.array(True)}
        # Weak types and an integer flag, as many environments give them.
        return State(hidden, start, 0.0, 0.0, {"height": 0.0})

    def step(self, state, action):
        obs = state.obs + self.speed * action[0]
        hidden = {"steps": state.pipeline_state["steps"] + 1, "up": obs[0] > 0}
        return State(hidden, obs, obs[0], jnp.float32(0), {"height": obs[0]})

    observation_size = property(lambda self: self._sizes[0])
    action_size = property(lambda self: self._sizes[1])
    backend = property(lambda self: "jax")


def roll(suite, num_steps, num_envs=3, action=0.0):
    """All states of an unroll, and how often its step was traced."""
    num_traces = 0

    @jax.jit
    def step(state):
        nonlocal num_traces
        num_traces += 1
        shape = (suite.num_tasks, num_envs, suite.action_space.size)
        return suite.step(state, jnp.full(shape, action))

    states = [jax.jit(lambda key: suite.reset(key, num_envs))(jax.random.key(0))]
    for _ in range(num_steps):
        states.append(step(states[-1]))
    return states, num_traces


@pytest.mark.parametrize("pool_size", [0, 5])
def test_brax_environments_restart_from_fresh_states_and_compile_once(pool_size):
    suite = from_brax(Drift(), episode_length=4, pool_size=pool_size)
    states, num_traces = roll(suite, 12, num_envs=8)
    assert num_traces == 1
    starts = np.stack([x.observation for x in states[::4]])  # [episodes, 1, envs, 2]
    if pool_size:
        pool = np.asarray(states[0].pool.obs[0])
        for start in starts[1:].reshape(-1, 2):
            assert (start == pool).all(axis=1).any()
        assert len(np.unique(starts[1:].reshape(-1, 2), axis=0)) == pool_size
        other = suite.refresh(states[4]).pool.obs
        assert not np.isin(other, pool).any()
    else:
        assert len(np.unique(starts.reshape(-1, 2), axis=0)) == 32
    ends = np.array([x.truncation.all() for x in states[1:]])
    np.testing.assert_array_equal(ends, np.arange(1, 13) % 4 == 0)
    assert not any(x.termination.any() for x in states)


def test_different_environments_behave_in_a_collection_as_they_do_alone():
    envs = {"a": Drift(1, speed=1.0), "b": Drift(7, speed=-2.0)}
    suite = from_brax(envs, episode_length=3)
    assert suite.task_names == ("a", "b")
    states, num_traces = roll(suite.select([1, 0, 1]), 5, action=0.5)
    assert num_traces == 1
    for step in range(1, 6):
        before, after = states[step - 1], states[step]
        change = after.next_observation - before.observation
        np.testing.assert_allclose(
            change,
            np.array([-1, 0.5, -1])[:, None, None] * np.ones((3, 3, 2)),
            rtol=1e-5,
        )
        np.testing.assert_array_equal(after.reward, after.next_observation[..., 0])
        np.testing.assert_array_equal(after.truncation, step == 3)


def test_a_collection_keeps_what_its_members_know():
    suite = from_brax([Drift(), Drift(), Drift(4)])
    assert suite.task_names == ("Drift", "Drift 2", "Drift 3")
    assert suite.select([2, 2, 0]).task_names == ("Drift 3", "Drift 3", "Drift")
    # An index on the task axis is the same for every leaf of the state.
    state = suite.select([2, 2, 0]).reset(jax.random.key(0), 2)
    leaves = jax.tree.leaves(state)
    assert {x.shape[0] for x in leaves} == {3}


@pytest.mark.parametrize("broken", ["observation", "reward", "success"])
def test_a_step_that_is_not_finite_truncates_its_episode_and_is_told(broken):
    def step(parameters, state, action, key):
        values = {"observation": jnp.ones((1,)), "reward": 1.0, "success": state == 0}
        value = jnp.asarray(values[broken], jnp.float32)
        values[broken] = jnp.where(state == 2, jnp.nan, value)
        observation, reward, success = values.values()
        return state + 1, observation, reward, state == 2, success

    suite = from_functions(
        lambda parameters, key: (jnp.zeros((), jnp.int32), jnp.zeros((1,))),
        step,
        jnp.zeros((1,)),
        action_space=ActionSpace(1, discrete=False),
        episode_length=10,
    )
    states, _ = roll(suite, 6, num_envs=1)
    told = np.array([x.divergence[0, 0] for x in states[1:]])
    np.testing.assert_array_equal(told, [False, False, True] * 2)
    np.testing.assert_array_equal(told, [x.truncation[0, 0] for x in states[1:]])
    assert not any(x.termination.any() for x in states)
    # What was met before stays known, and a NaN is no success.
    np.testing.assert_array_equal(
        [x.episode_success[0, 0] for x in states[1:]], np.ones(6)
    )
    np.testing.assert_array_equal([x.reward[0, 0] for x in states[1:]], [1, 1, 0] * 2)
    for x in states:
        assert np.isfinite(x.next_observation).all()
        assert np.isfinite(x.observation).all()


def test_functions_make_a_suite():
    def reset(goal, key):
        position = jax.random.uniform(key)
        return position, jnp.stack([position, goal])

    def step(goal, position, action, key):
        position = position + action.astype(jnp.float32) - 1
        near = jnp.abs(position - goal) < 0.5
        return position, jnp.stack([position, goal]), -goal, position > 3, near

    suite = from_functions(
        reset,
        step,
        jnp.array([2.0, 5.0]),
        action_space=ActionSpace(3, discrete=True),
        episode_length=8,
        task_names=["near", "far"],
    )
    state = suite.reset(jax.random.key(0), 4)
    start = state.observation[..., 0]
    state = suite.step(state, jnp.full((2, 4), 2))
    np.testing.assert_allclose(state.next_observation[..., 0], start + 1, rtol=1e-5)
    np.testing.assert_array_equal(state.reward, [[-2.0] * 4, [-5.0] * 4])
    state = suite.step(state, jnp.full((2, 4), 2))
    near = np.abs(np.asarray(start) + 2 - [[2.0], [5.0]]) < 0.5
    np.testing.assert_array_equal(state.episode_success, near)
    state = suite.step(state, jnp.full((2, 4), 2))
    assert state.termination.all()


class Walk(Env):
    """Moves by the action from 0, an integer until the first step."""

    def reset(self, rng):
        start = jnp.array([0, 0])
        return State({"at": start, "time": 0}, start, 0, False, {"success": False})

    def step(self, state, action):
        with allow_promotion():  # which its types come from
            at = state.pipeline_state["at"] + action
            time = state.pipeline_state["time"] + 0.5
            done = (time > 9) * 1.0
        return State({"at": at, "time": time}, at, time, done, {"success": 0.0})

    observation_size = property(lambda self: 2)
    action_size = property(lambda self: 2)
    backend = property(lambda self: "jax")


def walk(made_by):
    if made_by == "brax":
        return from_brax(Walk(), episode_length=4, pool_size=2)
    if made_by == "playground":
        return from_playground(Walk(), episode_length=4, pool_size=0)

    def step(parameters, state, action, key):
        with allow_promotion():
            at, time = state[0] + action, state[1] + 0.5
        return (at, time), at, time, False

    return from_functions(
        lambda parameters, key: ((jnp.array([0, 0]), 0), jnp.array([0, 0])),
        step,
        jnp.zeros((1,)),
        action_space=ActionSpace(2, discrete=False),
        episode_length=4,
    )


@pytest.mark.parametrize("made_by", ["brax", "playground", "functions"])
def test_fractions_are_kept_where_a_reset_gives_integers(made_by):
    """Steps of 0.25 from [0, 0] in four steps, and a clock of half a unit a step."""
    states, num_traces = roll(walk(made_by), 8, num_envs=1, action=0.25)
    assert num_traces == 1
    at = np.array([x.next_observation[0, 0, 1] for x in states[1:]])
    np.testing.assert_array_equal(at, [0.25, 0.5, 0.75, 1.0] * 2)
    np.testing.assert_array_equal(
        [x.reward[0, 0] for x in states[1:]], [0.5, 1.0, 1.5, 2.0] * 2
    )


def test_a_family_whose_step_loses_its_fractions_is_refused():
    suite = FamilySuite(
        make_env=lambda parameters: Walk(),
        parameters=jnp.zeros((1,)),
        name="walk",
        task_names=("walk",),
        observation_size=2,
        action_space=ActionSpace(2, discrete=False),
        episode_length=4,
    )
    match = r"pipeline_state\['at'\] is int32 before a step and float32 after it"
    with pytest.raises(ValueError, match=match):
        roll(suite, 1)


class Playground:
    """What the adapter uses of a Playground environment."""

    _config = {"episode_length": 6}
    action_size = 2

    def reset(self, rng):
        obs = {
            "state": jax.random.normal(rng, (3,)),
            "privileged_state": jnp.ones((9,)),
        }
        return State(jnp.zeros((4,)), obs, 0.0, 0.0)

    step = None


def test_a_dict_of_observations_needs_a_known_entry():
    with pytest.raises(
        ValueError, match="'pixels' does not exist in task 'Playground'"
    ):
        from_playground(Playground(), observation="pixels")


def test_functions_that_report_no_success_have_none():
    def make(*success):
        return from_functions(
            lambda p, k: (jnp.zeros(()), jnp.zeros((1,))),
            lambda p, s, a, k: (s, jnp.zeros((1,)), 0.0, False, *success),
            jnp.zeros((2,)),
            action_space=ActionSpace(1, discrete=False),
            episode_length=3,
        )

    silent, successful = make(), make(True)
    assert not silent.has_success and successful.has_success
    both = CollectionSuite.create([silent, successful])
    assert not both.has_success and both.select([2, 3]).has_success
    state = both.step(both.reset(jax.random.key(0), 1), jnp.zeros((4, 1, 1)))
    np.testing.assert_array_equal(state.episode_success[:, 0], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("envs", "match"),
    [
        ({"hop": Drift(), "run": Drift(observation_size=5)}, "2: hop; 5: run"),
        ({"hop": Drift(), "run": Drift(action_size=4)}, "action space.*hop.*run"),
        ([], "at least one environment"),
        ("no_such_robot", "Brax has no environment 'no_such_robot'; it has .*ant"),
    ],
)
def test_what_cannot_be_one_suite_is_refused(envs, match):
    with pytest.raises(ValueError, match=match):
        from_brax(envs)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"parameters": (jnp.zeros(2), jnp.zeros(3))}, "leaf of parameters"),
        ({"task_names": ["one"]}, "task_names must be 2 names"),
        ({"reset": lambda p, k: (0, jnp.zeros((2, 2)))}, "vector as observation"),
        (
            {"step": lambda p, s, a, k: ((s, s), jnp.zeros(1), 0.0, False)},
            "structure of reset's",
        ),
        ({"step": lambda p, s, a, k: (s, jnp.zeros(2), 0.0, False)}, "keep the shapes"),
        ({"step": lambda p, s, a, k: (s, jnp.zeros(1), 0.0)}, "4 or 5 results, got 3"),
        (
            {
                "reset": lambda p, k: (jnp.zeros((), jnp.int32), jnp.zeros((1,))),
                "step": lambda p, s, a, k: (
                    s.astype(jnp.bfloat16),
                    jnp.zeros((1,)),
                    0.0,
                    False,
                ),
            },
            "types of reset's state, but .pipeline_state goes from int32 to bfloat16",
        ),
    ],
)
def test_functions_that_do_not_fit_are_refused(changes, match):
    arguments = {
        "reset": lambda p, k: (jnp.zeros(()), jnp.zeros((1,))),
        "step": lambda p, s, a, k: (s, jnp.zeros((1,)), 0.0, False),
        "parameters": jnp.zeros((2,)),
    }
    with pytest.raises(ValueError, match=match):
        from_functions(
            **(arguments | changes),
            action_space=ActionSpace(1, discrete=False),
            episode_length=3,
        )


def test_discrete_and_continuous_tasks_do_not_mix():
    one = from_brax(Drift(observation_size=4, action_size=2))
    with pytest.raises(ValueError, match="one action space.*A1.*Drift|Drift.*A1"):
        CollectionSuite.create([one, cartpole_planted()])


def test_a_collection_trains():
    envs = {"up": Drift(1, speed=1.0), "down": Drift(7, speed=-1.0)}
    suite = from_brax(envs, episode_length=5)
    networks = make_actor_critic(2, 1, False, (8,))
    config = PPOConfig(num_envs=4, unroll_length=10, num_epochs=1, num_minibatches=2)
    ppo = PPO(config, networks, 2)
    state, metrics = ppo.run(suite, ppo.init(suite, jax.random.key(0), [0, 1]), 2)
    np.testing.assert_array_equal(metrics["episodes"], 8.0)
    # Rewards are heights, which the same actions change in opposite directions.
    assert np.isfinite(metrics["return"]).all()
    pool = jax.tree.leaves(state.suite_state.pool)[0]
    assert pool.shape[:2] == (2, 64)
