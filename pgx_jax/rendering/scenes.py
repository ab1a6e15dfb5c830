"""How one state of an environment is drawn.

An environment that defines `draw(axes, state)` draws itself. One with a MuJoCo model is
rendered by MuJoCo where OpenGL starts, else drawn plainly by Matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.appearance import ACCENT
from pgx_jax.rendering.models import MujocoScene, PlainScene, find_model
from pgx_jax.types import PyTree

if TYPE_CHECKING:
    from brax.envs.base import Env, State
    from matplotlib.axes import Axes

RATIO = 640 / 312  # width by height of the scenes that are free to choose


class Scene(Protocol):
    """Draws states of one environment."""

    def paint(self, axes: Axes, recorded: PyTree) -> None:
        """Draws onto empty axes what `recorder(env)` took of a state, as NumPy."""

    def close(self) -> None:
        """Frees what the scene holds."""


class DrawnScene:
    """An environment that draws itself."""

    def __init__(self, env: Env):
        self.env = env

    def paint(self, axes: Axes, recorded: State) -> None:
        self.env.draw(axes, recorded)

    def close(self) -> None:
        """Does nothing: there is nothing to free."""


def recorder(env: Env) -> Callable[[State], PyTree]:
    """The function that takes out of a state, inside jit, what drawing needs of it.

    Args:
      env: made outside of jit.

    Raises:
      ValueError: the environment can be drawn in no way.
    """
    if hasattr(env, "draw"):
        return _record_all
    if find_model(env) is None:
        raise ValueError(
            f"environment {type(env).__name__} cannot be drawn: it has neither a "
            "method draw(axes, state) nor a MuJoCo model"
        )
    return _record_positions


def make_scene(
    env: Env, size: tuple[int, int], *, color: str = ACCENT, opengl: bool = True
) -> Scene:
    """Chooses how an environment's states are drawn.

    Args:
      env: made outside of jit.
      size: width and height in pixels of the images that MuJoCo renders.
      color: of robots whose model gives all parts the same one.
      opengl: whether to use MuJoCo's renderer where it can start.

    Raises:
      ValueError: the environment can be drawn in no way.
    """
    recorder(env)
    if hasattr(env, "draw"):
        return DrawnScene(env)
    model = find_model(env)
    assert model is not None
    if opengl:
        scene = MujocoScene.create(model, color, size)
        if scene is not None:
            return scene
    return PlainScene(model, color, RATIO)


def find_ratio(env: Env, recorded: PyTree) -> float:
    """The aspect ratio, width over height, that suits an environment's drawing.

    Args:
      env: made outside of jit.
      recorded: what is recorded of one of its states, with NumPy leaves.
    """
    if not hasattr(env, "draw"):
        return RATIO
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    env.draw(axes, recorded)
    return float(np.ptp(axes.get_xlim()) / np.ptp(axes.get_ylim()))


def to_numpy(tree: PyTree) -> PyTree:
    """The same with NumPy leaves, typed keys as the integers that they hold."""

    def convert(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        return np.asarray(x)

    return jax.tree.map(convert, tree)


def _record_all(state: State) -> State:
    return state


def _record_positions(state: State) -> dict[str, jax.Array]:
    """`qpos`, and the places of bodies moved by hand where the simulation has some."""
    physics = state.pipeline_state
    physics = getattr(physics, "data", physics)  # of MuJoCo Playground
    recorded = {"qpos": physics.qpos if hasattr(physics, "qpos") else physics.q}
    if getattr(physics, "mocap_pos", None) is not None:
        recorded |= {"mocap_pos": physics.mocap_pos, "mocap_quat": physics.mocap_quat}
    return recorded
