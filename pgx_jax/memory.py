"""Memory of devices: how much there is, and what to lower where it ran out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax

# As XLA says it of what it runs, and where an error comes later than its program.
_EXHAUSTED = re.compile("resource_exhausted|out.of.memory", re.IGNORECASE)


class OutOfMemory(MemoryError):
    """A program needed more memory than its device has; the message says what helps."""


def memory_limit() -> int | None:
    """The bytes that programs may take of the default device, None where unknown.

    It is the same in every run on one kind of device with the same settings, unlike
    what is free at the moment: sizes that follow from it keep results and compiled
    programs the same.
    """
    return _statistics().get("bytes_limit") or None


@contextlib.contextmanager
def explained(work: str, lower: Mapping[str, Any]) -> Iterator[None]:
    """Says which settings to lower where a device runs out of memory.

        with explained("the estimate", {"dim": 400}):
            ...

    The outermost one has the word: a run names its own settings for what a function of
    the estimator would name by its arguments.

    Args:
      work: what was under way.
      lower: settings that memory grows with, the most effective one first, and what
        they are now, or None.

    Raises:
      OutOfMemory: in place of XLA's error, and of NumPy's of the host.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        cause = error.__cause__ if isinstance(error, OutOfMemory) else error
        of_host = isinstance(cause, MemoryError)
        if not of_host and not _EXHAUSTED.search(str(cause)):
            raise
        raise OutOfMemory(_message(work, lower, str(cause), of_host)) from cause


def _message(work: str, lower: Mapping[str, Any], error: str, of_host: bool) -> str:
    place = "the host" if of_host else jax.devices()[0].device_kind
    asked = re.search(r"(?:allocate|allocating) ([\d.,]+ ?\w*)", error)
    parts = [f"{work} ran out of memory on {place}"]
    if asked:
        parts.append(f"allocating {asked[1].strip()}")
    statistics = {} if of_host else _statistics()
    if "bytes_limit" in statistics:
        used = format_bytes(statistics.get("bytes_in_use", 0))
        limit = format_bytes(statistics["bytes_limit"])
        parts.append(f"{used} of {limit} in use")
    settings = " or ".join(
        name if value is None else f"{name} (now {value})"
        for name, value in lower.items()
    )
    return f"{', '.join(parts)}: lower {settings}"


def format_bytes(count: float) -> str:
    """A number of bytes in three digits: 512 B, 1.25 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.3g} {unit}"


def _statistics() -> dict[str, int]:
    """What the default device reports of its memory; empty where it does not."""
    try:
        return jax.local_devices()[0].memory_stats() or {}
    except (RuntimeError, NotImplementedError):  # a backend without statistics
        return {}
