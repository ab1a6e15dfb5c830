"""Metrics on disk survive being killed; progress reads well without a terminal."""

from __future__ import annotations

import io
import json
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax import logging


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


def test_lines_are_valid_json_with_null_for_nan(tmp_path):
    with logging.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write(
            "meta-training",
            np.int64(128),
            {"loss": jnp.float32(0.5), "return": jnp.array([1.0, jnp.nan, jnp.inf])},
        )
        (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()  # before close
    assert json.loads(line, parse_constant=pytest.fail) == {
        "stage": "meta-training",
        "step": 128,
        "loss": 0.5,
        "return": [1.0, None, None],
    }
    assert logging.read_metrics(tmp_path) == [json.loads(line)]


def test_metrics_must_not_hide_the_stage(tmp_path):
    with (
        logging.MetricsWriter(tmp_path, tensorboard=False) as writer,
        pytest.raises(ValueError, match="step"),
    ):
        writer.write("a", 1, {"step": 2.0})


def test_resumed_run_repeats_no_line(tmp_path):
    def run(first: int, last: int) -> None:
        for step in range(first, last):
            writer.write("group training", step, {"loss": float(step)})

    with logging.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write("meta-training", 100, {"loss": 9.0})
        run(0, 7)
    with logging.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.rewind("group training", 4)
        run(5, 9)
    lines = logging.read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [100, *range(9)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_unfinished_last_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "a", "step": 1}\n{"stage": "a", "st')
    assert logging.read_metrics(tmp_path) == [{"stage": "a", "step": 1}]
    with logging.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write("a", 2, {})
    assert [line["step"] for line in logging.read_metrics(tmp_path)] == [1, 2]


def test_no_run_has_no_metrics(tmp_path):
    assert logging.read_metrics(tmp_path) == []


def read_events(directory):
    """Pairs of tag and step that TensorBoard would show, and the value of each."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    values = {}
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            if event.HasField("session_log"):
                values = {k: v for k, v in values.items() if k[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in values
                values[value.tag, event.step] = value.simple_value
    return values


def test_tensorboard_gets_one_scalar_a_task(tmp_path):
    pytest.importorskip("tensorboardX")
    with logging.MetricsWriter(tmp_path, task_names=["left", "right"]) as writer:
        writer.write("group training", 3, {"loss": 0.5, "return": [1.0, 2.0]})
        writer.write("group training", 3, {"other": [1.0, 2.0, 4.0]})
    assert read_events(tmp_path / "tensorboard" / "group_training") == {
        ("group_training/loss", 3): 0.5,
        ("group_training/return/left", 3): 1.0,
        ("group_training/return/right", 3): 2.0,
        ("group_training/other/0", 3): 1.0,
        ("group_training/other/1", 3): 2.0,
        ("group_training/other/2", 3): 4.0,
    }


def test_tensorboard_is_rewound_one_stage_at_a_time(tmp_path):
    pytest.importorskip("tensorboardX")
    with logging.MetricsWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write("a", step, {"x": step})
            writer.write("b", step, {"x": step})
    with logging.MetricsWriter(tmp_path) as writer:
        writer.rewind("a", 1)
        writer.write("a", 2, {"x": 20})
    events = tmp_path / "tensorboard"
    assert read_events(events / "a") == {("a/x", 1): 1.0, ("a/x", 2): 20.0}
    assert set(read_events(events / "b")) == {("b/x", 1), ("b/x", 2), ("b/x", 3)}


def test_missing_tensorboard_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pgx_jax\[experiments\]"):
        logging.MetricsWriter(tmp_path)
    logging.MetricsWriter(tmp_path, tensorboard=False).close()


def test_plain_progress_prints_a_line_every_few_seconds():
    stream, clock = io.StringIO(), Clock()
    with logging.Progress(stream=stream, interval=5.0, clock=clock) as progress:
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
    with logging.Progress(stream=stream) as progress:
        progress.start("meta-training", 100, task_names=list(map(str, range(50))))
        progress.update(10, np.arange(50.0))
    assert "return min=0 median=24.5 max=49" in stream.getvalue()


def test_resumed_steps_do_not_count_as_speed():
    stream, clock = io.StringIO(), Clock()
    with logging.Progress(stream=stream, clock=clock) as progress:
        progress.start("meta-training", 2_000, done_steps=1_000)
        clock.time = 2.0
        progress.update(1_200)
        progress.finish()
    resumed, line, closing = stream.getvalue().splitlines()
    assert resumed == "meta-training: resumed at 1.00k steps"
    assert line == "meta-training  60% | 1.20k / 2.00k steps | 100/s | 8.0 s left"
    assert closing == "meta-training took 2.0 s: 200 steps, 100 a second"


def test_progress_refuses_returns_of_other_tasks():
    progress = logging.Progress(stream=io.StringIO())
    with pytest.raises(RuntimeError, match="start a stage"):
        progress.update(1)
    progress.start("meta-training", 100, task_names=["left", "right"])
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        progress.update(1, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("num_tasks", [3, 50])
def test_live_progress_draws_every_part(monkeypatch, num_tasks):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    names = [f"task-{i}" for i in range(num_tasks)]
    with logging.Progress(stream=stream) as progress:
        progress.start("meta-training", 1_000, task_names=names)
        progress.update(500, np.arange(float(num_tasks)))
        progress.note("a note [not markup]")
        progress.finish()
        progress.start("clustering", 0)
        progress.finish()
    text = stream.getvalue()
    parts = ["meta-training", "500/1.00k steps", "50%", "a note [not markup]", "✓"]
    parts += ["task-2"] if num_tasks == 3 else ["median"]
    assert [part for part in parts if part not in text] == []


def test_progress_needs_no_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.live", None)
    stream = Terminal()
    with logging.Progress(stream=stream) as progress:
        progress.start("meta-training", 100)
        progress.update(50)
    assert "50 / 100 steps" in stream.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.7, "1.00k"),
        (1_250, "1.25k"),
        (48_300_000, "48.3M"),
        (0.25, "0.25"),
        (2e15, "2000T"),
    ],
)
def test_counts_have_three_digits(count, text):
    assert logging.format_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.0412, "41 ms"),
        (4.21, "4.2 s"),
        (59.4, "59 s"),
        (185, "3 min 05 s"),
        (7_800, "2 h 10 min"),
        (math.inf, "?"),
    ],
)
def test_durations_are_short(seconds, text):
    assert logging.format_duration(seconds) == text
