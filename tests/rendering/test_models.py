"""MuJoCo models: the camera, what is in front, and the shapes of a task."""

import jax
import mujoco
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pgx_jax import rendering
from pgx_jax.envs import make_suite
from pgx_jax.envs.locomotion import changed_bodies, load_robot
from pgx_jax.rendering.models import (
    MujocoScene,
    PlainScene,
    find_model,
    set_positions,
)


def project_by_mujoco(scene, points):
    """Without perspective, by the axes and the field of view of MuJoCo's camera."""
    camera = scene.camera.look(scene.data)
    shown = mujoco.MjvScene(scene.model, 100)
    arguments = mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL.value
    mujoco.mjv_updateScene(scene.model, scene.data, *arguments, shown)
    eye = shown.camera[0]
    half_height = camera.distance * eye.frustum_top / eye.frustum_near
    offset = points - camera.lookat
    right = np.cross(eye.forward, eye.up)
    return np.stack([offset @ right, offset @ eye.up], axis=-1) / half_height


@pytest.mark.parametrize("robot", ["half_cheetah", "ant"])
def test_projection_is_that_of_mujoco(robot):
    model = load_robot(robot).mj_model
    scene = PlainScene(model, "#6457d0", 2.0)
    qpos = model.qpos0 + np.linspace(0.0, 0.5, model.nq)
    set_positions(model, scene.data, {"qpos": qpos})
    lines, _ = scene.project()
    expected = project_by_mujoco(scene, scene.data.geom_xpos[scene.geoms])
    np.testing.assert_allclose(lines.mean(axis=1), expected, atol=3e-3)


def test_lines_are_as_long_and_thick_as_geoms():
    model = mujoco.MjModel.from_xml_string("""
        <mujoco><worldbody>
          <geom type="capsule" size=".1 .5"/><geom type="box" size=".7 .2 .3"/>
          <geom type="ellipsoid" size=".1 .4 .2"/><geom type="cylinder" size=".1 .6"/>
        </worldbody></mujoco>""")
    scene = PlainScene(model, "#6457d0", 2.0)
    np.testing.assert_allclose(scene.radii, [0.1, 0.3, 0.2, 0.1])
    # Each reaches as far along its own axis as the geom; a capsule's end is round.
    reach = np.abs(scene.ends).max(axis=(1, 2)) + scene.radii
    np.testing.assert_allclose(reach, [0.6, 0.7, 0.4, 0.6])
    assert np.abs(scene.ends).argmax(axis=2)[:, 0].tolist() == [2, 0, 1, 2]


def test_a_ball_is_painted_as_a_disk_of_its_size():
    """Its diameter in pixels is 2 r by 2 half heights of 100 pixels."""
    model = mujoco.MjModel.from_xml_string("""
        <mujoco><worldbody><geom size=".3" rgba="1 0 0 1"/></worldbody></mujoco>""")
    scene = PlainScene(model, "#ff0000", 1.0)
    figure = Figure(figsize=(1, 1), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    scene.paint(axes, {"qpos": model.qpos0})
    axes.set_axis_off()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    is_red = np.asarray(canvas.buffer_rgba())[..., 1] < 128
    diameter = 100 * 0.3 / scene.camera.half_height
    assert is_red.any(axis=0).sum() == pytest.approx(diameter, abs=1.5)
    assert is_red.any(axis=1).sum() == pytest.approx(diameter, abs=1.5)


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
    scene = PlainScene(model, "#6457d0", 2.0)
    set_positions(model, scene.data, {"qpos": model.qpos0})
    order = np.argsort(-scene.project()[1])
    assert (order[0], order[-1]) == (1, 0)


def render_robot(play, suite, opengl):
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


def test_robot_without_opengl_covers_what_mujoco_renders(play):
    """The two outlines have most of their pixels in common."""
    suite = make_suite("half_cheetah")
    model = load_robot("half_cheetah").mj_model
    if MujocoScene.create(model, "#6457d0", (64, 64)) is None:
        pytest.skip("no backend of OpenGL starts here")
    covered = []
    for opengl in (True, False):
        scene = render_robot(play, suite, opengl)[48:].astype(int)
        covered.append(scene[..., 2] - scene[..., 1] > 50)  # violet, lit or not
    together = np.logical_and(*covered).sum() / np.logical_or(*covered).sum()
    assert covered[0].sum() > 2000
    assert together > 0.8


def test_bodies_are_drawn_with_the_lengths_of_their_task():
    suite = changed_bodies("hopper")
    base = load_robot("hopper").mj_model
    for task in (0, 1):
        parameters = jax.tree.map(lambda x, i=task: x[i], suite.parameters)
        model = find_model(suite.make_env(parameters))
        length = float(suite.task_names[task].split("l=")[1])
        ratio = model.geom_size[1:, 1] / base.geom_size[1:, 1]
        np.testing.assert_allclose(ratio, length, rtol=0.01)
