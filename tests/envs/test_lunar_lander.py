"""LunarLander against Gymnasium's LunarLander-v3.

The fixture is written by tests/reference/lunar_lander.py, which needs Box2D.
"""

import ast
import functools
import importlib.util
import inspect
import pathlib
import types

import gymnasium
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from pgx_jax.envs.lunar_lander import (
    LanderMotion,
    LunarLander,
    LunarLanderParameters,
    body,
    contacts,
    lunar_lander,
    lunar_lander_v3,
    physics,
)
from pgx_jax.envs.lunar_lander import env as lander

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "lunar_lander.npz"
NUM_EPISODES = 100
EPISODES_OF_POLICY = 64
NUM_REFERENCE_EPISODES = 400


@pytest.fixture(scope="module")
def gym():
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


def v3_parameters(**changes) -> LunarLanderParameters:
    parameters = jax.tree.map(lambda x: x[0], lunar_lander_v3().parameters)
    return parameters._replace(**{k: jnp.float32(v) for k, v in changes.items()})


def motion_of(states) -> LanderMotion:
    """Our coordinates of Gymnasium's [..., 10], which give the hull's origin."""
    angle = states[..., 2]
    up = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    center = states[..., :2] + body.HULL_CENTER[1] * up
    legs = states[..., 6:8] + body.LEG_REFERENCE * body.LEG_SIDES
    position = np.concatenate([center, states[..., 2:3], legs], axis=-1)
    velocity = states[..., [3, 4, 5, 8, 9]]
    return LanderMotion(jnp.float32(position), jnp.float32(velocity))


def test_masses_equal_box2d(gym):
    hull = body.HULL_MASS, body.HULL_CENTER[1], body.HULL_INERTIA
    leg = body.LEG_MASS, 0.0, body.LEG_INERTIA
    np.testing.assert_allclose([hull, leg], gym["masses"], rtol=1e-4, atol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def fly(continuous, parameters, start, phase, actions):
    """Observations [flight, time, 8] and motions of one step after another."""

    def flight(parameters, start, phase, actions):
        env = LunarLander(parameters, continuous, dispersion=False)
        state = env.reset(jax.random.key(0))
        state = state.replace(
            pipeline_state=start,
            obs=lander.observe(start, jnp.zeros(2, bool)),
            info=state.info | {"wind_phase": phase},
        )

        def step(state, action):
            state = env.step(state, action)
            return state, (state.obs, state.pipeline_state)

        return jax.lax.scan(step, state, actions)[1]

    return jax.vmap(flight)(parameters, start, phase, actions)


@pytest.mark.parametrize("continuous", [False, True])
def test_free_flight_equals_gymnasium(gym, continuous):
    rows = np.flatnonzero(gym["flight_continuous"] == continuous)
    assert len(rows) >= 3
    wind = gym["flight_wind"][rows]
    parameters = jax.vmap(
        lambda gravity, gust, turbulence: v3_parameters()._replace(
            gravity=gravity, gust=gust, turbulence=turbulence
        )
    )(*jnp.float32([gym["flight_gravity"][rows], 15.0 * wind, 1.5 * wind]))
    actions = jnp.asarray(gym["flight_actions"][rows])
    observations, motions = fly(
        continuous,
        parameters,
        motion_of(gym["flight_start"][rows]),
        jnp.asarray(gym["flight_phase"][rows], jnp.int32),
        actions if continuous else actions[..., 0].astype(jnp.int32),
    )
    expected = motion_of(gym["flight_states"][rows])
    start = motion_of(gym["flight_start"][rows])
    # Of the way and the turn made, and of the speeds reached, by the hull.
    for ours, theirs, size in (
        (
            motions.position,
            expected.position,
            expected.position - start.position[:, None],
        ),
        (motions.velocity, expected.velocity, expected.velocity),
    ):
        error = np.abs(ours - theirs)[:, -1, :3]
        np.testing.assert_array_less(error, 0.02 * np.abs(size)[:, -1, :3] + 1e-3)
    # The scaling of observations is checked on Gymnasium's own states.
    ours = jax.vmap(jax.vmap(lambda m: lander.observe(m, jnp.zeros(2, bool))))(expected)
    np.testing.assert_allclose(ours, gym["flight_observations"][rows], atol=2e-6)


def test_ground_and_start_equal_gymnasium(gym):
    heights, push, ground, states = np.split(gym["resets"], [12, 14, 25], axis=1)
    np.testing.assert_allclose(
        jax.vmap(lander.smooth_ground)(heights), ground, rtol=1e-6
    )
    ours = jax.vmap(lander.start, (None, 0))(v3_parameters(), push)
    expected = motion_of(states)
    np.testing.assert_allclose(ours.velocity, expected.velocity, atol=1e-4)
    position = ours.position[:, :3], expected.position[:, :3]
    np.testing.assert_allclose(*position, atol=1e-5)
    # The legs swing in from here, so that their start matters little.
    np.testing.assert_allclose(
        ours.position[:, 3:], expected.position[:, 3:], atol=0.005
    )


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_reward_equals_gymnasium(gym, kind):
    before, action, after, reward, ended = np.split(
        gym[f"{kind}_steps"], [8, 10, 18, 19], axis=1
    )
    env = LunarLander(v3_parameters(), continuous=kind == "continuous")
    throttle = jax.vmap(env.throttle)(
        action if env.continuous else action[:, 0].astype(int)
    )
    gain = lander.shaping(after) - lander.shaping(before) - lander.fuel_cost(throttle)
    going = ended[:, 0] == 0
    assert going.sum() > 300
    np.testing.assert_allclose(gain[going], reward[going, 0], atol=1e-4)
    assert set(reward[~going, 0]) <= {-100.0, 100.0}


@functools.cache
def gymnasium_heuristic():
    """Gymnasium's controller, taken from its source: its module needs Box2D."""
    path = pathlib.Path(inspect.getfile(gymnasium)).parent / "envs/box2d"
    tree = ast.parse((path / "lunar_lander.py").read_text())
    tree.body = [x for x in tree.body if getattr(x, "name", None) == "heuristic"]
    scope = {"np": np}
    exec(compile(tree, str(path), "exec"), scope)
    return scope["heuristic"]


@functools.cache
def bind_heuristic(continuous):
    env = types.SimpleNamespace(continuous=continuous)
    env.unwrapped = env
    return functools.partial(gymnasium_heuristic(), env)


def heuristic_episodes():
    """The first episode of 100 environments: return, length and landing of each."""
    heuristic = bind_heuristic(continuous=True)
    suite = lunar_lander_v3(continuous=True)
    step = jax.jit(suite.step)
    state = jax.jit(suite.reset, static_argnums=1)(jax.random.key(0), NUM_EPISODES)
    results = np.full((NUM_EPISODES, 3), np.nan)
    for _ in range(suite.episode_length):
        actions = np.array(
            [heuristic(s) for s in np.asarray(state.observation[0])], np.float32
        )
        state = step(state, actions[None])
        ended = np.asarray(state.done[0]) & np.isnan(results[:, 0])
        episode = state.episode_return, state.episode_length, state.episode_success
        results[ended] = np.stack([x[0] for x in episode], axis=1)[ended]
        if not np.isnan(results).any():
            break
    return results


@pytest.mark.optimized
def test_gymnasiums_heuristic_lands_by_continuous_actions(gym):
    """It earns 280 in Gymnasium and lands 99 times in 100."""
    returns, lengths, landed = heuristic_episodes().T
    assert gym["continuous_return"] > 275
    assert returns.mean() > 260
    assert landed.mean() > gym["continuous_landed"] - 0.05
    # A landing earns 100 at its end, and a lander rests for 25 steps before that.
    assert lengths[landed == 1].min() > 25
    assert returns[landed == 1].min() > 100


@functools.cache
def reference_policies():
    """The policies, which the script that ran them in Gymnasium shares."""
    path = pathlib.Path(__file__).parents[1] / "reference/lunar_lander_policies.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    policies = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(policies)
    return policies


@functools.cache
def policy_episodes():
    """Of our episodes what the script records of Gymnasium's; [policy, episode, 4]."""
    policies, heuristic = reference_policies(), bind_heuristic(continuous=False)
    suite, rng = lunar_lander_v3(), np.random.default_rng(0)
    names = np.repeat(policies.NAMES, EPISODES_OF_POLICY)

    @jax.jit
    def step(state, actions):
        state = suite.step(state, actions[None])
        landed = state.done & (state.reward == 100)
        legs = state.next_observation[..., 6:].sum(-1)
        figures = [state.reward, landed, legs == 2, legs == 1]
        figures = jnp.stack([x.astype(jnp.float32) for x in figures], -1)
        return state, figures[0], state.done[0]

    state = jax.jit(suite.reset, static_argnums=1)(jax.random.key(0), len(names))
    figures, going = np.zeros((len(names), 4)), np.ones(len(names), bool)
    for _ in range(policies.MAX_STEPS):
        actions = np.zeros(len(names), np.int32)
        observations = np.asarray(state.observation[0])
        for i in np.flatnonzero(going):
            seen = observations[i]
            actions[i] = policies.choose(names[i], heuristic(seen), seen, rng)
        state, gained, done = step(state, actions)
        figures += np.where(going[:, None], gained, 0.0)
        going &= ~np.asarray(done)
        if not going.any():
            break
    return figures.reshape(len(policies.NAMES), EPISODES_OF_POLICY, 4)


@pytest.mark.reliability
@pytest.mark.optimized
@pytest.mark.parametrize("name", reference_policies().NAMES)
def test_policies_fare_as_in_gymnasium(gym, name):
    """Within three standard errors of the difference of the means, by kind of figure.

    The steps with legs on the ground have five to spare, since few episodes, in which a
    lander stands for long, make most of their mean.
    """
    row = reference_policies().NAMES.index(name)
    mean, deviation = np.split(gym["policies"][row], 2)
    ours = policy_episodes()[row]
    error = deviation * np.sqrt(1 / EPISODES_OF_POLICY + 1 / NUM_REFERENCE_EPISODES)
    margin = 3 * error + np.array([0.0, 0.02, 5.0, 5.0])
    np.testing.assert_array_less(np.abs(ours.mean(axis=0) - mean), margin)


def test_a_standing_lander_slides_as_gymnasiums_does(gym):
    expected = motion_of(gym["push"][:, :10])
    env = LunarLander(v3_parameters(), dispersion=False)
    start = jax.tree.map(lambda x: x[0], expected)
    ground = jnp.asarray(gym["resets"][3, 14:25])  # of the same seed
    state = fresh_state()
    state = state.replace(pipeline_state=start, obs=lander.observe(start, jnp.ones(2)))
    touched = contacts.leg_contacts(start.position, ground)
    info = state.info | {"ground": ground, "contacts": touched}
    state = state.replace(info=info)
    actions = jnp.array([3] * 60 + [0] * 20)

    def step(state, action):
        state = env.step(state, action)
        return state, (state.pipeline_state, state.obs[6:] > 0)

    motions, touching = jax.jit(lambda s: jax.lax.scan(step, s, actions)[1])(state)
    theirs = jax.tree.map(lambda x: x[1:], expected)
    # On the level, where the engine pushes with 12 N and friction holds with a seventh
    # of the weight, then up a slope, where it stops.
    level = slice(0, 52)
    for ours, other, tolerance in (
        (motions.velocity[level, :3], theirs.velocity[level, :3], 2e-3),
        (motions.position[level, :3], theirs.position[level, :3], 1e-3),
        (motions.velocity[:, :3], theirs.velocity[:, :3], 0.05),
        (motions.position[:, :3], theirs.position[:, :3], 5e-3),
    ):
        np.testing.assert_allclose(ours, other, atol=tolerance)
    assert motions.velocity[51, 0] > 1.0
    # Where a leg slides from one stretch of the ground to the next its mark is lost.
    steps = touching.sum(axis=0)
    np.testing.assert_allclose(steps, gym["push"][1:, 10:].sum(axis=0), atol=2)
    assert steps.max() < 70


def test_friction_stays_within_its_cone_at_landings():
    """Feet that come down at all speeds lose no more of that along the ground."""
    low = jnp.array([9.0, 4.0, -0.1, 0.34, -0.45, -1.0, -1.0, -0.5, 0.0, 0.0])
    high = jnp.array([11.0, 4.1, 0.1, 0.45, -0.34, 1.0, 0.2, 0.5, 0.0, 0.0])
    drawn = jax.random.uniform(jax.random.key(0), (256, 10), minval=low, maxval=high)
    motion = LanderMotion(drawn[:, :5], drawn[:, 5:])
    ground, force = jnp.full((11,), 3.3), jnp.zeros(3)
    land = jax.jit(jax.vmap(physics.simulate, (None, 0, None, None)))
    after = land(v3_parameters(), motion, ground, force)
    gained = after.velocity - motion.velocity
    impulse = np.abs(gained[:, 1] + 10 * 0.02)  # per mass, less that of gravity
    assert np.mean(impulse > 0.1) > 0.1
    # The legs' own momentum, a hundredth of the hull's, is left out.
    slack = 0.03
    np.testing.assert_array_less(np.abs(gained[:, 0]), 0.02**0.5 * impulse + slack)


def test_contact_marks_follow_begin_and_end():
    none, first = jnp.zeros((2, 10), bool), jnp.zeros((2, 10), bool).at[0, 3].set(True)
    both = first.at[0, 4].set(True)
    second = both & ~first
    off, on = jnp.zeros(2, bool), jnp.array([True, False])
    for before, after, marks, expected in (
        (none, first, off, on),
        (first, both, on, on),
        (both, second, on, off),
        (second, second, off, off),
        (second, none, off, off),
        (none, second, off, on),
    ):
        reported = contacts.report_contacts(before, after, marks)
        np.testing.assert_array_equal(reported, expected)


@functools.cache
def fresh_state():
    return jax.jit(LunarLander(v3_parameters()).reset)(jax.random.key(0))


def rest_at(x=10.0, height=3.95, angle=0.0, velocity=(0.0, 0.0), ground=3.3):
    """A lander with legs out, above level ground, as a state to step from."""
    env, state = LunarLander(v3_parameters()), fresh_state()
    rest = [angle, 0.35, -0.35]
    center = np.array([x, height]) + body.rotate(body.HULL_CENTER, angle)
    motion = LanderMotion(
        jnp.array([*center, *rest]), jnp.array([*velocity, 0.0, 0.0, 0.0])
    )
    info = state.info | {"ground": jnp.full((11,), ground)}
    obs = lander.observe(motion, jnp.zeros(2, bool))
    return env, state.replace(pipeline_state=motion, obs=obs, info=info)


def test_rest_ends_an_episode_after_half_a_second():
    env, state = rest_at()
    step = jax.jit(env.step)
    dones, rewards = [], []
    for _ in range(120):
        state = step(state, 0)
        dones.append(float(state.done))
        rewards.append(float(state.reward))
    first = dones.index(1.0)
    assert 25 <= first < 100
    assert rewards[first] == 100.0
    assert state.metrics["success"] == 1.0
    np.testing.assert_array_equal(state.obs[6:], 1.0)
    # It stands as high as the pad's own zero, which is Gymnasium's to a pixel or so.
    assert abs(float(state.obs[1])) < 0.01
    assert abs(float(state.obs[4])) < 0.01


@pytest.mark.parametrize(
    "case",
    [
        {"height": 3.3 + 10 / 30 + 0.01},  # the hull's bottom within Box2D's skin
        {"x": 19.99, "velocity": (2.0, 0.0), "height": 9.0},
        {"angle": np.pi, "height": 3.3 + 17 / 30 + 0.01},  # on its head
    ],
)
def test_crashes_and_flying_off_end_an_episode(case):
    env, state = rest_at(**case)
    state = jax.jit(env.step)(state, 0)
    assert (float(state.done), float(state.reward)) == (1.0, -100.0)
    assert state.metrics["success"] == 0.0


def test_a_peak_between_the_legs_touches_the_hull():
    position = rest_at()[1].pipeline_state.position
    ground = jnp.zeros((11,)).at[5].set(3.95 - 10 / 30 - 0.03)
    assert not contacts.hull_touches(position, ground)
    assert contacts.hull_touches(position, ground.at[5].add(0.02))


@functools.cache
def random_run():
    """1,200 steps of random actions in two environments of every source task."""
    suite = lunar_lander()

    def step(state, key):
        actions = jax.random.randint(key, (suite.num_tasks, 2), 0, 4)
        state = suite.step(state, actions)
        return state, state._replace(env_state=state.env_state.info["ground"], key=None)

    start = jax.jit(suite.reset, static_argnums=1)(jax.random.key(0), 2)
    keys = jax.random.split(jax.random.key(1), 1200)
    return start, *jax.jit(lambda s, k: jax.lax.scan(step, s, k))(start, keys)


def test_random_episodes_stay_finite_and_reset_afresh():
    start, end, steps = random_run()
    for leaf in jax.tree.leaves((end.env_state, steps)):
        assert not jnp.issubdtype(leaf.dtype, jnp.floating) or np.isfinite(leaf).all()
    types_of = [
        jax.tree.map(lambda x: (x.shape, x.dtype), state) for state in (start, end)
    ]
    assert types_of[0] == types_of[1]
    ground = steps.env_state[:, 0, 0]
    episodes = int(steps.done[:-1, 0, 0].sum()) + 1
    assert episodes > 5
    assert len(np.unique(ground[:, 0])) == episodes
    # 0.99 of a quarter of the height of Gymnasium's window, in the middle of each.
    np.testing.assert_allclose(ground[:, 4:7], 3.3, rtol=1e-6)
    assert not np.any(steps.termination & steps.truncation)


def test_the_time_limit_is_that_of_gymnasium():
    assert (
        lunar_lander().episode_length
        == gymnasium.spec("LunarLander-v3").max_episode_steps
    )


def test_v3_has_the_parameters_of_gymnasium():
    source = pathlib.Path(inspect.getfile(gymnasium)).parent / "envs/box2d"
    tree = ast.parse((source / "lunar_lander.py").read_text())
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    values = {k: ast.literal_eval(v) for k, v in constants.items()}
    second = values["FPS"] / values["SCALE"]
    ours = v3_parameters()
    main = values["MAIN_ENGINE_POWER"] * values["MAIN_ENGINE_Y_LOCATION"] * second
    side = values["SIDE_ENGINE_POWER"] * values["SIDE_ENGINE_AWAY"] * second
    np.testing.assert_allclose([ours.main_thrust, ours.side_thrust], [main, side], 1e-6)
    hull = np.array(values["LANDER_POLY"]) / values["SCALE"]
    np.testing.assert_allclose(body.HULL, hull)
    assert (ours.gravity, ours.steady_wind, ours.gust) == (10.0, 0.0, 0.0)


def test_dispersion_is_noise_about_the_same_thrust():
    position = jnp.zeros(5)
    noise = jax.random.uniform(
        jax.random.key(0), (20000, 2), minval=-body.PIXEL, maxval=body.PIXEL
    )
    force = jax.vmap(physics.engine_force, (None, None, None, 0))(
        v3_parameters(), position, jnp.array([1.0, 0.0]), noise
    )
    # Gymnasium's impulse is 13 times (4 + 2 u) / 30, u uniform in [-1, 1].
    thrust = 13 * 4 / 30 * 50
    np.testing.assert_allclose(force[:, 1].mean(), thrust, rtol=0.01)
    np.testing.assert_allclose(force[:, 1].std(), thrust / 2 / 3**0.5, rtol=0.02)


@pytest.mark.parametrize("split", ["source", "target"])
def test_tasks_are_fixed_and_can_be_solved(split):
    p = jax.tree.map(np.asarray, lunar_lander(split).parameters)
    again = lunar_lander(split).parameters
    assert len(p.gravity) == {"source": 10, "target": 50}[split]
    for field in LunarLanderParameters._fields:
        np.testing.assert_array_equal(getattr(p, field), getattr(again, field))
    weight = p.hull_mass / body.HULL_MASS * body.TOTAL_MASS * p.gravity
    assert (p.main_thrust / weight).min() > 1.4
    assert (np.abs(p.steady_wind) + p.gust).max() < 0.2 * weight.max()
    assert np.sum(p.steady_wind > 0) == len(weight) // 2
    other = lunar_lander("target" if split == "source" else "source").parameters
    assert not np.isin(p.hull_mass, other.hull_mass).any()


def test_heavier_lander_of_as_much_more_thrust_flies_alike():
    double = v3_parameters(
        hull_mass=2 * body.HULL_MASS, main_thrust=2 * 13 * 4 / 30 * 50
    )
    # The legs swing in as fast as their motors turn, and so push at nothing.
    motion = LanderMotion(
        jnp.array([10.0, 9.0, 0.2, 0.6, -0.6]), jnp.array([0.0, 0.0, 0.0, -0.3, 0.3])
    )
    ground = jnp.full((11,), 3.3)
    throttle, calm = jnp.array([1.0, 0.0]), jnp.zeros(2)

    @jax.jit
    def fly_one(parameters):
        force = physics.engine_force(parameters, motion.position, throttle, calm)
        return physics.simulate(parameters, motion, ground, force)

    single, doubled = fly_one(v3_parameters()), fly_one(double)
    np.testing.assert_allclose(single.velocity, doubled.velocity, atol=1e-5)
    # Thrust over the mass of hull and legs, less gravity, for 0.02 s, along the hull.
    expected = 0.02 * (13 * 4 / 30 * 50 / body.TOTAL_MASS * np.cos(0.2) - 10)
    np.testing.assert_allclose(single.velocity[1], expected, atol=2e-3)


def test_a_state_can_be_drawn():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    env, state = rest_at()
    state = state.replace(info=state.info | {"throttle": jnp.array([1.0, -1.0])})
    figure, axes = pyplot.subplots()
    env.draw(axes, state)
    assert axes.get_xlim() == (0.0, 20.0)
    # Two flags, two legs, a hull and two flames.
    assert len(axes.patches) == 7
    pyplot.close(figure)
