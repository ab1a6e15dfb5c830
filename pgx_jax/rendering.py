"""Videos of policies: episodes played inside jit, drawn, captioned and encoded.

suite, policies = restore_policies("runs/cartpole_planted")
tiles = play_tasks(suite, policies, [0, 5], jax.random.key(0))
fps = natural_fps(tiles)
write_video("a1.mp4", draw_frames(tiles, fps), fps)
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.appearance import (
    ACCENT,
    INK,
    LINE,
    MUTED,
    PAGE,
    PAPER,
    figure_style,
    task_colors,
)
from pgx_jax.config import PipelineConfig
from pgx_jax.envs import CollectionSuite, TaskIdSuite, TaskSuite, make_suite
from pgx_jax.envs.dtypes import strengthen
from pgx_jax.networks.mlp import ActorCritic, make_actor_critic
from pgx_jax.pipeline import Groupings, Run, make_networks
from pgx_jax.runs.workdir import Workdir
from pgx_jax.scenes import Scene, find_ratio, keeper, make_scene, to_numpy
from pgx_jax.training.acting import act
from pgx_jax.training.statistics import RunningStatistics

if TYPE_CHECKING:
    from brax.envs.base import Env
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PyTree = Any
TRAINING_STAGES = ("group_training", "meta_training")
ENDINGS = (".mp4", ".gif")
MAX_TILES = 16
MAX_FPS = 50.0
DEFAULT_FPS = 30.0  # steps a second where an environment's time step is not known
HOLD = 0.8  # s that the end of an episode is shown for
MAX_NUMBERS = 3  # parameters with more numbers than that are left out of captions


class Policies(NamedTuple):
    """A policy for every task of a suite.

    Attributes:
      actor_critic: the networks.
      params: of the policies; leaves of shape [k, ...].
      observation_statistics: [k, observation_size].
      policy_ids: the policy of each task; int [n].
    """

    actor_critic: ActorCritic
    params: PyTree
    observation_statistics: RunningStatistics
    policy_ids: np.ndarray


class Episode(NamedTuple):
    """One episode of one task, its start included; NumPy arrays.

    Attributes:
      state: what drawing needs of every state; leaves of shape [steps + 1, ...].
      episode_return: so far; float32 [steps + 1].
      success: whether the task has reported success so far; bool [steps + 1].
      terminated: whether the task's own rules ended it, rather than the time limit.
    """

    state: PyTree
    episode_return: np.ndarray
    success: np.ndarray
    terminated: bool

    @property
    def num_steps(self) -> int:
        return len(self.episode_return) - 1


class Tile(NamedTuple):
    """What is shown of one task.

    Attributes:
      name: of the task.
      details: the parameters that tell it from the others.
      colour: of its group.
      env: made outside of jit.
      episodes: shown one after the other.
    """

    name: str
    details: str
    colour: str
    env: Env
    episodes: list[Episode]

    @property
    def time_step(self) -> float | None:
        """In s, where the environment tells."""
        step = getattr(self.env, "dt", None)
        return None if step is None else float(step)


# Policies


def restore_policies(
    workdir: str | os.PathLike[str],
    stage: str | None = None,
    method: str = "estimated groups",
) -> tuple[TaskSuite, Policies]:
    """The suite of a run and the policies that it has trained so far.

    Args:
      workdir: of the run, which may be under way.
      stage: "group_training" or "meta_training"; the later one that has a checkpoint if
        None.
      method: the way of grouping, as the report calls it; of those with several draws
        the first one counts. Not for meta-training.

    Raises:
      ValueError: there is no run, no checkpoint, no such stage or no such method; the
        message lists those that exist.
    """
    file = Path(workdir) / "config.json"
    if not file.exists():
        raise ValueError(f"workdir {str(workdir)!r} holds no run")
    stored = json.loads(file.read_text())
    config = PipelineConfig.from_dict(stored)
    suite = make_suite(config.suite.name)
    if config.suite.task_id:
        suite = TaskIdSuite.create(suite)
    actor_critic = make_networks(config, suite)
    directory = Workdir(workdir, stored)

    saved = _saved_stages(directory)
    if stage is not None and stage not in TRAINING_STAGES:
        raise ValueError(
            f"stage must be one of {', '.join(TRAINING_STAGES)}, got {stage!r}"
        )
    if not saved or (stage is not None and stage not in saved):
        raise ValueError(
            f"workdir {str(workdir)!r} has no checkpoint yet"
            + (f" of {stage}" if stage else "")
            + (f"; it has one of {', '.join(saved)}" if saved else "")
        )
    stage = stage or next(iter(saved))
    rows = np.arange(suite.num_tasks)
    if stage == "group_training":
        run = Run(config, suite, actor_critic, directory, None, None)
        rows = _rows_of_method(run, method)
    params, statistics, policy_ids = _restore_policy(saved[stage])
    return suite, Policies(actor_critic, params, statistics, policy_ids[rows])


def untrained_policies(suite: TaskSuite, key: jax.Array) -> Policies:
    """One policy for all tasks, its parameters drawn at random.

    With actions sampled, not at their mode, it shows what an environment looks like.
    """
    actor_critic = make_actor_critic(
        suite.observation_size, suite.action_space.size, suite.action_space.discrete
    )
    policy = actor_critic.init(key)["policy"]
    return Policies(
        actor_critic,
        jax.tree.map(lambda x: x[None], policy),
        RunningStatistics.create(1, (suite.observation_size,)),
        np.zeros((suite.num_tasks,), np.int32),
    )


def _saved_stages(directory: Workdir) -> dict[str, Path]:
    """Where the newest state of each training stage is, the later stage first."""
    saved = {}
    for stage in TRAINING_STAGES:
        checkpoints = directory.path / "checkpoints" / stage
        # Directories of other names are still being written to.
        steps = [int(x.name) for x in checkpoints.glob("*") if x.name.isdecimal()]
        if directory.is_finished(stage):
            saved[stage] = directory.path / "stages" / stage / "result"
        elif steps:
            saved[stage] = checkpoints / str(max(steps)) / "state"
    return saved


def _rows_of_method(run: Run, method: str) -> np.ndarray:
    """The row of each task, among the rows of group training, under a method."""
    methods = run.methods(run.directory.result("grouping"))
    names = [x.name for x in methods]
    if method not in names:
        raise ValueError(f"method must be one of {', '.join(names)}; got {method!r}")
    groupings = Groupings.create(methods)
    return groupings.rows(int(groupings.of_method[names.index(method)][0]))


def _restore_policy(path: Path) -> tuple[PyTree, RunningStatistics, np.ndarray]:
    """Policy parameters, observation statistics and the policy of every row.

    Read as NumPy arrays, whatever devices they were on, and without the environments
    and the optimiser, which are most of a checkpoint.
    """
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        wanted = {
            "params": {"policy": tree["params"]["policy"]},
            "observation_statistics": tree["observation_statistics"],
            "policy_ids": tree["policy_ids"],
        }
        kind = ocp.RestoreArgs(restore_type=np.ndarray)
        state = checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=jax.tree.map(lambda _: kind, wanted),
                partial_restore=True,
            ),
        )
    statistics = RunningStatistics(**state["observation_statistics"])
    return state["params"]["policy"], statistics, state["policy_ids"]


# Episodes


def find_tasks(suite: TaskSuite, names: str) -> list[int]:
    """Tasks by name or index, several separated by commas, or "all".

    Of more than 16 tasks, "all" takes 16 spread evenly.

    Raises:
      ValueError: there is no such task, or they are more than 16.
    """
    if names == "all":
        count = min(suite.num_tasks, MAX_TILES)
        return np.linspace(0, suite.num_tasks - 1, count).round().astype(int).tolist()
    tasks = []
    for name in map(str.strip, names.split(",")):
        if name in suite.task_names:
            tasks.append(suite.task_names.index(name))
        elif name.isdecimal() and int(name) < suite.num_tasks:
            tasks.append(int(name))
        else:
            raise ValueError(
                f"suite {suite.name!r} has no task {name!r}; it has "
                f"{', '.join(suite.task_names)}"
            )
    if len(tasks) > MAX_TILES:
        raise ValueError(f"at most {MAX_TILES} tasks fit a video, got {len(tasks)}")
    return tasks


def play_tasks(
    suite: TaskSuite,
    policies: Policies,
    tasks: Sequence[int],
    key: jax.Array,
    *,
    num_episodes: int = 1,
    deterministic: bool = True,
) -> list[Tile]:
    """Plays whole episodes of some tasks, each by its policy.

    Args:
      suite: n tasks.
      policies: of the n tasks.
      tasks: those to play.
      key: for the environments and the actions; task and episode are folded into it.
      num_episodes: per task.
      deterministic: take the most likely action, else sample.

    Raises:
      ValueError: `num_episodes` is below 1, or an environment cannot be drawn.
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes must be at least 1, got {num_episodes}")
    colours = _task_colours(policies.policy_ids)
    tiles = []
    for task in tasks:
        make_env, parameters, task_id = _task_of(suite, task)
        policy_id = int(policies.policy_ids[task])
        policy = jax.tree.map(
            lambda x, i=policy_id: x[i : i + 1],
            (policies.params, policies.observation_statistics),
        )
        env = make_env(parameters)
        keep = keeper(env)
        episodes = [
            _play(
                make_env,
                keep,
                policies.actor_critic,
                suite.episode_length,
                deterministic,
                parameters,
                task_id,
                policy,
                jax.random.fold_in(jax.random.fold_in(key, task), episode),
            )
            for episode in range(num_episodes)
        ]
        name, details = suite.task_names[task], describe_task(suite, task)
        tiles.append(
            Tile(name, details, colours[task], env, [_trim(x) for x in episodes])
        )
    return tiles


def describe_task(suite: TaskSuite, task: int) -> str:
    """The parameters that differ between a suite's tasks, as those of one task.

    Parameters of more than three numbers a task are left out, and so are suites that
    are no families. An environment class may describe its parameters itself, by a
    static method `describe(parameters)`.
    """
    if isinstance(suite, TaskIdSuite):
        suite = suite.suite
    describe = getattr(getattr(suite, "make_env", None), "describe", None)
    if describe is not None:
        return describe(jax.tree.map(lambda x: x[task], suite.parameters))
    parts = []
    for path, leaf in jax.tree.leaves_with_path(getattr(suite, "parameters", None)):
        values = np.asarray(leaf)
        of_task = values[task].ravel()
        if len(of_task) > MAX_NUMBERS or np.all(values == values[:1]):
            continue
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if name and not name.isidentifier():  # an array inside a simulator's model
            continue
        numbers = ", ".join(f"{x:.3g}" for x in of_task.tolist())
        numbers = f"({numbers})" if len(of_task) > 1 else numbers
        numbers = numbers.replace("-", "\N{MINUS SIGN}")
        parts.append(f"{name.replace('_', ' ')} {numbers}".strip())
    return " · ".join(parts)


def _task_of(
    suite: TaskSuite, task: int
) -> tuple[Callable[[PyTree], Env], PyTree, jax.Array]:
    """`make_env` of a task, its parameters, and what is appended to observations."""
    task_id = jnp.zeros((0,))
    if isinstance(suite, TaskIdSuite):
        task_id = jax.nn.one_hot(suite.task_ids[task], suite.num_ids)
        suite = suite.suite
    if isinstance(suite, CollectionSuite):
        for member, rows in zip(suite.members, suite.rows, strict=True):
            if task in rows:
                make_env, parameters, _ = _task_of(member, rows.index(task))
                return make_env, parameters, task_id
    parameters = jax.tree.map(lambda x: jnp.asarray(x)[task], suite.parameters)
    return suite.make_env, parameters, task_id


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _play(
    make_env,
    keep,
    actor_critic,
    length,
    deterministic,
    parameters,
    task_id,
    policy,
    key,
) -> tuple[Episode, jax.Array]:
    """One episode, `length` steps long; from its end on nothing changes.

    Given as well, for every state: whether it is after the episode's end.

    The environment is stepped here, not by its suite, which would give the first state
    of the next episode in place of the last one.
    """
    env = make_env(parameters)
    params, statistics = policy
    zero = jnp.zeros((1,), jnp.int32)

    def record(state, total, success, terminated, done):
        return Episode(keep(state), total, success, terminated), done

    def take_step(carry, step_key):
        state, total, success, terminated, done = carry
        observation = jnp.concatenate([state.obs, task_id])[None, None]
        action, _ = act(
            actor_critic,
            params,
            statistics,
            zero,
            observation,
            step_key,
            deterministic=deterministic,
        )
        new = env.step(state, action[0, 0])
        finite = jnp.all(jnp.isfinite(new.obs)) & jnp.isfinite(new.reward)
        moved = ~done & finite
        state = jax.tree.map(
            lambda new, old: jnp.where(moved, new, old).astype(old.dtype), new, state
        )
        total = total + jnp.where(moved, new.reward, 0.0).astype(jnp.float32)
        solved = new.metrics.get("success", jnp.zeros(())) > 0
        success = success | (moved & solved)
        terminated = terminated | (~done & (new.done.astype(bool) | ~finite))
        carry = (state, total, success, terminated, terminated)
        # The step that ends an episode is still one of it.
        return carry, record(state, total, success, terminated, done)

    reset_key, act_key = jax.random.split(key)
    start = jax.tree.map(strengthen, env.reset(reset_key))
    false = jnp.zeros((), bool)
    carry = (start, jnp.zeros(()), false, false, false)
    first = record(*carry)
    _, steps = jax.lax.scan(take_step, carry, jax.random.split(act_key, length))
    return jax.tree.map(
        lambda x, xs: jnp.concatenate([jnp.expand_dims(x, 0), xs]), first, steps
    )


def _trim(recorded: tuple[Episode, jax.Array]) -> Episode:
    """The states up to the end of the episode, as NumPy arrays."""
    episode, after = to_numpy(recorded)
    count = int(np.sum(~after))
    episode = jax.tree.map(lambda x: x[:count], episode)
    return episode._replace(terminated=bool(episode.terminated[-1]))


def _task_colours(policy_ids: np.ndarray) -> list[str]:
    """Of every task's group, as in the report."""
    labels = policy_ids.tolist()
    if len(set(labels)) == 1:
        return [ACCENT] * len(labels)
    return task_colors(labels)


# Frames


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


class _Layout(NamedTuple):
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
    def create(cls, num_tiles: int, ratio: float) -> _Layout:
        """For drawings of some width by height."""
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


class _Canvas:
    """One Matplotlib figure, drawn anew for every frame."""

    def __init__(self, tiles: Sequence[Tile], opengl: bool):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.scenes: list[Scene] = []
        self.layout = layout = _Layout.create(len(tiles), _common_ratio(tiles))
        # 72 dots an inch: one point, the unit of fonts and lines, is one pixel.
        size = np.array(layout.size) / 72
        self.figure = Figure(figsize=size, dpi=72, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        self.tiles = tiles
        self.axes = [self._add_axes(i) for i in range(len(tiles))]
        self.captions = [
            _Caption(self.figure, layout, i, tile) for i, tile in enumerate(tiles)
        ]
        for tile in tiles:
            scene = make_scene(
                tile.env,
                (layout.width, layout.height),
                colour=tile.colour,
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
        box = np.array([left, bottom, layout.width, layout.height], float)
        return self.figure.add_axes(box / [*layout.size, *layout.size], zorder=1)

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


class _Caption:
    """Name and parameters of a task at the left, return and time at the right."""

    def __init__(self, figure: Figure, layout: _Layout, index: int, tile: Tile):
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
        dot = {"fontsize": 0.8 * size, "color": tile.colour}
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


def _common_ratio(tiles: Sequence[Tile]) -> float:
    """Width by height of the tallest drawing, within what looks well."""
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


# Files


def check_output(path: str | os.PathLike[str]) -> None:
    """Tells whether a video can be written, before any long work.

    Raises:
      ValueError: its name ends in neither .mp4 nor .gif.
      ImportError: an MP4 is asked for and `imageio-ffmpeg` is missing.
      OSError: its directory does not exist.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"output must end in {' or '.join(ENDINGS)}, got {os.fspath(path)!r}"
        )
    if not Path(path).absolute().parent.is_dir():
        raise OSError(f"directory of output {os.fspath(path)!r} does not exist")
    if ending == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError:
            raise ImportError(
                "an MP4 needs imageio-ffmpeg: install pgx_jax[video], or write a .gif"
            ) from None


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float
) -> None:
    """Writes frames to an MP4 (H.264) or a GIF, whichever the name ends in.

    Args:
      path: is replaced if it exists.
      frames: at least one; uint8 [height, width, 3] of one even size.
      fps: frames a second.

    Raises:
      ValueError, ImportError, OSError: as `check_output`.
    """
    check_output(path)
    if Path(path).suffix.lower() == ".gif":
        _write_gif(path, frames, fps)
    else:
        _write_mp4(path, frames, fps)


def _write_mp4(path, frames: Iterable[np.ndarray], fps: float) -> None:
    import imageio_ffmpeg

    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    given = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps:.6g} -i -"
    # Of a kind that every player and browser shows, from its first byte on.
    wanted = "-c:v libx264 -preset slow -crf 18 -pix_fmt yuv420p -movflags +faststart"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *given.split()]
    command += [*wanted.split(), str(Path(path).absolute())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            for frame in itertools.chain([first], frames):
                process.stdin.write(frame.tobytes())
        except BrokenPipeError:
            pass  # it has ended; why is read below
        _, told = process.communicate()
    if process.returncode:
        raise OSError(f"writing {os.fspath(path)!r} failed: {told.decode().strip()}")


def _write_gif(path, frames: Iterable[np.ndarray], fps: float) -> None:
    from PIL import Image

    def images():
        shown = 0
        for index, frame in enumerate(frames):
            image = Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
            # GIFs count in hundredths of a second; rounding must not add up.
            until = round(100 * (index + 1) / fps)
            image.info["duration"] = 10 * (until - shown)
            shown = until
            yield image

    sequence = images()
    first = next(sequence)
    first.save(path, save_all=True, append_images=sequence, loop=0)
