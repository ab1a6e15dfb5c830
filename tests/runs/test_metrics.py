"""Metrics on disk survive being killed."""

from __future__ import annotations

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.runs import metrics


def test_lines_are_valid_json_with_null_for_nan(tmp_path):
    with metrics.MetricsWriter(tmp_path, tensorboard=False) as writer:
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
    assert metrics.read_metrics(tmp_path) == [json.loads(line)]


def test_metrics_must_not_hide_the_stage(tmp_path):
    with (
        metrics.MetricsWriter(tmp_path, tensorboard=False) as writer,
        pytest.raises(ValueError, match="step"),
    ):
        writer.write("a", 1, {"step": 2.0})


def test_resumed_run_repeats_no_line(tmp_path):
    def run(first: int, last: int) -> None:
        for step in range(first, last):
            writer.write("group training", step, {"loss": float(step)})

    with metrics.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write("meta-training", 100, {"loss": 9.0})
        run(0, 7)
    with metrics.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.rewind("group training", 4)
        run(5, 9)
    lines = metrics.read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [100, *range(9)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_unfinished_last_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "a", "step": 1}\n{"stage": "a", "st')
    assert metrics.read_metrics(tmp_path) == [{"stage": "a", "step": 1}]
    with metrics.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write("a", 2, {})
    assert [line["step"] for line in metrics.read_metrics(tmp_path)] == [1, 2]


def test_no_run_has_no_metrics(tmp_path):
    assert metrics.read_metrics(tmp_path) == []


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
    with metrics.MetricsWriter(tmp_path, task_names=["left", "right"]) as writer:
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
    with metrics.MetricsWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write("a", step, {"x": step})
            writer.write("b", step, {"x": step})
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.rewind("a", 1)
        writer.write("a", 2, {"x": 20})
    events = tmp_path / "tensorboard"
    assert read_events(events / "a") == {("a/x", 1): 1.0, ("a/x", 2): 20.0}
    assert set(read_events(events / "b")) == {("b/x", 1), ("b/x", 2), ("b/x", 3)}


def test_missing_tensorboard_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pgx_jax\[experiments\]"):
        metrics.MetricsWriter(tmp_path)
    metrics.MetricsWriter(tmp_path, tensorboard=False).close()
