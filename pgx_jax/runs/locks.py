"""One writer at a time in a workdir."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pgx_jax.extras import needs_extra
from pgx_jax.runs.files import FREE_SPACE, explain_errors

with needs_extra("experiments"):
    from filelock import FileLock, Timeout

LOCK_FILE = ".lock"


@contextlib.contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other processes, and other threads, from writing to a workdir.

    The operating system holds the lock for a process and drops it when that ends,
    however it ends: what a dead process has locked is free. A thread that holds it may
    take it again. Those who only read do without. The file, which names the holder,
    stays, since a lock on a file that was deleted would lock nothing.

    Args:
      path: of the workdir, made if it does not exist.

    Raises:
      OSError: another one holds the lock, or the workdir cannot be written to.
    """
    file = Path(path).absolute() / LOCK_FILE
    holder = ""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            holder = file.read_text(encoding="utf-8", errors="replace").strip()
        # Of one thread all share one lock, so that it can be taken twice.
        held = FileLock(file, is_singleton=True).acquire(timeout=0)
    except Timeout:
        raise OSError(
            f"workdir {str(path)!r} is in use by {holder or 'another process'}; wait "
            "for it to end, or give another workdir"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise OSError(f"workdir {str(path)!r} cannot be written to: {error}") from None
    with held:
        with explain_errors(f"{file} cannot be written", FREE_SPACE):
            name = f"process {os.getpid()} on {socket.gethostname()}"
            file.write_text(f"{name}\n", encoding="utf-8")
        yield
