"""Episodes side by side as frames, each task on a card with a caption."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from pgx_jax.appearance import LINE, PAGE, PAPER, figure_style
from pgx_jax.extras import needs_extra
from pgx_jax.rendering.episodes import Tile
from pgx_jax.rendering.layout import Caption, Layout
from pgx_jax.rendering.scenes import Scene, find_ratio, make_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_FPS = 50.0
DEFAULT_FPS = 30.0  # steps a second where an environment's time step is not known
HOLD = 0.8  # s that the end of an episode is shown for


def natural_fps(tiles: Sequence[Tile], speed: float = 1.0) -> float:
    """Frames a second at which every step is shown once in real time; at most 50."""
    steps = [tile.time_step or 1.0 / DEFAULT_FPS for tile in tiles]
    return min(MAX_FPS, speed / min(steps))


def draw_frames(
    tiles: Sequence[Tile], fps: float, *, speed: float = 1.0, opengl: bool = True
) -> Iterator[np.ndarray]:
    """Draws the episodes of some tasks side by side, one frame after the other.

    A tile whose episode has ended stays as it is until those of the others have; then
    come the next episodes.

    Args:
      tiles: at least one, of as many episodes each.
      fps: frames a second.
      speed: simulated seconds per second, or steps per thirtieth of a second where the
        time step is not known.
      opengl: whether to use MuJoCo's renderer where it can start.

    Yields:
      Frames, uint8 [height, width, 3]; height and width are even.

    Raises:
      ValueError: there is no tile, or `fps` or `speed` is not positive.
    """
    if not tiles:
        raise ValueError("tiles must hold at least one task")
    for name, value in (("fps", fps), ("speed", speed)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    with needs_extra("experiments"):
        import matplotlib

    # Around each step, since a generator must not leave its settings to the caller.
    style = {**figure_style(), "axes.facecolor": PAPER}
    with matplotlib.rc_context(style):
        canvas = _Canvas(tiles, opengl)
    try:
        for episode in range(len(tiles[0].episodes)):
            for steps in _frame_steps(tiles, episode, fps, speed):
                with matplotlib.rc_context(style):
                    frame = canvas.draw(episode, steps)
                yield frame
    finally:
        canvas.close()


def count_frames(tiles: Sequence[Tile], fps: float, *, speed: float = 1.0) -> int:
    """How many frames `draw_frames` gives."""
    episodes = range(len(tiles[0].episodes))
    return sum(len(_frame_steps(tiles, x, fps, speed)) for x in episodes)


def _frame_steps(
    tiles: Sequence[Tile], episode: int, fps: float, speed: float
) -> np.ndarray:
    """The step of every tile in every frame of an episode; int [frames, tiles]."""
    per_frame = np.array(
        [speed / fps / (tile.time_step or 1.0 / DEFAULT_FPS) for tile in tiles]
    )
    last = np.array([tile.episodes[episode].num_steps for tile in tiles])
    count = math.ceil(round(float(np.max(last / per_frame)), 6)) + 1
    count += round(HOLD * fps)
    steps = np.floor(np.arange(count)[:, None] * per_frame + 1e-6).astype(int)
    return np.minimum(steps, last)


class _Canvas:
    """One Matplotlib figure, drawn anew for every frame."""

    def __init__(self, tiles: Sequence[Tile], opengl: bool):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.scenes: list[Scene] = []
        self.layout = layout = Layout.create(len(tiles), _common_ratio(tiles))
        # 72 dots an inch: one point, the unit of fonts and lines, is one pixel.
        size = layout.size[0] / 72, layout.size[1] / 72
        self.figure = Figure(figsize=size, dpi=72, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        self.tiles = tiles
        self.axes = [self._add_axes(i) for i in range(len(tiles))]
        self.captions = [
            Caption(self.figure, layout, i, tile) for i, tile in enumerate(tiles)
        ]
        for tile in tiles:
            scene = make_scene(
                tile.env,
                (layout.width, layout.height),
                color=tile.color,
                opengl=opengl,
            )
            self.scenes.append(scene)
        if layout.margin:
            self.figure.set_facecolor(PAGE)
            for i in range(len(tiles)):
                self._add_card(i)

    def draw(self, episode: int, steps: np.ndarray) -> np.ndarray:
        """One frame, of the given step of every tile; uint8 [height, width, 3]."""
        for i, step in enumerate(steps.tolist()):
            played = self.tiles[i].episodes[episode]
            axes = self.axes[i]
            axes.clear()
            self.scenes[i].paint(
                axes, jax.tree.map(lambda x, s=step: x[s], played.state)
            )
            _clean(axes)
            failed = played.terminated and not played.success[-1]
            if failed and step == played.num_steps and len(self.tiles) > 1:
                _fade(axes)
            self.captions[i].update(played, step)
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        for scene in self.scenes:
            scene.close()

    def _add_axes(self, tile: int) -> Axes:
        layout = self.layout
        left, bottom = layout.corner(tile)
        width, height = layout.size
        box = (
            left / width,
            bottom / height,
            layout.width / width,
            layout.height / height,
        )
        return self.figure.add_axes(box, zorder=1)

    def _add_card(self, tile: int) -> None:
        """A white card with round corners, and a mask that cuts the drawing's off."""
        from matplotlib.patches import FancyBboxPatch, PathPatch
        from matplotlib.path import Path as Outline

        layout = self.layout
        left, bottom = layout.corner(tile)
        width, height = layout.width, layout.height + layout.caption

        def add_card(**style):
            box = "round,pad=0,rounding_size=9"
            card = FancyBboxPatch((left, bottom), width, height, box, transform=None)
            card.set(**style)
            self.figure.add_artist(card)
            return card.get_path()

        inner = add_card(facecolor=PAPER, edgecolor="none", zorder=0)
        add_card(facecolor="none", edgecolor=LINE, linewidth=1.0, zorder=3)
        # Round the other way than the card, which is so left out.
        x, y = (left - 1, left + width + 1), (bottom - 1, bottom + height + 1)
        corners = [(x[i], y[j]) for i, j in ((0, 0), (0, 1), (1, 1), (1, 0), (0, 0))]
        outside = Outline.make_compound_path(Outline(corners, closed=True), inner)
        mask = PathPatch(outside, facecolor=PAGE, linewidth=0, transform=None, zorder=2)
        self.figure.add_artist(mask)


def _common_ratio(tiles: Sequence[Tile]) -> float:
    """The aspect ratio of the tallest drawing, within bounds."""
    ratios = [
        find_ratio(x.env, jax.tree.map(lambda leaf: leaf[0], x.episodes[0].state))
        for x in tiles
    ]
    return min(max(min(ratios), 1.3), 3.2)


def _clean(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[], title="")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _fade(axes: Axes) -> None:
    """Pales a drawing whose episode has failed while others go on."""
    from matplotlib.patches import Rectangle

    axes.add_artist(
        Rectangle(
            (0, 0),
            1,
            1,
            transform=axes.transAxes,
            facecolor=PAPER,
            alpha=0.55,
            linewidth=0,
            zorder=100,
        )
    )
