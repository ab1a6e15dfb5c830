"""How the scene is drawn."""

from __future__ import annotations

import mujoco

from pgx_jax.envs.metaworld.arm import ARM, HAND_POS
from pgx_jax.envs.metaworld.geometry import PARKED, UNPAIRED
from pgx_jax.envs.metaworld.objects import ManipulatedObject

# Of pictures.
VIEW_CENTER, VIEW_EXTENT = (0.0, 0.67, 0.17), 0.64  # m
VIEW_AZIMUTH, VIEW_ELEVATION = 140.0, -26.0  # degrees
ARM_RADII = (0.075, 0.06, 0.06, 0.055, 0.05, 0.045, 0.04)  # m
ARM_COLOR = (0.78, 0.30, 0.28, 1.0)
GOAL_COLOR = (0.1, 0.7, 0.25, 1.0)
HIDDEN = 4  # a group of geoms that is not drawn


def show(spec: mujoco.MjSpec, manipulated: ManipulatedObject) -> None:
    """Hides collision geoms, shows the arm and the goal, and sets colors."""
    # The last one ends where the fingers are not hidden.
    ends = [link.pos for link in ARM[1:]] + [tuple(0.55 * x for x in HAND_POS)]
    for i, end in enumerate(ends):
        spec.body(f"link{i}").add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=(ARM_RADII[i], 0, 0),
            fromto=(0, 0, 0, *end),
            mass=0,
            rgba=ARM_COLOR,
            **UNPAIRED,
        )
    goal = spec.worldbody.add_body(name="goal", mocap=True)
    goal.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=(0.02, 0, 0),
        rgba=GOAL_COLOR,
        **UNPAIRED,
    )
    spec.add_texture(
        name="table",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=(0.9, 0.9, 0.9),
        rgb2=(0.8, 0.8, 0.8),
        width=256,
        height=256,
    )
    table = spec.add_material(name="table", texuniform=True, texrepeat=(5, 5))
    table.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
    of_object, of_fixture = manipulated.colors
    for geom in spec.geoms:
        kind, parent = geom.name.rstrip("0123456789"), geom.parent.name
        # The gripper's palm and fingers keep MuJoCo's gray.
        if kind in ("plane", "point", "shaft") or kind.endswith("_edge"):
            geom.group = HIDDEN
        elif kind == "table":
            geom.material = "table"
        elif parent == "object":
            geom.rgba = of_object
        elif parent == "fixture":
            geom.rgba = of_fixture
        if geom.pos[2] < PARKED[2] / 2:
            geom.group = HIDDEN
    view = spec.visual.global_
    view.azimuth, view.elevation = VIEW_AZIMUTH, VIEW_ELEVATION
