"""Files and directories that are either whole or not there, and errors in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PARTIAL = ".partial"  # ends the names of what is being written, or being deleted
FREE_SPACE = (
    "make room (disk, quota or file-size limit) and give the same command again"
)
_OVERHEAD = 2**20  # bytes of metadata, in blocks of the disk


def replace_text(path: Path, lines: Iterable[str]) -> None:
    """Writes lines to a file, which is either whole or as it was before."""
    temporary = path.with_name(path.name + PARTIAL)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:  # of a full disk, which needs the space
        temporary.unlink(missing_ok=True)
        raise


def require_room(directory: Path, num_bytes: int) -> None:
    """Refuses to begin what will not fit, so that nothing is written by half.

    Raises:
      OSError: the disk has less room, or files must not be as large.
    """
    if shutil.disk_usage(directory).free < num_bytes + _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
    if sys.platform != "win32":
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY and limit < num_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(directory))


def remove(directory: Path) -> None:
    """Deletes a directory, which never is there by half under its own name."""
    if directory.exists():
        partial = directory.with_name(directory.name + ".old" + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        directory.rename(partial)
        shutil.rmtree(partial)


@contextlib.contextmanager
def explain_errors(
    what: str, remedy: str, require: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Says in one line what could not be written, and how to go on.

    Args:
      what: that could not be done.
      remedy: how to go on.
      require: called where it could not; may raise a better explanation.

    Raises:
      OSError: as the operating system, or Orbax in its place, has said.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        require()
        raise OSError(f"{what}: {_find_reason(error)}; {remedy}") from error


def _find_reason(error: OSError | ValueError) -> str:
    """What the operating system has said, by itself or within Orbax's text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return " ".join(str(error).split())[:200]
