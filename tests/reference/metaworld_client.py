"""The scripted policies of Meta-World, asked from another Python environment.

Meta-World pins a version of MuJoCo that recent MJX does not work with, so its policies
run in a process of their own: `metaworld_runs.py serve`, started by `PolicyClient` with
the interpreter of the virtual environment that `metaworld_runs.py` describes. Messages
are arrays in NumPy's file format, each behind its length. Needs NumPy only.
"""

from __future__ import annotations

import io
import pathlib
import struct
import subprocess
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

# The ten of MT10.
TASKS = (
    "reach-v3",
    "push-v3",
    "pick-place-v3",
    "door-open-v3",
    "drawer-open-v3",
    "drawer-close-v3",
    "button-press-topdown-v3",
    "peg-insert-side-v3",
    "window-open-v3",
    "window-close-v3",
)
# With the others of MT50 that are ported.
ALL_TASKS = (
    *TASKS,
    "reach-wall-v3",
    "push-wall-v3",
    "pick-place-wall-v3",
)
ACTION_SIZE = 4
DEFAULT_PYTHON = "/tmp/metaworld/bin/python"
_LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, array: np.ndarray) -> None:
    """Writes one array as a message."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    stream.write(_LENGTH.pack(content.tell()))
    stream.write(content.getbuffer())
    stream.flush()


def receive(stream: BinaryIO) -> np.ndarray | None:
    """Reads one message; None where the stream has ended.

    Raises:
      EOFError: if the stream ends within a message.
    """
    header = stream.read(_LENGTH.size)
    if not header:
        return None
    if len(header) == _LENGTH.size:
        (length,) = _LENGTH.unpack(header)
        content = stream.read(length)
        if len(content) == length:
            return np.load(io.BytesIO(content), allow_pickle=False)
    raise EOFError("the stream ended within a message")


class PolicyClient:
    """A running server of scripted policies; a context manager that ends it.

    Args:
      python: interpreter of the environment that has Meta-World.
      tasks: names, in the order of the observations' first axis.
    """

    def __init__(
        self, python: str = DEFAULT_PYTHON, tasks: Sequence[str] = TASKS
    ) -> None:
        self._num_tasks = len(tasks)
        script = pathlib.Path(__file__).with_name("metaworld_runs.py")
        self._process = subprocess.Popen(
            [python, str(script), "serve", "--tasks", *tasks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """What the policies do.

        Args:
          observations: with the goal shown; [tasks, goals, 39].

        Returns:
          Actions as the policies give them, not clipped; float32, [tasks, goals, 4].

        Raises:
          ValueError: if there is not one observation axis entry for each task.
          RuntimeError: if the server has ended.
        """
        if len(observations) != self._num_tasks:
            raise ValueError(f"{len(observations)} observations, not {self._num_tasks}")
        try:
            send(self._process.stdin, np.asarray(observations, np.float64))
            actions = receive(self._process.stdout)
        except BrokenPipeError:
            actions = None
        if actions is None:
            raise RuntimeError(f"the server ended with {self._process.wait()}")
        return actions

    def close(self) -> None:
        """Ends the server."""
        if not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()
