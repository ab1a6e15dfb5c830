"""One table, and the forms it is shown in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """One entry of a table.

    Attributes:
      value: the text.
      interval: of the value, such as "[1.0, 2.0]"; "" where it has none.
      note: a sentence about it, for a page only.
    """

    value: str
    interval: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.value} {self.interval}".rstrip()


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells under a header.

    Attributes:
      header: title of every column; [columns].
      rows: a cell, or its text, for every column; [rows][columns].
      num_labels: how many columns at the left are words; the others are numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    num_labels: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"rows must have {len(self.header)} cells, one a column, got "
                    f"{len(row)}"
                )

    def cells(self) -> list[list[Cell]]:
        """The rows, all cells in full."""
        return [
            [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
            for row in self.rows
        ]

    def to_text(self) -> str:
        """For a terminal: words at the left, numbers at the right of their columns."""
        rows = [list(self.header), *_texts(self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < self.num_labels else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    def to_markdown(self) -> str:
        """Lines of Markdown, without the last line's end."""
        numbers = len(self.header) - self.num_labels
        rule = [":--"] * self.num_labels + ["--:"] * numbers
        rows = [list(self.header), rule, *_texts(self.rows)]
        return "\n".join(f"| {' | '.join(map(_escape, row))} |" for row in rows)


def _texts(rows: Iterable[Iterable[Cell | str]]) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in rows]


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
