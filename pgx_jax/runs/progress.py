"""The progress display of a run."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self, TextIO

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.extras import needs_extra
from pgx_jax.runs.formats import format_count, format_duration, format_return

with needs_extra("experiments"):
    import rich.progress
    from rich.columns import Columns
    from rich.console import Console, RenderableType
    from rich.table import Column
    from rich.text import Text

_MAX_LISTED_TASKS = 12  # with more tasks, the progress shows their spread only
_RATE_WINDOW = 30.0  # s over which the steps per second are averaged


class Progress:
    """Shows the progress of a run: a live display, or plain lines where there is none.

    A terminal shows a bar of the stage under way, its environment steps, steps per
    second and time left, and the return of every task (their least, median and
    greatest, where there are many). So does a notebook where `ipywidgets` is installed.
    Everything else, such as a log file, gets a line every few seconds.

        with Progress() as progress:
            progress.start("meta-training", total_steps=1_000_000, task_names=names)
            for steps, returns in training:
                progress.update(steps, returns)
            progress.finish()

    Args:
      stream: where to write; standard output by default.
      interval: seconds between plain lines.
      clock: returns the time in seconds.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        console = Console(file=stream, highlight=False)
        self._is_live = _can_be_live(console, stream)
        self._display = _Display(console, clock)
        self._interval = interval
        self._clock = clock
        self._last_line = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._display.stage is not None and not self._is_live:
            self._print_line()
        self._close_stage()

    def start(
        self,
        stage: str,
        total_steps: int,
        done_steps: int = 0,
        task_names: Sequence[str] = (),
    ) -> None:
        """Begins a stage, finishing the one before it.

        Args:
          stage: its name.
          total_steps: environment steps that it takes in all; 0 if it takes none.
          done_steps: those done by an earlier run that this one resumes.
          task_names: names of the tasks whose returns `update` receives.
        """
        if self._display.stage is not None:
            self.finish()
        self._display.add_stage(stage, total_steps, done_steps, task_names)
        self._last_line = -math.inf
        if self._is_live:
            self._display.start()
        elif done_steps:
            self.note(f"{stage}: resumed at {format_count(done_steps)} steps")

    def update(self, steps: int, returns: ArrayLike | None = None) -> None:
        """Reports how far the stage is.

        Args:
          steps: environment steps done in this stage so far, earlier runs' included.
          returns: the latest return of every task, [n], NaN where there is none yet;
            those shown stay if it is left out.

        Raises:
          RuntimeError: if no stage has been started.
          ValueError: if `returns` has another length than the stage's task names.
        """
        if self._display.stage is None:
            raise RuntimeError("start a stage before updating it")
        self._display.update_stage(steps, returns)
        if self._is_live:
            self._display.refresh()
        elif self._clock() - self._last_line >= self._interval:
            self._print_line()

    def finish(self) -> None:
        """Ends the stage, leaving one line about it."""
        if self._display.stage is None:
            raise RuntimeError("start a stage before finishing it")
        line = self._display.closing_line()
        self._close_stage()
        mark = [("✓ ", "bold green")] if self._is_live else []
        self._print(Text.assemble(*mark, line))

    def note(self, text: str) -> None:
        """Prints a line, above the display if there is one."""
        self._print(Text(text))

    def _close_stage(self) -> None:
        if self._is_live:
            self._display.stop()
        self._display.remove_stage()

    def _print_line(self) -> None:
        self._last_line = self._clock()
        self.note(self._display.plain_line())

    def _print(self, text: Text) -> None:
        self._display.console.print(text, soft_wrap=True)
        self._display.console.file.flush()


class NotesOnly(Progress):
    """Shows the notes of a run, within the display of the run beside it.

    Args:
      display: of the other run.
      name: of this one, before each note.
    """

    def __init__(self, display: Progress, name: str) -> None:
        self._shown_by = display
        self._name = name

    def __exit__(self, *error: object) -> None:
        pass

    def start(
        self,
        stage: str,
        total_steps: int,
        done_steps: int = 0,
        task_names: Sequence[str] = (),
    ) -> None:
        pass

    def update(self, steps: int, returns: ArrayLike | None = None) -> None:
        pass

    def finish(self) -> None:
        pass

    def note(self, text: str) -> None:
        self._shown_by.note(f"{self._name}: {text}")


class _Display(rich.progress.Progress):
    """One stage at a time, with the returns of its tasks beneath."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self.stage: rich.progress.Task | None = None
        self._task_names: tuple[str, ...] = ()
        self._returns: np.ndarray | None = None
        super().__init__(
            rich.progress.TextColumn(
                "{task.description}", style="bold", markup=False, justify="left"
            ),
            rich.progress.BarColumn(
                bar_width=None,
                complete_style="cyan",
                finished_style="green",
                table_column=Column(max_width=40),
            ),
            _StepsColumn(table_column=Column(no_wrap=True)),
            console=console,
            get_time=clock,
            speed_estimate_period=_RATE_WINDOW,
            refresh_per_second=8,
            transient=True,
        )

    def add_stage(
        self, name: str, total_steps: int, done_steps: int, task_names: Sequence[str]
    ) -> None:
        self._task_names, self._returns = tuple(task_names), None
        task_id = self.add_task(
            name,
            total=total_steps or None,
            completed=int(done_steps),
            first_steps=int(done_steps),
            last_update=self.get_time(),
        )
        self.stage = self.tasks[self.task_ids.index(task_id)]

    def update_stage(self, steps: int, returns: ArrayLike | None) -> None:
        if returns is not None:
            returns = np.asarray(returns, dtype=np.float64)
            if self._task_names and returns.shape != (len(self._task_names),):
                raise ValueError(
                    f"returns must have shape ({len(self._task_names)},), one a task, "
                    f"got {returns.shape}"
                )
            self._returns = returns.ravel()
        assert self.stage is not None
        self.update(self.stage.id, completed=int(steps), last_update=self.get_time())

    def remove_stage(self) -> None:
        if self.stage is not None:
            self.remove_task(self.stage.id)
            self.stage = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the returns in columns."""
        yield self.make_tasks_table(self.tasks)
        if returns := self._shown_returns():
            cells = [Text.assemble((f"{n} ", "dim"), v) for n, v in returns]
            yield Columns(
                [Text("return", style="dim italic"), *cells], padding=(0, 2), equal=True
            )

    def plain_line(self) -> str:
        """Everything in one line of text."""
        assert self.stage is not None
        parts = [f"{self.stage.description} {_percentage(self.stage)}".rstrip()]
        parts += _pace(self.stage)
        returns = " ".join(f"{name}={value}" for name, value in self._shown_returns())
        return " | ".join([*parts, *([f"return {returns}"] if returns else [])])

    def closing_line(self) -> str:
        """What the stage took."""
        assert self.stage is not None
        elapsed = self.stage.elapsed or 0.0
        line = f"{self.stage.description} took {format_duration(elapsed)}"
        steps = _new_steps(self.stage)
        if steps and elapsed > 0:
            rate = format_count(steps / elapsed)
            line += f": {format_count(steps)} steps, {rate} a second"
        return line

    def _shown_returns(self) -> list[tuple[str, str]]:
        """Pairs of a name and a return: of every task, or of the spread of many."""
        if self._returns is None:
            return []
        values, names = self._returns, self._task_names
        if values.size > _MAX_LISTED_TASKS:
            known = values[np.isfinite(values)]
            names = ("min", "median", "max")
            values = np.quantile(known, [0.0, 0.5, 1.0]) if known.size else [np.nan] * 3
        names = names or tuple(map(str, range(len(values))))
        return list(zip(names, map(format_return, values), strict=True))


class _StepsColumn(rich.progress.ProgressColumn):
    """Share, steps, pace and time left; the time so far before the first update."""

    def render(self, task: rich.progress.Task) -> Text:
        elapsed = format_duration(task.elapsed or 0.0)
        if task.total is None:
            return Text(elapsed, style="dim")
        parts = [_percentage(task), *_pace(task)]
        if _rate(task) == 0:  # the first update comes after compiling
            parts.append(f"compiling {elapsed}")
        return Text("  ".join(parts))


def _can_be_live(console: Console, stream: TextIO | None) -> bool:
    if stream is None and console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return bool(getattr(stream or sys.stdout, "isatty", lambda: False)())


def _new_steps(task: rich.progress.Task) -> float:
    """Steps done since the stage was started or resumed."""
    return task.completed - task.fields["first_steps"]


def _rate(task: rich.progress.Task) -> float:
    """Steps per second over the last half minute; 0 before the first update."""
    if task.speed:
        return task.speed
    # Rich measures from the first update on; until the second one, from the start.
    seconds = task.fields["last_update"] - (task.start_time or 0.0)
    return _new_steps(task) / seconds if seconds > 0 else 0.0


def _percentage(task: rich.progress.Task) -> str:
    return "" if task.total is None else f"{min(task.percentage, 100.0):3.0f}%"


def _pace(task: rich.progress.Task) -> list[str]:
    """Steps done of all, steps per second and the time left, as far as known."""
    parts = []
    if task.total is not None:
        total = format_count(task.total)
        parts.append(f"{format_count(task.completed)} / {total} steps")
    if rate := _rate(task):
        parts.append(f"{format_count(rate)}/s")
        if left := task.remaining:
            parts.append(f"{format_duration(left / rate)} left")
    return parts
