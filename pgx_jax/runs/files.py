"""Files and directories that are either whole or not there, and errors in one line."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

PARTIAL = ".partial"  # ends the names of what is being written, or being deleted
FREE_SPACE = "free space and give the same command again"


def replace_text(path: Path, lines: Iterable[str]) -> None:
    """Writes lines to a file, which is either whole or as it was before."""
    temporary = path.with_name(path.name + PARTIAL)
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def remove(directory: Path) -> None:
    """Deletes a directory, which never is there by half under its own name."""
    if directory.exists():
        partial = directory.with_name(directory.name + ".old" + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        directory.rename(partial)
        shutil.rmtree(partial)


@contextlib.contextmanager
def explain_errors(what: str, remedy: str) -> Iterator[None]:
    """Says in one line what could not be written, and how to go on.

    Raises:
      OSError: as the operating system, or Orbax in its place, has said.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OSError(f"{what}: {reason[:200]}; {remedy}") from error
