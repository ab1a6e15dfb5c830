"""CartPole against Gymnasium's CartPole-v1."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import make_suite
from pgx_jax.envs.cartpole import (
    CartPole,
    CartPoleParameters,
    cartpole,
    cartpole_planted,
    cartpole_v1,
)

NUM_TRANSITIONS = 1000


@functools.cache
def gymnasium_transitions(varied: bool):
    """Parameters, states, actions, next states and terminations; row t is one step."""
    rng = np.random.default_rng(0)
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    scale = np.array([2.0, 2.0, 0.19, 2.0])
    states = rng.uniform(-scale, scale, (NUM_TRANSITIONS, 4)).astype(np.float32)
    # A fifth of the states are close enough to a limit that a step may cross it.
    near = NUM_TRANSITIONS // 5
    states[:near, 0] = np.sign(states[:near, 0]) * rng.uniform(2.37, 2.4, near)
    states[near : 2 * near, 2] = 0.205 * np.sign(states[near : 2 * near, 2])
    actions = rng.integers(0, 2, NUM_TRANSITIONS)
    parameters = np.tile([9.8, 1.0, 0.1, 0.5, 10.0], (NUM_TRANSITIONS, 1))
    if varied:
        parameters *= rng.uniform(0.5, 2.0, parameters.shape)

    next_states, terminated = [], []
    for state, action, row in zip(states, actions, parameters, strict=True):
        env.gravity, env.masscart, env.masspole, env.length, env.force_mag = row
        env.total_mass = env.masspole + env.masscart
        env.polemass_length = env.masspole * env.length
        env.state = tuple(state.astype(np.float64))
        env.steps_beyond_terminated = None
        observation, reward, done, _, _ = env.step(int(action))
        assert reward == 1.0
        next_states.append(observation)
        terminated.append(done)
    return parameters, states, actions, np.array(next_states), np.array(terminated)


# Foreign and extreme ones, by the state x, speed, angle, angular speed and the step.
POLICIES = {
    "left": lambda state, step: 0,
    "right": lambda state, step: 1,
    "alternating": lambda state, step: step % 2,
    "towards the angle": lambda state, step: (state[2] > 0).astype(int),
    "away from the angle": lambda state, step: (state[2] < 0).astype(int),
    "bursts": lambda state, step: step // 7 % 2,
    "balance": lambda state, step: (state[2] + 0.5 * state[3] > 0).astype(int),
}
NUM_STARTS = 8
MAX_STEPS = 120


@functools.cache
def gymnasium_episodes():
    """Starts [8, 4], and each policy's last states [8, 4] and lengths [8]."""
    env = gymnasium.make("CartPole-v1").unwrapped
    starts = [env.reset(seed=seed)[0] for seed in range(NUM_STARTS)]
    results = {}
    for name, policy in POLICIES.items():
        last, lengths = [], []
        for seed in range(NUM_STARTS):
            state, _ = env.reset(seed=seed)
            for step in range(MAX_STEPS):
                state, _, done, _, _ = env.step(int(policy(state, step)))
                if done:
                    break
            last.append(state)
            lengths.append(step + 1)
        results[name] = np.array(last), np.array(lengths)
    return np.array(starts), results


@pytest.mark.parametrize("name", POLICIES)
def test_episodes_of_foreign_policies_are_those_of_gymnasium(name):
    starts, results = gymnasium_episodes()
    env = CartPole(jax.tree.map(lambda x: x[0], cartpole_v1().parameters))
    fresh = env.reset(jax.random.key(0))

    def advance(carry, step):
        state, length, done = carry
        action = jnp.asarray(POLICIES[name](state.obs, step), jnp.int32)
        new = env.step(state, action)
        state = jax.tree.map(lambda x, y: jnp.where(done, x, y), state, new)
        return (state, length + (~done).astype(jnp.int32), done | (new.done > 0)), None

    @jax.jit
    @jax.vmap
    def episode(start):
        carry = fresh.replace(obs=start), jnp.int32(0), jnp.bool_(False)
        (state, length, _), _ = jax.lax.scan(advance, carry, jnp.arange(MAX_STEPS))
        return state.obs, length

    last, lengths = episode(jnp.asarray(starts, jnp.float32))
    np.testing.assert_array_equal(lengths, results[name][1])
    # An inverted pendulum amplifies rounding of single precision from step to step.
    np.testing.assert_allclose(last, results[name][0], atol=1e-3)


@pytest.mark.parametrize("varied", [False, True])
def test_dynamics_and_termination_equal_gymnasium(varied):
    parameters, states, actions, expected, terminated = gymnasium_transitions(varied)
    assert 100 < terminated.sum() < 900

    def step(row, observation, action):
        gravity, cart_mass, pole_mass, half_length, force = row
        env = CartPole(
            CartPoleParameters(
                gravity, cart_mass, pole_mass, half_length, jnp.array([-force, force])
            )
        )
        state = env.reset(jax.random.key(0)).replace(obs=observation)
        return env.step(state, action)

    after = jax.jit(jax.vmap(step))(
        jnp.asarray(parameters, jnp.float32), states, jnp.asarray(actions)
    )
    np.testing.assert_allclose(after.obs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after.done, terminated)
    np.testing.assert_array_equal(after.reward, 1.0)


def test_cartpole_v1_has_the_parameters_of_gymnasium():
    env = gymnasium.make("CartPole-v1")
    ours = jax.tree.map(lambda x: np.asarray(x[0]), cartpole_v1().parameters)
    assert ours.gravity == np.float32(env.unwrapped.gravity)
    assert ours.cart_mass == np.float32(env.unwrapped.masscart)
    assert ours.pole_mass == np.float32(env.unwrapped.masspole)
    assert ours.pole_half_length == np.float32(env.unwrapped.length)
    force = env.unwrapped.force_mag
    np.testing.assert_array_equal(ours.forces, [-force, force])
    assert cartpole_v1().episode_length == env.spec.max_episode_steps


@functools.cache
def balanced_run():
    """501 steps of three environments under a controller that never falls."""
    suite = cartpole_v1()

    def step(state, _):
        # A proportional-derivative law on all four coordinates.
        push = state.observation @ jnp.array([0.5, 1.0, 10.0, 2.0])
        state = suite.step(state, (push > 0).astype(jnp.int32))
        return state, state

    start = suite.reset(jax.random.key(0), 3)
    run = jax.jit(lambda state: jax.lax.scan(step, state, None, 501)[1])
    return start, jax.tree.map(lambda x: x[:, 0], run(start))  # [time, num_envs]


def test_an_episode_of_500_steps_is_truncated_not_terminated():
    _, steps = balanced_run()
    assert not np.any(steps.termination)
    np.testing.assert_array_equal(steps.truncation.sum(axis=1), [0] * 499 + [3, 0])
    np.testing.assert_array_equal(steps.episode_length[498:, 0], [499, 500, 1])
    np.testing.assert_array_equal(steps.episode_return[498:, 0], [499.0, 500.0, 1.0])


def test_an_episode_that_falls_is_terminated_not_truncated():
    suite = cartpole_v1()
    state = suite.reset(jax.random.key(0), 4)
    step = jax.jit(suite.step)
    push = jnp.ones((1, 4), jnp.int32)
    gymnasium_env = gymnasium.make("CartPole-v1").unwrapped
    gymnasium_env.reset(seed=0)
    gymnasium_env.state = tuple(np.asarray(state.observation[0, 0], np.float64))
    fallen, length = False, 0
    while not fallen:
        _, _, fallen, _, _ = gymnasium_env.step(1)
        state = step(state, push)
        length += 1
        assert bool(state.termination[0, 0]) == fallen
        assert not np.any(state.truncation)
    assert int(state.episode_length[0, 0]) == length


def test_every_reset_draws_afresh():
    start, steps = balanced_run()
    # Where the episode ended, the policy goes on from a new state near the origin while
    # the value is still taken at the state that the step led to.
    fresh = np.concatenate([start.observation[0], steps.observation[499]])
    assert np.all(np.abs(fresh) <= 0.05)
    assert len(np.unique(fresh[:, 0])) == 6
    assert not np.any(steps.next_observation[499] == steps.observation[499])
    np.testing.assert_array_equal(steps.next_observation[:499], steps.observation[:499])


def test_planted_groups_share_their_force_table():
    suite = cartpole_planted(3, 12)
    assert suite.planted_labels == (0,) * 4 + (1,) * 4 + (2,) * 4
    tables = {
        label: set(map(tuple, np.asarray(suite.parameters.forces)[list(rows)]))
        for label, rows in enumerate((range(4), range(4, 8), range(8, 12)))
    }
    assert tables == {
        0: {(-10.0, 0.0, 10.0)},
        1: {(10.0, -10.0, 0.0)},
        2: {(0.0, 10.0, -10.0)},
    }
    forces = np.asarray(cartpole_planted().parameters.forces)
    np.testing.assert_array_equal(forces[:5], [[-10.0, 10.0]] * 5)
    np.testing.assert_array_equal(forces[5:], [[10.0, -10.0]] * 5)


def test_source_and_target_tasks_are_fixed_and_apart():
    source, target = cartpole(), cartpole("target")
    assert (source.num_tasks, target.num_tasks) == (10, 50)
    for field in CartPoleParameters._fields:
        again = getattr(cartpole().parameters, field)
        first = np.asarray(getattr(source.parameters, field))
        np.testing.assert_array_equal(first, again)
        assert not np.isin(first, getattr(target.parameters, field)).any()


def test_select_takes_tasks_in_order_with_repetition():
    suite = cartpole_planted()
    chosen = suite.select([7, 0, 7])
    assert chosen.num_tasks == 3
    assert chosen.planted_labels == (1, 0, 1)
    assert chosen.task_names == tuple(suite.task_names[i] for i in (7, 0, 7))
    np.testing.assert_array_equal(
        chosen.parameters.pole_half_length,
        np.asarray(suite.parameters.pole_half_length)[[7, 0, 7]],
    )


@pytest.mark.parametrize("tasks", [[], [10], [-1], [0.5], [[0]]])
def test_bad_tasks_are_refused(tasks):
    with pytest.raises(ValueError, match="tasks must be"):
        cartpole_planted().select(tasks)


def test_unknown_suites_and_splits_are_refused():
    with pytest.raises(ValueError, match="'cartpol' does not exist; there are.*cartpo"):
        make_suite("cartpol")
    with pytest.raises(ValueError, match="one of source for.*got 'target'"):
        make_suite("cartpole_v1", "target")
    with pytest.raises(ValueError, match="num_groups=1"):
        cartpole_planted(1)
    assert make_suite("cartpole", "target").num_tasks == 50
