"""How traffic is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import numpy as np

from pgx_jax.envs.highway.vehicle import (
    LANE_WIDTH,
    LENGTH,
    WIDTH,
    Vehicles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _draw_vehicle(axes: Axes, vehicles: Vehicles, slot: int, color: str) -> None:
    """A rounded body and a windscreen, turned by the heading."""
    from matplotlib.patches import FancyBboxPatch, Rectangle
    from matplotlib.transforms import Affine2D

    place = Affine2D().rotate(float(vehicles.heading[slot]))
    x, y = float(vehicles.x[slot]), float(vehicles.y[slot])
    place = place.translate(x, y) + axes.transData
    corner = (-LENGTH / 2 + 0.3, -WIDTH / 2 + 0.3)
    body = FancyBboxPatch(
        corner,
        LENGTH - 0.6,
        WIDTH - 0.6,
        boxstyle="round,pad=0.3",
        facecolor=color,
        edgecolor="#222222",
        linewidth=0.8,
        transform=place,
    )
    glass = Rectangle((0.5, -0.75), 0.8, 1.5, color="#222222", alpha=0.7, lw=0)
    glass.set_transform(place)
    axes.add_patch(body)
    axes.add_patch(glass)


def draw_highway(axes: Axes, vehicles: Vehicles, num_lanes: jax.Array) -> None:
    """Draws vehicles and the road around the ego onto empty Matplotlib axes.

    Args:
      axes: to draw onto.
      vehicles: of one road; leaves [vehicles].
      num_lanes: int32 [].
    """
    from matplotlib.patches import Rectangle

    vehicles = jax.tree.map(np.asarray, vehicles)
    lanes = int(num_lanes)
    left, right = float(vehicles.x[0]) - 30, float(vehicles.x[0]) + 90
    top, bottom = -LANE_WIDTH / 2, (lanes - 0.5) * LANE_WIDTH
    axes.set_xlim(left, right)
    # y points to the right of the driver, which is downwards on the page.
    axes.set_ylim(bottom + 2, top - 2)
    axes.set_aspect("equal")
    axes.set_facecolor("#dfe6dc")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.add_patch(
        Rectangle((left, top), right - left, bottom - top, color="#4a4d52", lw=0)
    )
    for edge in (top, bottom):
        axes.plot([left, right], [edge, edge], color="white", lw=1.5)
    # Dashes stand still on the road while the view follows the ego.
    starts = np.arange(math.floor(left / 12) * 12, right, 12)
    for line in (np.arange(1, lanes) - 0.5) * LANE_WIDTH:
        axes.hlines([line] * len(starts), starts, starts + 4, color="white", lw=1)
    for slot in np.flatnonzero(vehicles.present)[::-1].tolist():
        color = "#f2b134" if slot == 0 else "#7fb7e6"
        if vehicles.crashed[slot]:
            color = "#d64545"
        _draw_vehicle(axes, vehicles, slot, color)
