"""The provenance of stored numbers: device, versions and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("pgx_jax", "jax", "jaxlib", "flax", "optax", "brax", "mujoco", "numpy")


def device_name() -> str:
    """The accelerators that JAX sees, or the CPU and its number of cores."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{len(jax.devices())} x {device.device_kind}"
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout that the package runs from, if it is one.

    The environment variable `PGX_JAX_COMMIT` gives it where the code was copied to a
    machine without its history.
    """
    if os.environ.get("PGX_JAX_COMMIT"):
        return os.environ["PGX_JAX_COMMIT"]
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe() -> dict[str, Any]:
    """Device, versions and commit, as a dict of JSON values."""
    return {"device": device_name(), "versions": versions(), "commit": commit()}


def merge(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One description of what several processes computed on.

    Args:
      found: of each, in order, what `describe` returned there.

    Returns:
      a dict as `describe` returns it, where what differs is joined by "and".
    """
    kept = list(found)
    names = dict.fromkeys(name for about in kept for name in about["versions"])
    return {
        "device": _join(about["device"] for about in kept),
        "versions": {
            name: _join(about["versions"].get(name) for about in kept) for name in names
        },
        "commit": _join(about["commit"] for about in kept),
    }


def _join(values: Iterable[str | None]) -> str | None:
    known = dict.fromkeys(value for value in values if value is not None)
    return " and ".join(known) or None


def format_provenance(about: Mapping[str, Any]) -> str:
    """The lines of Markdown that a page of results begins with.

    Args:
      about: what `describe` returns, and `command`, that of the run.
    """
    versions = ", ".join(f"{name} {x}" for name, x in about["versions"].items())
    return (
        f"`{about['command']}`\n\n"
        f"{about['device']}; {versions}; commit {about['commit']}."
    )


def format_provenances(entries: Iterable[Mapping[str, Any]]) -> str:
    """The same of results that several commands or machines made, each once."""
    return "\n\n".join(dict.fromkeys(map(format_provenance, entries)))
