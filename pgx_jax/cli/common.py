"""What the commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from absl import logging

from pgx_jax import runtime


def quiet() -> None:
    """Sets JAX up, and leaves out what libraries log of their own work."""
    logging.set_verbosity(logging.ERROR)  # Orbax logs every file it touches
    runtime.configure()


def shown_command() -> str:
    """The command that runs, as it can be pasted again."""
    program, *arguments = sys.argv
    if Path(program).suffix == ".py":
        return shlex.join(["python", program, *arguments])
    return " ".join([program, shlex.join(arguments)])
