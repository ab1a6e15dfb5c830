"""Metrics go to Weights & Biases, and to a callback of the user's."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from pgx_jax.runs.metrics import MetricsWriter
from pgx_jax.runs.wandb_logger import WandbLogger


class FakeRun:
    """What a run of the library is asked for."""

    def __init__(self, **settings):
        self.settings = settings
        self.defined, self.lines, self.exit_code = [], [], None

    def define_metric(self, name, step_metric=None):
        self.defined.append((name, step_metric))

    def log(self, line):
        self.lines.append(line)

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def runs(monkeypatch):
    """The runs that a stand-in for the library has started."""
    started = []

    def init(**settings):
        started.append(FakeRun(**settings))
        return started[-1]

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    return started


def write_two_lines(directory):
    with (
        WandbLogger("groups", directory, config={"seed": 3}, task_names="ab") as logger,
        MetricsWriter(directory, tensorboard=False, callbacks=[logger]) as writer,
    ):
        writer.write("meta_training", 64, {"return": [1.0, np.nan], "loss": 0.5})
        writer.write("meta_training", 128, {"return": [2.0, 3.0]})


def test_every_line_is_sent_by_task(runs, tmp_path):
    write_two_lines(tmp_path)
    (run,) = runs
    assert run.settings["project"] == "groups"
    assert run.settings["config"] == {"seed": 3}
    assert run.settings["reinit"] == "create_new"  # several seeds log side by side
    assert run.defined == [
        ("meta_training/step", None),
        ("meta_training/*", "meta_training/step"),
    ]
    assert run.lines == [
        {
            "meta_training/step": 64,
            "meta_training/return/a": 1.0,
            "meta_training/loss": 0.5,
        },
        {
            "meta_training/step": 128,
            "meta_training/return/a": 2.0,
            "meta_training/return/b": 3.0,
        },
    ]
    assert run.exit_code == 0


def test_a_resumed_run_goes_on_with_the_same_one(runs, tmp_path):
    write_two_lines(tmp_path)
    write_two_lines(tmp_path)
    write_two_lines(tmp_path / "other")
    first, second, other = (run.settings["id"] for run in runs)
    assert first == second != other
    assert runs[1].settings["resume"] == "allow"


def test_a_run_that_fails_is_marked(runs, tmp_path):
    with pytest.raises(RuntimeError), WandbLogger("groups", tmp_path):
        raise RuntimeError
    assert runs[0].exit_code == 1


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"pgx_jax\[wandb\]"):
        WandbLogger("groups", tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="the extra is not installed"
)
def test_the_library_itself_writes_offline(tmp_path):
    """In a process of its own, at whose end the library's file is whole."""
    program = (
        "from pgx_jax.runs.wandb_logger import WandbLogger\n"
        f"with WandbLogger('groups', {str(tmp_path)!r}, task_names='ab') as logger:\n"
        "    logger('meta_training', 128, {'return': [2.0, 3.0]})\n"
    )
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"meta_training/return/b" in kept.read_bytes()


def test_a_callback_gets_every_line_once_it_is_on_disk(tmp_path):
    seen = []

    def callback(stage, step, metrics):
        text = (tmp_path / "metrics.jsonl").read_text()
        seen.append((stage, step, metrics["loss"], text.count("\n")))

    with MetricsWriter(tmp_path, tensorboard=False, callbacks=[callback]) as writer:
        writer.write("a", 1, {"loss": 0.5})
        writer.write("b", 2, {"loss": 0.25})
    assert seen == [("a", 1, 0.5, 1), ("b", 2, 0.25, 2)]


def test_what_a_callback_raises_ends_the_run(tmp_path):
    def stop(stage, step, metrics):
        raise StopIteration(f"{stage} at {step}")

    with (
        MetricsWriter(tmp_path, tensorboard=False, callbacks=[stop]) as writer,
        pytest.raises(StopIteration, match="a at 1"),
    ):
        writer.write("a", 1, {})
