"""The settings of weights from returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from pgx_jax.settings import Checker, Settings
from pgx_jax.training import return_weights
from pgx_jax.training.return_weights import ReturnWeighting

# The settings that each way of weighting uses.
USES = {
    "none": (),
    "constrained": ("floors", "ceilings", "learning_rate", "penalty", "most"),
    "concave": ("alpha", "origins", "decay"),
    "tchebycheff": ("preferences", "ideals", "smoothness", "decay"),
    "projected": ("power", "target", "step", "origins", "decay"),
}
PER_TASK = ("preferences", "ideals", "origins")
BOUNDS = ("floors", "ceilings")


@dataclasses.dataclass(frozen=True)
class ReturnWeightsConfig(Settings):
    """How tasks are weighted by what the policy returns on them.

    What each setting means, `pgx_jax.training.return_weights` says.

    Attributes:
      name: "none", "constrained", "concave", "tchebycheff" or "projected".
      floors: pairs of a task's index and its least mean return; of "constrained".
      ceilings: pairs of a task's index and its largest mean return; of "constrained".
      learning_rate: of the multipliers; of "constrained".
      penalty: of the augmented Lagrangian; of "constrained".
      most: largest multiplier; of "constrained".
      alpha: of fairness; of "concave".
      power: of the power mean, at most 1; of "projected".
      target: the power mean to reach, or None for a step ahead; of "projected".
      step: as a share of the power mean; of "projected".
      preferences: one a task, all equal where left out; of "tchebycheff".
      ideals: the return hoped for, one a task; of "tchebycheff".
      smoothness: 0 for the largest shortfall alone; of "tchebycheff".
      origins: the return that counts as 0, one a task, all 0 where left out; of
        "concave" and "projected".
      decay: weight of the past in the running means of returns, in [0, 1).
    """

    name: str = "none"
    floors: tuple[tuple[float, ...], ...] = ()
    ceilings: tuple[tuple[float, ...], ...] = ()
    learning_rate: float = 0.05
    penalty: float = 1.0
    most: float = 100.0
    alpha: float = 1.0
    power: float = 0.5
    target: float | None = None
    step: float = 0.002
    preferences: tuple[float, ...] = ()
    ideals: tuple[float, ...] = ()
    smoothness: float = 0.0
    origins: tuple[float, ...] = ()
    decay: float = 0.9

    def check(self, checker: Checker) -> None:
        checker.choice("name", USES)
        checker.positive("learning_rate", "most", "step", "target")
        checker.not_negative("penalty", "alpha", "smoothness")
        checker.fraction("decay", one=False)
        checker.require(self.power <= 1, "power", "must be at most 1")
        checker.finite("power", *PER_TASK, *BOUNDS)
        for name in BOUNDS:
            pairs = getattr(self, name)
            tasks = [pair[0] for pair in pairs if len(pair) == 2]
            checker.require(
                len(tasks) == len(pairs)
                and all(x >= 0 and float(x).is_integer() for x in tasks)
                and len({*tasks}) == len(tasks),
                name,
                "must be pairs of a task's index and a return, each task at most once",
            )
        if checker.trusts(*BOUNDS):
            ceilings = {task: most for task, most in self.ceilings}
            checker.require(
                all(x <= ceilings.get(task, x) for task, x in self.floors),
                "floors",
                f"must be at most the ceilings of the same tasks, {self.ceilings}",
                reads=("ceilings",),
            )
        checker.require(
            all(x > 0 for x in self.preferences), "preferences", "must be positive"
        )
        if checker.trusts("name"):
            self._check_use(checker)

    def _check_use(self, checker: Checker) -> None:
        checker.unused("name", USES)
        checker.require(
            self.name != "constrained" or bool(self.floors or self.ceilings),
            "floors",
            "must hold a floor, or ceilings a ceiling, where name is 'constrained'",
        )
        checker.require(
            self.name != "tchebycheff" or bool(self.ideals),
            "ideals",
            "must be one a task where name is 'tchebycheff'",
        )

    def misfits(self, num_tasks: int) -> Iterator[tuple[str, str]]:
        """Settings that do not fit n tasks, and a text to be read after their name."""
        for name in PER_TASK:
            if len(getattr(self, name)) not in (0, num_tasks):
                yield name, f"must be {num_tasks} numbers, one for each task"
        for name in BOUNDS:
            if any(task >= num_tasks for task, _ in getattr(self, name)):
                yield name, f"must be of tasks 0 to {num_tasks - 1}"


def make_return_weighting(
    config: ReturnWeightsConfig, tasks: Sequence[int]
) -> ReturnWeighting | None:
    """The weighting of rows of tasks, or None where there is none.

    Args:
      config: settings, of n tasks.
      tasks: the task of every row, in 0..n-1.

    Raises:
      ValueError: a setting has no number for one of those tasks.
    """
    if config.name == "none":
        return None
    if config.name == "constrained":
        return return_weights.constrained(
            bounds_of_rows(config, "floors", -np.inf, tasks),
            bounds_of_rows(config, "ceilings", np.inf, tasks),
            learning_rate=config.learning_rate,
            penalty=config.penalty,
            most=config.most,
        )
    if config.name == "concave":
        origins = numbers_of_rows(config, "origins", 0.0, tasks)
        return return_weights.concave(config.alpha, origins=origins, decay=config.decay)
    if config.name == "tchebycheff":
        return return_weights.tchebycheff(
            numbers_of_rows(config, "preferences", 1.0, tasks),
            numbers_of_rows(config, "ideals", 0.0, tasks),
            smoothness=config.smoothness,
            decay=config.decay,
        )
    return return_weights.projected(
        config.power,
        target=config.target,
        step=config.step,
        origins=numbers_of_rows(config, "origins", 0.0, tasks),
        decay=config.decay,
    )


def numbers_of_rows(
    config: ReturnWeightsConfig, name: str, default: float, tasks: Sequence[int]
) -> np.ndarray:
    """A setting of one number a task, for rows of tasks; float64 [r].

    Raises:
      ValueError: it has no number for one of those tasks.
    """
    given, most = getattr(config, name), max(tasks)
    if given and len(given) <= most:
        raise ValueError(
            f"return_weights.{name} must have a number for each task, got "
            f"{len(given)}, and a row of task {most}"
        )
    return np.array([given[task] if given else default for task in tasks])


def bounds_of_rows(
    config: ReturnWeightsConfig, name: str, default: float, tasks: Sequence[int]
) -> np.ndarray:
    """Floors or ceilings of rows of tasks; float64 [r]."""
    of_task = {int(task): bound for task, bound in getattr(config, name)}
    return np.array([of_task.get(int(task), default) for task in tasks])
