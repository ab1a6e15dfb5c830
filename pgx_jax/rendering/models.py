"""MuJoCo models as pictures: by MuJoCo's renderer, or plainly without OpenGL."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from mujoco import mjtGeom, mjtJoint

from pgx_jax.appearance import LINE, PAPER

if TYPE_CHECKING:
    from brax.envs.base import Env
    from matplotlib.axes import Axes

GROUND = ("#f1f3f6", "#e3e7ec")  # the two tones of the checkered floor
CELL = 0.5  # m, a square of the floor
HIDDEN_GROUPS = 3  # from which on geoms are not drawn, by MuJoCo's default
OVERSAMPLING = 2  # along each side, since drivers smooth edges too little
# What differs between the models of one structure that a family's tasks may have.
SHAPES = ("body_pos", "body_quat", "geom_pos", "geom_quat", "geom_size", "jnt_pos")


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


class TrackingCamera:
    """Puts the camera: beside a robot that moves in a plane, else above it, behind."""

    def __init__(self, model: mujoco.MjModel):
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        first = mjtJoint(model.jnt_type[0]) if model.njnt else mjtJoint.mjJNT_HINGE
        self.moves = first in (mjtJoint.mjJNT_FREE, mjtJoint.mjJNT_SLIDE)
        half_field = np.deg2rad(model.vis.global_.fovy) / 2.0
        self.camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self.camera)
        if self.moves:
            solid = solid_geoms(model)
            center, reach = data.geom_xpos[solid], model.geom_rbound[solid]
            top = float(np.max(center[:, 2] + reach))
            middle = np.array([*data.subtree_com[1, :2], top / 2])
            radius = float(np.max(np.linalg.norm(center - middle, axis=1) + reach))
            is_planar = first == mjtJoint.mjJNT_SLIDE
            self.camera.lookat[2] = 0.88 * middle[2]
            self.camera.distance = 1.25 * radius / np.tan(half_field)
            self.camera.azimuth = 90.0 if is_planar else 125.0
            self.camera.elevation = -11.0 if is_planar else -24.0
        # m, what is half as high as the picture at the place that it looks at.
        self.half_height = float(self.camera.distance * np.tan(half_field))

    def look(self, data: mujoco.MjData) -> mujoco.MjvCamera:
        """The camera for one state, the height that it looks at staying the same."""
        if self.moves:
            self.camera.lookat[:2] = data.subtree_com[1, :2]
        return self.camera

    def project(
        self, data: mujoco.MjData, points: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where points are in the picture, without perspective, and how far.

        Args:
          data: the state that the camera looks at.
          points: in m; [..., 3].

        Returns:
          Right and up from the middle, in half heights of the picture, [..., 2]; and
          the distance along the line of sight from the place looked at in m, [...].
        """
        at = self.look(data)
        azimuth, elevation = np.deg2rad([at.azimuth, at.elevation])
        ahead = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        sight = np.cos(elevation) * ahead + [0.0, 0.0, np.sin(elevation)]
        right = np.array([ahead[1], -ahead[0], 0.0])
        offset = points - at.lookat
        plane = np.stack([offset @ right, offset @ np.cross(right, sight)], axis=-1)
        return plane / self.half_height, offset @ sight


class MujocoScene:
    """MuJoCo's renderer, on a light page."""

    def __init__(self, model: mujoco.MjModel, color: str, size: tuple[int, int]):
        self.camera = TrackingCamera(model)
        self.model = lighten(model, color, self.camera.camera.distance)
        self.data = mujoco.MjData(self.model)
        width, height = (OVERSAMPLING * x for x in size)
        buffer = self.model.vis.global_
        buffer.offwidth, buffer.offheight = width, height
        self.renderer = mujoco.Renderer(self.model, height, width, max_geom=2000)
        flags = self.renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_FOG] = True
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    @classmethod
    def create(
        cls, model: mujoco.MjModel, color: str, size: tuple[int, int]
    ) -> MujocoScene | None:
        """The scene; None where OpenGL does not start."""
        try:
            return cls(model, color, size)
        except Exception:  # every backend of OpenGL fails in a way of its own
            return None

    def paint(self, axes: Axes, recorded: Any) -> None:
        image = self.render(recorded)
        axes.imshow(image, aspect="auto", interpolation="nearest")

    def render(self, recorded: Any) -> np.ndarray:
        """One state; uint8 [height, width, 3]."""
        set_positions(self.model, self.data, recorded)
        camera = self.camera.look(self.data)
        self.renderer.update_scene(self.data, camera)
        if self.camera.moves:  # so does the region that shadows are computed for
            scene = self.renderer.scene
            for lamp in scene.lights[: scene.nlight]:
                if not lamp.headlight:
                    lamp.pos[:2] = self.data.subtree_com[1, :2]
                    lamp.pos[2] = camera.distance
        image = self.renderer.render()
        height, width, factor = *image.shape[:2], OVERSAMPLING
        shape = (height // factor, factor, width // factor, factor, 3)
        return image.reshape(shape).mean(axis=(1, 3)).round().astype(np.uint8)

    def close(self) -> None:
        self.renderer.close()


class PlainScene:
    """A MuJoCo model drawn by Matplotlib: a thick line a geom, the farthest first.

    Spheres and capsules are drawn as what they are. Of other geoms the line is along
    the longest side, as thick as the middle one.
    """

    def __init__(self, model: mujoco.MjModel, color: str, ratio: float):
        self.model = model
        self.data = mujoco.MjData(model)
        self.camera = TrackingCamera(model)
        self.ratio = ratio
        self.geoms = solid_geoms(model)
        self.colors = geom_colors(model, color)[self.geoms]
        lines = [_center_line(model, geom) for geom in self.geoms]
        self.ends = np.stack([ends for ends, _ in lines])
        self.radii = np.array([radius for _, radius in lines])
        self.has_floor = len(find_floors(model)) > 0

    def paint(self, axes: Axes, recorded: Any) -> None:
        from matplotlib.collections import LineCollection
        from matplotlib.colors import to_rgb

        set_positions(self.model, self.data, recorded)
        axes.set(xlim=(-self.ratio, self.ratio), ylim=(-1, 1), facecolor=PAPER)
        if self.has_floor:
            axes.add_collection(
                LineCollection(list(self._grid()), colors=LINE, linewidths=1.0)
            )
        lines, depth = self.project()
        # Line widths are in points, 72 an inch.
        half_height = 36.0 * axes.get_window_extent().height / axes.figure.dpi
        widths = 2.0 * self.radii / self.camera.half_height * half_height
        # A wider, paler line under each one separates parts of the same color.
        order = np.repeat(np.argsort(-depth), 2)
        colors, is_edge = self.colors[order], np.arange(len(order)) % 2 == 0
        colors[is_edge] = to_rgb(PAPER)
        axes.add_collection(
            LineCollection(
                list(lines[order]),
                colors=colors,
                linewidths=widths[order] + 2.0 * is_edge,
                capstyle="round",
                snap=False,  # else short lines become points, which are not drawn
            )
        )

    def project(self) -> tuple[np.ndarray, np.ndarray]:
        """Both ends of every line in the picture, [geoms, 2, 2], and their depth."""
        rotation = self.data.geom_xmat[self.geoms].reshape(-1, 3, 3)
        center = self.data.geom_xpos[self.geoms]
        world = center[:, None] + np.einsum("gij,gkj->gki", rotation, self.ends)
        places, depth = self.camera.project(self.data, world)
        places[:, 1, 0] += 5e-3  # Matplotlib draws no line without a length
        return places, depth.mean(axis=1)

    def _grid(self) -> np.ndarray:
        """Lines of the floor around the place looked at; [lines, 2, 2]."""
        reach = 10
        middle = np.round(self.camera.look(self.data).lookat[:2] / CELL)
        across = np.arange(-reach, reach + 1.0)
        far = np.full_like(across, reach)
        along_y = np.stack([np.stack([across, s * far], -1) for s in (-1, 1)], axis=1)
        lines = CELL * (middle + np.concatenate([along_y, along_y[..., ::-1]]))
        lines = np.concatenate([lines, np.zeros((*lines.shape[:2], 1))], axis=-1)
        return self.camera.project(self.data, lines)[0]

    def close(self) -> None:
        """Does nothing: there is nothing to free."""


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


def geom_colors(model: mujoco.MjModel, color: str) -> np.ndarray:
    """Of every geom, as the model has it, or `color` where it has one for all.

    Returns:
      Red, green and blue from 0 to 1; float64 [ngeom, 3].
    """
    from matplotlib.colors import to_rgb

    colors = np.stack([_geom_rgba(model, geom)[:3] for geom in range(model.ngeom)])
    solid = solid_geoms(model)
    if len(np.unique(colors[solid].round(2), axis=0)) == 1:
        colors[solid] = to_rgb(color)
    return colors


def lighten(model: mujoco.MjModel, color: str, distance: float) -> mujoco.MjModel:
    """A copy of a model for a white page: sky, floor, lights and colors.

    Args:
      model: as the environment has it.
      color: as in `geom_colors`.
      distance: of the camera, in m; what is much farther fades into the page.
    """
    from matplotlib.colors import to_rgb

    model = copy.deepcopy(model)
    paper = np.array(to_rgb(PAPER))
    _lighten_textures(model, paper)
    solid = solid_geoms(model)
    colors = geom_colors(model, color)
    if not np.array_equal(colors, geom_colors(model, "#000000")):
        model.geom_matid[solid] = -1  # one texture for all would tint the color
        model.geom_rgba[solid, :3] = colors[solid]
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


def set_positions(model: mujoco.MjModel, data: mujoco.MjData, recorded: Any) -> None:
    """Computes the positions of all bodies and geoms of a recorded state."""
    data.qpos[:] = recorded["qpos"]
    if "mocap_pos" in recorded:
        data.mocap_pos[:] = recorded["mocap_pos"]
        data.mocap_quat[:] = recorded["mocap_quat"]
    mujoco.mj_forward(model, data)


def _lighten_textures(model: mujoco.MjModel, paper: np.ndarray) -> None:
    """Makes the sky the page's color and floors two pale tones, in place."""
    from matplotlib.colors import to_rgb

    light, dark = (np.array(to_rgb(tone)) for tone in GROUND)
    for texture in range(model.ntex):
        image = _texture(model, texture)
        if model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            image[:] = np.round(255 * paper)
        elif model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D:
            gray = image.mean(axis=-1, keepdims=True)
            share = (gray - gray.min()) / max(np.ptp(gray), 1.0)
            image[:] = np.round(255 * (dark + share * (light - dark)))


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


def _center_line(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, float]:
    """A geom as a line with round ends: its ends in the geom's frame [2, 3], radius."""
    kind, size = mjtGeom(model.geom_type[geom]), model.geom_size[geom].copy()
    if kind == mjtGeom.mjGEOM_SPHERE:
        return np.zeros((2, 3)), float(size[0])
    if kind in (mjtGeom.mjGEOM_CAPSULE, mjtGeom.mjGEOM_CYLINDER):
        half, radius = size[1], size[0]
        if kind == mjtGeom.mjGEOM_CYLINDER:  # whose ends are flat
            half = max(half - radius, 0.0)
        return np.array([[0.0, 0.0, -half], [0.0, 0.0, half]]), float(radius)
    # Boxes, ellipsoids, and meshes, whose sizes are those of the box about them.
    axis, radius = int(np.argmax(size)), float(np.sort(size)[1])
    ends = np.zeros((2, 3))
    ends[:, axis] = np.array([-1.0, 1.0]) * (size[axis] - radius)
    return ends, radius
