"""The commands of those who installed the package: `pgx_jax run`, and others.

The scripts of `experiments/` run the same code. Each command is a module with `main`,
imported when it is asked for, since each defines its own flags and takes seconds to
import.
"""

from __future__ import annotations

import importlib
import sys

from pgx_jax.extras import needs_extra
from pgx_jax.runs.interruption import handle_signals

COMMANDS = {
    "run": "run the whole pipeline of a config, or go on with a run",
    "aggregate": "put the results of several runs, one per seed, in one table",
    "render": "write a video of policies at work",
}
# How to go on after a signal.
ADVICE = {
    "run": "the same command goes on from the last checkpoint",
    "aggregate": "nothing was written; give the same command again",
    "render": "no video was written; give the same command again",
}
USAGE = "\n".join(
    [
        "usage: pgx_jax COMMAND [--flag=value ...]",
        "",
        *(f"  {name:<10} {text}" for name, text in COMMANDS.items()),
        "",
        "pgx_jax COMMAND --help lists the flags of a command.",
    ]
)


def main() -> None:
    """Runs the command named by the first argument, with the others as its own."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help", "help"):
        print(USAGE)
        return
    if name not in COMMANDS:
        problem = f"there is no command {name!r}" if name else "name a command"
        sys.exit(f"error: {problem}\n{USAGE}")
    sys.argv = [f"pgx_jax {name}", *sys.argv[2:]]
    run_command(name)


def run_command(name: str) -> None:
    """Runs a command by the arguments of the process.

    Signals are answered from here on, also while what the command needs is imported.

    Args:
      name: one of `COMMANDS`.
    """
    with handle_signals(ADVICE[name]):
        try:
            with needs_extra("experiments"):
                module = importlib.import_module(f"pgx_jax.cli.{name}")
        except ModuleNotFoundError as error:
            sys.exit(f"error: {error}")
        module.main()
