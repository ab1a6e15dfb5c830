"""A run's directory: its config, its checkpoints and the results of its stages."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pgx_jax.runs.checkpoints import (
    TrainingCheckpoints,
    read_arrays,
    read_info,
    write_sealed,
)
from pgx_jax.runs.digests import (
    SEAL,
    Damaged,
    check_seal,
    read_any_json,
    read_json,
    without_digest,
    write_json,
)
from pgx_jax.runs.files import FREE_SPACE, PARTIAL, explain_errors, remove
from pgx_jax.types import PyTree

_CONFIG, _POLICIES = "config.json", "policies.json"
# What only a run can have left where its config is missing.
_OF_A_RUN = ("checkpoints", "stages", _POLICIES, "metrics.jsonl", "results.json")


class Workdir:
    """The directory of one run, from which the same run can go on.

    It holds `config.json`; `checkpoints/STAGE/`, the last two training states of a
    stage that is under way; `stages/STAGE/`, the result of each finished stage; and
    `policies.json`, where the policies of every method are. All carry digests and the
    run's identifier, so that damage and what belongs to another run is found.

    Args:
      path: made if it does not exist.
      config: nested dict of JSON values, no field called "run" or "digest".
      first_stage: the first stage that depends on a field, given its name as "ppo.dim",
        or None if none does. A field may be changed as long as that stage has not
        begun; no field may if this is None.

    Attributes:
      path: of the directory.
      resumed: whether an earlier process has begun the run.
      run_id: identifies the run; None of runs of versions that wrote no digests, which
        can only be read.

    Raises:
      ValueError: the directory belongs to a run of another config (the message shows
        the fields that may not differ), or its config is damaged or missing.
      OSError: it cannot be written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        first_stage: Callable[[str], str | None] | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self._sound: dict[str, str] = {}
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
        self.resumed = (self.path / _CONFIG).exists()
        if not self.resumed:
            self._refuse_leavings()
            self.run_id: str | None = uuid.uuid4().hex
            with explain_errors(f"{self.path / _CONFIG} cannot be written", FREE_SPACE):
                write_json(self.path / _CONFIG, {**config, "run": self.run_id})
            return
        difference = config_difference(self._read_config(), config)
        if self.run_id is None:
            raise ValueError(
                f"workdir {str(path)!r} holds a run of an earlier version, without "
                "digests, that this version cannot go on with; give another workdir"
            )
        self._refuse_changes(difference, first_stage)
        if difference:
            with explain_errors(f"{self.path / _CONFIG} cannot be written", FREE_SPACE):
                write_json(self.path / _CONFIG, {**config, "run": self.run_id})

    def _refuse_changes(
        self,
        difference: Mapping[str, str],
        first_stage: Callable[[str], str | None] | None,
    ) -> None:
        """Refuses changes of settings that a stage that has begun depends on."""
        lines = []
        for field, line in difference.items():
            if first_stage is None:
                lines.append(f"  {line}")
                continue
            stage = first_stage(field)
            if stage is not None and self._has_begun(stage):
                lines.append(f"  {line}; stage {stage} has begun with it")
        if lines:
            text = "\n".join(lines)
            raise ValueError(
                f"workdir {str(self.path)!r} holds a run of another config; give "
                "another workdir, or these settings as they were. What differs:\n"
                f"{text}"
            )

    def _has_begun(self, stage: str) -> bool:
        checkpoints = self.path / "checkpoints" / stage
        return self.is_finished(stage) or bool(
            TrainingCheckpoints(checkpoints, {}).steps()
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Workdir:
        """The directory of a run that exists, to read from; nothing is written to it.

        Raises:
          ValueError: there is no run, or its config is damaged.
        """
        directory = cls.__new__(cls)
        directory.path = Path(path).absolute()
        directory.resumed = True
        directory._sound = {}
        if not (directory.path / _CONFIG).exists():
            directory._refuse_leavings()
            raise ValueError(f"workdir {str(path)!r} holds no run")
        directory._read_config()
        return directory

    @property
    def config(self) -> dict[str, Any]:
        """The run's config as a nested dict of JSON values."""
        return self._read_config()

    def require(self) -> None:
        """Refuses to write where the directory is gone, or is now another one.

        Raises:
          OSError: it was removed or moved, or holds another run.
        """
        try:
            found = read_json(self.path / _CONFIG)["run"]
        except Damaged as damage:
            raise OSError(
                "the workdir was removed, moved or changed during the run, which ends "
                f"here: {damage}; put it back, and give the same command again"
            ) from None
        if found != self.run_id:
            raise OSError(f"workdir {str(self.path)!r} now holds another run")

    def remove_leavings(self) -> None:
        """Deletes what a killed run had not finished writing, or deleting.

        To be called by the one process that writes to the directory.
        """
        for pattern in (
            "*",
            "stages/*",
            "checkpoints/*",
            "checkpoints/*/*",
            "tensorboard/*",
        ):
            for path in self.path.glob(pattern + PARTIAL):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for checkpoints in self.path.glob("checkpoints/*"):
            with contextlib.suppress(Damaged):
                self.check(checkpoints.name)
                remove(checkpoints)

    def training_checkpoints(
        self, stage: str, after: Sequence[str] = ()
    ) -> TrainingCheckpoints:
        """The checkpoints of a training stage.

        Args:
          stage: its name.
          after: the stages whose results it depends on, all of them finished.
        """
        self.require()
        directory = self.path / "checkpoints" / stage
        directory.parent.mkdir(exist_ok=True)
        about = self._about(stage, after)
        return TrainingCheckpoints(directory, about, self.require)

    def is_finished(self, stage: str) -> bool:
        """Whether the stage has ended and its result, sound or not, is here."""
        directory = self.path / "stages" / stage
        if self.run_id is None:
            return (directory / "info.json").exists()
        return directory.exists()

    def check(self, stage: str, after: Sequence[str] | None = None) -> None:
        """Checks the result of a finished stage, once for each of these objects.

        Args:
          stage: its name.
          after: the stages whose results it depends on; not checked if None.

        Raises:
          Damaged: a file of it is not what was written, it is of another run, or it
            depends on other results than are here now.
        """
        if self.run_id is None:
            return
        directory = self.path / "stages" / stage
        about = read_json(directory / SEAL)["about"]
        if stage not in self._sound:
            own = {"run": self.run_id, "stage": stage}
            self._sound[stage] = check_seal(directory, about | own)
        if after is not None and about != self._about(stage, after):
            raise Damaged(
                f"{directory} was computed from other results than those here"
            )

    def finish(
        self,
        stage: str,
        result: PyTree,
        info: Mapping[str, Any],
        after: Sequence[str] = (),
        lines: Sequence[str] = (),
    ) -> None:
        """Stores the result of a stage, then drops its checkpoints.

        Args:
          stage: its name.
          result: pytree of arrays.
          info: JSON values, such as seconds and environment steps.
          after: the stages whose results it depends on, all of them finished.
          lines: of the stage's metrics.

        Raises:
          OSError: it cannot be written.
        """
        self.require()
        directory = self.path / "stages" / stage
        about = self._about(stage, after)
        with explain_errors(
            f"the result of stage {stage!r} cannot be written to {directory}",
            f"{FREE_SPACE}, which goes on from the last checkpoint",
            self.require,
        ):
            content = write_sealed(directory, result, info, lines, about, name="result")
            self._sound[stage] = content
            remove(self.path / "checkpoints" / stage)

    def result(self, stage: str, template: PyTree | None = None) -> PyTree:
        """The result of a finished stage.

        Args:
          stage: its name.
          template: a pytree of the same structure, shapes and dtypes; if None, dicts of
            arrays come back.

        Raises:
          Damaged: as by `check`.
          ValueError: the result is of other shapes than the template.
        """
        self._check_to_read(stage)
        return read_arrays(self.path / "stages" / stage / "result", template)

    def info(self, stage: str) -> dict[str, Any]:
        """The JSON values that `finish` stored of a stage."""
        self._check_to_read(stage)
        if self.run_id is None:
            return read_any_json(self.path / "stages" / stage / "info.json")
        return read_info(self.path / "stages" / stage)[0]

    def lines(self, stage: str) -> list[str]:
        """The lines of metrics that `finish` stored of a stage."""
        self._check_to_read(stage)
        return read_info(self.path / "stages" / stage)[1]

    def latest_state(self, stage: str) -> Path | None:
        """The directory of a training stage's newest state; None if it has none.

        Raises:
          Damaged: a file of it is not what was written.
        """
        if self.is_finished(stage):
            self._check_to_read(stage)
            return self.path / "stages" / stage / "result"
        checkpoints = self.path / "checkpoints" / stage
        steps = TrainingCheckpoints(checkpoints, {}).steps()
        if not steps:
            return None
        newest = checkpoints / str(steps[-1])
        if self.run_id is not None:
            own = {"run": self.run_id, "stage": stage, "update": steps[-1]}
            with _remedy():
                about = read_json(newest / SEAL)["about"]
                check_seal(newest, about | own)
        return newest / "state"

    def write_policies(self, policies: Mapping[str, Any]) -> None:
        """Stores in `policies.json` where the policies of every method are.

        Args:
          policies: by method, a dict of "stage", whose training state holds them, and
            "policy_ids", the policy of each task there; [draws][n].
        """
        self.require()
        path = self.path / _POLICIES
        with explain_errors(f"{path} cannot be written", FREE_SPACE, self.require):
            write_json(path, {"run": self.run_id, "policies": policies})

    def read_policies(self) -> dict[str, Any] | None:
        """What `write_policies` stored; None before the groups are known.

        Raises:
          Damaged: the file is not what was written, or is of another run.
        """
        file = self.path / _POLICIES
        if not file.exists():
            return None
        if self.run_id is None:
            return read_any_json(file)
        with _remedy():
            stored = read_json(file)
            if stored["run"] != self.run_id:
                raise Damaged(f"{file} is of another run")
        return stored["policies"]

    def _read_config(self) -> dict[str, Any]:
        """The config as stored, and the run's number."""
        file = self.path / _CONFIG
        try:
            stored = without_digest(read_any_json(file))
            self.run_id = stored.pop("run", None)
            if self.run_id is not None:
                read_json(file)
        except Damaged as damage:
            raise Damaged(
                f"{damage}; put back a copy of it, or give another workdir"
            ) from None
        return stored

    def _refuse_leavings(self) -> None:
        found = [name for name in _OF_A_RUN if (self.path / name).exists()]
        if found:
            raise Damaged(
                f"{self.path / _CONFIG} is missing, though the workdir holds "
                f"{', '.join(found)} of a run; put back a copy of it, or give another "
                "workdir"
            )

    def _check_to_read(self, stage: str) -> None:
        with _remedy(f", or delete {self.path / 'stages' / stage}"):
            self.check(stage)

    def _about(self, stage: str, after: Sequence[str]) -> dict[str, Any]:
        for name in after:
            self.check(name)
        return {
            "run": self.run_id,
            "stage": stage,
            "after": {name: self._sound[name] for name in after},
        }


def config_difference(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> dict[str, str]:
    """A line for every field that differs between two nested dicts, by its name."""
    lines = {}
    for name in sorted({*old, *new}):
        a, b = old.get(name, "absent"), new.get(name, "absent")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines |= config_difference(a, b, f"{prefix}{name}.")
        elif a != b:
            field = f"{prefix}{name}"
            lines[field] = f"{field}: {a!r} in the workdir, {b!r} now"
    return lines


@contextlib.contextmanager
def _remedy(other: str = "") -> Iterator[None]:
    """Adds to what is damaged what one can do."""
    try:
        yield
    except Damaged as damage:
        raise Damaged(
            f"{damage}; put back a copy{other}, or give the command of the run again, "
            "which recovers it"
        ) from None
