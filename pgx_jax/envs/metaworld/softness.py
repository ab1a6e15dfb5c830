"""Parameters of MuJoCo's soft constraints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Softness(NamedTuple):
    """Parameters of a constraint; where two geoms meet MuJoCo averages.

    Attributes:
      time_constant: s.
      impedance: the first three of solimp, the third in m or rad.
      damping_ratio: 1 in the original.
    """

    time_constant: float
    impedance: tuple[float, float, float]
    damping_ratio: float = 1.0


DEFAULT = Softness(0.02, (0.9, 0.95, 0.001))
HARD = Softness(0.01, (0.99, 0.99, 0.01))  # of everything a task brings along
PAD = Softness(0.01, (0.95, 0.99, 0.01))


def mix(a: Softness, b: Softness) -> Softness:
    """What MuJoCo makes of two geoms' parameters."""
    low, high, width = (
        (x + y) / 2 for x, y in zip(a.impedance, b.impedance, strict=True)
    )
    return Softness(
        (a.time_constant + b.time_constant) / 2,
        (low, high, width),
        (a.damping_ratio + b.damping_ratio) / 2,
    )


def soften(softness: Softness, weight: float, lever: float = 1.0) -> Softness:
    """Parameters that make a constraint's regularization `weight` times as large.

    With impedance d and a constraint's inverse inertia A, MuJoCo regularizes by
    (1 - d) / d A. Where A is not that of the constraint to be imitated, an impedance d'
    with (1 - d') / d' = weight (1 - d) / d makes up for it. Stiffness is d over the
    square of the full impedance, the time constant and the damping ratio, and damping
    2 over the full impedance and the time constant, so that these two are scaled such
    that both stay.

    Args:
      softness: of the constraint to be imitated.
      weight: above 0.
      lever: m per unit of that constraint's position.
    """
    low, high, width = softness.impedance
    softer_low, softer_high = (
        1.0 / (1.0 + weight * (1.0 - d) / d) for d in (low, high)
    )
    return Softness(
        softness.time_constant * high / softer_high,
        (softer_low, softer_high, width * lever),
        softness.damping_ratio * np.sqrt(softer_high / high),
    )
