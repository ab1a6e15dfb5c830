"""The results of a run, as plain data that a JSON file holds."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

import numpy as np

from pgx_jax.pipeline.result_checks import check_results
from pgx_jax.runs.digests import Damaged, read_any_json, without_digest, write_json

_KIND = "results"  # under any name of the file


class LearningCurve(TypedDict):
    """Returns of every task while a stage trains.

    Attributes:
      steps: environment steps per task; [updates].
      returns: [updates][n], NaN where a task has finished no episode yet.
      success: share of finished episodes in which success was met at any step, the
        same way; left out where tasks do not report it.
    """

    steps: list[float]
    returns: list[list[float]]
    success: NotRequired[list[list[float]]]


class MethodResult(TypedDict):
    """What the policies of one way of grouping achieve.

    Attributes:
      name: as it is called in tables and figures.
      description: one sentence.
      num_policies: the number of policies trained (of each draw).
      source: returns of the final policies on the tasks trained on;
        [draws][n][episodes]. Methods that draw groups at random have several draws.
      target: the same on unseen tasks; [draws][targets][episodes], or None.
      grouping: its key in `RunResults.groups`; the name where left out.
      scalarized: the tasks' returns combined into one number; [draws], or None.
      success: share of episodes of the tasks trained on in which success was met at any
        step; [draws][n], or None where tasks do not report it.
      sampled_return: mean return where actions are sampled, `source` being that of the
        most likely ones; [draws][n], or None where it was not asked for.
      sampled_success: `success`, the same way.
      predicted: what its groups are worth by the estimate, the mean over tasks of their
        scores; [draws], or None where not all subsets were scored.
      env_steps: environment steps behind the policies of one draw, over all tasks, by
        stage; evaluation is no part of it.
    """

    name: str
    description: str
    num_policies: int
    source: list[list[list[float]]]
    target: list[list[list[float]]] | None
    grouping: NotRequired[str]
    env_steps: NotRequired[dict[str, int]]
    scalarized: NotRequired[list[float] | None]
    success: NotRequired[list[list[float]] | None]
    sampled_return: NotRequired[list[list[float]] | None]
    sampled_success: NotRequired[list[list[float]] | None]
    predicted: NotRequired[list[float] | None]


class Expected(TypedDict):
    """What a partition is expected to gain over another way of training.

    Attributes:
      mean: in mean return of a task, shrunk for the luck of one training.
      deviation: its standard deviation.
      lower: end of the 90% interval.
      upper: end of the 90% interval.
      verdict: "pays", "costs", "does not matter" or "cannot tell".
    """

    mean: float
    deviation: float
    lower: float
    upper: float
    verdict: str


class GroupGain(TypedDict):
    """The best partition into k groups of those that a race has trained.

    Attributes:
      num_groups: k.
      labels: the group of each task; [n].
      measured: mean return of a task in the race.
      over_one_policy: its gain over one policy for all tasks.
      over_single_tasks: over a policy for each task.
      over_random_groups: over random partitions into as many groups.
    """

    num_groups: int
    labels: list[int]
    measured: float
    over_one_policy: Expected
    over_single_tasks: Expected
    over_random_groups: Expected


class Collection(TypedDict):
    """How transitions were collected until the groups were stable, or to the limit.

    Attributes:
      num_transitions: per task, by the end of every round; [rounds].
      agreement: mean NMI of the groups with those of bootstrap samples then; [rounds].
      stable_agreement: the agreement from which on groups count as stable.
      is_stable: whether they were in the end; else the limit ended it.
    """

    num_transitions: list[int]
    agreement: list[float]
    stable_agreement: float
    is_stable: bool


class Uncertainty(TypedDict):
    """How stable the affinity and the groups are over bootstrap resamples.

    Attributes:
      lower: lower ends of the 95% intervals of U; [n][n].
      upper: their upper ends; [n][n].
      co_assignment: share of resamples that put two tasks in one group; [n][n].
      nmi: of the groups of every resample with those found; [resamples].
    """

    lower: list[list[float]]
    upper: list[list[float]]
    co_assignment: list[list[float]]
    nmi: list[float]


class StageTiming(TypedDict):
    """How long a stage took.

    Attributes:
      stage: its name.
      seconds: wall time, compiling included.
      env_steps: environment steps of all tasks together, or None where it takes none.
    """

    stage: str
    seconds: float
    env_steps: int | None


@dataclasses.dataclass
class RunResults:
    """Everything that is reported about a run of n tasks, as plain data.

    Arrays are turned into nested lists.

    Attributes:
      name: the task suite.
      task_names: [n].
      episode_length: steps after which an episode is cut.
      seed: of the run.
      affinity: U; [n][n].
      affinity_method: the score that was averaged, as `task_affinity` names it.
      pair_counts: number of subsets that hold both tasks; [n][n].
      num_subsets: m.
      subset_size: tasks in a subset, or None where all subsets are estimated.
      relative_distance: of the adapted from the meta-policy's parameters,
        |theta_S - theta*| / |theta*| over subsets; with keys "median" and "max".
      converged_share: of the regressions that reached their tolerance, in [0, 1].
      groups: labels [n] by method; "estimated" must be among them, "planted" are those
        known beforehand.
      methods: the first one is the method reported on, the others are what it is
        compared with.
      learning_curves: by stage.
      adaptation_curves: by method, in the columns of which are the target tasks; means
        over draws. Empty where the run adapts to nothing.
      timings: in the order of the stages.
      nmi: normalized mutual information with the planted groups, by method as in
        `groups`.
      uncertainty: of the affinity and the groups, or None where there are no resamples.
      collection: of the transitions; None where their number was given.
      gains: of the best groups of a race by number of groups, or None where there was
        none.
      scalarization: how tasks that are objectives become one number, or None.
      config: nested settings.
      device: what the run ran on; several, joined by "and", if it moved.
      versions: of the libraries.
      commit: of the code.
      command: that started the run.
      resumed: whether it was interrupted and resumed.

    Raises:
      ValueError: a field is of another type or shape, out of range or not finite where
        it must be; the message names it.
    """

    name: str
    task_names: list[str]
    episode_length: int
    seed: int
    affinity: list[list[float]]
    affinity_method: str
    pair_counts: list[list[int]]
    num_subsets: int
    subset_size: int | None
    relative_distance: dict[str, float]
    converged_share: float
    groups: dict[str, list[int]]
    methods: list[MethodResult]
    learning_curves: dict[str, LearningCurve]
    timings: list[StageTiming]
    adaptation_curves: dict[str, LearningCurve] = dataclasses.field(
        default_factory=dict
    )
    nmi: dict[str, float] = dataclasses.field(default_factory=dict)
    uncertainty: Uncertainty | None = None
    collection: Collection | None = None
    gains: list[GroupGain] | None = None
    scalarization: str | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    device: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    commit: str | None = None
    command: str = ""
    resumed: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, _plain(getattr(self, field.name)))
        check_results(self)

    @property
    def num_tasks(self) -> int:
        """The number of source tasks, n."""
        return len(self.task_names)

    @property
    def found_groups(self) -> list[list[int]]:
        """The tasks of every estimated group, groups in the order of first tasks."""
        return order_by_group(self.groups["estimated"])

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to a JSON file, NaN as null, with a digest."""
        write_json(Path(path), _without_nan(dataclasses.asdict(self)), _KIND)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what `to_json` wrote.

        Raises:
          Damaged: the file is missing, not what was written, or of other settings than
            the `config.json` beside it.
        """
        remedy = "the command of the run writes it again"
        config = Path(path).with_name("config.json")
        try:
            data = without_digest(read_any_json(Path(path), _KIND))
            if config.exists() and data.get("config"):
                _check_config(Path(path), data["config"], read_any_json(config))
        except Damaged as damage:
            raise Damaged(f"{damage}; {remedy}") from None
        data.pop("max_return", None)  # of earlier versions; never used
        try:
            data.setdefault("adaptation_curves", {})  # of earlier versions
            for name in (
                "affinity",
                "learning_curves",
                "adaptation_curves",
                "relative_distance",
            ):
                data[name] = _with_nan(data[name])
            return cls(**data)
        except (KeyError, TypeError, ValueError) as error:
            message = f"{path} holds no results of a run: {error}; {remedy}"
            raise Damaged(message) from None


def _check_config(
    path: Path, config: Mapping[str, Any], stored: Mapping[str, Any]
) -> None:
    """Refuses results of other settings than those of the workdir that they are in."""
    shared = {name: stored[name] for name in config if name in stored}
    if config != shared:
        raise Damaged(f"{path} is of other settings than the config.json beside it")


def order_by_group(labels: Sequence[int]) -> list[list[int]]:
    """The tasks of every group, groups in the order of their first task."""
    members: dict[int, list[int]] = {}
    for task, label in enumerate(labels):
        members.setdefault(int(label), []).append(task)
    return list(members.values())


def _plain(value: Any) -> Any:
    """The same with arrays and tuples as lists and NumPy's scalars as Python's."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return np.asarray(value).tolist()
    return value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_nan(entry) for entry in value]
    return math.nan if value is None else value
