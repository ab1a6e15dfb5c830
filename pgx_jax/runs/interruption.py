"""How commands end when they are interrupted: soon, in one line, with nothing torn.

A thread of its own waits for signals, since Python runs no handler while the main
thread compiles or waits for a device. What commands write is whole or not there,
however they end, so that a process may stop anywhere; only training is given a few
seconds to reach its next checkpoint.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 8.0  # s until a process ends that has not reached a checkpoint
_SHOW_CURSOR = "\x1b[?25h"  # which a live display hides


@contextlib.contextmanager
def handle_signals(advice: str) -> Iterator[None]:
    """Ends the process on SIGINT or SIGTERM, with exit code 130 or 143.

    Inside of `awaited` the process goes on to the next `stop_if_asked`, for `PATIENCE`
    seconds at most; elsewhere, and at a second signal, it ends at once. To be called
    by the main thread. A signal that the process was started to ignore is left alone.

    Args:
      advice: how to go on, for the line that is printed.
    """
    global _watch
    if _watch is not None:
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = {x: signal.getsignal(x) for x in SIGNALS}
    taken = [x for x in SIGNALS if before[x] is not signal.SIG_IGN]
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    for number in taken:
        signal.signal(number, lambda *_: None)
    _watch = _Watch(ours, advice)
    thread = threading.Thread(target=_watch.run, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number in taken:
            signal.signal(number, before[number])
        theirs.close()  # which ends the thread, unless it is to end the process
        if _watch.code is None:
            thread.join()
            ours.close()
        _watch = None


def end_on_signals(advice: str) -> None:
    """As `handle_signals`, until the process ends.

    For scripts, before they import what takes seconds.
    """
    handling = handle_signals(advice)
    handling.__enter__()
    atexit.register(handling.__exit__, None, None, None)


@contextlib.contextmanager
def awaited() -> Iterator[None]:
    """While inside, signals let the process go on to the next `stop_if_asked`."""
    watch = _watch
    if watch is None:
        yield
        return
    watch.awaiting.append(threading.get_ident())
    try:
        yield
    finally:
        watch.awaiting.remove(threading.get_ident())


def stop_if_asked() -> None:
    """Ends the process in order where a signal has come and all is saved.

    Raises:
      SystemExit: with the exit code of the signal.
    """
    if _watch is not None and _watch.code is not None:
        raise SystemExit(_watch.code)


@contextlib.contextmanager
def cleaning_up(function: Callable[[], object]) -> Iterator[None]:
    """Calls a function on leaving, also where a signal ends the process inside."""
    watch = _watch
    if watch is not None:
        watch.cleanups.append(function)
    try:
        yield
    finally:
        if watch is not None:
            watch.cleanups.remove(function)
        function()


class _Watch:
    """Waits for signals.

    Args:
      wakeup: receives the number of every signal.
      advice: how to go on.

    Attributes:
      code: to exit with; None before a signal.
      awaiting: threads on their way to a checkpoint.
      cleanups: to be called before the process ends.
    """

    def __init__(self, wakeup: socket.socket, advice: str) -> None:
        self._wakeup = wakeup
        self._advice = advice
        self.code: int | None = None
        self.awaiting: list[int] = []
        self.cleanups: list[Callable[[], object]] = []

    def run(self) -> None:
        """Until the process ends, or nobody could send a signal any more."""
        received = self._wakeup.recv(1)
        while received and received[0] not in SIGNALS:
            received = self._wakeup.recv(1)
        if not received:
            return
        self.code = 128 + received[0]
        name = signal.Signals(received[0]).name
        is_awaited = bool(self.awaiting)
        when = f"within {PATIENCE:.0f} s" if is_awaited else "now"
        _print(f"{name}: stopping {when}; {self._advice}")
        if is_awaited:  # until another signal, or the end of `handle_signals`
            select.select([self._wakeup], [], [], PATIENCE)
        for function in [*self.cleanups]:
            with contextlib.suppress(Exception):
                function()
        os._exit(self.code)


_watch: _Watch | None = None


def _print(line: str) -> None:
    """Writes a line past what other threads may be writing."""
    with contextlib.suppress(OSError):
        if sys.stdout is not None and sys.stdout.isatty():
            os.write(1, _SHOW_CURSOR.encode())
        os.write(2, f"{line}\n".encode())
