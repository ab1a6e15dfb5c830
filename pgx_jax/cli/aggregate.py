"""Puts the results of several finished runs of one suite, one per seed, in one table.

    pgx_jax aggregate --output=experiments/results/cartpole \
        runs/cartpole_0 runs/cartpole_1 runs/cartpole_2

Writes OUTPUT.json and OUTPUT.md. Intervals are 95% t intervals of the mean over seeds,
of which there are few; random draws are averaged within a seed. Methods of one seed
share its meta-policy, so that they are compared by their differences within seeds. The
page ends with each seed's groups and how far seeds agree on them. With --curves also a
figure, OUTPUT_learning_curves.png: a panel a task, a line a seed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from pgx_jax.cli.common import shown_command
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.aggregate import aggregate, aggregate_page, draw_curves

_OUTPUT = flags.DEFINE_string(
    "output", None, "Where to write, without an ending.", required=True
)
_CURVES = flags.DEFINE_bool("curves", False, "Also draw learning curves.")


def main() -> None:
    app.run(_run)


def _run(argv: list[str]) -> None:
    if len(argv) < 2:
        raise app.UsageError("name the workdirs of the runs to aggregate")
    try:
        _aggregate(argv[1:])
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


def _aggregate(workdirs: Sequence[str]) -> None:
    runs = [RunResults.from_json(Path(path) / "results.json") for path in workdirs]
    command = shown_command()
    entries = aggregate(runs) | {"command": command}
    page = aggregate_page(entries, command)
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(entries, indent=1) + "\n")
    output.with_suffix(".md").write_text(page)
    if _CURVES.value:
        figure = draw_curves(runs)
        figure.savefig(output.with_name(f"{output.name}_learning_curves.png"), dpi=200)
    print(page)
