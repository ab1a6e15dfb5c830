"""Where tiles and their captions are on a frame."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pgx_jax.appearance import INK, MUTED
from pgx_jax.rendering.episodes import Episode, Tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Layout(NamedTuple):
    """Sizes in pixels: of a tile's drawing, its caption, and what lies about tiles."""

    num_tiles: int
    columns: int
    rows: int
    width: int
    height: int
    caption: int
    margin: int
    name_size: float
    text_size: float

    @classmethod
    def create(cls, num_tiles: int, ratio: float) -> Layout:
        """The layout for drawings of a given aspect ratio."""
        if num_tiles == 1:
            return cls(1, 1, 1, 640, _even(640 / ratio), 48, 0, 17.0, 12.0)

        # The grid whose shape is closest to that of a screen, with few empty places.
        def cost(columns):
            rows = math.ceil(num_tiles / columns)
            shape = columns * ratio / (rows * (1.0 + 0.15 * ratio))
            return abs(math.log(shape / 2.0)) + 0.3 * (rows * columns - num_tiles)

        columns = min(range(1, num_tiles + 1), key=cost)
        width = _even(min(480, (1280 - 12 * (columns + 1)) / columns))
        rows = math.ceil(num_tiles / columns)
        height = _even(width / ratio)
        sizes = (14.0, 10.5) if width > 340 else (13.0, 10.0)
        return cls(num_tiles, columns, rows, width, height, 44, 12, *sizes)

    @property
    def size(self) -> tuple[int, int]:
        """Of the frame."""
        return (
            self.columns * (self.width + self.margin) + self.margin,
            self.rows * (self.height + self.caption + self.margin) + self.margin,
        )

    def corner(self, tile: int) -> tuple[int, int]:
        """The lower left one of a tile, from that of the frame."""
        row, column = divmod(tile, self.columns)
        # The last row's tiles are in the middle.
        missing = self.columns * (row + 1) - self.num_tiles
        shift = max(missing, 0) * (self.width + self.margin) // 2
        return (
            self.margin + column * (self.width + self.margin) + shift,
            self.size[1] - (row + 1) * (self.height + self.caption + self.margin),
        )


class Caption:
    """Name and parameters of a task at the left, return and time at the right."""

    def __init__(self, figure: Figure, layout: Layout, index: int, tile: Tile):
        self.time_step = tile.time_step
        left, bottom = layout.corner(index)
        inset = 16 if layout.margin == 0 else 12
        # Baselines of the two lines.
        upper = bottom + layout.height + 0.54 * layout.caption
        lower = bottom + layout.height + 0.17 * layout.caption
        right = left + layout.width - inset
        size, small = layout.name_size, layout.text_size
        muted = {"fontsize": small, "color": MUTED}
        strong = {"fontsize": size, "color": INK, "fontweight": "bold"}
        add = functools.partial(figure.text, transform=None)
        left += inset
        dot = {"fontsize": 0.8 * size, "color": tile.color}
        add(left, upper + 0.08 * size, "\N{BLACK CIRCLE}", **dot)
        name = add(left + 0.95 * size, upper, tile.name, **strong)
        details = add(left, lower, tile.details, **muted)
        self.episode_return = add(right, upper, "", ha="right", **strong)
        self.time = add(right, lower, "", ha="right", **muted)
        _shorten(name, layout.width - 2 * inset - 6.5 * size, "")
        _shorten(details, layout.width - 2 * inset - 8.0 * small, " · ")

    def update(self, episode: Episode, step: int) -> None:
        """Writes what differs between frames."""
        total = float(episode.episode_return[step])
        text = f"{total:.0f}" if abs(total) >= 99.95 else f"{total:.1f}"
        if np.all(episode.episode_return == episode.episode_return.round()):
            text = f"{total:.0f}"
        self.episode_return.set_text(text.replace("-", "\N{MINUS SIGN}"))
        if self.time_step is None:
            time = f"step {step}"
        else:
            time = f"{step * self.time_step:.1f} s"
        ended = step == episode.num_steps and episode.terminated
        state = "solved · " if episode.success[step] else "ended · " if ended else ""
        self.time.set_text(state + time)


def _shorten(text: Any, width: float, separator: str) -> None:
    """Leaves the end of a text out until it is at most `width` pixels wide.

    A text of parts loses whole parts.
    """
    whole = text.get_text()
    parts = whole.split(separator) if separator else list(whole)
    for count in range(len(parts) - 1, 0, -1):
        if text.get_window_extent().width <= width:
            return
        text.set_text(separator.join(parts[:count]) + ("" if separator else "…"))


def _even(x: float) -> int:
    """The nearest even number; codecs take no others."""
    return 2 * round(x / 2)
