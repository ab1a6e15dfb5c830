"""Libraries that only parts of the package need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs_extra(name: str, otherwise: str = "") -> Iterator[None]:
    """Names the extra to install where an import of an optional library fails.

        with needs_extra("experiments"):
            import matplotlib

    Args:
      name: of the extra in `pyproject.toml`.
      otherwise: what to do without it, for the end of the message.

    Raises:
      ModuleNotFoundError: a library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        message = f"{library} is not installed: install pgx_jax[{name}]{otherwise}"
        raise ModuleNotFoundError(message, name=library) from error
