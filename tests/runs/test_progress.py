"""Progress reads well in a terminal and without one."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

from pgx_jax.runs import progress as progress_module
from pgx_jax.runs.progress import Progress


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_plain_progress_prints_a_line_every_few_seconds():
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, interval=5.0, clock=clock) as progress:
        progress.start("meta-training", 10_000, task_names=["left", "right"])
        for second in range(1, 11):
            clock.time = float(second)
            progress.update(1_000 * second, [second, math.nan])
        progress.finish()
        progress.note("two groups")
    assert stream.getvalue().splitlines() == [
        (
            "meta-training  10% | 1.00k / 10.0k steps | 1.00k/s | 9.0 s left"
            " | return left=1 right=-"
        ),
        (
            "meta-training  60% | 6.00k / 10.0k steps | 1.00k/s | 4.0 s left"
            " | return left=6 right=-"
        ),
        "meta-training took 10 s: 10.0k steps, 1.00k a second",
        "two groups",
    ]


def test_progress_of_many_tasks_shows_their_spread():
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.start("meta-training", 100, task_names=list(map(str, range(50))))
        progress.update(10, np.arange(50.0))
    assert "return min=0 median=24.5 max=49" in stream.getvalue()


def test_resumed_steps_do_not_count_as_speed():
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock) as progress:
        progress.start("meta-training", 2_000, done_steps=1_000)
        clock.time = 2.0
        progress.update(1_200)
        progress.finish()
    resumed, line, closing = stream.getvalue().splitlines()
    assert resumed == "meta-training: resumed at 1.00k steps"
    assert line == "meta-training  60% | 1.20k / 2.00k steps | 100/s | 8.0 s left"
    assert closing == "meta-training took 2.0 s: 200 steps, 100 a second"


def test_progress_refuses_returns_of_other_tasks():
    progress = Progress(stream=io.StringIO())
    with pytest.raises(RuntimeError, match="start a stage"):
        progress.update(1)
    progress.start("meta-training", 100, task_names=["left", "right"])
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        progress.update(1, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("num_tasks", [3, 50])
def test_live_progress_draws_every_part(monkeypatch, num_tasks):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    names = [f"task-{i}" for i in range(num_tasks)]
    with Progress(stream=stream) as progress:
        progress.start("meta-training", 1_000, task_names=names)
        progress.update(500, np.arange(float(num_tasks)))
        progress.note("a note [not markup]")
        progress.finish()
        progress.start("clustering", 0)
        progress.finish()
    text = stream.getvalue()
    parts = ["meta-training", "500 / 1.00k steps", "50%", "a note [not markup]", "✓"]
    parts += ["task-2"] if num_tasks == 3 else ["median"]
    assert [part for part in parts if part not in text] == []


def test_a_terminal_shows_the_pace_of_a_resumed_stage(monkeypatch):
    """500 steps in 2 s, of which none are those of the earlier run."""
    monkeypatch.setenv("COLUMNS", "100")
    stream, clock = Terminal(), Clock()
    with Progress(stream=stream, clock=clock) as progress:
        progress.start("meta-training", 10_000, done_steps=5_000)
        clock.time = 2.0
        progress.update(5_500)
    assert "55%" in stream.getvalue()
    assert "250/s" in stream.getvalue() and "18 s left" in stream.getvalue()


def test_long_lines_of_a_log_file_are_not_wrapped():
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.note("word " * 100)
    assert stream.getvalue() == "word " * 100 + "\n"


@pytest.mark.parametrize(
    ("widgets", "is_live"), [(None, False), ("a specification", True)]
)
def test_a_notebook_is_live_where_it_has_widgets(monkeypatch, widgets, is_live):
    """Elsewhere each redrawing would be a line of its own in the cell's output."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    find = progress_module.importlib.util.find_spec
    monkeypatch.setattr(
        progress_module.importlib.util,
        "find_spec",
        lambda name, *_: widgets if name == "ipywidgets" else find(name),
    )
    assert Progress()._is_live is is_live


def test_a_log_file_gets_no_control_characters():
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        with Progress(stream=stream) as progress:
            progress.start("meta-training", 10, task_names=["left", "right"])
            progress.update(10, [1.0, 2.0])
            progress.finish()
    assert "\x1b" not in log.getvalue() and "\r" not in log.getvalue()
    assert "\x1b" in terminal.getvalue()
