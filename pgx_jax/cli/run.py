"""Runs the whole pipeline of one config, or resumes one that was interrupted.

    pgx_jax run --config=cartpole_planted --workdir=runs/planted --config.seed=1

`--config` takes the name of a config of the package or the path of a file.
"""

from __future__ import annotations

import sys

from absl import app, flags
from ml_collections import config_flags

from pgx_jax.cli.common import quiet, shown_command
from pgx_jax.configs import find_config

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of the run.")
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Directory of the run; the same command goes on from it.",
    required=True,
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", True, "Also write TensorBoard events.")
flags.mark_flag_as_required("config")


def main() -> None:
    app.run(_run, flags_parser=parse_flags)


def _run(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    quiet()
    from pgx_jax.pipeline.config import PipelineConfig
    from pgx_jax.pipeline.run import run_pipeline
    from pgx_jax.pipeline.runner import TrainingDiverged
    from pgx_jax.reporting.page import write_report
    from pgx_jax.reporting.summary import summary_table
    from pgx_jax.runs.locks import lock

    try:
        config = PipelineConfig.from_dict(_CONFIG.value.to_dict())
        with lock(_WORKDIR.value):
            results = run_pipeline(
                config,
                _WORKDIR.value,
                command=shown_command(),
                tensorboard=_TENSORBOARD.value,
            )
            report = write_report(results, _WORKDIR.value)
    except (ValueError, OSError, ImportError, TrainingDiverged) as error:
        sys.exit(f"error: {error}")
    print(summary_table(results))
    print(f"report: {report}")


def parse_flags(argv: list[str]) -> list[str]:
    """As absl does, with configs by name and one line for an unknown setting."""
    app.define_help_flags()
    try:
        return app.parse_flags_with_usage(find_configs(argv))
    except ValueError as error:
        sys.exit(f"error: {error}")
    except AttributeError as error:
        cause = error.args[0]
        text = cause.args[0] if isinstance(cause, Exception) else str(cause)
        sys.exit(f"error: config has no such field: {' '.join(text.split())}")


def find_configs(argv: list[str]) -> list[str]:
    """The arguments with the name of a config replaced by the path of its file.

    Raises:
      ValueError: there is no such config.
    """
    found = list(argv)
    for i, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag.lstrip("-") != "config" or not flag.startswith("-"):
            continue
        if equals:
            found[i] = f"{flag}={find_config(value)}"
        elif i + 1 < len(argv):
            found[i + 1] = find_config(argv[i + 1])
    return found
