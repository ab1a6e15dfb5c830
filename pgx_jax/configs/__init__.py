"""Configs of `pgx_jax run`, by name: one module a suite, with its budget."""

from __future__ import annotations

from pathlib import Path

from pgx_jax.extras import needs_extra
from pgx_jax.settings import suggest

with needs_extra("experiments"):
    import ml_collections  # noqa: F401  # every config needs it


def config_names() -> list[str]:
    """The names that `--config` takes, in order."""
    here = Path(__file__).parent
    return sorted(
        path.stem
        for path in here.glob("*.py")
        if path.stem not in ("__init__", "defaults")
    )


def find_config(name_or_path: str) -> str:
    """The path of a config's file.

    Args:
      name_or_path: the name of a config that comes with the package, or the path of a
        file that defines `get_config`; with an argument of that after a colon if any.

    Raises:
      ValueError: there is no such config or file; the message lists the names.
    """
    # What follows a colon is an argument of `get_config`.
    name, colon, argument = name_or_path.partition(":")
    if name in config_names():
        return str(Path(__file__).parent / f"{name}.py") + colon + argument
    if Path(name).is_file():
        return name_or_path
    names = config_names()
    raise ValueError(
        f"must be the path of a file or one of {', '.join(names)}"
        f"{suggest(name_or_path, names)}, got {name_or_path!r}"
    )
