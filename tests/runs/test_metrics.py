"""Metrics on disk survive being killed."""

from __future__ import annotations

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.runs import events, metrics


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
        lines = [*writer.lines("meta-training"), *writer.lines("group training")]
    with metrics.MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.restore("meta-training", lines[:1], is_finished=True)
        assert writer.restore("group training", lines[1:6]) is None
        run(5, 9)
    found = metrics.read_metrics(tmp_path)
    assert [line["step"] for line in found] == [100, *range(9)]
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


@pytest.fixture
def killed(tmp_path):
    """Lines of stages "a" and "b" at steps 1, 2 and 3, and past them."""
    pytest.importorskip("tensorboardX")
    with metrics.MetricsWriter(tmp_path) as writer:
        for stage in "ab":
            for step in (1, 2, 3):
                writer.write(stage, step, {"x": step, "y": [0.1 * step, np.nan]})
        lines = {stage: writer.lines(stage) for stage in "ab"}
        writer.write("b", 4, {"x": 40, "y": [4.0, 4.0]})
    return tmp_path, lines


def restore(killed):
    """What is said on resuming; then files must hold what a run without a kill has."""
    directory, lines = killed
    with metrics.MetricsWriter(directory) as writer:
        told = [writer.restore("a", lines["a"], is_finished=True)]
        told.append(writer.restore("b", lines["b"]))
        writer.write("b", 4, {"x": 4, "y": [0.4, np.nan]})
        writer.flush()  # a kill here loses nothing
        assert_equal_to_lines(directory)
    text = "".join(f"{line}\n" for line in lines["a"] + lines["b"])
    text += '{"stage": "b", "step": 4, "x": 4, "y": [0.4, null]}\n'
    assert (directory / "metrics.jsonl").read_text() == text
    return [sentence for sentence in told if sentence is not None]


def assert_equal_to_lines(directory):
    expected = {}
    for line in metrics.read_metrics(directory):
        stage, step = line["stage"], line["step"]
        expected[f"{stage}/x", step] = line["x"]
        for i, value in enumerate(line["y"]):
            expected[f"{stage}/y/{i}", step] = np.nan if value is None else value
    shown = {}
    for stage in "ab":
        shown |= read_events(directory / "tensorboard" / stage)
    assert list(shown) == list(expected)
    np.testing.assert_array_equal(
        np.float32(list(shown.values())), np.float32(list(expected.values()))
    )


def test_what_a_killed_run_wrote_past_its_checkpoint_is_dropped(killed):
    assert restore(killed) == []


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda text: None, 1),
        (lambda text: "", 1),
        (lambda text: text[:70], 2),
        (lambda text: text.replace('"x": 2', '"x": 7'), 2),
        (lambda text: text.replace('"x": 3', '"x'), 3),
        (lambda text: text.split("\n", 1)[1], 1),
        (lambda text: text.replace('"b", "step": 2', '"\udcff", "step": 2'), 5),
    ],
)
def test_lines_that_are_missing_or_changed_are_restored(killed, damage, line):
    path = killed[0] / "metrics.jsonl"
    damaged = damage(path.read_text())
    if damaged is None:
        path.unlink()
    else:
        path.write_text(damaged, errors="surrogateescape")
    (told,) = restore(killed)
    assert told.startswith(f"{path}: line {line} was ") and "restored" in told


@pytest.mark.parametrize("damage", ["delete", "empty", "cut", "flip"])
def test_events_that_are_missing_or_changed_are_restored(killed, damage):
    for stage in "ab":
        (path,) = (killed[0] / "tensorboard" / stage).iterdir()
        data = bytearray(path.read_bytes())
        if damage == "delete":
            path.unlink()
        else:
            data[len(data) // 2] ^= 4
            path.write_bytes({"empty": b"", "cut": data[:90], "flip": data}[damage])
    assert restore(killed) == []


def test_events_that_are_right_keep_their_times(killed):
    def read_times():
        return {
            step: events.read_events(directory)[1][step]
            for directory in [killed[0] / "tensorboard" / "b"]
            for step in (1, 2, 3)
        }

    before = read_times()
    restore(killed)
    assert read_times() == before


def test_a_stage_without_a_checkpoint_is_said_to_start_over(killed):
    directory, lines = killed
    with metrics.MetricsWriter(directory) as writer:
        assert writer.restore("a", lines["a"], is_finished=True) is None
        told = writer.restore("b", [])
    assert told is not None
    assert "had 4 lines from 'b' on, of which there is no checkpoint" in told
    assert len(metrics.read_metrics(directory)) == 3


def test_lines_past_the_end_of_a_finished_run_are_dropped(killed):
    directory, lines = killed
    with metrics.MetricsWriter(directory) as writer:
        for stage in "ab":
            writer.restore(stage, lines[stage], is_finished=True)
        writer.trim()
    assert len(metrics.read_metrics(directory)) == 6


@pytest.mark.parametrize("line", ["{", "[]", "1", '{"stage": "a"}', "\udcff"])
def test_a_damaged_line_is_named(tmp_path, line):
    text = f'{{"stage": "a", "step": 1}}\n{line}\n'
    (tmp_path / "metrics.jsonl").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match="metrics.jsonl, line 2 is damaged: "):
        metrics.read_metrics(tmp_path)


def test_missing_tensorboard_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pgx_jax\[experiments\]"):
        metrics.MetricsWriter(tmp_path)
    metrics.MetricsWriter(tmp_path, tensorboard=False).close()
