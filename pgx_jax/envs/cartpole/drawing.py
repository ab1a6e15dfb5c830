"""How a pole on a cart is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from brax.envs.base import State

from pgx_jax.envs.cartpole.physics import (
    ANGLE_LIMIT,
    POSITION_LIMIT,
    CartPoleParameters,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _line(width: float) -> dict[str, Any]:
    return {"color": "#c5cad3", "linewidth": width, "solid_capstyle": "round"}


def _turned(axes: Axes, position: float, sin: float, cos: float):
    """Of a drawing at the origin: leaning to the right, and moved to a position."""
    from matplotlib.transforms import Affine2D

    return Affine2D([[cos, sin, position], [-sin, cos, 0], [0, 0, 1]]) + axes.transData


def draw_cartpole(axes: Axes, state: State, parameters: CartPoleParameters) -> None:
    """Draws one state, without leading axes, onto empty Matplotlib axes.

    Args:
      axes: to draw onto.
      state: of the environment.
      parameters: of the task.
    """
    from matplotlib.patches import Circle, FancyBboxPatch, Wedge

    p = jax.tree.map(np.asarray, parameters)
    position, _, angle, _ = np.asarray(state.obs)
    length = 2.0 * float(p.pole_half_length)
    # Sizes in proportion to the cube root of the mass.
    width, height = 0.62 * np.cbrt(p.cart_mass), 0.3 * np.cbrt(p.cart_mass)
    pole_width = 0.14 * np.cbrt(p.pole_mass / 0.1)
    wheel, track = 0.09, -height / 2 - 0.16

    axes.plot([-POSITION_LIMIT, POSITION_LIMIT], [track, track], **_line(2.5))
    for end in (-POSITION_LIMIT, POSITION_LIMIT):
        axes.plot([end, end], [track, track + 0.14], **_line(2.5))
    limit = np.rad2deg(ANGLE_LIMIT)
    axes.add_patch(
        Wedge((position, 0), 1.12 * length, 90 - limit, 90 + limit, color="#eef0f6")
    )
    for side in (-0.3, 0.3):
        center = (position + side * width, track + wheel)
        axes.add_patch(Circle(center, wheel, color="#6b7280"))
    cart = FancyBboxPatch(
        (position - width / 2 + 0.05, -height / 2 + 0.05),
        width - 0.1,
        height - 0.1,
        boxstyle="round,pad=0.05",
        color="#1f2430",
    )
    axes.add_patch(cart)
    sin, cos = np.sin(angle), np.cos(angle)
    pole = FancyBboxPatch(
        (-pole_width / 2 + 0.02, 0.02),
        pole_width - 0.04,
        length - 0.04,
        boxstyle="round,pad=0.02",
        color="#6457d0",
        transform=_turned(axes, position, sin, cos),
    )
    axes.add_patch(pole)
    axes.add_patch(Circle((position, 0), 0.055, color="#ffffff", zorder=3))

    # A long pole is seen from farther away.
    top = max(1.62, 1.15 * length + 0.1)
    bottom = track - 0.2
    across = max(2 * POSITION_LIMIT + 0.8, 2.05 * (top - bottom))
    axes.set(xlim=(-across / 2, across / 2), ylim=(bottom, top), aspect="equal")
