"""Training states and other pytrees of arrays on disk, sealed by digests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.extras import needs_extra
from pgx_jax.runs.digests import (
    Damaged,
    check_seal,
    digest_arrays,
    read_json,
    seal,
    write_json,
)
from pgx_jax.runs.files import (
    FREE_SPACE,
    PARTIAL,
    explain_errors,
    remove,
    replace_text,
    require_room,
)
from pgx_jax.types import PyTree

with needs_extra("experiments"):
    import orbax.checkpoint as ocp
    from absl import logging

_MAX_KEPT = 2


class Restored(NamedTuple):
    """A checkpoint that was found sound.

    Attributes:
      step: updates done.
      state: of the training.
      info: JSON values stored beside it.
      lines: of the stage's metrics so far.
      passed_over: what is wrong with newer checkpoints, one sentence each.
    """

    step: int
    state: PyTree
    info: dict[str, Any]
    lines: list[str]
    passed_over: tuple[str, ...]


class TrainingCheckpoints:
    """Checkpoints of a whole training state, the last two kept.

    Each is a directory that gets its name, the number of updates, once it is complete
    and sealed.

    Args:
      directory: made with the first checkpoint.
      about: JSON values that say whose they are; a checkpoint of another run, stage or
        update counts as damaged.
      require: called before anything is written; raises where it must not be.
    """

    def __init__(
        self,
        directory: Path,
        about: Mapping[str, Any],
        require: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._about = dict(about)
        self._require = require
        self._sound: list[int] = []

    def steps(self) -> list[int]:
        """Updates after which there is a checkpoint, in order."""
        names = [path.name for path in self._directory.glob("*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def save(
        self,
        step: int,
        state: PyTree,
        info: Mapping[str, Any],
        lines: Sequence[str] = (),
    ) -> None:
        """Stores the state after `step` updates.

        Args:
          step: the number of updates.
          state: pytree of arrays.
          info: JSON values.
          lines: of the stage's metrics so far.

        Raises:
          OSError: it cannot be written; the message says which checkpoint is left.
        """
        self._require()
        left = f"that after update {self._sound[-1]}" if self._sound else "none"
        with explain_errors(
            f"the checkpoint after update {step} cannot be written to "
            f"{self._directory}",
            f"the last whole one is {left}; {FREE_SPACE}",
            self._require,
        ):
            write_sealed(
                self._directory / str(step), state, info, lines, self._of(step)
            )
            self._sound = [*self._sound, step][-_MAX_KEPT:]
            for other in self.steps():
                if other not in self._sound:
                    remove(self._directory / str(other))

    def restore(self, template: PyTree) -> Restored | None:
        """The newest checkpoint that is sound, or None where there is none at all.

        Raises:
          Damaged: there are checkpoints, and none of them is sound.
          ValueError: it holds a state of other shapes.
        """
        damages: list[str] = []
        for step in reversed(self.steps()):
            directory = self._directory / str(step)
            try:
                check_seal(directory, self._of(step))
            except Damaged as damage:
                damages.append(str(damage))
                continue
            self._sound = [step]
            state = read_arrays(directory / "state", template)
            info, lines = read_info(directory)
            return Restored(step, state, info, lines, tuple(damages))
        if damages:
            raise Damaged(
                f"{damages[0]}; no older checkpoint is sound: put back a copy, or "
                f"delete {self._directory} to train this stage from its start"
            )
        return None

    def _of(self, step: int) -> dict[str, Any]:
        return self._about | {"update": step}


def write_sealed(
    directory: Path,
    arrays: PyTree,
    info: Mapping[str, Any],
    lines: Sequence[str],
    about: Mapping[str, Any],
    name: str = "state",
) -> str:
    """Makes a directory of arrays, JSON values and lines that is whole or not there.

    Args:
      directory: replaced if it exists; the one around it must exist or be its only
        missing parent.
      arrays: pytree of arrays.
      info: JSON values.
      lines: of metrics.
      about: what it holds, for its seal.
      name: of the arrays in it.

    Returns:
      The digest of the arrays.
    """
    directory.parent.mkdir(exist_ok=True)
    partial = directory.with_name(directory.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    packed = jax.device_get(pack(arrays))
    content = digest_arrays(packed)
    try:
        partial.mkdir()
        require_room(
            partial, sum(np.asarray(x).nbytes for x in jax.tree.leaves(packed))
        )
        _save_arrays(partial / name, packed)
        write_json(partial / "info.json", info)
        replace_text(partial / "metrics.jsonl", lines)
        seal(partial, about, content)
        remove(directory)
        partial.rename(directory)
    except (OSError, ValueError):  # of a full disk, which needs the space
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return content


def _save_arrays(directory: Path, arrays: PyTree) -> None:
    verbosity = logging.get_verbosity()
    try:
        logging.set_verbosity(logging.FATAL)  # the error that is raised says it all
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(directory, args=ocp.args.StandardSave(arrays))
    finally:
        logging.set_verbosity(verbosity)


def read_arrays(directory: Path, template: PyTree | None = None) -> PyTree:
    """The arrays that `write_sealed` has written.

    Args:
      directory: of the arrays.
      template: a pytree of the same structure, shapes and dtypes; if None, dicts of
        NumPy arrays come back.

    Raises:
      ValueError: the arrays are of other shapes than the template.
    """
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        if template is None:
            args = ocp.args.StandardRestore()
            return jax.tree.map(np.asarray, checkpointer.restore(directory, args=args))
        try:
            args = ocp.args.StandardRestore(pack(template))
            return _unpack(checkpointer.restore(directory, args=args), template)
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{directory} holds arrays of other shapes than this config makes, as "
                "those of an earlier version may be; give another workdir: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error


def read_info(directory: Path) -> tuple[dict[str, Any], list[str]]:
    """The JSON values and the lines that `write_sealed` has written."""
    info = read_json(directory / "info.json")
    text = (directory / "metrics.jsonl").read_text(encoding="utf-8")
    return info, text.splitlines()


def pack(tree: PyTree) -> PyTree:
    """Typed keys as the integers that they hold, which Orbax can store."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _unpack(tree: PyTree, template: PyTree) -> PyTree:
    def unpack(x, like):
        if _is_key(like):
            return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like))
        return x

    return jax.tree.map(unpack, tree, template)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
