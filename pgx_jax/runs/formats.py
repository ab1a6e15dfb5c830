"""Numbers as people read them: counts, durations and returns."""

from __future__ import annotations

import math


def format_count(count: float) -> str:
    """A count in three digits: 950, 1.25k, 48.3M."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(count) < 999.5 or unit == "T":
            break
        count /= 1000.0
    if not unit and count == int(count):
        return str(int(count))
    digits = max(0, 2 - int(math.log10(max(abs(count), 1.0))))
    return f"{count:.{digits}f}{unit}"


def format_duration(seconds: float) -> str:
    """A duration in the units that matter: 40 ms, 4.2 s, 3 min 05 s, 2 h 10 min."""
    if not math.isfinite(seconds):
        return "?"
    if 0.0 < seconds < 0.1:
        return f"{1000.0 * seconds:.2g} ms"
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def format_return(value: float) -> str:
    """A return in about three digits; a dash where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
