"""How one state of an environment is drawn.

An environment that defines `draw(axes, state)` draws itself. One with a MuJoCo model is
drawn by MuJoCo's renderer where OpenGL starts, else by Matplotlib from the positions of
the model's geoms, through the same camera.
"""

from __future__ import annotations

import copy
import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import mujoco
import numpy as np
from mujoco import mjtGeom, mjtJoint

from pgx_jax.appearance import ACCENT, PAPER

if TYPE_CHECKING:
    from brax.envs.base import Env, State
    from matplotlib.axes import Axes

PyTree = Any
RATIO = 640 / 312  # width by height of the scenes that are free to choose
GROUND = ("#f1f3f6", "#e3e7ec")  # the two tones of the chequered floor
SHADOW = "#c3c8d1"
CELL = 0.5  # m, a square of the floor where Matplotlib draws it
HIDDEN_GROUPS = 3  # from which on geoms are not drawn, by MuJoCo's default
OVERSAMPLING = 2  # along each side, since drivers smooth edges too little
OPENGL_BACKENDS = ("egl", "osmesa", "glfw")
# What differs between the models of one structure that a family's tasks may have.
SHAPES = ("body_pos", "body_quat", "geom_pos", "geom_quat", "geom_size", "jnt_pos")
_PROBE = """
import importlib, sys, mujoco
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(64, 64)
context.make_current()
model = mujoco.MjModel.from_xml_string("<mujoco/>")
buffers = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, buffers)
assert buffers.currentBuffer == mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value
"""


class Scene(Protocol):
    """Draws states of one environment.

    `paint(axes, kept)` draws onto empty Matplotlib axes what `keeper(env)` kept of a
    state, with NumPy leaves; `close()` frees what it holds.
    """

    def paint(self, axes: Axes, kept: PyTree) -> None: ...

    def close(self) -> None: ...


def keeper(env: Env) -> Callable[[State], PyTree]:
    """What of a state drawing needs: the function that takes it out, inside jit.

    Args:
      env: made outside of jit.

    Raises:
      ValueError: the environment can be drawn in no way.
    """
    if hasattr(env, "draw"):
        return _keep_all
    if find_model(env) is None:
        raise ValueError(
            f"environment {type(env).__name__} cannot be drawn: it has neither a "
            "method draw(axes, state) nor a MuJoCo model"
        )
    return _keep_positions


def make_scene(
    env: Env, size: tuple[int, int], *, colour: str = ACCENT, opengl: bool = True
) -> Scene:
    """The best way there is of drawing an environment's states.

    Args:
      env: made outside of jit.
      size: width and height in pixels of the images that MuJoCo renders.
      colour: of robots whose model gives all parts the same one.
      opengl: whether to use MuJoCo's renderer where it can start.

    Raises:
      ValueError: the environment can be drawn in no way.
    """
    keeper(env)
    if hasattr(env, "draw"):
        return DrawnScene(env)
    model = find_model(env)
    backend = find_opengl() if opengl else None
    if backend is None:
        return ProjectedScene(model, colour)
    return OpenGLScene(model, colour, size, backend)


def find_ratio(env: Env, kept: PyTree) -> float:
    """Width by height that suits the drawing of an environment.

    Args:
      env: made outside of jit.
      kept: what is kept of one of its states, with NumPy leaves.
    """
    if not hasattr(env, "draw"):
        return RATIO
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    env.draw(axes, kept)
    return float(np.ptp(axes.get_xlim()) / np.ptp(axes.get_ylim()))


def find_model(env: Env) -> mujoco.MjModel | None:
    """The MuJoCo model of an environment, with its own shapes; None if it has none."""
    model = getattr(env, "mj_model", None)
    if model is None:
        model = getattr(getattr(env, "sys", None), "mj_model", None)
    if model is None:  # inside an adapter
        inner = getattr(env, "env", None)
        return None if inner is None else find_model(inner)
    model = copy.deepcopy(model)
    of_task = getattr(env, "model", None)
    for name in SHAPES:
        array = getattr(of_task, name, None)
        if array is not None:
            getattr(model, name)[:] = np.asarray(array)
    return model


@functools.cache
def find_opengl() -> str | None:
    """The first backend of OpenGL that starts: "egl", "osmesa", "glfw" or None.

    Each is tried in a process of its own, since some end the process that they fail in.
    `MUJOCO_GL`, where it is set to one of them, leaves the others out.
    """
    wanted = os.environ.get("MUJOCO_GL", "")
    backends = (wanted,) if wanted in OPENGL_BACKENDS else OPENGL_BACKENDS
    for backend in backends:
        command = [sys.executable, "-c", _PROBE, backend]
        try:
            run = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if run.returncode == 0:
            return backend
    return None


class Camera(NamedTuple):
    """A perspective camera, as MuJoCo's free one.

    Attributes:
      target: the point that it looks at, in m; [3].
      distance: from there, in m.
      azimuth: about the vertical, in degrees; 90 looks along y.
      elevation: in degrees, negative from above.
      field: vertical field of view, in degrees.
    """

    target: np.ndarray
    distance: float
    azimuth: float
    elevation: float
    field: float

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where points are in the picture, and how far.

        Args:
          points: in m; [..., 3].

        Returns:
          Right and up from the middle, in half heights of the picture, [..., 2]; and
          the distance along the line of sight in m, [...].
        """
        azimuth, elevation = np.deg2rad([self.azimuth, self.elevation])
        sight = np.array(
            [
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ]
        )
        right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
        offset = np.asarray(points) - self.target
        depth = self.distance + offset @ sight
        plane = np.stack([offset @ right, offset @ np.cross(right, sight)], axis=-1)
        return plane * (self.scale / depth)[..., None], depth

    @property
    def scale(self) -> float:
        """Half heights of the picture per m, for what is 1 m away."""
        return 1.0 / np.tan(np.deg2rad(self.field) / 2.0)


class Follower:
    """Puts the camera: beside a robot that moves in a plane, else above it, behind."""

    def __init__(self, model: mujoco.MjModel):
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        first = mjtJoint(model.jnt_type[0]) if model.njnt else mjtJoint.mjJNT_HINGE
        self.moves = first in (mjtJoint.mjJNT_FREE, mjtJoint.mjJNT_SLIDE)
        self.field = float(model.vis.global_.fovy)
        self.camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self.camera)
        if not self.moves:
            return
        solid = solid_geoms(model)
        centre, reach = data.geom_xpos[solid], model.geom_rbound[solid]
        top = float(np.max(centre[:, 2] + reach))
        middle = np.array([*data.subtree_com[1, :2], top / 2])
        radius = float(np.max(np.linalg.norm(centre - middle, axis=1) + reach))
        is_planar = first == mjtJoint.mjJNT_SLIDE
        self.camera.lookat[2] = 0.88 * middle[2]
        self.camera.distance = 1.25 * radius / np.tan(np.deg2rad(self.field) / 2)
        self.camera.azimuth = 90.0 if is_planar else 125.0
        self.camera.elevation = -11.0 if is_planar else -24.0

    def look(self, data: mujoco.MjData) -> mujoco.MjvCamera:
        """The camera for one state, the height that it looks at staying the same."""
        if self.moves:
            self.camera.lookat[:2] = data.subtree_com[1, :2]
        return self.camera

    def view(self, data: mujoco.MjData) -> Camera:
        """The same as `look`."""
        at = self.look(data)
        return Camera(
            at.lookat.copy(), at.distance, at.azimuth, at.elevation, self.field
        )


class DrawnScene:
    """An environment that draws itself."""

    def __init__(self, env: Env):
        self.env = env

    def paint(self, axes: Axes, kept: State) -> None:
        self.env.draw(axes, kept)

    def close(self) -> None:
        """Holds nothing."""


class OpenGLScene:
    """MuJoCo's renderer, on a light page.

    Rendered by hand, since `mujoco.Renderer` takes the backend that `MUJOCO_GL` named
    when MuJoCo was imported.
    """

    def __init__(
        self, model: mujoco.MjModel, colour: str, size: tuple[int, int], backend: str
    ):
        self.follower = Follower(model)
        self.model = model = lighten(model, colour, self.follower.camera.distance)
        self.data = mujoco.MjData(model)
        width, height = (OVERSAMPLING * x for x in size)
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        context = importlib.import_module(f"mujoco.{backend}").GLContext
        self.context = context(width, height)
        self.context.make_current()
        scale = mujoco.mjtFontScale.mjFONTSCALE_100.value
        self.buffers = mujoco.MjrContext(model, scale)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self.buffers)
        self.rectangle = mujoco.MjrRect(0, 0, width, height)
        self.scene = mujoco.MjvScene(model, maxgeom=2000)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = True
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def paint(self, axes: Axes, kept: PyTree) -> None:
        image = self.render(kept)
        axes.imshow(image, aspect="auto", interpolation="nearest")

    def render(self, kept: PyTree) -> np.ndarray:
        """One state; uint8 [height, width, 3]."""
        set_positions(self.model, self.data, kept)
        self.context.make_current()
        mujoco.mjv_updateScene(
            self.model,
            self.data,
            mujoco.MjvOption(),
            None,
            self.follower.look(self.data),
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self.scene,
        )
        if self.follower.moves:  # so does the region that shadows are computed for
            for lamp in self.scene.lights[: self.scene.nlight]:
                if not lamp.headlight:
                    lamp.pos[:2] = self.data.subtree_com[1, :2]
                    lamp.pos[2] = self.follower.camera.distance
        mujoco.mjr_render(self.rectangle, self.scene, self.buffers)
        shape = (self.rectangle.height, self.rectangle.width, 3)
        image = np.empty(shape, np.uint8)
        mujoco.mjr_readPixels(image, None, self.rectangle, self.buffers)
        size, factor = self.rectangle, OVERSAMPLING
        shape = (size.height // factor, factor, size.width // factor, factor, 3)
        return image[::-1].reshape(shape).mean(axis=(1, 3)).round().astype(np.uint8)

    def close(self) -> None:
        self.context.make_current()
        self.buffers.free()
        self.context.free()


class ProjectedScene:
    """A MuJoCo model drawn by Matplotlib: geoms as shaded outlines, the farthest first.

    Outlines of spheres and capsules are those of circles about their projected centres,
    those of other geoms the convex hull of their projected points.
    """

    def __init__(self, model: mujoco.MjModel, colour: str):
        self.model = model
        self.data = mujoco.MjData(model)
        self.follower = Follower(model)
        self.colours = geom_colours(model, colour)
        self.points = {geom: _local_points(model, geom) for geom in solid_geoms(model)}
        self.has_floor = len(find_floors(model)) > 0

    def paint(self, axes: Axes, kept: PyTree) -> None:
        from matplotlib.collections import PolyCollection

        set_positions(self.model, self.data, kept)
        camera = self.follower.view(self.data)
        axes.set(xlim=(-RATIO, RATIO), ylim=(-1, 1), facecolor=PAPER)
        axes.set_aspect("equal")
        if self.has_floor:
            axes.add_collection(PolyCollection(**_floor(camera)))
            shadows = [self.shadow(camera, geom) for geom in self.points]
            axes.add_collection(
                PolyCollection(shadows, facecolors=SHADOW, edgecolors="none")
            )
        polygons, colours = [], []
        for geom in self.order(camera):
            for polygon, shade in self.layers(camera, geom):
                polygons.append(polygon)
                colours.append(_shade(self.colours[geom], shade))
        axes.add_collection(
            PolyCollection(polygons, facecolors=colours, edgecolors="none")
        )

    def order(self, camera: Camera) -> list[int]:
        """The geoms, those whose nearest points are farthest first."""

        def nearest(geom):
            points, radius = self.points[geom]
            _, depth = camera.project(self._to_world(geom, points))
            return np.min(depth) - radius

        return sorted(self.points, key=nearest, reverse=True)

    def layers(self, camera: Camera, geom: int) -> list[tuple[np.ndarray, float]]:
        """Outlines that make a geom look round, the lowest first, and their shades."""
        points, radius = self.points[geom]
        centres, depth = camera.project(self._to_world(geom, points))
        radii = radius * camera.scale / depth
        if radius == 0.0:
            return [(_hull(centres), 0.0)]
        parts = ((1.0, 0.0, -0.22), (0.84, 0.10, 0.0), (0.5, 0.28, 0.18))
        return [
            (_hull(_circles(centres + [0.0, lift] * radii[:, None], size * radii)), s)
            for size, lift, s in parts
        ]

    def shadow(self, camera: Camera, geom: int) -> np.ndarray:
        """The outline of a geom's shadow, straight down onto z = 0."""
        points, radius = self.points[geom]
        ground = self._to_world(geom, points)[:, :2]
        if radius:
            ground = _circles(ground, np.full(len(ground), radius))
        ground = np.concatenate([ground, np.zeros((len(ground), 1))], axis=1)
        return _hull(camera.project(ground)[0])

    def _to_world(self, geom: int, points: np.ndarray) -> np.ndarray:
        rotation = self.data.geom_xmat[geom].reshape(3, 3)
        return points @ rotation.T + self.data.geom_xpos[geom]

    def close(self) -> None:
        """Holds nothing."""


def to_numpy(tree: PyTree) -> PyTree:
    """The same with NumPy leaves, typed keys as the integers that they hold."""

    def convert(x):
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(
            x.dtype, jax.dtypes.prng_key
        ):
            x = jax.random.key_data(x)
        return np.asarray(x)

    return jax.tree.map(convert, tree)


def solid_geoms(model: mujoco.MjModel) -> list[int]:
    """The geoms that are shown and are no floor, as MuJoCo's renderer shows them."""
    return [
        geom
        for geom in range(model.ngeom)
        if model.geom_group[geom] < HIDDEN_GROUPS
        and mjtGeom(model.geom_type[geom])
        not in (mjtGeom.mjGEOM_PLANE, mjtGeom.mjGEOM_HFIELD)
        and _geom_rgba(model, geom)[3] > 0
    ]


def find_floors(model: mujoco.MjModel) -> np.ndarray:
    """The geoms that are planes, and shown; int [number]."""
    # An enumeration is equal to an integer of NumPy, but not to an array of them.
    is_plane = model.geom_type == int(mjtGeom.mjGEOM_PLANE)
    return np.flatnonzero(is_plane & (model.geom_group < HIDDEN_GROUPS))


def geom_colours(model: mujoco.MjModel, colour: str) -> np.ndarray:
    """Of every geom, as the model has it, or `colour` where it has one for all.

    Returns:
      Red, green and blue from 0 to 1; float64 [ngeom, 3].
    """
    from matplotlib.colors import to_rgb

    colours = np.stack([_geom_rgba(model, geom)[:3] for geom in range(model.ngeom)])
    solid = solid_geoms(model)
    if len(np.unique(colours[solid].round(2), axis=0)) == 1:
        colours[solid] = to_rgb(colour)
    return colours


def lighten(model: mujoco.MjModel, colour: str, distance: float) -> mujoco.MjModel:
    """A copy of a model for a white page: sky, floor, lights and colours.

    Args:
      model: as the environment has it.
      colour: as in `geom_colours`.
      distance: of the camera, in m; what is much farther fades into the page.
    """
    from matplotlib.colors import to_rgb

    model = copy.deepcopy(model)
    paper = np.array(to_rgb(PAPER))
    tones = np.array([to_rgb(tone) for tone in GROUND[::-1]])
    for texture in range(model.ntex):
        image = _texture(model, texture)
        if model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            image[:] = np.round(255 * paper)
        elif model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D:
            grey = image.mean(axis=-1, keepdims=True)
            share = (grey - grey.min()) / max(np.ptp(grey), 1.0)
            image[:] = np.round(255 * (tones[0] + share * (tones[1] - tones[0])))
    solid = solid_geoms(model)
    colours = geom_colours(model, colour)
    if not np.array_equal(colours, geom_colours(model, "#000000")):
        model.geom_matid[solid] = -1  # one texture for all would tint the colour
        model.geom_rgba[solid, :3] = colours[solid]
    for geom in find_floors(model):
        model.geom_rgba[geom] = 1.0
        model.geom_size[geom, :2] = 0.0  # without end
        material = model.geom_matid[geom]
        if material >= 0:
            model.mat_rgba[material] = 1.0
            model.mat_specular[material] = 0.0
            model.mat_texuniform[material] = True
            model.mat_texrepeat[material] = 1.0 / CELL
    visual, lamp = model.vis, model.vis.headlight
    lamp.ambient[:], lamp.diffuse[:], lamp.specular[:] = 0.58, 0.22, 0.1
    model.light_ambient[:], model.light_specular[:] = 0.0, 0.1
    model.light_diffuse[:] = 0.32 / max(model.nlight, 1)
    visual.rgba.fog[:3] = paper
    visual.map.fogstart = 1.6 * distance / model.stat.extent
    visual.map.fogend = 5.0 * distance / model.stat.extent
    # About the robot alone: at its edges the region has shadows of nothing.
    visual.map.shadowclip = 0.5 * distance / model.stat.extent
    visual.quality.shadowsize, visual.quality.offsamples = 2048, 4
    visual.quality.numquads = 40  # of the floor's sides; fog is computed at corners
    return model


def set_positions(model: mujoco.MjModel, data: mujoco.MjData, kept: PyTree) -> None:
    """Computes the positions of all bodies and geoms of a kept state."""
    data.qpos[:] = kept["qpos"]
    if "mocap_pos" in kept:
        data.mocap_pos[:] = kept["mocap_pos"]
        data.mocap_quat[:] = kept["mocap_quat"]
    mujoco.mj_forward(model, data)


def _keep_all(state: State) -> State:
    return state


def _keep_positions(state: State) -> dict[str, jax.Array]:
    """`qpos`, and the places of bodies moved by hand where the simulation has some."""
    physics = state.pipeline_state
    physics = getattr(physics, "data", physics)  # of MuJoCo Playground
    kept = {"qpos": physics.qpos if hasattr(physics, "qpos") else physics.q}
    if getattr(physics, "mocap_pos", None) is not None:
        kept |= {"mocap_pos": physics.mocap_pos, "mocap_quat": physics.mocap_quat}
    return kept


def _geom_rgba(model: mujoco.MjModel, geom: int) -> np.ndarray:
    material = model.geom_matid[geom]
    own = model.geom_rgba[geom]
    is_default = np.allclose(own, [0.5, 0.5, 0.5, 1.0])
    return model.mat_rgba[material] if material >= 0 and is_default else own


def _texture(model: mujoco.MjModel, texture: int) -> np.ndarray:
    """A view of a texture's pixels; uint8 [height, width, channels]."""
    shape = tuple(
        int(x[texture]) for x in (model.tex_height, model.tex_width, model.tex_nchannel)
    )
    start = int(model.tex_adr[texture])
    return model.tex_data[start : start + int(np.prod(shape))].reshape(shape)


def _local_points(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, float]:
    """A geom as the convex hull of balls: centres in its own frame [k, 3], radius."""
    kind, size = mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    if kind == mjtGeom.mjGEOM_SPHERE:
        return np.zeros((1, 3)), float(size[0])
    if kind == mjtGeom.mjGEOM_CAPSULE:
        return np.array([[0, 0, -size[1]], [0, 0, size[1]]]), float(size[0])
    if kind == mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        from scipy.spatial import ConvexHull

        vertices = model.mesh_vert[start : start + count].astype(np.float64)
        return vertices[ConvexHull(vertices, qhull_options="QJ").vertices], 0.0
    if kind == mjtGeom.mjGEOM_BOX:
        corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
        return corners * size, 0.0
    angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    heights = np.array([-1.0, 1.0])
    if kind == mjtGeom.mjGEOM_ELLIPSOID:
        heights = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 13))
    radii = np.sqrt(1 - heights**2) if len(heights) > 2 else np.ones(2)
    height, angle = np.meshgrid(heights, angles, indexing="ij")
    ring = radii[:, None]
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=-1)
    scale = size if kind == mjtGeom.mjGEOM_ELLIPSOID else size[[0, 0, 1]]
    return points.reshape(-1, 3) * scale, 0.0


def _circles(centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Points on circles about centres [k, 2] with radii [k]; [k * 28, 2]."""
    angles = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return (centres[:, None] + radii[:, None, None] * unit).reshape(-1, 2)


def _hull(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull of points in the plane, in order; [k, 2]."""
    from scipy.spatial import ConvexHull

    # Joggled, so that points on a line have a hull too.
    return points[ConvexHull(points, qhull_options="QJ").vertices]


def _shade(colour: np.ndarray, shade: float) -> np.ndarray:
    """Towards black for a negative shade, towards white for a positive one."""
    return colour + abs(shade) * (float(shade > 0) - colour)


def _floor(camera: Camera) -> dict[str, Any]:
    """The squares of the floor that are in view, fading into the page; for a plot."""
    from matplotlib.colors import to_rgb

    reach = 4.5 * camera.distance
    low = np.floor((camera.target[:2] - reach) / CELL).astype(int)
    count = int(2 * reach / CELL) + 2
    i, j = np.meshgrid(*(x + np.arange(count) for x in low), indexing="ij")
    i, j = i.ravel(), j.ravel()
    corners = np.stack(
        [
            np.stack([CELL * (i + a), CELL * (j + b), np.zeros(i.shape)], axis=-1)
            for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))
        ],
        axis=1,
    )
    places, depth = camera.project(corners)
    near = 0.2 * camera.distance  # what is closer would pass through the camera
    seen = np.all(depth > near, axis=1)
    seen &= np.any((np.abs(places[..., 0]) < 2.2) & (places[..., 1] > -1.1), axis=1)
    paper, tones = np.array(to_rgb(PAPER)), np.array([to_rgb(x) for x in GROUND])
    far = np.clip((depth.mean(axis=1) / camera.distance - 1.6) / 3.2, 0.0, 1.0)[:, None]
    colours = (1 - far) * tones[(i + j) % 2] + far * paper
    return {
        "verts": places[seen],
        "facecolors": colours[seen],
        "edgecolors": colours[seen],
        "linewidths": 0.4,  # closes the seams between squares
    }
