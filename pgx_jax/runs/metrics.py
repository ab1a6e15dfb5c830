"""The metrics of a run on disk: JSON lines, and TensorBoard's events beside them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.runs.events import EventWriter, import_tensorboard, restore_events
from pgx_jax.runs.files import FREE_SPACE, explain_errors, replace_text

_METRICS_FILE = "metrics.jsonl"
Callback = Callable[[str, int, Mapping[str, Any]], None]


class MetricsWriter:
    """Appends metrics to `metrics.jsonl`, and to TensorBoard where that is wanted.

    A line is one JSON object, `{"stage": ..., "step": ..., metric: value, ...}`, on
    disk as soon as `write` returns. TensorBoard gets one run a stage, in
    `directory/tensorboard/`, which shows what the lines hold.

    Args:
      directory: made if it does not exist; an earlier run's lines are kept.
      tensorboard: whether to write TensorBoard's events too (needs `tensorboardX`).
      task_names: names of the entries of per-task metrics in TensorBoard; their
        indices if left out.
      callbacks: called with the stage, the step and the metrics of every line, once it
        is on disk. What they raise ends the run.

    Raises:
      ImportError: if `tensorboard` is asked for and `tensorboardX` is not installed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        tensorboard: bool = True,
        task_names: Sequence[str] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        if tensorboard:
            import_tensorboard()
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path = self._directory / _METRICS_FILE
        self._tensorboard = tensorboard
        self._callbacks = tuple(callbacks)
        self._task_names = None if task_names is None else list(task_names)
        self._event_writers: dict[str, EventWriter] = {}
        self._known: list[str] = []
        self._was_cut = False
        self._of_stage: dict[str, list[str]] = {}
        if self._path.exists() and not self._path.read_bytes().endswith(b"\n"):
            replace_text(self._path, _whole_lines(self._path))
        self._file = self._path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except OSError:  # of a disk that is full, which the error under way has said
            if kind is None:
                raise

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
        line = {"stage": stage, "step": int(step)}
        line |= {
            name: _finite_or_none(np.asarray(value).tolist())
            for name, value in metrics.items()
        }
        text = json.dumps(line, allow_nan=False)
        with self._explain_errors():
            self._file.write(text + "\n")
            self._file.flush()
        self._known.append(text)
        self._of_stage.setdefault(stage, []).append(text)
        if self._tensorboard:
            with self._explain_errors():
                self._write_event(stage, line)
        for callback in self._callbacks:
            callback(stage, int(step), metrics)

    def lines(self, stage: str) -> list[str]:
        """The lines of a stage that were restored and written, without line ends."""
        return list(self._of_stage.get(stage, []))

    def restore(
        self, stage: str, lines: Sequence[str], *, is_finished: bool = False
    ) -> str | None:
        """Makes the files hold the lines that a stage had; to be called on resuming.

        Stages are to be restored in the order in which they ran. What a killed run has
        written since is dropped; what is missing or was changed is written again. The
        file is replaced atomically: it never lacks a line that is to stay.

        Args:
          stage: that is resumed, or was found finished.
          lines: of the stage, as `lines` gave them, up to where it is resumed.
          is_finished: whether lines of later stages may follow.

        Returns:
          A sentence on lines that had to be written again, or on a stage that starts
          over; None if there is nothing to say.
        """
        self._known += lines
        self._of_stage[stage] = list(lines)
        found = _whole_lines(self._path)
        same = _count_equal(found, self._known)
        is_damaged = same < len(self._known)
        is_cut = len(found) > same and not is_finished
        with self._explain_errors():
            if is_damaged or is_cut:
                self._replace(self._known)
            if self._tensorboard:
                self._restore_events(stage)
        knew = self._was_cut  # so that lines of later stages are gone as well
        self._was_cut |= is_damaged or is_cut
        if is_cut and not is_damaged and not lines and not knew:
            return (
                f"{self._path} had {len(found) - same} lines from {stage!r} on, of "
                "which there is no checkpoint; the stage starts over"
            )
        if not is_damaged or knew:
            return None
        return (
            f"{self._path}: line {same + 1} was missing or not the one written; it and "
            "those after it were restored"
        )

    def trim(self) -> None:
        """Drops lines of the file that were neither restored nor written."""
        if _whole_lines(self._path) != self._known:
            self._replace(self._known)

    def flush(self) -> None:
        """Returns once everything is on disk."""
        with self._explain_errors():
            os.fsync(self._file.fileno())
            for writer in self._event_writers.values():
                writer.flush()

    def close(self) -> None:
        """Closes the files; the writer cannot be used afterwards."""
        self._file.close()
        for writer in self._event_writers.values():
            writer.close()
        self._event_writers.clear()

    def _replace(self, lines: Sequence[str]) -> None:
        self._file.close()
        replace_text(self._path, lines)
        self._file = self._path.open("a", encoding="utf-8")

    def _explain_errors(self) -> AbstractContextManager[None]:
        return explain_errors(
            f"metrics cannot be written to {self._directory}",
            f"the last checkpoint has those up to it; {FREE_SPACE}",
        )

    def _write_event(self, stage: str, line: Mapping[str, Any]) -> None:
        if stage not in self._event_writers:
            self._event_writers[stage] = EventWriter(self._event_directory(stage))
        self._event_writers[stage].write(line["step"], self._scalars(line))

    def _restore_events(self, stage: str) -> None:
        if writer := self._event_writers.pop(stage, None):
            writer.close()
        expected: dict[int, dict[str, float]] = {}
        for line in map(json.loads, self._of_stage[stage]):
            expected.setdefault(line["step"], {}).update(self._scalars(line))
        restore_events(self._event_directory(stage), expected)

    def _scalars(self, line: Mapping[str, Any]) -> dict[str, float]:
        """What TensorBoard gets of a line, by tag."""
        scalars = {}
        for name, value in line.items():
            if name in ("stage", "step"):
                continue
            tag = f"{_slug(line['stage'])}/{name}"
            array = np.array(value, dtype=float)  # in which None is NaN
            if array.ndim == 0:
                scalars[tag] = float(array)
                continue
            names = self._entry_names(array)
            for entry_name, entry in zip(names, array.ravel().tolist(), strict=True):
                scalars[f"{tag}/{_slug(entry_name)}"] = entry
        return scalars

    def _entry_names(self, array: np.ndarray) -> list[str]:
        if self._task_names is not None and array.shape == (len(self._task_names),):
            return self._task_names
        return ["_".join(map(str, index)) for index in np.ndindex(array.shape)]

    def _event_directory(self, stage: str) -> Path:
        return self._directory / "tensorboard" / _slug(stage)


def read_metrics(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, in order; null is read as None.

    A last line that a killed run left unfinished is passed over.

    Raises:
      ValueError: a line is not one that a run writes; the message names it.
    """
    path = Path(directory) / _METRICS_FILE
    found = []
    for i, text in enumerate(_whole_lines(path)):
        try:
            line = json.loads(text)
            found.append({"stage": line["stage"], "step": line["step"]} | line)
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{path}, line {i + 1} is damaged: {text[:40]!r} is not a JSON object "
                'with "stage" and "step"; the command of the run writes it again'
            ) from None
    return found


def _slug(text: str) -> str:
    """Text as file names and TensorBoard's tags may have it."""
    return re.sub(r"[^\w.-]+", "_", text)


def _finite_or_none(value: Any) -> Any:
    """The same number, or nested list, with None for what is not finite."""
    if isinstance(value, list):
        return [_finite_or_none(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count_equal(a: Sequence[str], b: Sequence[str]) -> int:
    """The number of entries before the first that differ."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _whole_lines(path: Path) -> list[str]:
    """A file's lines without what follows the last line end; none if it is missing."""
    if not path.exists():
        return []
    # Bytes that are no text must not stop a run, which restores their line.
    return path.read_text(encoding="utf-8", errors="backslashreplace").split("\n")[:-1]
