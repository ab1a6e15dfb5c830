"""Observations, rewards and starts against Meta-World 3.1.1.

`tests/reference/metaworld_rewards.py` makes the fixture.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pgx_jax.envs.metaworld.observations import (
    OBSERVATION_SIZE,
    Readings,
    Start,
    observe,
    quaternion,
    reset_frame,
    stack,
    start,
)
from pgx_jax.envs.metaworld.rewards import BLOCK_BOXES, reward
from pgx_jax.envs.metaworld.tasks import (
    ALL_TASKS,
    NUM_CANDIDATES,
    SPECS,
    draw_placement,
    stack_specs,
)

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "metaworld_rewards.npz"
NUM_TASKS = len(ALL_TASKS)


@pytest.fixture(scope="module")
def fixture():
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


def readings_of(fixture, prefix) -> Readings:
    return Readings(**{k: jnp.asarray(fixture[prefix + k]) for k in Readings._fields})


@pytest.fixture(scope="module")
def starts(fixture):
    """Start and first frame of every episode."""

    def begin(*args):
        return start(*args), reset_frame(args[0], *args[2:])

    return jax.jit(jax.vmap(begin))(
        jnp.asarray(fixture["episode_task"], jnp.int32),
        jnp.asarray(fixture["episode_placement"]),
        readings_of(fixture, "episode_before_"),
        readings_of(fixture, "episode_after_"),
    )


@pytest.fixture(scope="module")
def steps(fixture, starts):
    """Every step's task (NumPy) and arguments of `evaluate`, for `jax.vmap`."""
    episode = fixture["step_episode"]
    task = fixture["episode_task"][episode].astype(np.int32)
    return task, (
        readings_of(fixture, "step_"),
        jnp.asarray(fixture["step_observation"][:, 18:36]),
        jnp.asarray(fixture["step_action"]),
        jax.tree.map(lambda x: x[episode], starts[0]),
        jax.tree.map(lambda x: x[task], stack_specs(ALL_TASKS)),
    )


def evaluate(task, readings, previous, action, begun, spec):
    """Observation, reward and success of one step."""
    observation = stack(observe(readings), previous, begun.target, spec)
    scene = readings, observation, action, begun
    return observation, *reward(task, *scene, ALL_TASKS)


@pytest.fixture(scope="module")
def evaluated(steps):
    return jax.jit(jax.vmap(evaluate))(jnp.asarray(steps[0]), *steps[1])


@pytest.mark.parametrize("task", range(NUM_TASKS), ids=ALL_TASKS)
def test_steps_equal_those_of_meta_world(fixture, steps, evaluated, task):
    own = steps[0] == task
    expected = [fixture[f"step_{k}"][own] for k in ("observation", "reward", "success")]
    # Steps on either side of success are compared, with rewards of a wide range.
    assert 15 <= expected[2].sum() < own.sum() - 15
    assert np.ptp(expected[1]) > 5.5
    assert len(np.unique(expected[1].round(2))) >= 30
    observation, rewards, success = (np.asarray(x)[own] for x in evaluated)
    np.testing.assert_allclose(observation, expected[0], atol=1e-5)
    np.testing.assert_allclose(rewards, expected[1], atol=1e-3)
    np.testing.assert_array_equal(success, expected[2])


def test_an_integer_task_gives_the_same(steps, evaluated):
    @jax.jit
    def run(args):
        results = []
        for task in range(NUM_TASKS):
            own = jax.tree.map(lambda x, task=task: x[steps[0] == task], args)
            step = jax.vmap(lambda *args, task=task: evaluate(task, *args))
            results.append(step(*own))
        return results

    for task, results in enumerate(run(steps[1])):
        for ours, expected in zip(results, evaluated, strict=True):
            np.testing.assert_allclose(ours, expected[steps[0] == task], atol=1e-5)


def test_an_index_that_is_traced_but_not_batched_gives_the_same(steps, evaluated):
    run = jax.jit(evaluate)
    for task in range(NUM_TASKS):
        number = np.flatnonzero(steps[0] == task)[-1]
        step = jax.tree.map(lambda x, number=number: x[number], steps[1])
        results = run(jnp.int32(task), *step)
        for ours, expected in zip(results, evaluated, strict=True):
            np.testing.assert_allclose(ours, expected[number], atol=1e-5)


def test_starts_equal_those_of_meta_world(fixture, starts):
    begun, frame = starts
    first = fixture["episode_observation"]
    np.testing.assert_allclose(frame, first[:, :18], atol=1e-6)
    np.testing.assert_allclose(frame, first[:, 18:36], atol=1e-6)
    np.testing.assert_allclose(begun.target, first[:, 36:], atol=1e-6)
    for name in Start._fields:
        expected = fixture[f"episode_{name}"]
        # Not a number where the environment has nothing of that kind.
        known = np.isfinite(expected)
        assert set(fixture["episode_task"][known[:, 0]]) >= {
            "head_init": {ALL_TASKS.index("peg-insert-side-v3")},
            "handle_init": {
                ALL_TASKS.index(f"window-{x}-v3") for x in ("open", "close")
            },
        }.get(name, set(range(NUM_TASKS)))
        ours = np.asarray(getattr(begun, name))
        np.testing.assert_allclose(ours[known], expected[known], atol=1e-6)


def test_window_close_begins_by_showing_a_closed_window(fixture, starts):
    own = fixture["episode_task"] == ALL_TASKS.index("window-close-v3")
    shown = np.asarray(starts[1])[own, 4:7]
    there = fixture["episode_after_object_pos"][own]
    np.testing.assert_allclose(there - shown, [[0.2, 0, 0]] * own.sum(), atol=1e-6)


def test_specs_equal_meta_worlds(fixture):
    specs = stack_specs(ALL_TASKS)
    np.testing.assert_array_equal(specs.index, np.arange(NUM_TASKS))
    for name in (
        "hand_init",
        "mocap_low",
        "mocap_high",
        "placement_low",
        "placement_high",
    ):
        np.testing.assert_array_equal(
            getattr(specs, name), fixture[f"task_{name}"], err_msg=name
        )
    for name in ("low", "high"):
        np.testing.assert_allclose(
            getattr(specs, f"goal_{name}"),
            fixture[f"task_observation_{name}"][:, 36:],
            atol=1e-7,
        )
    np.testing.assert_allclose(BLOCK_BOXES, fixture["block_boxes"], atol=1e-6)
    some = stack_specs(["window-open-v3", "push-v3"])
    np.testing.assert_array_equal(some.index, [8, 1])


def test_observations_are_clipped_to_meta_worlds_space(fixture):
    values = np.random.default_rng(0).normal(0.0, 2.0, (NUM_TASKS, 39))
    values = values.astype(np.float32)
    low, high = (fixture[f"task_observation_{x}"] for x in ("low", "high"))
    frames = values[:, :18], values[:, 18:36]
    ours = jax.vmap(stack)(*frames, values[:, 36:], stack_specs(ALL_TASKS))
    assert ours.shape == (NUM_TASKS, OBSERVATION_SIZE)
    np.testing.assert_allclose(ours, np.clip(values, low, high), atol=1e-7)


@pytest.fixture(scope="module")
def placements():
    """Of every task; [tasks, 4096, 6]."""
    keys = jax.random.split(jax.random.key(0), (NUM_TASKS, 4096))
    draw = jax.vmap(jax.vmap(draw_placement, (None, 0)))
    return np.asarray(jax.jit(draw)(stack_specs(ALL_TASKS), keys))


def test_placements_are_in_their_ranges_and_apart(fixture, placements):
    low = fixture["task_placement_low"][:, None]
    high = fixture["task_placement_high"][:, None]
    assert np.all((placements >= low) & (placements <= high))
    distance = np.linalg.norm(placements[..., :2] - placements[..., 3:5], axis=-1)
    least = dict.fromkeys(("reach-v3", "push-v3", "pick-place-v3"), 0.15)
    least["peg-insert-side-v3"] = 0.1
    for task, name in enumerate(ALL_TASKS):
        assert np.all(distance[task] >= least.get(name, 0.0))
        np.testing.assert_allclose(SPECS[task].min_distance, least.get(name, 0.0))


def test_placements_are_distributed_as_by_rejection(fixture, placements):
    rng = np.random.default_rng(0)
    for name in ("reach-v3", "peg-insert-side-v3", "door-open-v3"):
        task = ALL_TASKS.index(name)
        low, high = (fixture[f"task_placement_{x}"][task] for x in ("low", "high"))
        drawn = rng.uniform(low, high, (100_000, 6))
        distance = np.linalg.norm(drawn[:, :2] - drawn[:, 3:5], axis=1)
        apart = distance >= SPECS[task].min_distance
        assert (1.0 - apart.mean()) ** NUM_CANDIDATES < 1e-12
        error = drawn[apart].std(axis=0) / np.sqrt(4096) + 1e-7
        ours = placements[task].mean(axis=0, dtype=np.float64)
        assert np.all(np.abs(ours - drawn[apart].mean(axis=0)) < 4 * error)
        assert len(np.unique(placements[task, :, 0])) > 3500


def test_rewards_are_finite_and_bounded_whatever_is_read():
    rng = np.random.default_rng(0)
    num = 4000
    # Of all scales, and 0, so that distances and margins vanish.
    scale = rng.choice([0.0, 1e-3, 0.05, 1.0, 100.0], num)[:, None]

    def normal(size):
        values = scale * rng.normal(size=(num, size))
        return jnp.asarray(values, jnp.float32)

    sizes = dict.fromkeys(Readings._fields, 3) | {"object_quat": 4}
    readings = Readings(**{name: normal(size) for name, size in sizes.items()})
    readings = readings._replace(angle=readings.angle[:, 0])
    begun = Start(*[normal(3) for _ in Start._fields])
    task = np.arange(num) % NUM_TASKS
    spec = jax.tree.map(lambda x: x[task], stack_specs(ALL_TASKS))
    _, rewards, _ = jax.jit(jax.vmap(evaluate))(
        jnp.asarray(task), readings, normal(18), normal(4), begun, spec
    )
    assert np.all(np.isfinite(rewards))
    assert np.all((rewards >= 0.0) & (rewards <= 10.0))


def test_quaternion_equals_scipys():
    rotations = Rotation.random(500, random_state=0)
    half_turns = Rotation.from_rotvec(np.pi * np.eye(3))
    matrices = np.concatenate([rotations.as_matrix(), half_turns.as_matrix()])
    ours = jax.vmap(quaternion)(jnp.asarray(matrices, jnp.float32))
    expected = np.concatenate([rotations.as_quat(), half_turns.as_quat()])
    np.testing.assert_allclose(
        ours, Rotation.from_matrix(matrices).as_quat(), atol=1e-5
    )
    assert np.all(np.abs(np.sum(ours * expected, axis=1)) > 1 - 1e-5)
