"""Episodes are those of their tasks, and frames show the states that they hold."""

import jax
import numpy as np
import pytest

from pgx_jax import rendering
from pgx_jax.envs import CollectionSuite, TaskIdSuite, make_suite
from pgx_jax.envs.cartpole import ANGLE_LIMIT, cartpole_planted, cartpole_v1
from pgx_jax.envs.locomotion import changed_bodies
from pgx_jax.rendering.scenes import make_scene

ACCENT = np.array([0x64, 0x57, 0xD0])


def is_accent(pixels, tolerance=10):
    return np.abs(pixels.astype(int) - ACCENT).max(axis=-1) < tolerance


def test_episode_ends_with_the_state_that_ended_it(tiles):
    for tile in tiles:
        (episode,) = tile.episodes
        angles = np.abs(episode.state.obs[:, 2])
        assert episode.terminated
        assert episode.episode_return[-1] == episode.num_steps  # 1 for every step
        assert angles[-1] > ANGLE_LIMIT > angles[:-1].max()


def test_tasks_of_wrapped_and_collected_suites_are_their_own(play):
    family = cartpole_planted()
    (alone,) = play(family, [7])
    collection = CollectionSuite.create([cartpole_v1(), family])
    (collected,) = play(TaskIdSuite.create(collection), [8])
    for leaf, other in zip(
        jax.tree.leaves(alone.env.parameters),
        jax.tree.leaves(collected.env.parameters),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, other)
    assert collected.name == "B3"


def test_frames_move_and_are_counted(tiles):
    frames = list(rendering.draw_frames(tiles, 50.0))
    longest = max(tile.episodes[0].num_steps for tile in tiles)
    assert len(frames) == rendering.count_frames(tiles, 50.0) == longest + 1 + 40
    shape = frames[0].shape
    assert shape[2] == 3 and shape[0] % 2 == shape[1] % 2 == 0
    assert all(x.shape == shape and x.dtype == np.uint8 for x in frames)
    moved = [np.any(a != b) for a, b in zip(frames[:longest], frames[1:], strict=False)]
    assert all(moved)
    np.testing.assert_array_equal(frames[-1], frames[-2])
    half = rendering.count_frames(tiles, 50.0, speed=2.0)
    assert half == (longest + 1) // 2 + 1 + 40


def test_pole_is_where_the_state_says(cartpole_tile):
    """5.6 m across 640 pixels, the hinge 0.51 m above the lower edge."""
    tile = cartpole_tile([[0.8, 0, 0.2, 0], [-1.5, 0, -0.1, 0]])
    right, left, *_ = rendering.draw_frames([tile], 50.0)
    scale = 640 / 5.6
    for frame, position, angle in ((right, 0.8, 0.2), (left, -1.5, -0.1)):
        along = np.linspace(0.2, 0.95, 20)
        x = 320 + scale * (position + along * np.sin(angle))
        y = len(frame) - scale * (0.51 + along * np.cos(angle))
        assert is_accent(frame[y.astype(int), x.astype(int)]).all()
        rows, columns = np.nonzero(is_accent(frame))
        top = columns[rows < rows.min() + 4]
        assert top.mean() == pytest.approx(320 + scale * (position + np.sin(angle)), 4)
        assert len(frame) - rows.min() == pytest.approx(
            scale * (0.51 + np.cos(angle)), abs=8
        )


def test_captions_name_what_differs():
    assert (
        TaskIdSuite.create(cartpole_planted()).describe_task(5)
        == "pole half length 0.4 · forces (10, \N{MINUS SIGN}10)"
    )
    assert cartpole_v1().describe_task(0) == ""
    # Neither the simulator's arrays nor anything else of a body is short enough.
    assert changed_bodies("hopper").describe_task(0) == ""


def test_tasks_are_found_by_name_and_index():
    suite = cartpole_planted()
    assert rendering.find_tasks(suite, "B1, 0") == [5, 0]
    assert rendering.find_tasks(suite, "all") == list(range(10))
    many = rendering.find_tasks(make_suite("cartpole", "target"), "all")
    assert (len(many), many[0], many[-1]) == (16, 0, 49)
    with pytest.raises(ValueError, match="has no task 'C1'; it has A1, A2"):
        rendering.find_tasks(suite, "A1,C1")
    with pytest.raises(ValueError, match="at most 16 tasks"):
        rendering.find_tasks(suite, ",".join(["A1"] * 17))


def test_refusals(play, tiles):
    with pytest.raises(ValueError, match="num_episodes must be at least 1"):
        play(cartpole_v1(), [0], num_episodes=0)
    with pytest.raises(ValueError, match="speed must be positive"):
        next(rendering.draw_frames(tiles, 30.0, speed=0.0))
    with pytest.raises(ValueError, match="at least one task"):
        next(rendering.draw_frames([], 30.0))
    with pytest.raises(ValueError, match="object cannot be drawn"):
        make_scene(object(), (64, 64))
