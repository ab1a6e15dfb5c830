"""Which geoms of the scene collide, and how softly.

Source: the models of Meta-World 3.1.1 for the parameters of contact.
"""

from __future__ import annotations

import mujoco

from pgx_jax.envs.metaworld.arm import FINGERS
from pgx_jax.envs.metaworld.geometry import get_or_none
from pgx_jax.envs.metaworld.objects import (
    NUM_CAPSULES,
    NUM_FIXTURE_BOXES,
    NUM_STOPS,
    ManipulatedObject,
)
from pgx_jax.envs.metaworld.softness import DEFAULT, HARD, PAD, mix, soften

# How many times softer contacts are, of the palm with a capsule and of a finger with a
# box. MJX finds other points of contact than MuJoCo (of the former two for one); fitted
# to how windows' handles are pressed and how things are held.
PALM_WEIGHT, GRIP_WEIGHT = 2.5, 2.0
PAD_FRICTION, FRICTION = 2.0, 1.0


def add_pairs(spec: mujoco.MjSpec, manipulated: ManipulatedObject) -> None:
    """Adds the pairs of geoms that may touch in some task."""
    fingers = tuple(FINGERS)
    capsules = [f"capsule{i}" for i in range(NUM_CAPSULES)]
    fixture = [f"fixture{i}" for i in range(NUM_FIXTURE_BOXES)]
    pad_on_box = mix(PAD, manipulated.softness)
    if not manipulated.pressed:
        pad_on_box = soften(pad_on_box, GRIP_WEIGHT)

    def add(first, second, softness, friction=FRICTION, condim=3, by_friction=False):
        if condim > 1:
            # Where the normal is softer than it should be, a force presses deeper, and
            # impedance rises over that much more.
            ratio = _pyramid(friction) / _pyramid(friction, by_friction)
            softness = soften(softness, 1.0 / _pyramid(friction, by_friction), ratio)
        spec.add_pair(
            geomname1=first,
            geomname2=second,
            condim=condim,
            friction=[friction] * 2 + [0.005, 1e-4, 1e-4],
            solref=(softness.time_constant, softness.damping_ratio),
            solimp=(*softness.impedance, 0.5, 2.0),
        )

    for finger in fingers:
        add(
            finger, "box", pad_on_box, PAD_FRICTION, by_friction=not manipulated.pressed
        )
        for capsule in capsules:
            add(finger, capsule, mix(PAD, HARD), PAD_FRICTION)
        for box in fixture:
            add(f"{finger}_edge", box, mix(PAD, HARD), PAD_FRICTION)
    for capsule in capsules:
        add("palm", capsule, soften(mix(DEFAULT, HARD), PALM_WEIGHT))
    add("palm", fixture[0], mix(DEFAULT, HARD))
    add("table", "box", mix(DEFAULT, manipulated.softness), by_friction=True)
    for box in fixture:
        add("shaft", box, mix(manipulated.softness, HARD), by_friction=True)
    for i in range(NUM_STOPS):
        stop = get_or_none(manipulated.stops, i)
        softness = soften(stop.softness, stop.weight) if stop else DEFAULT
        add(f"plane{i}", f"point{i}", softness, condim=1)


def _pyramid(friction, by_friction=False):
    """How much softer than an elliptic cone MuJoCo's pyramidal one is.

    Each of a pyramid's four edges is regularized by 2 mu^2 (1 + mu^2) times what the
    normal of an elliptic cone would be. The four share a normal force, and pairs of
    opposite ones, which lean by mu, a tangential one; so either the normal or the
    tangential softness can be that of the elliptic cone, which has one for both. What
    is held between fingers creeps by the latter.

    Args:
      friction: mu, the coefficient of sliding friction.
      by_friction: whether to compare tangential softness.
    """
    edge = 2.0 * friction**2 * (1.0 + friction**2)
    return edge / (2.0 * friction**2) if by_friction else edge / 4.0
