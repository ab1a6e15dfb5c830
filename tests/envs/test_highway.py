"""Highway against scenes and episodes of highway-env 1.12.1.

`tests/reference/highway.py` makes the fixture.
"""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from pgx_jax.envs.highway import (
    Highway,
    HighwayParameters,
    HighwayState,
    Vehicles,
    highway,
    highway_fast,
)
from pgx_jax.envs.highway.env import (
    FASTER,
    IDLE,
    NUM_ACTIONS,
    SLOWER,
    choose_targets,
    observe,
    place_vehicles,
)
from pgx_jax.envs.highway.traffic import drive

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "highway.npz"
NUM_EPISODES = 400


@pytest.fixture(scope="module")
def fixture():
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


def vehicles_of(table) -> Vehicles:
    """The vehicles of a table of the fixture; [scenes, slots, 13]."""
    names = [name for name in Vehicles._fields if name not in ("cos", "sin")]
    columns = dict(zip(names, np.moveaxis(table, -1, 0), strict=True))
    columns["cos"], columns["sin"] = np.cos(table[..., 2]), np.sin(table[..., 2])
    kinds = dict.fromkeys(("crashed", "struck", "present"), bool)
    kinds["target_lane"] = jnp.int32
    return Vehicles(
        **{k: jnp.asarray(v, kinds.get(k, jnp.float32)) for k, v in columns.items()}
    )


@pytest.fixture(scope="module")
def scenes(fixture):
    """Every scene's parameters, vehicles before it and action, for `jax.vmap`."""
    parameters = HighwayParameters(
        **{
            name: jnp.asarray(
                fixture[f"scene_{name}"],
                jnp.int32 if name.startswith("num_") else jnp.float32,
            )
            for name in HighwayParameters._fields
        }
    )
    action = jnp.asarray(fixture["scene_action"], jnp.int32)
    return parameters, vehicles_of(fixture["scene_before"]), action


@pytest.fixture(scope="module")
def after(scenes):
    """The states that the environment steps to from each scene."""

    def step(parameters, vehicles, action):
        env = Highway(parameters)
        state = env.reset(jax.random.key(0))
        time = jnp.zeros((), jnp.int32)
        state = state.replace(pipeline_state=HighwayState(vehicles, time))
        return env.step(state, action)

    return jax.jit(jax.vmap(step))(*scenes)


def test_drivers_decide_as_in_highway_env(fixture, scenes):
    def decide(parameters, vehicles, action):
        vehicles = choose_targets(vehicles, action, parameters.num_lanes)
        return drive(
            vehicles,
            parameters.num_lanes,
            parameters.speed_limit,
            parameters.politeness,
        )

    vehicles, acceleration, steering = jax.jit(jax.vmap(decide))(*scenes)
    before, expected = scenes[1], fixture["scene_decisions"]
    drives = np.array(before.present & ~before.crashed)
    changed = expected[:, 1:, 2] != np.asarray(before.target_lane)[:, 1:]
    assert drives.sum() > 3000
    assert changed.sum() >= 15  # changes of lane by MOBIL, begun or given up
    np.testing.assert_array_equal(
        np.asarray(vehicles.target_lane)[drives], expected[drives, 2]
    )
    np.testing.assert_allclose(
        np.arctan(steering)[drives], expected[drives, 1], atol=1e-3
    )
    drives[:, 0] = False  # the ego's speed is not the driver model's
    np.testing.assert_allclose(
        np.asarray(acceleration)[drives], expected[drives, 0], atol=1e-3
    )


def test_one_second_of_motion_equals_highway_env(fixture, scenes, after):
    vehicles = after.pipeline_state.vehicles
    expected = vehicles_of(fixture["scene_after"])
    present = np.asarray(expected.present)
    crashed = np.asarray(expected.crashed[:, 0])
    assert present.sum() > 3000 and crashed.sum() > 50
    changed = vehicles.target_lane != scenes[1].target_lane
    assert (np.asarray(changed)[:, 1:] & present[:, 1:]).sum() > 50
    assert set(np.unique(fixture["scene_action"])) == set(range(NUM_ACTIONS))
    np.testing.assert_array_equal(
        np.asarray(vehicles.crashed)[present], np.asarray(expected.crashed)[present]
    )
    # A crash pushes vehicles apart until they just touch, where the last bit tells
    # whether they touch again and in which lanes they are: what follows it, within the
    # terminal step, is compared for the ego alone.
    compared = present & ~crashed[:, None]
    compared[:, 0] = True
    for name in ("x", "y", "heading", "speed", "target_lane", "target_speed"):
        np.testing.assert_allclose(
            np.asarray(getattr(vehicles, name))[compared],
            np.asarray(getattr(expected, name))[compared],
            atol=1e-3,
            err_msg=name,
        )
    alive = ~crashed
    np.testing.assert_array_equal(
        np.asarray(vehicles.struck)[alive], np.asarray(expected.struck)[alive]
    )
    struck = alive & np.asarray(expected.struck[:, 0])
    assert struck.any()
    # Behind one another in one lane, the last bit tells to which side they are pushed.
    for name in ("impact_x", "impact_y"):
        np.testing.assert_allclose(
            np.abs(getattr(vehicles, name))[struck, 0],
            np.abs(getattr(expected, name))[struck, 0],
            atol=1e-3,
            err_msg=name,
        )


def test_observation_reward_and_termination_equal_highway_env(fixture, after):
    np.testing.assert_allclose(after.obs, fixture["scene_observation"], atol=1e-3)
    np.testing.assert_allclose(after.reward, fixture["scene_reward"], atol=1e-3)
    np.testing.assert_array_equal(after.done, fixture["scene_terminated"])
    np.testing.assert_array_equal(after.metrics["crashed"], fixture["scene_terminated"])


def careful(step, observation, key):
    """Brakes behind a vehicle within 30 m that is in the same lane, else goes on."""
    rows = observation.reshape(-1, 5, 5)[:, 1:]
    close = (rows[..., 0] > 0) & (rows[..., 1] > 0) & (rows[..., 1] < 0.15)
    close &= jnp.abs(rows[..., 2]) < 0.15
    return jnp.where(close.any(axis=1), SLOWER, FASTER)


def constant(action):
    return lambda step, observation, key: jnp.full(observation.shape[0], action)


POLICIES = {
    "idle": constant(IDLE),
    "slower": constant(SLOWER),
    "faster": lambda step, observation, key: jnp.full(
        observation.shape[0], jnp.where(step == 0, FASTER, IDLE)
    ),
    "random": lambda step, observation, key: jax.random.randint(
        key, observation.shape[:1], 0, NUM_ACTIONS
    ),
    "careful": careful,
}


def test_whole_episodes_equal_those_of_highway_env(fixture):
    parameters = jax.tree.map(lambda x: x[0], highway_fast().parameters)
    env = Highway(parameters)
    num_episodes = len(fixture["episodes_start"])

    def begin(vehicles):
        state = HighwayState(vehicles, jnp.zeros((), jnp.int32))
        return env.reset(jax.random.key(0)).replace(
            pipeline_state=state, obs=observe(vehicles, parameters.num_lanes)
        )

    @jax.jit
    def run(vehicles):
        def step(carry, number):
            state, over, total = carry
            action = careful(number, state.obs, None)
            state = jax.vmap(env.step)(state, action.astype(jnp.int32))
            total = total + jnp.where(over, 0.0, state.reward)
            return (state, over | (state.done > 0), total), None

        start = jax.vmap(begin)(vehicles)
        carry = (start, jnp.zeros(num_episodes, bool), jnp.zeros(num_episodes))
        return jax.lax.scan(step, carry, jnp.arange(30))[0][1:]

    crashed, returns = run(vehicles_of(fixture["episodes_start"]))
    expected, _, expected_crashed = fixture["episodes_careful"].T
    # Traffic is chaotic: one rounding in a thousand decisions may change an episode.
    same = np.abs(returns - expected) < 1e-3
    assert same.mean() > 0.98
    np.testing.assert_array_equal(
        np.asarray(crashed)[same], expected_crashed[same].astype(bool)
    )


@pytest.fixture(scope="module")
def episodes():
    """Return and crash of the first episode of each environment, by policy."""
    suite = highway_fast()

    @jax.jit
    def run(key):
        state = suite.reset(key, NUM_EPISODES * len(POLICIES))

        def step(carry, inputs):
            state, over = carry
            number, key = inputs
            by_policy = jnp.split(state.observation[0], len(POLICIES))
            actions = [
                policy(number, observation, key)
                for policy, observation in zip(
                    POLICIES.values(), by_policy, strict=True
                )
            ]
            action = jnp.concatenate(actions).astype(jnp.int32)
            state = suite.step(state, action[None])
            ended = state.done & ~over
            out = jnp.where(ended, state.episode_return, 0.0), ended & state.termination
            return (state, over | ended), (*out, state.truncation & ended)

        inputs = (jnp.arange(30), jax.random.split(key, 30))
        over = jnp.zeros((1, NUM_EPISODES * len(POLICIES)), bool)
        (state, over), (returns, crashes, truncated) = jax.lax.scan(
            step, (state, over), inputs
        )
        return state, over, returns.sum(0)[0], crashes.any(0)[0], truncated.any(0)[0]

    state, over, *results = run(jax.random.key(0))
    assert np.all(over)
    split = [np.split(np.asarray(x), len(POLICIES)) for x in results]
    return state, {name: [x[i] for x in split] for i, name in enumerate(POLICIES)}


@pytest.mark.parametrize("policy", POLICIES)
def test_returns_and_crashes_agree_with_highway_env(fixture, episodes, policy):
    returns, crashes, _ = episodes[1][policy]
    theirs = fixture[f"episodes_{policy}"]
    for ours, expected in ((returns, theirs[:, 0]), (crashes, theirs[:, 2])):
        # Where no episode or every one of a few hundred ends in a crash, the standard
        # error is taken as that of one that does not.
        errors = [
            max(x.std(), 1 / np.sqrt(len(x))) / np.sqrt(len(x))
            for x in (ours, expected)
        ]
        assert abs(ours.mean() - expected.mean()) < 4 * np.hypot(*errors)


def test_success_is_thirty_steps_without_a_crash(episodes):
    state, results = episodes
    for returns, crashes, truncated in results.values():
        np.testing.assert_array_equal(crashes, ~truncated)
        assert np.all(returns[truncated] <= 30.0)
    # Policies that end together: the last step of those that were not reset before it.
    whole = np.asarray(state.truncation[0] & (state.episode_length[0] == 30))
    np.testing.assert_array_equal(np.asarray(state.episode_success[0])[whole], 1.0)
    assert whole.sum() == sum(truncated.sum() for _, _, truncated in results.values())
    ended = np.asarray(state.termination[0])
    np.testing.assert_array_equal(np.asarray(state.episode_success[0])[ended], 0.0)


def test_traffic_begins_as_in_highway_env():
    parameters = jax.tree.map(lambda x: x[0], highway_fast().parameters)
    keys = jax.random.split(jax.random.key(0), 2048)
    vehicles = jax.vmap(lambda key: place_vehicles(key, parameters, 20))(keys)
    spacing = np.exp(-5 / 40 * 3) * (12 + np.asarray(vehicles.speed))
    gaps = np.diff(vehicles.x, axis=1) / spacing[:, 1:]
    first = np.asarray(vehicles.x[:, 0]) / (1.5 * spacing[:, 0]) - 3
    assert np.all((gaps > 0.899) & (gaps < 1.101))
    assert np.all((first > 0.899) & (first < 1.101))
    np.testing.assert_array_equal(vehicles.speed[:, 0], 25.0)
    others = np.asarray(vehicles.speed[:, 1:])
    # A uniform draw between 21 and 24 m/s.
    assert abs(others.mean() - 22.5) < 0.02 and abs(others.std() - 3 / 12**0.5) < 0.02
    np.testing.assert_allclose(
        np.bincount(np.asarray(vehicles.target_lane).ravel()) / others.size,
        0.35,
        atol=0.01,
    )
    exponents = np.asarray(vehicles.exponent[:, 1:])
    assert exponents.min() >= 3.5 and exponents.max() <= 4.5
    assert len(np.unique(vehicles.timer)) > 1000


def test_reset_and_step_have_the_same_types():
    suite = highway()
    state = jax.eval_shape(lambda: suite.reset(jax.random.key(0), 2))
    action = jax.ShapeDtypeStruct((10, 2), jnp.int32)
    after = jax.eval_shape(suite.step, state, action)
    assert state.observation.shape == (10, 2, 25)

    def described(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)

    assert described(state) == described(after)
    assert not any(x.weak_type for x in jax.tree.leaves(state))


def test_source_and_target_tasks_are_fixed_and_apart():
    source, target = highway(), highway("target")
    assert (source.num_tasks, target.num_tasks) == (10, 50)
    first = np.stack([np.asarray(x, np.float64) for x in source.parameters], axis=1)
    again = np.stack([np.asarray(x, np.float64) for x in highway().parameters], axis=1)
    np.testing.assert_array_equal(first, again)
    others = np.asarray(target.parameters.speed_limit)
    assert not np.isin(source.parameters.speed_limit, others).any()
    for parameters in (source.parameters, target.parameters):
        assert set(np.asarray(parameters.num_lanes)) == {2, 3, 4, 5}
        density = np.asarray(parameters.density)
        assert density.min() >= 0.5 and density.max() <= 1.25
        np.testing.assert_array_equal(
            parameters.num_vehicles, np.round(20 * density).astype(int)
        )
    assert source.make_env is target.make_env


def test_a_slot_without_a_vehicle_changes_nothing(scenes):
    parameters, vehicles, action = jax.tree.map(lambda x: x[:16], scenes)

    def widen(leaf):
        # What an empty slot holds would collide with the ego, if it were there.
        return jnp.concatenate([leaf, leaf[:, :1]], axis=1)

    wide = jax.tree.map(widen, vehicles)
    wide = wide._replace(present=wide.present.at[:, -1].set(False))

    def step(parameters, vehicles, action):
        env = Highway(parameters)
        state = env.reset(jax.random.key(0))
        time = jnp.zeros((), jnp.int32)
        state = state.replace(pipeline_state=HighwayState(vehicles, time))
        return env.step(state, action).obs

    step = jax.jit(jax.vmap(step))
    np.testing.assert_allclose(
        step(parameters, vehicles, action), step(parameters, wide, action), atol=1e-6
    )


def test_drawing_shows_every_vehicle_in_view():
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    parameters = jax.tree.map(lambda x: x[0], highway_fast().parameters)
    env = Highway(parameters)
    state = env.reset(jax.random.key(0))
    axes = Figure(figsize=(8, 2)).subplots()
    env.draw(axes, state)
    # A road, and a body and a windscreen for each of 21 vehicles.
    assert len(axes.patches) == 1 + 2 * 21
    assert axes.get_aspect() == 1.0
    ego = float(state.pipeline_state.vehicles.x[0])
    assert axes.get_xlim()[0] < ego < axes.get_xlim()[1]
