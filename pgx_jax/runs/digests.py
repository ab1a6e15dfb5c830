"""Digests of what a run keeps on disk, by which damage is found before it is used.

A JSON file carries the digest of its own values. A directory is sealed: its `seal.json`
says what the directory is of, such as the update of a checkpoint, and holds the size
and SHA-256 of every file in it. So neither a flipped bit nor a directory under another
name passes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pgx_jax.runs.files import replace_text
from pgx_jax.types import PyTree

SEAL = "seal.json"
_DIGEST = "digest"


class Damaged(ValueError):
    """A file is not what the run has written; the message names it."""


def write_json(path: Path, values: Mapping[str, Any], kind: str | None = None) -> None:
    """Writes a JSON file with its digest; it is either whole or as it was before.

    Args:
      path: of the file; its directory exists.
      values: JSON values by name, none of them called "digest".
      kind: goes into the digest, so that no file passes for one of another kind; the
        file's name if None.

    Raises:
      ValueError: a number is not finite.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))
    digest = _digest_values(kind or path.name, plain)
    replace_text(path, [json.dumps(plain | {_DIGEST: digest}, indent=2)])


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` has written, without the digest.

    Raises:
      Damaged: the file is missing, no JSON, or its values are not those written.
    """
    values = read_any_json(path)
    if _DIGEST not in values:
        raise Damaged(f"{path} is damaged: it has no digest")
    return without_digest(values)


def read_any_json(path: Path, kind: str | None = None) -> dict[str, Any]:
    """A JSON file that earlier versions may have written without a digest.

    Args:
      path: of the file.
      kind: that it was written as.

    Returns:
      Its values, with "digest" among them where there is one, which has been checked.

    Raises:
      Damaged: as by `read_json`.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{path} is missing") from None
    except ValueError as error:
        raise Damaged(f"{path} is damaged: it is no JSON ({error})") from None
    if not isinstance(values, dict):
        raise Damaged(f"{path} is damaged: it holds no JSON object")
    digest = _digest_values(kind or path.name, without_digest(values))
    if values.get(_DIGEST, digest) != digest:
        raise Damaged(f"{path} is damaged: its values do not match their digest")
    return values


def without_digest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a JSON file but for the digest."""
    return {name: value for name, value in values.items() if name != _DIGEST}


def seal(directory: Path, about: Mapping[str, Any], content: str = "") -> None:
    """Writes the seal of a directory to which nothing will be added.

    Args:
      directory: whose files are all written.
      about: JSON values that say what it holds.
      content: digest of its arrays, for those who depend on them.
    """
    files = {
        file.relative_to(directory).as_posix(): _describe(file)
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }
    write_json(
        directory / SEAL, {"about": dict(about), "content": content, "files": files}
    )


def check_seal(directory: Path, about: Mapping[str, Any]) -> str:
    """The digest of a sealed directory's arrays, once every file is as it was written.

    Raises:
      Damaged: a file is missing or another one, or the directory is of something else.
    """
    sealed = read_json(directory / SEAL)
    expected = json.loads(json.dumps(about))
    for name in dict.fromkeys([*expected, *sealed["about"]]):
        found, wanted = (x.get(name, "none") for x in (sealed["about"], expected))
        if found != wanted and isinstance(wanted, dict):
            raise Damaged(
                f"{directory} was computed from other results than those here"
            )
        if found != wanted:
            raise Damaged(f"{directory} is not of {name} {wanted!r} but of {found!r}")
    for name, written in sealed["files"].items():
        file = directory / name
        if not file.is_file():
            raise Damaged(f"{file} is missing")
        if (size := file.stat().st_size) != written["bytes"]:
            raise Damaged(
                f"{file} is damaged: {size} bytes in place of {written['bytes']}"
            )
        if _describe(file) != written:
            raise Damaged(f"{file} is damaged: its SHA-256 is not the one written")
    return sealed["content"]


def digest_arrays(tree: PyTree) -> str:
    """The SHA-256 of a pytree's arrays, their paths, dtypes and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n"
        digest.update(name.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _digest_values(kind: str, values: Mapping[str, Any]) -> str:
    """Of JSON values and the kind of their file, however the file is laid out."""
    text = json.dumps([kind, values], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
