"""A run's directory: its config, its checkpoints and the results of its stages."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.extras import needs_extra
from pgx_jax.types import PyTree

with needs_extra("experiments"):
    import orbax.checkpoint as ocp


class Workdir:
    """The directory of one run, from which the same run can go on.

    It holds `config.json`; `checkpoints/STAGE/`, the last two training states of a
    stage that is under way; `stages/STAGE/`, the result of each finished stage; and
    `policies.json`, where the policies of every method are.

    Args:
      path: made if it does not exist.
      config: nested dict of JSON values.

    Raises:
      ValueError: the directory belongs to a run of another config; the message shows
        the fields that differ.
      OSError: it cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
        self.path = Path(path).absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Of a name of its own: others may open the directory at the same time.
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise OSError(
                f"workdir {str(path)!r} cannot be written to: {error}"
            ) from None
        config = json.loads(json.dumps(config))
        file = self.path / "config.json"
        self.resumed = file.exists()
        if not self.resumed:
            _write_json(file, config)
            return
        difference = config_difference(json.loads(file.read_text()), config)
        if difference:
            lines = "\n".join(f"  {line}" for line in difference)
            raise ValueError(
                f"workdir {str(path)!r} holds a run of another config; give another "
                f"workdir, or the same config. What differs:\n{lines}"
            )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Workdir:
        """The directory of a run that exists, to read from; nothing is written to it.

        Raises:
          ValueError: there is no run.
        """
        directory = cls.__new__(cls)
        directory.path = Path(path).absolute()
        directory.resumed = True
        if not (directory.path / "config.json").exists():
            raise ValueError(f"workdir {str(path)!r} holds no run")
        return directory

    @property
    def config(self) -> dict[str, Any]:
        """The run's config as a nested dict of JSON values."""
        return json.loads((self.path / "config.json").read_text())

    def training_checkpoints(self, stage: str) -> TrainingCheckpoints:
        """The checkpoints of a training stage."""
        return TrainingCheckpoints(self.path / "checkpoints" / stage)

    def is_finished(self, stage: str) -> bool:
        """Whether the stage has ended and its result is here."""
        return (self.path / "stages" / stage / "info.json").exists()

    def finish(self, stage: str, result: PyTree, info: Mapping[str, Any]) -> None:
        """Stores the result of a stage, then drops its checkpoints.

        Args:
          stage: its name.
          result: pytree of arrays.
          info: JSON values, such as seconds and environment steps. Written last: with
            it the stage counts as finished.
        """
        directory = self.path / "stages" / stage
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(directory / "result", _pack(result), force=True)
            checkpointer.wait_until_finished()
        _write_json(directory / "info.json", info)
        shutil.rmtree(self.path / "checkpoints" / stage, ignore_errors=True)

    def result(self, stage: str, template: PyTree | None = None) -> PyTree:
        """The result of a finished stage.

        Args:
          stage: its name.
          template: a pytree of the same structure, shapes and dtypes; if None, dicts of
            arrays come back.

        Raises:
          ValueError: the result is of other shapes than the template.
        """
        directory = self.path / "stages" / stage / "result"
        with ocp.StandardCheckpointer() as checkpointer:
            if template is None:
                return jax.tree.map(np.asarray, checkpointer.restore(directory))
            try:
                restored = checkpointer.restore(directory, _pack(template))
            except ValueError as error:
                raise ValueError(
                    f"the result of stage {stage!r} in workdir {str(self.path)!r} has "
                    "other shapes, as that of an earlier version may; give another "
                    f"workdir: {error}"
                ) from error
            return _unpack(restored, template)

    def info(self, stage: str) -> dict[str, Any]:
        """The JSON values that `finish` stored of a stage."""
        return json.loads((self.path / "stages" / stage / "info.json").read_text())

    def latest_state(self, stage: str) -> Path | None:
        """The directory of a training stage's newest state; None if it has none."""
        if self.is_finished(stage):
            return self.path / "stages" / stage / "result"
        checkpoints = self.path / "checkpoints" / stage
        # Directories of other names are still being written to.
        steps = [int(x.name) for x in checkpoints.glob("*") if x.name.isdecimal()]
        return checkpoints / str(max(steps)) / "state" if steps else None

    def write_policies(self, policies: Mapping[str, Any]) -> None:
        """Stores in `policies.json` where the policies of every method are.

        Args:
          policies: by method, a dict of "stage", whose training state holds them, and
            "policy_ids", the policy of each task there; [draws][n].
        """
        _write_json(self.path / "policies.json", policies)

    def read_policies(self) -> dict[str, Any] | None:
        """What `write_policies` stored; None before the groups are known."""
        file = self.path / "policies.json"
        return json.loads(file.read_text()) if file.exists() else None


class TrainingCheckpoints:
    """Checkpoints of a whole training state, the last two kept.

    Args:
      directory: made if it does not exist.
    """

    def __init__(self, directory: Path) -> None:
        self._manager = ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=False
            ),
        )

    def __enter__(self) -> TrainingCheckpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, state: PyTree, info: Mapping[str, Any]) -> None:
        """Stores the state after `step` updates, with JSON values beside it."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_pack(state)),
                info=ocp.args.JsonSave(dict(info)),
            ),
        )

    def restore(self, template: PyTree) -> tuple[int, PyTree, dict[str, Any]] | None:
        """The last checkpoint as (step, state, info), or None where there is none.

        Raises:
          ValueError: it holds a state of other shapes.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(_pack(template)),
                    info=ocp.args.JsonRestore(),
                ),
            )
        except ValueError as error:
            raise ValueError(
                f"the checkpoint at update {step} holds a training state of another "
                f"suite, network or number of environments: {error}"
            ) from error
        return step, _unpack(restored["state"], template), restored["info"]


def config_difference(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """One line per field that differs between two nested dicts."""
    lines = []
    for name in sorted({*old, *new}):
        a, b = old.get(name, "absent"), new.get(name, "absent")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += config_difference(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name}: {a!r} in the workdir, {b!r} now")
    return lines


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _pack(tree: PyTree) -> PyTree:
    """Typed keys as the integers that they hold, which Orbax can store."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _unpack(tree: PyTree, template: PyTree) -> PyTree:
    def unpack(x, like):
        if _is_key(like):
            return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like))
        return x

    return jax.tree.map(unpack, tree, template)


def _write_json(path: Path, value: Any) -> None:
    """Writes a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
