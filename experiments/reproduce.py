"""One command for every table and figure of the paper, and for those beyond it.

    python experiments/reproduce.py --table=1
    python experiments/reproduce.py --table=2 --size=full --dry_run
    python experiments/reproduce.py --page=experiments/results/paper.md

Runs the commands that make the table, one after the other, into a directory of its own,
OUTPUT/NAME, and puts each table of the Markdown files there beside them as CSV;
`--dry_run` prints the commands. The size "cpu" takes minutes on two cores and shows
that the table can be made; the numbers of the docs are those of the size "full", on the
device that the page of results names. The same command goes on where it was stopped, as
far as the commands that it runs do.

`--page` writes the list of all tables: where their stored results are, and the device,
commit and hours that these were made with, read from the stored files.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command begins with the first of its commands again")

import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from reproduced_tables import TABLES, Reproduced

from pgx_jax.reporting.tables import Table

FLAGS = flags.FLAGS
flags.DEFINE_string("table", None, "Name of a table or figure.")
flags.DEFINE_enum("size", "cpu", ["cpu", "full"], "Full sizes are for a GPU.")
flags.DEFINE_string("output", "runs/reproduce", "Where to write; a directory.")
flags.DEFINE_bool("dry_run", False, "Print the commands, and run none.")
flags.DEFINE_string("page", None, "Write the list of all tables to this file instead.")

ROOT = Path(__file__).resolve().parents[1]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if (FLAGS.table is None) == (FLAGS.page is None):
        sys.exit("error: give --table or --page")
    if FLAGS.page is not None:
        Path(FLAGS.page).write_text(to_markdown())
        return
    try:
        commands = find_commands(FLAGS.table, FLAGS.size, Path(FLAGS.output))
    except ValueError as error:
        sys.exit(f"error: {error}")
    if not FLAGS.dry_run:
        (ROOT / FLAGS.output / FLAGS.table).mkdir(parents=True, exist_ok=True)
    for command in commands:
        print(shlex.join(command), flush=True)
        if not FLAGS.dry_run:
            program = [sys.executable, *command[1:]]
            code = subprocess.run(program, cwd=ROOT, check=False).returncode
            if code:
                sys.exit(code if code > 0 else 1)
    if not FLAGS.dry_run:
        for path in sorted((ROOT / FLAGS.output / FLAGS.table).glob("*.md")):
            write_csv(path)


def find_commands(name: str, size: str, output: Path) -> list[list[str]]:
    """The commands that make a table, as lists of arguments.

    Args:
      name: of the table.
      size: "cpu" or "full".
      output: what the commands write lies in a directory of the table's name in it.

    Raises:
      ValueError: there is no such table.
    """
    if name not in TABLES:
        known = "\n".join(f"  {key}: {x.title}" for key, x in TABLES.items())
        raise ValueError(f"--table must be one of\n{known}\ngot {name!r}")
    directory = (output / name).as_posix()
    lines = TABLES[name].commands[size]
    return [shlex.split(x.format(output=shlex.quote(directory))) for x in lines]


def write_csv(path: Path) -> None:
    """Writes the tables of NAME.md to NAME_1.csv, NAME_2.csv and so on."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", path.read_text(), re.MULTILINE)
    for number, block in enumerate(blocks, 1):
        rows = [
            [cell.strip().replace("\\|", "|") for cell in cells]
            for line in block.splitlines()
            if (cells := re.split(r"(?<!\\)\|", line)[1:-1])
            and not all(re.fullmatch(r" *:?-+:? *", cell) for cell in cells)
        ]
        with path.with_name(f"{path.stem}_{number}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def to_markdown() -> str:
    """What each table is made with, and how each differs from the paper."""
    header = ["`--table`", "what", "stored results", "device", "commit", "hours"]
    rows = [
        [f"`{name}`", entry.title, show_results(entry), *show_provenance(entry)]
        for name, entry in TABLES.items()
    ]
    parts = [Table(header, rows, num_labels=len(header)).to_markdown()]
    for name, entry in TABLES.items():
        parts.append(f"## {entry.title}")
        parts.append(f"`python experiments/reproduce.py --table={name} --size=full`")
        parts.append(f"On a CPU: {entry.on_cpu}")
        if entry.missing:
            parts.append(f"**Not yet run:** {entry.missing}")
        if entry.differs:
            parts.append(f"Beside the paper: {entry.differs}")
    return "\n\n".join(parts) + "\n"


def show_results(entry: Reproduced) -> str:
    """The page of the results; links lead from docs/results."""
    if not entry.page:
        return "not yet run"
    return f"[{Path(entry.page).stem}]({entry.page})"


def show_provenance(entry: Reproduced) -> list[str]:
    """Device, commit and hours of the stored results, as far as they say so."""
    documents = [x for path in entry.results for x in load_documents(ROOT / path)]
    found = {
        key: [x for document in documents for x in find_values(document, key)]
        for key in ("device", "commit")
    }
    found["commit"] = [shorten_commit(x) for x in found["commit"]]
    seconds = [x for document in documents for x in find_seconds(document)]
    hours = f"{sum(seconds) / 3600:.1f}" if seconds else ""
    return [*("; ".join(dict.fromkeys(x)) for x in found.values()), hours]


def load_documents(path: Path) -> list[Any]:
    """What a JSON file holds, or what a truth table says of itself."""
    if path.suffix == ".json":
        return [json.loads(path.read_text())]
    with np.load(path) as stored:
        about = [stored[x].item() for x in ("about", "about_truth") if x in stored]
        seconds = [float(stored[x]) for x in ("meta_seconds", "truth_seconds")]
    return [*map(json.loads, about), {"seconds": seconds}]


def shorten_commit(commit: str) -> str:
    """The first seven digits, and whether files had been changed."""
    digits, _, dirty = commit.partition("-")
    return digits[:7] + ("-dirty" if dirty else "")


def find_values(document: Any, key: str) -> Iterator[str]:
    """Every string under this key, at any depth, in lists too."""
    if isinstance(document, list):
        for x in document:
            yield from find_values(x, key)
    elif isinstance(document, dict):
        for name, x in document.items():
            if name == key and x is not None:
                yield from [x] if isinstance(x, str) else x
            else:
                yield from find_values(x, key)


def find_seconds(document: dict[str, Any]) -> list[float]:
    """The wall time of the document's runs, if it is stored."""
    seconds = document.get("seconds", [])
    return seconds if isinstance(seconds, list) else [seconds]


if __name__ == "__main__":
    app.run(main)
