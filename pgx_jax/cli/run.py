"""Runs the whole pipeline of one config, or resumes one that was interrupted.

    pgx_jax run --config=cartpole_planted --workdir=runs/planted --config.seed=1

`--config` takes the name of a config of the package or the path of a file.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from absl import flags

from pgx_jax.cli.common import parse_flags, quiet, shown_command

if TYPE_CHECKING:
    from pgx_jax.cli.config_files import Change
    from pgx_jax.pipeline.config import PipelineConfig

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "Name of a config of the package, or path of a file with a function get_config; "
    "--config.SECTION.FIELD=VALUE changes a setting.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; the same command goes on from it."
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
