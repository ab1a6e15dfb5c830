"""Runs of one config with several seeds, which train side by side."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from pgx_jax.arguments import as_integer, show
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.results import RunResults
from pgx_jax.pipeline.run import make_problem, run_in
from pgx_jax.pipeline.side_by_side import SideBySide
from pgx_jax.runs.progress import NotesOnly, Progress


def run_seeds(
    config: PipelineConfig,
    seeds: Sequence[int],
    workdir: str | os.PathLike[str],
    *,
    command: str = "",
    tensorboard: bool = True,
    wandb_project: str | None = None,
    progress: Progress | None = None,
) -> list[RunResults]:
    """Runs a config once for each seed, all seeds training in the same programs.

        results = run_seeds(PipelineConfig(), [0, 1, 2], "runs/cartpole_planted")

    On a GPU, whose simulators take as long for few environments as for many, three
    seeds take little longer than one; everywhere programs are compiled once. Each run
    has its own workdir and can be resumed, by the same call best: a run draws other
    noise beside others than alone, and is as valid either way.

    Args:
      config: the settings; its seed is not used.
      seeds: different integers in [0, 2^32).
      workdir: of the runs, with a seed added to each: "runs/planted" becomes
        "runs/planted_0" and so on.
      command: that started the runs, for their reports.
      tensorboard: as of `run_pipeline`.
      wandb_project: as of `run_pipeline`; one run there for each seed.
      progress: where to show that of the first seed, and the notes of all; standard
        output if None.

    Returns:
      The results of every seed. A run that fails leaves the others to end.

    Raises:
      ValueError: `seeds` are no different integers, or as of `run_pipeline`.
      OSError, TrainingDiverged, OutOfMemory: as of `run_pipeline`, of the first run
        that failed, when all others have ended.
    """
    seeds = [as_integer("seeds", seed, 0, 2**32 - 1) for seed in seeds]
    if not seeds or len({*seeds}) < len(seeds):
        raise ValueError(f"seeds must be different integers, got {show(seeds)}")
    problem = make_problem(config)
    table = SideBySide(len(seeds))
    with progress or Progress() as display:

        def run(number: int) -> RunResults:
            seed = seeds[number]
            name = f"seed {seed}"
            try:
                return run_in(
                    dataclasses.replace(config, seed=seed),
                    seed_directory(workdir, seed),
                    problem,
                    command=command,
                    tensorboard=tensorboard,
                    wandb_project=wandb_project,
                    callback=None,
                    progress=display if number == 0 else NotesOnly(display, name),
                    seat=table.seats[number],
                )
            except Exception as error:
                display.note(f"{name} ended: {error}")
                raise
            finally:
                table.leave(number)

        with concurrent.futures.ThreadPoolExecutor(len(seeds)) as pool:
            futures = [pool.submit(run, number) for number in range(len(seeds))]
    return [future.result() for future in futures]


def seed_directory(workdir: str | os.PathLike[str], seed: int) -> Path:
    """The workdir of one seed among several."""
    path = Path(workdir)
    return path.with_name(f"{path.name}_{seed}")
