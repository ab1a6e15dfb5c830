"""What a run leaves while it goes on: metrics on disk, progress in the terminal."""

from __future__ import annotations

import collections
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np
from numpy.typing import ArrayLike

_METRICS_FILE = "metrics.jsonl"
_MAX_LISTED_TASKS = 12  # with more tasks, the progress shows their spread only
_RATE_WINDOW = 30.0  # s over which the steps per second are averaged


class MetricsWriter:
    """Appends metrics to `metrics.jsonl`, and to TensorBoard where that is wanted.

    A line is one JSON object, `{"stage": ..., "step": ..., metric: value, ...}`, on
    disk as soon as `write` returns. TensorBoard gets one run a stage, in
    `directory/tensorboard/`, so that a stage can be rewound without the others.

    Args:
      directory: made if it does not exist; an earlier run's lines are kept.
      tensorboard: whether to write TensorBoard's events too (needs `tensorboardX`).
      task_names: names the entries of per-task metrics in TensorBoard; their indices
        do where it is left out.

    Raises:
      ImportError: if `tensorboard` is asked for and `tensorboardX` is not installed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        tensorboard: bool = True,
        task_names: Sequence[str] | None = None,
    ) -> None:
        if tensorboard:
            _import_tensorboard()
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._tensorboard = tensorboard
        self._task_names = None if task_names is None else list(task_names)
        self._event_writers: dict[str, Any] = {}
        path = self._directory / _METRICS_FILE
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            _write_atomically(path, _whole_lines(path))
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(
        self, stage: str, step: int, metrics: Mapping[str, float | ArrayLike]
    ) -> None:
        """Writes one line.

        Args:
          stage: what the run is doing.
          step: environment steps done in this stage.
          metrics: numbers, or arrays such as one number a task; what is not finite is
            written as null.

        Raises:
          ValueError: if a metric is called "stage" or "step".
        """
        if reserved := {"stage", "step"} & set(metrics):
            raise ValueError(f"metrics must not be called {sorted(reserved)}")
        arrays = {name: np.asarray(value) for name, value in metrics.items()}
        line = {"stage": stage, "step": int(step)}
        line |= {
            name: _finite_or_none(array.tolist()) for name, array in arrays.items()
        }
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        if self._tensorboard:
            self._write_events(stage, int(step), arrays)

    def rewind(self, stage: str, step: int) -> None:
        """Drops what was written of a stage after a step; to be called on resuming.

        A run that was killed may have written past its last checkpoint; resumed from
        that checkpoint, it would write those lines again. The file is replaced in one
        go: it never lacks a line that is to stay.

        Args:
          stage: the stage that is resumed.
          step: the step of its checkpoint.
        """
        path = self._directory / _METRICS_FILE
        kept = [
            line
            for line in _whole_lines(path)
            if not _is_later(json.loads(line), stage, step)
        ]
        self._file.close()
        _write_atomically(path, kept)
        self._file = path.open("a", encoding="utf-8")
        if self._tensorboard and self._event_directory(stage).exists():
            if writer := self._event_writers.pop(stage, None):
                writer.close()
            self._open_events(stage, purge_step=step + 1)

    def close(self) -> None:
        """Closes the files; the writer is of no use afterwards."""
        self._file.close()
        for writer in self._event_writers.values():
            writer.close()
        self._event_writers.clear()

    def _write_events(
        self, stage: str, step: int, arrays: Mapping[str, np.ndarray]
    ) -> None:
        writer = self._event_writers.get(stage) or self._open_events(stage)
        for name, array in arrays.items():
            tag = f"{_slug(stage)}/{name}"
            if array.ndim == 0:
                writer.add_scalar(tag, float(array), step)
                continue
            names = self._entry_names(array)
            for entry_name, entry in zip(names, array.ravel().tolist(), strict=True):
                writer.add_scalar(f"{tag}/{_slug(entry_name)}", float(entry), step)

    def _entry_names(self, array: np.ndarray) -> list[str]:
        if self._task_names is not None and array.shape == (len(self._task_names),):
            return self._task_names
        return ["_".join(map(str, index)) for index in np.ndindex(array.shape)]

    def _event_directory(self, stage: str) -> Path:
        return self._directory / "tensorboard" / _slug(stage)

    def _open_events(self, stage: str, purge_step: int | None = None) -> Any:
        directory = self._event_directory(stage)
        # Event files are called after the second; the suffix tells two of one second
        # apart, and keeps the order in which TensorBoard reads them.
        num_files = len(list(directory.glob("*"))) if directory.exists() else 0
        writer = _import_tensorboard().SummaryWriter(
            str(directory), purge_step=purge_step, filename_suffix=f".{num_files:04d}"
        )
        self._event_writers[stage] = writer
        return writer


def read_metrics(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, in order; null is read as None.

    A last line that a killed run left unfinished is passed over.
    """
    lines = _whole_lines(Path(directory) / _METRICS_FILE)
    return [json.loads(line) for line in lines]


class Progress:
    """Shows how far a run is: in a terminal a live display, else plain lines.

    The display has, for the stage that runs, a bar, environment steps, steps per second
    and time left, and the return of every task (their least, median and greatest, where
    there are many). It is drawn with `rich`; without it, or where the stream is no
    terminal, a line is printed every few seconds.

        with Progress() as progress:
            progress.start("meta-training", total_steps=1_000_000, task_names=names)
            for steps, returns in training:
                progress.update(steps, returns)
            progress.finish()

    Args:
      stream: where to; standard output by default.
      interval: seconds between plain lines.
      clock: gives the time in seconds.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._interval = interval
        self._clock = clock
        self._stage: _StageProgress | None = None
        self._last_line = -math.inf
        self._display = _make_display(self._stream, lambda: self._stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stage is not None:
            if self._display is None:
                self._print_line()
            self._stage = None
        if self._display is not None:
            self._display.stop()

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
          task_names: names of the tasks that `update` gives returns of.
        """
        if self._stage is not None:
            self.finish()
        self._stage = _StageProgress(
            stage, total_steps, done_steps, tuple(task_names), self._clock
        )
        self._last_line = -math.inf
        if self._display is not None:
            self._display.start()
        elif done_steps:
            self.note(f"{stage}: resumed at {format_count(done_steps)} steps")

    def update(self, steps: int, returns: ArrayLike | None = None) -> None:
        """Tells how far the stage is.

        Args:
          steps: environment steps done in this stage so far, earlier runs' included.
          returns: the latest return of every task, [n], NaN where there is none yet;
            those shown stay if it is left out.

        Raises:
          RuntimeError: if no stage has been started.
          ValueError: if `returns` has another length than the stage's task names.
        """
        if self._stage is None:
            raise RuntimeError("start a stage before updating it")
        self._stage.update(steps, returns)
        if self._display is not None:
            self._display.refresh()
        elif self._clock() - self._last_line >= self._interval:
            self._print_line()

    def finish(self) -> None:
        """Ends the stage, leaving one line about it."""
        if self._stage is None:
            raise RuntimeError("start a stage before finishing it")
        stage, self._stage = self._stage, None
        if self._display is not None:
            self._display.stop()
        self.note(stage.closing_line(), style="bold green", mark="✓ ")

    def note(self, text: str, *, style: str = "", mark: str = "") -> None:
        """Prints a line, above the display if there is one."""
        if self._display is not None:
            self._display.note(text, style=style, mark=mark)
        else:
            print(text, file=self._stream, flush=True)

    def _print_line(self) -> None:
        self._last_line = self._clock()
        if self._stage is not None:
            self.note(self._stage.plain_line())


class _StageProgress:
    """How far one stage is, and how fast it goes."""

    def __init__(
        self,
        name: str,
        total_steps: int,
        done_steps: int,
        task_names: tuple[str, ...],
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.total_steps = int(total_steps)
        self.steps = int(done_steps)
        self.task_names = task_names
        self.returns: np.ndarray | None = None
        self._clock = clock
        self._first_steps = self.steps
        self._first_time = clock()
        self._history = collections.deque([(self._first_time, self.steps)])

    def update(self, steps: int, returns: ArrayLike | None) -> None:
        if returns is not None:
            returns = np.asarray(returns, dtype=np.float64)
            if self.task_names and returns.shape != (len(self.task_names),):
                raise ValueError(
                    f"returns must have shape ({len(self.task_names)},), one a task, "
                    f"got {returns.shape}"
                )
            self.returns = returns.ravel()
        self.steps = int(steps)
        now = self._clock()
        self._history.append((now, self.steps))
        while len(self._history) > 2 and now - self._history[1][0] > _RATE_WINDOW:
            self._history.popleft()

    @property
    def fraction(self) -> float:
        """The share that is done, in [0, 1]."""
        return min(self.steps / self.total_steps, 1.0) if self.total_steps else 0.0

    @property
    def steps_per_second(self) -> float:
        """Over the last half minute; 0 before the first update."""
        (first_time, first_steps), (time_, steps) = self._history[0], self._history[-1]
        return (steps - first_steps) / (time_ - first_time) if time_ > first_time else 0

    @property
    def elapsed(self) -> float:
        """Seconds since the stage was started."""
        return self._clock() - self._first_time

    @property
    def seconds_left(self) -> float:
        """At the present rate; infinite before the first update."""
        rate = self.steps_per_second
        left = max(self.total_steps - self.steps, 0)
        return left / rate if rate > 0 else math.inf

    def returns_shown(self) -> Iterator[tuple[str, str]]:
        """Pairs of a name and a return: of every task, or of the spread of many."""
        if self.returns is None:
            return
        values = self.returns
        if values.size <= _MAX_LISTED_TASKS:
            names = self.task_names or tuple(map(str, range(values.size)))
            yield from zip(names, map(format_return, values), strict=True)
            return
        known = values[np.isfinite(values)]
        spread = np.quantile(known, [0.0, 0.5, 1.0]) if known.size else [math.nan] * 3
        names = ("min", "median", "max")
        yield from zip(names, map(format_return, spread), strict=True)

    def plain_line(self) -> str:
        """Everything in one line of text."""
        parts = [self.name]
        if self.total_steps:
            total = format_count(self.total_steps)
            parts = [
                f"{self.name} {self.fraction:4.0%}",
                f"{format_count(self.steps)} / {total} steps",
            ]
        if self.steps_per_second:
            parts.append(f"{format_count(self.steps_per_second)}/s")
            if self.seconds_left > 0:
                parts.append(f"{format_duration(self.seconds_left)} left")
        if shown := " ".join(f"{name}={value}" for name, value in self.returns_shown()):
            parts.append(f"return {shown}")
        return " | ".join(parts)

    def closing_line(self) -> str:
        """What the stage took."""
        elapsed = self.elapsed
        line = f"{self.name} took {format_duration(elapsed)}"
        steps = self.steps - self._first_steps
        if steps and elapsed > 0:
            rate = format_count(steps / elapsed)
            line += f": {format_count(steps)} steps, {rate} a second"
        return line


def _make_display(
    stream: TextIO, current: Callable[[], _StageProgress | None]
) -> _LiveDisplay | None:
    """The live display, or None where there is no terminal or no `rich`."""
    if not getattr(stream, "isatty", lambda: False)():
        return None
    try:
        import rich.live  # noqa: F401
    except ImportError:
        return None
    return _LiveDisplay(stream, current)


class _LiveDisplay:
    """The stage that runs, redrawn in place."""

    def __init__(
        self, stream: TextIO, current: Callable[[], _StageProgress | None]
    ) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._current = current
        self._live: Any = None

    def start(self) -> None:
        from rich.live import Live

        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=8,
            transient=True,
        )
        self._live.start()

    def refresh(self) -> None:
        """Draws what is new at once; the clock goes on by itself in between."""
        if self._live is not None:
            self._live.refresh()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str, *, style: str, mark: str) -> None:
        from rich.text import Text

        self._console.print(Text.assemble((mark, style), text))

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        stage = self._current()
        if stage is None:
            return Text()
        rows = [self._progress_row(stage)]
        if returns := list(stage.returns_shown()):
            rows.append(self._returns_table(returns))
        return Group(*rows)

    def _progress_row(self, stage: _StageProgress) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1), expand=False)
        title = Text(stage.name, style="bold")
        if not stage.total_steps:
            elapsed = Text(format_duration(stage.elapsed), style="dim")
            row.add_row(Spinner("dots", style="cyan", speed=1.0), title, elapsed)
            return row
        waiting = stage.steps_per_second == 0
        width = max(10, min(40, self._console.width - len(stage.name) - 54))
        bar = ProgressBar(
            total=1.0,
            completed=stage.fraction,
            width=width,
            complete_style="cyan",
            finished_style="green",
        )
        steps = f"{format_count(stage.steps)}/{format_count(stage.total_steps)} steps"
        if waiting:  # the first update comes after compiling
            pace = Text(f"compiling {format_duration(stage.elapsed)}", style="dim")
        else:
            rate = f"{format_count(stage.steps_per_second)}/s"
            pace = Text.assemble(
                (rate, "cyan"), (f"  {format_duration(stage.seconds_left)} left", "dim")
            )
        row.add_row(title, bar, f"{stage.fraction:4.0%}", Text(steps), pace)
        return row

    def _returns_table(self, returns: list[tuple[str, str]]) -> Any:
        from rich.table import Table
        from rich.text import Text

        cell = max(len(name) + max(len(value), 5) for name, value in returns) + 4
        room = max(1, (self._console.width - 10) // cell)
        num_rows = math.ceil(len(returns) / room)
        num_columns = math.ceil(len(returns) / num_rows)
        table = Table.grid(padding=(0, 1))
        for _ in range(num_columns):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", min_width=5, no_wrap=True)
            table.add_column(width=1)
        for start in range(0, len(returns), num_columns):
            cells: list[Any] = []
            for name, value in returns[start : start + num_columns]:
                cells += [Text(name), Text(value), ""]
            table.add_row(*cells)
        titled = Table.grid(padding=(0, 2))
        titled.add_row(Text("return", style="dim italic"), table)
        return titled


def format_count(count: float) -> str:
    """A count in three digits: 950, 1.25k, 48.3M."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(count) < 999.5 or unit == "T":
            break
        count /= 1000.0
    if not unit and count == int(count):
        return str(int(count))
    digits = max(0, 2 - int(math.log10(max(abs(count), 1.0))))
    return f"{count:.{digits}f}{unit}"


def format_duration(seconds: float) -> str:
    """A duration in the units that matter: 40 ms, 4.2 s, 3 min 05 s, 2 h 10 min."""
    if not math.isfinite(seconds):
        return "?"
    if 0.0 < seconds < 0.1:
        return f"{1000.0 * seconds:.2g} ms"
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def format_return(value: float) -> str:
    """A return in about three digits; a dash where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _import_tensorboard() -> Any:
    try:
        import tensorboardX
    except ImportError as error:
        raise ImportError(
            "writing TensorBoard events needs tensorboardX: install "
            "pgx_jax[experiments], or pass tensorboard=False"
        ) from error
    return tensorboardX


def _slug(text: str) -> str:
    """Text as file names and TensorBoard's tags may have it."""
    return re.sub(r"[^\w.-]+", "_", text)


def _finite_or_none(value: Any) -> Any:
    """The same number, or nested list, with None for what is not finite."""
    if isinstance(value, list):
        return [_finite_or_none(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole_lines(path: Path) -> list[str]:
    """A file's lines without what follows the last line end; none if it is missing."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _write_atomically(path: Path, lines: Sequence[str]) -> None:
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _is_later(line: Mapping[str, Any], stage: str, step: int) -> bool:
    return line["stage"] == stage and line["step"] > step
