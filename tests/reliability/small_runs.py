"""Small runs in killable processes of their own, and what is compared of them.

Processes are forked from one that has imported everything, which takes longer than the
run itself.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import jax
import numpy as np
from small_run import SMALL

from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.runs.digests import digest_arrays
from pgx_jax.runs.events import read_events
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir

TESTS = Path(__file__).parents[1]
CARTPOLE = SMALL | {
    "suite": {"name": "cartpole_planted"},
    "meta_training": {"num_updates": 8},
    "estimation": SMALL["estimation"] | {"num_resamples": 0},
    "grouping": {"method": "clustering", "num_groups": 2, "num_random_draws": 0},
    "group_training": {"num_updates": 8},
    "evaluation": {"num_episodes": 2},
}
MJX = CARTPOLE | {
    "suite": {"name": "hopper_body"},
    "meta_training": {"num_updates": 4},
    "group_training": {"num_updates": 4},
}
# What differs between two runs of the same numbers.
CLOCKS = ("timings", "resumed", "command", "commit")


def start(config: dict, workdir: Path, **limits: int) -> BaseProcess:
    """Starts the run of a config in a process of its own, within limits of `run`."""
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pgx_jax.pipeline.run", "reliability.small_runs"])
    cache = jax.config.jax_compilation_cache_dir
    arguments = (config, str(workdir), cache)
    process = context.Process(target=run, args=arguments, kwargs=limits)
    process.start()
    return process


def run(config: dict, workdir: str, cache: str, file_size: int | None = None) -> None:
    """The whole run, with all programs that it compiles kept on disk.

    Args:
      config: its settings.
      workdir: its directory.
      cache: of compiled programs.
      file_size: bytes that no file of the run may exceed.

    What the process prints goes to a file; `said` reads it.
    """
    from pgx_jax import runtime
    from pgx_jax.cli.common import quiet
    from pgx_jax.pipeline.run import run_pipeline

    runtime.configure(cache_directory=cache)
    quiet()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    log = os.open(f"{workdir}.{os.getpid()}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if file_size is not None:
        jax.config.update("jax_enable_compilation_cache", False)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    with open(os.devnull, "w") as nowhere:
        progress = Progress(stream=nowhere)
        try:
            run_pipeline(PipelineConfig.from_dict(config), workdir, progress=progress)
        except OSError as error:
            sys.exit(f"error: {error}")


def said(process: BaseProcess, workdir: Path) -> list[str]:
    """The lines that a run has printed, but for those of packages when imported."""
    text = Path(f"{workdir}.{process.pid}.log").read_text()
    return [x for x in text.splitlines() if not x.startswith("Failed to import")]


def snapshot(workdir: Path) -> dict[str, object]:
    """All that a finished run left, but for clocks and the run's own identifier."""
    directory = Workdir.open(workdir)
    found: dict[str, object] = {
        "config": directory.config,
        "policies": directory.read_policies(),
        "metrics": (workdir / "metrics.jsonl").read_text(),
        "files": list_files(workdir),
    }
    results = json.loads((workdir / "results.json").read_text())
    for name in (*CLOCKS, "digest"):
        del results[name]
    found["results"] = results
    for stage in sorted(path.name for path in (workdir / "stages").iterdir()):
        info = directory.info(stage)
        del info["seconds"]
        arrays = digest_arrays(directory.result(stage))
        found[stage] = [info, arrays, directory.lines(stage)]
    for events in sorted((workdir / "tensorboard").iterdir()):
        values, _ = read_events(events)
        found[events.name + " events"] = sorted(values.items())
    return found


def list_files(workdir: Path) -> list[str]:
    """Files by name, those of which Orbax and TensorBoard make up the names as one."""
    names = {
        path.relative_to(workdir).as_posix()
        for path in workdir.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }
    names = {re.sub(r"/result/.*", "/result/*", name) for name in names}
    return sorted({re.sub(r"/events\.out.*", "/events", name) for name in names})


def differences(a: dict[str, object], b: dict[str, object]) -> list[str]:
    """The parts of two snapshots that are not equal, NaN being equal to NaN."""
    return [x for x in sorted({*a, *b}) if not _equal(a.get(x), b.get(x))]


def _equal(a: object, b: object) -> bool:
    try:
        np.testing.assert_equal(a, b)
    except AssertionError:
        return False
    return True
