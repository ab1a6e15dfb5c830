"""Tables as text and as Markdown."""

import pytest

from pgx_jax.reporting.tables import Cell, Table

TABLE = Table(
    ["method", "return"], [["a|b", Cell("1.0", "[0.5, 1.5]")], ["long name", "-2"]]
)


def test_text_is_aligned():
    assert TABLE.to_text().splitlines() == [
        "method             return",
        "-------------------------",
        "a|b        1.0 [0.5, 1.5]",
        "long name              -2",
    ]


def test_markdown_keeps_the_columns():
    assert TABLE.to_markdown().splitlines() == [
        "| method | return |",
        "| :-- | --: |",
        "| a\\|b | 1.0 [0.5, 1.5] |",
        "| long name | -2 |",
    ]


def test_rows_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="rows must have 2 cells, one a column, got 1"):
        Table(["a", "b"], [["c"]])
