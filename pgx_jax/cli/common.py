"""What the commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from absl import app, flags, logging

from pgx_jax import runtime


def quiet(*, deterministic: bool = False) -> None:
    """Sets JAX up, and leaves out what libraries log of their own work."""
    logging.set_verbosity(logging.ERROR)  # Orbax logs every file it touches
    runtime.configure(deterministic=deterministic)


def shown_command() -> str:
    """The command that runs, as it can be pasted again."""
    program, *arguments = sys.argv
    if Path(program).suffix == ".py":
        return shlex.join(["python", program, *arguments])
    return " ".join([program, shlex.join(arguments)])


def show_help() -> None:
    """Prints what the command says of itself, and its flags."""
    for name in flags.FLAGS.flags_by_module_dict():
        if name.startswith("pgx_jax."):
            print(sys.modules[name].__doc__ or "")
            print(flags.FLAGS.module_help(name))


def parse_flags(argv: list[str], most_arguments: int | None = None) -> list[str]:
    """As absl does, with one line and no usage for what is wrong.

    Args:
      argv: the program and its arguments.
      most_arguments: that are no flags; None for any number.

    Returns:
      The arguments that are no flags.
    """
    app.define_help_flags()
    if {"-h", "-help", "--help"} & {*argv[1:]}:
        show_help()
        sys.exit()
    try:
        rest = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    if most_arguments is not None and len(rest) > most_arguments:
        sys.exit(f"error: unknown arguments: {' '.join(rest[most_arguments:])}")
    return rest
