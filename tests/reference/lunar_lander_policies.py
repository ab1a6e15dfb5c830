"""Policies under which LunarLander is compared with Gymnasium's; needs no Box2D."""

import numpy as np

MAX_STEPS = 500  # of an episode, of which the figures are
CONSTANT = {"idle": 0, "left engine": 1, "main engine": 2, "right engine": 3}
NAMES = ("heuristic", "pushed right", "pushed left", "noisy", *CONSTANT, "random")
NOISE = 0.3  # share of random actions of the noisy heuristic


def choose(
    name: str, heuristic: int, observation: np.ndarray, rng: np.random.Generator
) -> int:
    """The action of a policy.

    Args:
      name: one of `NAMES`; "pushed" fires a side engine while both legs touch.
      heuristic: what Gymnasium's own controller would do.
      observation: float [8].
      rng: draws the random actions.
    """
    if name in CONSTANT:
        return CONSTANT[name]
    if name == "random" or (name == "noisy" and rng.random() < NOISE):
        return int(rng.integers(4))
    if name.startswith("pushed") and observation[6] and observation[7]:
        return {"pushed left": 1, "pushed right": 3}[name]
    return int(heuristic)
