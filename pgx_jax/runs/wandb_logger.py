"""The metrics of a run in Weights & Biases, beside those on disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from pgx_jax.extras import needs_extra


class WandbLogger:
    """Sends metrics to one run of Weights & Biases, which a resumed run goes on with.

    It is a callback of `pgx_jax.runs.metrics.MetricsWriter`. Every stage has an axis of
    its own, `STAGE/step`, in environment steps. What WANDB_MODE and the other variables
    of the library say holds: with WANDB_MODE=offline nothing leaves the machine, and
    `wandb sync` sends it later.

    Args:
      project: its name there.
      directory: of the run; the library writes into `directory/wandb`.
      config: settings shown with the run.
      task_names: names of the entries of metrics of tasks; their indices if left out.

    Raises:
      ImportError: `wandb` is not installed.
    """

    def __init__(
        self,
        project: str,
        directory: str | os.PathLike[str],
        *,
        config: Mapping[str, Any] | None = None,
        task_names: Sequence[str] = (),
    ) -> None:
        with needs_extra("wandb"):
            import wandb

        self._task_names = tuple(task_names)
        self._stages: set[str] = set()
        path = Path(directory) / "wandb"
        path.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=project,
            dir=str(directory),
            id=_find_id(path / "run_id"),
            resume="allow",
            reinit="create_new",  # beside the runs of other seeds
            config=None if config is None else dict(config),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._run.finish(exit_code=0 if kind is None else 1)

    def __call__(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Sends one line of metrics; what is not finite is left out."""
        axis = f"{stage}/step"
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(axis)
            self._run.define_metric(f"{stage}/*", step_metric=axis)
        line: dict[str, float] = {axis: step}
        for name, value in metrics.items():
            array = np.asarray(value)
            names = [f"{stage}/{name}{entry}" for entry in self._entries(array)]
            for entry, number in zip(names, array.ravel().tolist(), strict=True):
                if np.isfinite(number):
                    line[entry] = number
        self._run.log(line)

    def _entries(self, array: np.ndarray) -> list[str]:
        if array.ndim == 0:
            return [""]
        if array.shape == (len(self._task_names),):
            return [f"/{name}" for name in self._task_names]
        return ["/" + "_".join(map(str, index)) for index in np.ndindex(array.shape)]


def _find_id(path: Path) -> str:
    """The run's name in Weights & Biases, drawn once."""
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    name = secrets.token_hex(8)
    path.write_text(f"{name}\n", encoding="utf-8")
    return name
