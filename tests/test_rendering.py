"""Videos: what is played, where it is drawn, and that files can be read back."""

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from PIL import Image

from pgx_jax import rendering, scenes
from pgx_jax.config import PipelineConfig
from pgx_jax.envs import CollectionSuite, TaskIdSuite, make_suite
from pgx_jax.envs.cartpole import ANGLE_LIMIT, CartPole, cartpole_planted, cartpole_v1
from pgx_jax.envs.locomotion import changed_bodies, load_robot
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.ppo import TrainingState
from pgx_jax.training.statistics import RunningStatistics

ROOT = Path(__file__).parent.parent
ACCENT = np.array([0x64, 0x57, 0xD0])


def play(suite, tasks, **options):
    policies = rendering.untrained_policies(suite, jax.random.key(0))
    return rendering.play_tasks(suite, policies, tasks, jax.random.key(1), **options)


def is_accent(pixels, tolerance=10):
    return np.abs(pixels.astype(int) - ACCENT).max(axis=-1) < tolerance


@pytest.fixture(scope="module")
def tiles():
    return play(cartpole_planted(), [0, 7])


def cartpole_tile(observations):
    """A tile of CartPole-v1 in states of given observations [time, 4]."""
    suite = cartpole_v1()
    env = CartPole(jax.tree.map(lambda x: x[0], suite.parameters))
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), len(observations)))
    states = states.replace(obs=jnp.asarray(observations, jnp.float32))
    numbers = np.arange(len(observations), dtype=np.float32)
    episode = rendering.Episode(
        scenes.to_numpy(states), numbers, np.zeros(len(numbers), bool), False
    )
    return rendering.Tile("CartPole-v1", "", "#009e73", env, [episode])


def test_episode_ends_with_the_state_that_ended_it(tiles):
    for tile in tiles:
        (episode,) = tile.episodes
        angles = np.abs(episode.state.obs[:, 2])
        assert episode.terminated
        assert episode.episode_return[-1] == episode.num_steps  # 1 for every step
        assert angles[-1] > ANGLE_LIMIT > angles[:-1].max()


def test_tasks_of_wrapped_and_collected_suites_are_their_own():
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


def test_pole_is_where_the_state_says():
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


def test_captions_tell_what_differs():
    assert (
        rendering.describe_task(cartpole_planted(), 5)
        == "pole half length 0.4 · forces (10, \N{MINUS SIGN}10)"
    )
    assert rendering.describe_task(cartpole_v1(), 0) == ""
    # Neither the simulator's arrays nor anything else of a body is short enough.
    assert rendering.describe_task(changed_bodies("hopper"), 0) == ""


def mujoco_projection(model, data, camera, points):
    """By the camera that MuJoCo itself makes of a description of one."""
    scene = mujoco.MjvScene(model, 100)
    arguments = mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL.value
    mujoco.mjv_updateScene(model, data, *arguments, scene)
    eyes = scene.camera
    place = (eyes[0].pos + eyes[1].pos) / 2
    sight, up = eyes[0].forward, eyes[0].up
    offset = points - place
    depth = offset @ sight
    half = depth * eyes[0].frustum_top / eyes[0].frustum_near
    return (
        np.stack([offset @ np.cross(sight, up), offset @ up], axis=-1) / half[:, None]
    )


@pytest.mark.parametrize("robot", ["half_cheetah", "ant"])
def test_projection_is_that_of_mujoco(robot):
    model = load_robot(robot).mj_model
    scene = scenes.ProjectedScene(model, "#6457d0")
    qpos = model.qpos0 + np.linspace(0.0, 0.5, model.nq)
    scenes.set_positions(model, scene.data, {"qpos": qpos})
    camera = scene.follower.view(scene.data)
    centres, _ = camera.project(scene.data.geom_xpos)
    expected = mujoco_projection(
        model, scene.data, scene.follower.look(scene.data), scene.data.geom_xpos
    )
    np.testing.assert_allclose(centres, expected, atol=1e-5)
    for geom in scene.points:
        (outline, _), *_ = scene.layers(camera, geom)
        low, high = outline.min(axis=0), outline.max(axis=0)
        # Perspective moves the middle of the outline a little.
        np.testing.assert_allclose((low + high) / 2, expected[geom], atol=0.02)


def test_nearer_geoms_are_drawn_over_farther_ones():
    model = mujoco.MjModel.from_xml_string("""
        <mujoco><worldbody>
          <body name="near" pos="0 -1 1"><joint type="slide"/>
            <geom size=".2" rgba="1 0 0 1"/></body>
          <body name="far" pos="0 1 1"><geom type="box" size=".6 .2 .6"
            rgba="0 0 1 1"/></body>
          <body pos="1 0 1"><geom type="cylinder" size=".1 .2"/></body>
          <body pos="-1 0 1"><geom type="ellipsoid" size=".1 .2 .3"/></body>
        </worldbody></mujoco>""")
    scene = scenes.ProjectedScene(model, "#6457d0")
    scenes.set_positions(model, scene.data, {"qpos": model.qpos0})
    order = scene.order(scene.follower.view(scene.data))
    assert (order[0], order[-1]) == (1, 0)


def render_robot(suite, opengl):
    tile = play(suite, [0])[0]
    start = jax.tree.map(lambda x: x[:2], tile.episodes[0].state)
    episode = tile.episodes[0]._replace(
        state=start,
        episode_return=np.zeros(2, np.float32),
        success=np.zeros(2, bool),
        terminated=False,
    )
    frames = rendering.draw_frames(
        [tile._replace(episodes=[episode])], 1, opengl=opengl
    )
    return next(frames)


def test_robot_without_opengl_covers_what_mujoco_renders():
    """The two outlines have most of their pixels in common."""
    if scenes.find_opengl() is None:
        pytest.skip("no backend of OpenGL starts here")
    suite = make_suite("half_cheetah")
    covered = []
    for opengl in (True, False):
        scene = render_robot(suite, opengl)[48:].astype(int)
        covered.append(scene[..., 2] - scene[..., 1] > 50)  # violet, lit or not
    together = np.logical_and(*covered).sum() / np.logical_or(*covered).sum()
    assert covered[0].sum() > 2000
    assert together > 0.85


def test_bodies_are_drawn_with_the_lengths_of_their_task():
    suite = changed_bodies("hopper")
    base = load_robot("hopper").mj_model
    for task in (0, 1):
        parameters = jax.tree.map(lambda x, i=task: x[i], suite.parameters)
        model = scenes.find_model(suite.make_env(parameters))
        length = float(suite.task_names[task].split("l=")[1])
        ratio = model.geom_size[1:, 1] / base.geom_size[1:, 1]
        np.testing.assert_allclose(ratio, length, rtol=0.01)


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_files_hold_all_frames(tmp_path, ending):
    tile = cartpole_tile(np.linspace([-1, 0, -0.2, 0], [1, 0, 0.2, 0], 12))
    frames = list(rendering.draw_frames([tile], 50.0))[:12]
    path = tmp_path / f"video{ending}"
    rendering.write_video(path, iter(frames), 25.0)
    height, width = frames[0].shape[:2]
    if ending == ".gif":
        image = Image.open(path)
        assert (image.n_frames, image.size) == (12, (width, height))
        assert image.info["duration"] == 40  # ms
        image.seek(11)
        last = np.asarray(image.convert("RGB"))
    else:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        run = subprocess.run(command, capture_output=True, check=True)
        assert f"{width}x{height}" in run.stderr.decode()
        assert "25 fps" in run.stderr.decode()
        read = np.frombuffer(run.stdout, np.uint8).reshape(-1, height, width, 3)
        assert len(read) == 12
        last = read[-1]
    assert np.abs(last.astype(int) - frames[-1]).mean() < 2.0


# What a workdir holds.


def training_state(policy_ids):
    """A state whose policies are told apart by their numbers."""
    number = np.arange(max(policy_ids) + 1, dtype=np.float32)
    return TrainingState(
        params={"policy": {"number": number}, "value": {"number": -number}},
        optimizer_state=(number,),
        observation_statistics=RunningStatistics(
            number, number[:, None] * np.ones(4), number[:, None] * np.ones(4)
        ),
        value_statistics=RunningStatistics.create(len(policy_ids)),
        policy_ids=np.asarray(policy_ids, np.int32),
        suite_state=None,
        key=jax.random.key(0),
        num_updates=np.int32(2),
    )


@pytest.fixture
def workdir(tmp_path):
    """One whose meta-training is under way."""
    config = PipelineConfig.from_dict({"grouping": {"num_random_draws": 0}})
    directory = Workdir(tmp_path / "run", config.to_dict())
    with directory.training_checkpoints("meta_training") as checkpoints:
        checkpoints.save(2, training_state([0] * 10), {"seconds": 1.0})
    return directory


def finish_groups(directory):
    halves, pairs = np.repeat([0, 1], 5), np.tile([0, 1], 5)
    directory.finish("grouping", {"estimated": halves, "similarity": pairs}, {})
    # Estimated groups, one policy, similar gradients; those planted are the first.
    rows = np.concatenate([halves, np.full(10, 2), 3 + pairs])
    directory.finish("group_training", training_state(rows), {})


def test_policies_come_from_the_newest_stage(workdir):
    suite, policies = rendering.restore_policies(workdir.path)
    assert (suite.name, policies.params["number"].shape) == ("cartpole_planted", (1,))
    np.testing.assert_array_equal(policies.policy_ids, 0)

    finish_groups(workdir)
    _, policies = rendering.restore_policies(workdir.path)
    np.testing.assert_array_equal(policies.policy_ids, np.repeat([0, 1], 5))
    np.testing.assert_array_equal(policies.params["number"], np.arange(5))
    np.testing.assert_array_equal(policies.observation_statistics.mean[3], 3.0)
    for method, expected in (
        ("one policy", np.full(10, 2)),
        ("gradient similarity", np.tile([3, 4], 5)),
        ("planted groups", np.repeat([0, 1], 5)),
    ):
        _, policies = rendering.restore_policies(workdir.path, method=method)
        np.testing.assert_array_equal(policies.policy_ids, expected)
    _, policies = rendering.restore_policies(workdir.path, "meta_training")
    assert policies.params["number"].shape == (1,)


def test_what_a_workdir_lacks_is_told(tmp_path, workdir):
    with pytest.raises(ValueError, match="holds no run"):
        rendering.restore_policies(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    empty = Workdir(tmp_path / "empty", PipelineConfig().to_dict())
    with pytest.raises(ValueError, match="has no checkpoint yet$"):
        rendering.restore_policies(empty.path)
    with pytest.raises(ValueError, match="of group_training; it has .* meta_training"):
        rendering.restore_policies(workdir.path, "group_training")
    with pytest.raises(ValueError, match="stage must be one of group_training"):
        rendering.restore_policies(workdir.path, "evaluation")
    finish_groups(workdir)
    with pytest.raises(ValueError, match="one of estimated groups, one policy"):
        rendering.restore_policies(workdir.path, method="mine")


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


def test_refusals(tmp_path, tiles, monkeypatch):
    with pytest.raises(ValueError, match=r"must end in .mp4 or .gif, got 'a.avi'"):
        rendering.check_output("a.avi")
    with pytest.raises(OSError, match="does not exist"):
        rendering.check_output(tmp_path / "none" / "a.gif")
    with pytest.raises(ValueError, match="num_episodes must be at least 1"):
        play(cartpole_v1(), [0], num_episodes=0)
    with pytest.raises(ValueError, match="speed must be positive"):
        next(rendering.draw_frames(tiles, 30.0, speed=0.0))
    with pytest.raises(ValueError, match="at least one task"):
        next(rendering.draw_frames([], 30.0))
    with pytest.raises(ValueError, match="object cannot be drawn"):
        scenes.make_scene(object(), (64, 64))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"install pgx_jax\[video\]"):
        rendering.check_output(tmp_path / "a.mp4")
    rendering.check_output(tmp_path / "a.gif")


def test_command_line(tmp_path):
    path = tmp_path / "cartpole.gif"
    command = [sys.executable, str(ROOT / "experiments" / "render.py")]
    command += ["--suite=cartpole_v1", f"--output={path}", "--speed=4"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.strip().startswith(f"{path}: ")
    assert Image.open(path).n_frames > 2
    wrong = [*command[:2], "--suite=cartpole_v1", "--output=a.webm"]
    told = subprocess.run(wrong, capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 1
    assert told.stderr.strip() == "error: output must end in .mp4 or .gif, got 'a.webm'"
