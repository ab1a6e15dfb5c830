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

from absl import flags

from pgx_jax.cli.common import parse_flags, shown_command
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.aggregate import aggregate, aggregate_page, draw_curves
from pgx_jax.runs.files import FREE_SPACE, PARTIAL, explain_errors, replace_text
from pgx_jax.runs.interruption import cleaning_up

_OUTPUT = flags.DEFINE_string("output", None, "Where to write, without an ending.")
_CURVES = flags.DEFINE_bool("curves", False, "Also draw learning curves.")


def main() -> None:
    """Writes the table that the flags describe, or says in one line why not."""
    workdirs = parse_flags(sys.argv)
    try:
        _aggregate(workdirs)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


def _aggregate(workdirs: Sequence[str]) -> None:
    if not workdirs:
        raise ValueError("name the workdirs of the runs to aggregate")
    if not _OUTPUT.value or Path(_OUTPUT.value).name in ("", ".", ".."):
        raise ValueError(
            f"--output must name files, without an ending, got {_OUTPUT.value!r}"
        )
    output = Path(_OUTPUT.value)
    files = [Path(path) / "results.json" for path in workdirs]
    runs = [RunResults.from_json(path) for path in files]
    check_seeds(runs, workdirs)
    command = shown_command()
    entries = aggregate(runs, [str(path) for path in files]) | {"command": command}
    page = aggregate_page(entries, command)
    figure = draw_curves(runs) if _CURVES.value else None
    output.parent.mkdir(parents=True, exist_ok=True)
    # Names are added to, since a name such as lr_0.001 has a dot of its own.
    with explain_errors(f"{output} cannot be written", FREE_SPACE):
        if figure is not None:
            path = output.with_name(f"{output.name}_learning_curves.png")
            partial = path.with_name(path.name + PARTIAL)
            with cleaning_up(lambda: partial.unlink(missing_ok=True)):
                figure.savefig(partial, dpi=200, format="png")
                partial.replace(path)
        text = json.dumps(entries, indent=1)
        replace_text(output.with_name(f"{output.name}.json"), [text])
        replace_text(output.with_name(f"{output.name}.md"), [page.removesuffix("\n")])
    print(page)


def check_seeds(runs: Sequence[RunResults], workdirs: Sequence[str]) -> None:
    """Refuses runs of one seed.

    Raises:
      ValueError: the message names the seeds, and the workdirs of each.
    """
    of_seed: dict[int, list[str]] = {}
    for run, workdir in zip(runs, workdirs, strict=True):
        of_seed.setdefault(run.seed, []).append(workdir)
    repeated = [
        f"{seed} ({' and '.join(found)})"
        for seed, found in of_seed.items()
        if len(found) > 1
    ]
    if repeated:
        raise ValueError(
            "workdirs must be of different seeds; several are of seed "
            f"{', '.join(repeated)}"
        )
