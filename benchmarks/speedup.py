"""Compares the estimate with fine-tuning on every subset, in cost and in agreement.

    python benchmarks/speedup.py --config=benchmarks/configs/speedup_cartpole.py \
        --workdir=runs/speedup --output=benchmarks/results/speedup_cpu

For every suite, depth of the policy and seed (a cell), the script trains one
meta-policy and computes the affinity of the tasks from the same subsets in two ways.
The estimate collects transitions, projects their gradients and solves all regressions;
the oracle fine-tunes the meta-policy on every subset by PPO and evaluates the resulting
policies. The oracle runs once more under another seed, since no estimate can agree with
it better than it does with itself.

OUTPUT.json, OUTPUT.md and OUTPUT.png are written after every cell. The same command
resumes an interrupted run: after the cells in OUTPUT.json, with the blocks of the
oracle in the workdir. Cells can be run in parts (`--config.seeds=0,`) on machines of
one kind, and merged by `--add=PART.json,...`.

Wall times are those of compiled programs, from the meta-policy to the affinity, on a
machine that should be idle otherwise; clustering is the same for both.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command goes on from the cells that are finished")

import itertools
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import speedup_report as report
from absl import app, flags, logging
from ml_collections import config_flags
from speedup_cell import GRID, Cell, Settings

from pgx_jax import runtime
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.provenance import describe
from pgx_jax.runs.workdir import Workdir, config_difference

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of unfinished cells.", required=True
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Where to write, without an ending.", required=True
)
_ADD = flags.DEFINE_list("add", [], "JSON files of other runs to take cells from.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # Orbax logs every file it touches
    command = _command()
    # An empty cache: the first compilation of a program is a real one, and cells whose
    # programs are the same share it.
    with tempfile.TemporaryDirectory() as cache, Progress() as progress:
        runtime.configure(cache_directory=cache)
        try:
            run(
                _CONFIG.value.to_dict(),
                Path(_WORKDIR.value),
                Path(_OUTPUT.value),
                add=[Path(path) for path in _ADD.value],
                command=command,
                progress=progress,
            )
        except (ValueError, OSError, FloatingPointError) as error:
            sys.exit(f"error: {error}")
    print(Path(_OUTPUT.value).with_suffix(".md").read_text())


def _command() -> str:
    given = os.environ.get("XLA_FLAGS")
    return shlex.join([*([f"XLA_FLAGS={given}"] if given else []), "python", *sys.argv])


def run(
    values: Mapping[str, Any],
    workdir: Path,
    output: Path,
    *,
    add: Iterable[Path] = (),
    command: str = "",
    progress: Progress,
) -> dict[str, Any]:
    """Runs the cells that are not finished, and writes all results after each.

    Args:
      values: the config, as nested dicts.
      workdir: directory of the stages of unfinished cells.
      output: path of the results, without an ending.
      add: JSON files of other runs of this config.
      command: the command line of the run.
      progress: the display of progress.

    Returns:
      What OUTPUT.json holds.

    Raises:
      ValueError: a setting is not allowed, or the results of an earlier run, or of one
        to add, are of another config or device.
      FloatingPointError: training met a number that is not finite.
    """
    settings = Settings.create(values)
    grid = {
        place: Cell.create(settings, *place)
        for place in itertools.product(settings.suites, settings.layers, settings.seeds)
    }
    config = {name: value for name, value in values.items() if name not in GRID}
    config = json.loads(json.dumps(config))
    stored = output.with_suffix(".json")
    rows = {
        (row["suite"], row["layers"], row["seed"]): row
        for path in [*([stored] if stored.exists() else []), *add]
        for row in _read(path, config)
    }
    cells = [cell for place, cell in grid.items() if place not in rows]
    made_by = {"command": command, **describe()}
    devices = {row["made_by"]["device"] for row in rows.values()}
    devices |= {made_by["device"]} if cells else set()
    if len(devices) > 1:
        raise ValueError(
            f"results of several devices, {', '.join(sorted(devices))}, have no common "
            "mean; give them outputs of their own"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    if rows:
        document = _write(config, rows, output)
    for cell in cells:
        directory = Workdir(workdir / cell.title.replace(" ", "_"), config)
        row = cell.run(directory, progress) | {"made_by": made_by}
        rows[row["suite"], row["layers"], row["seed"]] = row
        document = _write(config, rows, output)
        progress.note(report.one_line(row))
    return document


def _read(path: Path, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier run of the same config."""
    document = json.loads(path.read_text())
    if difference := config_difference(document["config"], config):
        lines = "\n".join(f"  {line}" for line in difference.values())
        raise ValueError(f"{path} holds results of another config:\n{lines}")
    return document["rows"]


def _write(
    config: Mapping[str, Any], rows: Mapping[tuple, dict[str, Any]], output: Path
) -> dict[str, Any]:
    suites = list(dict.fromkeys(suite for suite, _, _ in rows))
    order = sorted(rows, key=lambda cell: (suites.index(cell[0]), *cell[1:]))
    document = report.summarize(config, [rows[cell] for cell in order])
    text = json.dumps(document, indent=1) + "\n"
    temporary = output.with_suffix(".tmp")  # so that the file is complete or absent
    temporary.write_text(text)
    temporary.replace(output.with_suffix(".json"))
    output.with_suffix(".md").write_text(report.write_page(document))
    report.draw(document, output.with_suffix(".png"))
    return document


if __name__ == "__main__":
    app.run(main)
