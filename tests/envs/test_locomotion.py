"""Robots against Brax's own environments and MuJoCo; goals, bodies, objectives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from brax import envs as brax_envs

from pgx_jax.envs import locomotion
from pgx_jax.envs.locomotion.objectives import (
    HALF_CHEETAH_OBJECTIVES,
    Objective,
    WeightedObjectives,
    half_cheetah_objectives,
    objective_suite,
)
from pgx_jax.envs.mjx import Physics, edit_model, put_model, replace_arrays
from pgx_jax.runtime import allow_promotion

NUM_STEPS = 12


class Shown(NamedTuple):
    """What both environments show of every state, from the start on."""

    obs: jax.Array
    qpos: jax.Array
    qvel: jax.Array
    reward: jax.Array
    done: jax.Array


def make_env(suite, task=0):
    return suite.make_env(jax.tree.map(lambda x: x[task], suite.parameters))


@pytest.fixture(scope="module", params=list(locomotion.RULES))
def both(request):
    """Brax's environment and ours from the same key over the same actions.

    Each is idle for a step at first.
    """
    name = request.param
    env = make_env(locomotion.single_robot(name))
    brax_env = brax_envs.get_environment(name.replace("_", ""), backend="mjx")
    actions = jax.random.uniform(
        jax.random.key(0), (NUM_STEPS, env.action_size), minval=-1.0, maxval=1.0
    )
    actions = actions.at[0].set(0.0)

    def show(state):
        physics = state.pipeline_state
        return Shown(state.obs, physics.qpos, physics.qvel, state.reward, state.done)

    @jax.jit
    def roll(key):
        with allow_promotion():  # Brax converts and broadcasts implicitly
            theirs = brax_env.reset(key)
        start = env.reset(key), theirs

        def step(states, action):
            with allow_promotion():
                theirs = brax_env.step(states[1], action)
            new = env.step(states[0], action), theirs
            return new, tuple(show(x) for x in new)

        shown = jax.lax.scan(step, start, actions)[1]
        return [
            jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), show(x), y)
            for x, y in zip(start, shown, strict=True)
        ]

    return name, *roll(jax.random.PRNGKey(0))


def test_start_is_that_of_brax(both):
    _, ours, theirs = both
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x[0], y[0], atol=1e-5)


def test_idle_step_is_that_of_brax(both):
    _, ours, theirs = both
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x[1], y[1], atol=1e-5)


def test_later_steps_are_those_of_brax(both):
    _, ours, theirs = both
    # Contact amplifies rounding from step to step.
    np.testing.assert_allclose(ours.obs[:5], theirs.obs[:5], atol=2e-3)
    np.testing.assert_allclose(ours.obs, theirs.obs, atol=2e-2)
    np.testing.assert_allclose(ours.reward, theirs.reward, atol=1e-2)
    np.testing.assert_array_equal(ours.done, theirs.done)


def test_ants_of_other_length_start_as_high_over_their_legs():
    suite = locomotion.locomotion(
        "ant",
        np.array([[1.0, 0.0]] * 2),
        ("as it is", "long"),
        name="two",
        bodies=[{}, {"length": 1.25}],
    )
    short, long = (
        make_env(suite, task).reset(jax.random.key(0)).pipeline_state.qpos
        for task in range(2)
    )
    assert long[2] - short[2] == pytest.approx(0.25 * 0.55, rel=1e-5)
    np.testing.assert_array_equal(long[3:], short[3:])
    ankles = short[8::2] * jnp.array([1.0, -1.0, -1.0, 1.0])
    np.testing.assert_allclose(ankles, 1.0, atol=0.1)


def test_hopper_ends_where_brax_does():
    env = make_env(locomotion.single_robot("hopper"))
    physics = env.reset(jax.random.key(0)).pipeline_state
    position = jnp.array([0.0, 0.0, 1.25])
    assert env._is_healthy(physics, position)
    assert not env._is_healthy(physics, position.at[2].set(0.69))
    fast = physics._replace(qvel=physics.qvel.at[5].set(-101.0))
    assert not env._is_healthy(fast, position)
    tilted = physics._replace(qpos=physics.qpos.at[2].set(0.21))
    assert not env._is_healthy(tilted, position)


def test_directions_and_speeds_of_goals():
    motion = locomotion.RobotMotion(
        velocity=jnp.array([3.0, -4.0]),
        height=jnp.array(0.5),
        action=jnp.zeros(2),
        previous_action=jnp.zeros(2),
        power=jnp.zeros(2),
        joint_position=jnp.zeros(2),
    )
    assert locomotion.run_along(jnp.array([0.6, -0.8]), motion) == pytest.approx(5.0)
    assert locomotion.keep_speed(jnp.array([1.0]), motion) == pytest.approx(-2.0)
    ants = locomotion.ant_opposite()
    goals = np.asarray(ants.parameters.goal)
    np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 1.0, rtol=1e-6)
    assert ants.planted_labels == (0,) * 5 + (1,) * 5
    assert (goals[:5] @ goals[:5].T > 0.75).all()
    assert (goals[:5] @ goals[5:].T < -0.75).all()
    cheetahs = locomotion.half_cheetah_direction()
    np.testing.assert_array_equal(cheetahs.parameters.goal[:, 0], [1] * 5 + [-1] * 5)


def test_other_bodies_move_as_mujoco_says():
    """Free fall of a changed body, all of its joints in motion, above the ground."""
    robot = locomotion.load_robot("hopper")
    body = {"length": 1.2, "mass": 1.7, "friction": 0.6, "gear": 0.8}
    mj_model = edit_model(robot.spec, **body)
    suite = locomotion.locomotion(
        "hopper",
        np.array([[1.0, 0.0]] * 2),
        ("as it is", "changed"),
        name="two",
        bodies=[{}, body],
    )
    model = replace_arrays(
        robot.model, jax.tree.map(lambda x: x[1], suite.parameters.model)
    )
    for ours, theirs in zip(
        jax.tree.leaves(model), jax.tree.leaves(put_model(mj_model)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert mj_model.body_mass.sum() == pytest.approx(
        1.7 * edit_model(robot.spec, length=1.2).body_mass.sum()
    )
    env = make_env(suite, 1)
    state = env.reset(jax.random.key(0))
    qpos = state.pipeline_state.qpos.at[1].set(2.0)
    qvel = jnp.arange(1.0, 7.0)
    state = state.replace(pipeline_state=Physics.create(qpos, qvel))
    action = jnp.array([0.5, -1.0, 0.25])
    new = jax.jit(env.step)(state, action).pipeline_state
    data = mujoco.MjData(mj_model)
    data.qpos, data.qvel, data.ctrl = qpos, qvel, action
    for _ in range(4):
        mujoco.mj_step(mj_model, data)
    np.testing.assert_allclose(new.qpos, data.qpos, atol=1e-4)
    np.testing.assert_allclose(new.qvel, data.qvel, atol=2e-3)


def test_objectives_are_normalized_and_weighted():
    objectives = {
        "fast": Objective(lambda m: m.velocity[0], 0.0, 5.0),
        "low": Objective(lambda m: -m.height, -1.0, -0.5),
    }
    reward = WeightedObjectives(tuple(objectives.values()))
    motion = locomotion.RobotMotion(
        jnp.array([2.5, 0.0]), jnp.array(0.75), *[jnp.zeros(6)] * 4
    )
    assert reward(jnp.array([1.0, 0.0]), motion) == pytest.approx(0.5)
    assert reward(jnp.array([0.0, 1.0]), motion) == pytest.approx(0.5)
    assert reward(jnp.array([0.2, 0.6]), motion) == pytest.approx(0.4)
    suite = objective_suite("half_cheetah", objectives, weights={"both": (0.5, 0.5)})
    assert suite.task_names == ("both",)
    names = tuple(HALF_CHEETAH_OBJECTIVES)
    assert half_cheetah_objectives().task_names == names
    vector = half_cheetah_objectives(vector_rewards=True)
    assert vector.num_tasks == 1 and vector.objective_names == names


def test_rewards_are_those_of_mo_gymnasium():
    action = jnp.array([0.5, -1.0, 0.0])
    motion = locomotion.RobotMotion(
        jnp.array([1.5, 0.0]), jnp.array(1.35), action, *[jnp.zeros(3)] * 3
    )
    for suite, expected in (
        (locomotion.mo_half_cheetah(), [1.5, -1.25]),
        (locomotion.mo_hopper(), [1.5, 1.0, -1.25]),
        (locomotion.mo_hopper(2), [1.49875, 0.99875]),
    ):
        make_env = suite.make_env
        assert len(suite.objective_names) == len(expected)
        assert suite.episode_lengths == (1000,) and not make_env.control_cost
        found = make_env.reward(suite.parameters.goal[0], motion)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert locomotion.RULES["hopper"].healthy_reward == 1.0
    with pytest.raises(ValueError, match="num_objectives must be at most 3"):
        locomotion.mo_hopper(4)


def test_a_vector_of_rewards_is_those_of_all_tasks():
    key, action = jax.random.key(0), jnp.linspace(-1.0, 1.0, 6)

    def rewards(suite):
        make_env, parameters, _ = suite.task_environment(0)

        def step(goal):
            env = make_env(parameters._replace(goal=goal))
            state = env.reset(key)
            assert state.reward.shape == env.step(state, action).reward.shape
            return env.step(state, action).reward

        return step

    scalar = half_cheetah_objectives()
    goals = scalar.parameters.goal
    expected = jax.jit(jax.vmap(rewards(scalar)))(goals)
    found = jax.jit(rewards(half_cheetah_objectives(vector_rewards=True)))(goals)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(set(np.round(expected, 3).tolist())) == 6


def test_random_actions_earn_about_nothing_and_rest_earns_calm():
    suite = half_cheetah_objectives()
    state = jax.jit(lambda key: suite.reset(key, 4))(jax.random.key(0))
    step = jax.jit(suite.step)
    key, rewards = jax.random.key(1), []
    for _ in range(20):
        key, action_key = jax.random.split(key)
        # One environment of every task rests.
        action = jax.random.normal(action_key, (6, 4, 6)).at[:, 0].set(0.0)
        state = step(state, action)
        rewards.append(state.reward)
    rewards = np.asarray(rewards)[5:]  # [time, task, env]
    moving = rewards[..., 1:].mean((0, 2))
    np.testing.assert_allclose(moving, 0.0, atol=0.45)
    resting = dict(zip(suite.task_names, rewards[..., 0].mean(0), strict=True))
    for name in ("energy", "smoothness", "joint limits"):
        assert resting[name] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: locomotion.load_robot("dog"), "robot must be one of half_cheetah"),
        (lambda: locomotion.ant_opposite(5), "even and at least 4"),
        (
            lambda: locomotion.locomotion("ant", np.eye(2), ("one",), name="x"),
            "must be as many",
        ),
        (
            lambda: objective_suite("ant", {"a": Objective(len, 1.0, 1.0)}),
            "'a' must have high > low",
        ),
        (lambda: objective_suite("ant", {}), "at least one"),
        (
            lambda: objective_suite(
                "ant", {"a": Objective(len, 0.0, 1.0)}, weights={"t": (1, 2)}
            ),
            "weights of task 't' must be 1",
        ),
    ],
)
def test_what_makes_no_suite_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
