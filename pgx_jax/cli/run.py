"""Runs the whole pipeline of one config, or resumes one that was interrupted.

    pgx_jax run --config=cartpole_planted --workdir=runs/planted --config.seed=1
    pgx_jax run --config=cartpole_planted --workdir=runs/planted --seeds=0,1,2

`--config` takes the name of a config of the package or the path of a file. Several
seeds train side by side, in runs/planted_0 and so on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from absl import flags

from pgx_jax.cli.common import parse_flags, quiet, shown_command

if TYPE_CHECKING:
    from pgx_jax.cli.config_files import Change
    from pgx_jax.pipeline.config import PipelineConfig
    from pgx_jax.settings import Problem

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "Name of a config of the package, or path of a file with a function get_config; "
    "--config.SECTION.FIELD=VALUE changes a setting.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; the same command goes on from it."
)
_SEEDS = flags.DEFINE_list(
    "seeds",
    None,
    "Run these seeds side by side, in WORKDIR_SEED each: 0,1,2.",
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", True, "Also write TensorBoard events.")
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print settings, steps, memory and time, and write nothing."
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "On a GPU, the same numbers bit for bit from every process; up to 40% slower.",
)
_WANDB = flags.DEFINE_string(
    "wandb", None, "Also send the metrics to this project of Weights & Biases."
)
_DEBUG = flags.DEFINE_bool(
    "debug", False, "Find the operation that gives the first NaN of training."
)


def main() -> None:
    """Runs what the flags describe."""
    from pgx_jax.cli.config_files import split_changes

    argv, changes = split_changes(sys.argv)
    argv = ["--dry_run" if x == "--dry-run" else x for x in argv]
    parse_flags(argv, most_arguments=0)
    quiet(deterministic=_DETERMINISTIC.value)
    if _DRY_RUN.value:
        show_forecast(changes)
        return
    from pgx_jax.memory import OutOfMemory
    from pgx_jax.pipeline.run import run_pipeline
    from pgx_jax.pipeline.runner import TrainingDiverged
    from pgx_jax.reporting.page import write_report
    from pgx_jax.reporting.summary import summary_table
    from pgx_jax.runs.locks import lock

    try:
        config, workdir = read_command(changes)
        if _SEEDS.value is not None:
            run_side_by_side(config, workdir)
            return
        with lock(workdir):
            results = run_pipeline(
                config,
                workdir,
                command=shown_command(),
                tensorboard=_TENSORBOARD.value,
                wandb_project=_WANDB.value,
                debug=_DEBUG.value,
            )
            report = write_report(results, workdir)
    except (
        ValueError,
        OSError,
        ImportError,
        TrainingDiverged,
        OutOfMemory,
    ) as error:
        sys.exit(f"error: {error}")
    print(summary_table(results))
    print(f"report: {report}")


def run_side_by_side(config: PipelineConfig, workdir: str) -> None:
    """Runs the seeds of `--seeds` and prints what each has found."""
    from pgx_jax.pipeline.seeds import run_seeds, seed_directory
    from pgx_jax.reporting.page import write_report
    from pgx_jax.reporting.summary import summary_table
    from pgx_jax.runs.locks import lock

    seeds = [int(x) for x in _SEEDS.value or ()]
    runs = run_seeds(
        config,
        seeds,
        workdir,
        command=shown_command(),
        tensorboard=_TENSORBOARD.value,
        wandb_project=_WANDB.value,
    )
    for seed, results in zip(seeds, runs, strict=True):
        directory = seed_directory(workdir, seed)
        with lock(directory):
            report = write_report(results, directory)
        print(summary_table(results))
        print(f"report: {report}")


def show_forecast(changes: list[Change]) -> None:
    """Prints what the run would take, from a short measurement."""
    import jax

    from pgx_jax.pipeline import forecast
    from pgx_jax.pipeline.checks import make_checked_suite, make_networks

    jax.config.update("jax_enable_compilation_cache", False)  # which is on disk
    try:
        config, _ = read_command(changes)
        suite = make_checked_suite(config)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    networks = make_networks(config, suite)
    print(forecast.describe_run(config, suite, networks), flush=True)
    speed = forecast.measure_speed(config, suite, networks)
    print(forecast.describe_costs(config, suite, networks, speed))


def read_command(changes: list[Change]) -> tuple[PipelineConfig, str]:
    """The settings of the run and its workdir, once all flags have been looked at.

    Raises:
      SettingsError: some are not allowed; the message has a line for each.
    """
    from pgx_jax.cli.config_files import read_settings
    from pgx_jax.pipeline.checks import find_problems
    from pgx_jax.settings import CONFIG_FIELD, Problem, SettingsError

    problems = []
    workdir = _WORKDIR.value or ""
    if not workdir and not (_DRY_RUN.value and _WORKDIR.value is None):
        text = f"must name a directory, got {_WORKDIR.value!r}"
        problems.append(Problem("--workdir", text))
    if _WANDB.value == "":
        problems.append(Problem("--wandb", "must name a project, got ''"))
    problems += check_seeds(changes)
    if not _CONFIG.value:
        text = f"must name a config or a file, got {_CONFIG.value!r}"
        raise SettingsError([*problems, Problem("--config", text)])
    values, found = read_settings(_CONFIG.value, changes)
    config, more = find_problems(values, found)
    problems += more
    if problems:
        of = "" if problems[0].field.startswith("--") else CONFIG_FIELD
        raise SettingsError(problems, of)
    return config, workdir


def check_seeds(changes: list[Change]) -> list[Problem]:
    """What is wrong with `--seeds`, by itself and beside other flags."""
    from pgx_jax.settings import Problem

    seeds = _SEEDS.value
    if seeds is None:
        return []
    texts = []
    known = all(x.isascii() and x.isdigit() and int(x) < 2**32 for x in seeds)
    if not seeds or not known or len({*map(int, seeds)}) < len(seeds):
        given = ",".join(seeds)
        texts.append(f"must be different integers in [0, 2^32), got {given!r}")
    if any(change.path == "seed" for change in changes):
        texts.append("cannot stand beside --config.seed")
    if _DEBUG.value:
        texts.append("cannot stand beside --debug, which looks at one run alone")
    return [Problem("--seeds", text) for text in texts]
