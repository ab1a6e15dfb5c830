"""Runs the whole pipeline of one config, or goes on with one that was interrupted.

    python experiments/run.py --config=experiments/configs/cartpole_planted.py \
        --workdir=runs/planted --config.seed=1
"""

from __future__ import annotations

import shlex
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from pgx_jax import runtime

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of the run.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; the same command goes on from it."
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", True, "Also write TensorBoard events.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    # Orbax tells of every file it touches.
    logging.set_verbosity(logging.ERROR)
    runtime.configure()
    from pgx_jax.config import PipelineConfig
    from pgx_jax.pipeline import TrainingDiverged, run_pipeline
    from pgx_jax.report import summary_table

    try:
        config = PipelineConfig.from_dict(_CONFIG.value.to_dict())
        results, report = run_pipeline(
            config,
            _WORKDIR.value,
            command=shlex.join(["python", *sys.argv]),
            tensorboard=_TENSORBOARD.value,
        )
    except (ValueError, OSError, ImportError, TrainingDiverged) as error:
        sys.exit(f"error: {error}")
    print(summary_table(results))
    print(f"report: {report}")


def parse_flags(argv: list[str]) -> list[str]:
    """As absl does, with one line in place of a traceback for an unknown setting."""
    app.define_help_flags()
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:
        cause = error.args[0]
        text = cause.args[0] if isinstance(cause, Exception) else str(cause)
        sys.exit(f"error: config has no such field: {' '.join(text.split())}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
