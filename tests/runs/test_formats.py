"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from pgx_jax.runs import formats


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.7, "1.00k"),
        (1_250, "1.25k"),
        (48_300_000, "48.3M"),
        (0.25, "0.25"),
        (2e15, "2000T"),
    ],
)
def test_counts_have_three_digits(count, text):
    assert formats.format_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.0412, "41 ms"),
        (4.21, "4.2 s"),
        (59.4, "59 s"),
        (185, "3 min 05 s"),
        (7_800, "2 h 10 min"),
        (math.inf, "?"),
    ],
)
def test_durations_are_short(seconds, text):
    assert formats.format_duration(seconds) == text
