"""The metrics of a run on disk: JSON lines, and TensorBoard's events beside them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.extras import needs_extra

_METRICS_FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends metrics to `metrics.jsonl`, and to TensorBoard where that is wanted.

    A line is one JSON object, `{"stage": ..., "step": ..., metric: value, ...}`, on
    disk as soon as `write` returns. TensorBoard gets one run a stage, in
    `directory/tensorboard/`, so that a stage can be rewound without the others.

    Args:
      directory: made if it does not exist; an earlier run's lines are kept.
      tensorboard: whether to write TensorBoard's events too (needs `tensorboardX`).
      task_names: names of the entries of per-task metrics in TensorBoard; their
        indices if left out.

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

    def __exit__(self, *error: object) -> None:
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
        that checkpoint, it would write those lines again. The file is replaced
        atomically: it never lacks a line that is to stay.

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
        """Closes the files; the writer cannot be used afterwards."""
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
        # Event files are named by the second; the suffix distinguishes two of the same
        # second, and keeps the order in which TensorBoard reads them.
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


def _import_tensorboard() -> Any:
    with needs_extra("experiments", ", or pass tensorboard=False"):
        import tensorboardX
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
