"""TensorBoard's event files, written at once and read as TensorBoard shows them.

`tensorboardX` writes in a thread of its own, whose queue is lost in a kill and whose
errors nobody sees; only its file format is used here.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pgx_jax.extras import needs_extra
from pgx_jax.runs.files import PARTIAL

Scalars = Mapping[str, float]


class EventWriter:
    """Appends scalars to an event file of its own in a directory.

    Args:
      directory: made if it does not exist.
    """

    def __init__(self, directory: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        directory.mkdir(parents=True, exist_ok=True)
        # Files are named by the second; the suffix tells two of one second apart.
        suffix = f".{len(list(directory.iterdir())):04d}"
        self._file = EventsWriter(str(directory / "events"), suffix)

    def write(self, step: int, scalars: Scalars, seconds: float | None = None) -> None:
        """Writes one event.

        Args:
          step: of all scalars.
          scalars: values by tag.
          seconds: time of the event, since the epoch; now if None.
        """
        event_type, summary_type = _message_types()
        values = [
            summary_type.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
        ]
        self._file.write_event(
            event_type(
                wall_time=time.time() if seconds is None else seconds,
                step=step,
                summary=summary_type(value=values),
            )
        )

    def flush(self) -> None:
        """Returns once everything is on disk."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()


def import_tensorboard() -> Any:
    """The library, or an error that names the extra to install."""
    with needs_extra("experiments", ", or pass tensorboard=False"):
        import tensorboardX
    return tensorboardX


def restore_events(directory: Path, expected: Mapping[int, Scalars]) -> bool:
    """Makes the event files of a directory show what they should, and no more.

    Events that are right keep their times.

    Args:
      directory: of the files; need not exist.
      expected: scalars of every step.

    Returns:
      Whether the files had to be written again.
    """
    shown, times = read_events(directory)
    wanted = {
        (tag, step): _stored(value)
        for step, scalars in expected.items()
        for tag, value in scalars.items()
    }
    if shown == wanted:
        return False
    partial = directory.with_name(directory.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    if expected:
        writer = EventWriter(partial)
        for step, scalars in expected.items():
            writer.write(step, scalars, times.get(step))
        writer.close()
    shutil.rmtree(directory, ignore_errors=True)
    if expected:
        partial.rename(directory)
    return True


def read_events(
    directory: Path,
) -> tuple[dict[tuple[str, int], float | None], dict[int, float]]:
    """Values by tag and step, and the time of every step.

    A point that is there twice has no value, so that it equals none.
    """
    from google.protobuf.message import DecodeError

    event_type, _ = _message_types()
    values: dict[tuple[str, int], Any] = {}
    times: dict[int, float] = {}
    files = sorted(directory.iterdir()) if directory.exists() else []
    for file in files:
        for record in _read_records(file.read_bytes()):
            try:
                event = event_type.FromString(record)
            except DecodeError:
                break
            for value in event.summary.value:
                point = (value.tag, event.step)
                is_new = point not in values
                values[point] = _stored(value.simple_value) if is_new else "twice"
                times[event.step] = event.wall_time
    return values, times


def _read_records(data: bytes) -> Iterator[bytes]:
    """The records of an event file up to the first that is torn or damaged."""
    from tensorboardX.record_writer import masked_crc32c

    start = 0
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 8], "little")
        end = start + 12 + length
        record = data[start + 12 : end]
        sums = data[start + 8 : start + 12], data[end : end + 4]
        parts = data[start : start + 8], record
        if any(
            masked_crc32c(part).to_bytes(4, "little") != stored
            for part, stored in zip(parts, sums, strict=True)
        ):
            return
        yield record
        start = end + 4


def _stored(value: float) -> float | None:
    """The value as a file holds it, in single precision; None if it is not finite."""
    return float(np.float32(value)) if math.isfinite(value) else None


def _message_types() -> tuple[Any, Any]:
    """Event and Summary, which protobuf adds to their modules on import."""
    from tensorboardX.proto import event_pb2, summary_pb2

    return getattr(event_pb2, "Event"), getattr(summary_pb2, "Summary")  # noqa: B009
