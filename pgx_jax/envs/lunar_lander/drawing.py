"""How a lander is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from brax.envs.base import State

from pgx_jax.envs.lunar_lander.body import (
    GROUND_WIDTH,
    GROUND_X,
    HULL,
    LEG_SIDES,
    LEGS,
    PAD_EDGES,
    START_HEIGHT,
    leg_points,
    to_world,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Where struts, which are there for the eye only, join the legs to the hull; m, [2, 2].
_HIPS = np.stack([0.45 * LEG_SIDES, np.full(2, -0.15)], axis=1)


def _flames(main: float, side: float) -> list[np.ndarray]:
    """Outlines, from the hull's origin, of the flames of the engines that burn."""
    flames = []
    if main:
        flame = np.array([[-0.2, -0.35], [0.0, -0.45 - 1.1 * main], [0.2, -0.35]])
        flames.append(flame)
    if side:
        # The right engine, which pushes to the right, burns on the left.
        out = -np.sign(side) * (0.55 + 0.7 * abs(side))
        base = -np.sign(side) * 0.5
        flames.append(np.array([[base, 0.38], [out, 0.46], [base, 0.54]]))
    return flames


def draw_lander(axes: Axes, state: State) -> None:
    """Draws one state, without leading axes, onto empty Matplotlib axes."""
    from matplotlib.patches import Polygon

    position = np.asarray(state.pipeline_state.position)
    ground = np.asarray(state.info["ground"])
    axes.fill_between(GROUND_X, ground, color="#e3e7ec", linewidth=0)
    axes.plot(GROUND_X, ground, color="#c5cad3", linewidth=2)
    foot = ground[len(ground) // 2]
    axes.plot(PAD_EDGES, [foot, foot], color="#1f2430", linewidth=2.5)
    for x in PAD_EDGES:
        axes.plot([x, x], [foot, foot + 1.6], color="#1f2430", linewidth=1)
        flag = np.array([[0.0, 1.6], [0.0, 1.1], [0.8, 1.35]]) + [x, foot]
        axes.add_patch(Polygon(flag, facecolor="#f2b632", linewidth=0))
    for outline in _flames(*np.asarray(state.info["throttle"])):
        flame = to_world(position, outline)
        axes.add_patch(Polygon(flame, facecolor="#f0803c", linewidth=0))
    hips = to_world(position, _HIPS)
    for hip, leg in zip(hips, leg_points(position, LEGS), strict=True):
        axes.plot(*np.stack([hip, leg.mean(axis=0)]).T, color="#1f2430", linewidth=2)
        axes.add_patch(Polygon(leg, facecolor="#1f2430", linewidth=0))
    hull = to_world(position, HULL)
    axes.add_patch(Polygon(hull, facecolor="#6457d0", linewidth=0))
    axes.set(xlim=(0, GROUND_WIDTH), ylim=(0, START_HEIGHT), aspect="equal")
