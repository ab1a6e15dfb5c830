"""Settings of the pipeline, checked before any long work starts."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pgx_jax.analysis.scalarization import KINDS
from pgx_jax.estimation.evaluators import EVALUATORS
from pgx_jax.estimation.settings import PRECISIONS
from pgx_jax.grouping.affinity import SCORES
from pgx_jax.networks.mlp import ACTIVATIONS
from pgx_jax.training.ppo import PPOConfig

REGRESSIONS = ("logistic", "least_squares")
METHODS = ("clustering", "partition", "race")
FORMER_WAY = {
    "estimation": {"regression": "logistic"},
    "grouping": {"method": "clustering"},
}
ROUNDS_FACTOR = 16  # of the transitions of the first round, collected at most


def _check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _check_least(settings: Any, **least: int) -> None:
    """Refuses integers of `settings` below what is given by name."""
    for name, bound in least.items():
        value = getattr(settings, name)
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


@dataclasses.dataclass(frozen=True)
class SuiteConfig:
    """Which tasks.

    Attributes:
      name: a name in `pgx_jax.envs.SUITES`.
      task_id: append a one-hot task id to the observation.
    """

    name: str = "cartpole_planted"
    task_id: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The actor and the critic.

    Attributes:
      hidden_sizes: width of each hidden layer of either network.
      activation: "tanh", "relu" or "swish".
      bounded_mean: keep the mean of continuous actions in [-1, 1], for environments
        that clip them: a mean far outside would explore nothing.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    bounded_mean: bool = False

    def __post_init__(self):
        _check_choice("activation", self.activation, ACTIVATIONS)
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes must be positive, got {self.hidden_sizes}")


@dataclasses.dataclass(frozen=True)
class MetaTrainingConfig:
    """Training of the meta-policy.

    Attributes:
      num_updates: PPO updates; each takes `ppo.num_envs * ppo.unroll_length`
        environment steps of every task.
    """

    num_updates: int = 40

    def __post_init__(self):
        _check_least(self, num_updates=1)


@dataclasses.dataclass(frozen=True)
class EstimationConfig:
    """The estimate; see `pgx_jax.estimate_subsets` and `pgx_jax.task_affinity`.

    Attributes:
      regression: "logistic", the paper's, or "least_squares", from sums over
        transitions, which are collected until the groups are stable.
      num_transitions: per task, under the meta-policy; of "least_squares" those of the
        first round, in whole unrolls.
      max_transitions: most that are collected per task, which the rounds double them
        to; None for 16 times `num_transitions`. Of "least_squares" only; a race takes
        those of the first round.
      stable_agreement: mean NMI of the groups with those of bootstrap samples, in
        (0, 1], from which on no more transitions are collected. Of "least_squares"
        only.
      num_envs: environments of each task that collect; None for those of
        meta-training, which go on from where they stand. Others start anew, and should
        each be played for several episodes.
      num_subsets: m, where tasks are clustered.
      subset_size: tasks in a subset, where tasks are clustered.
      dim: d, of the projection; None for no projection.
      l2: ridge penalty of "logistic".
      ridge: of "least_squares".
      batch_transitions: transitions per task in one batch of training, whose noise is
        taken off the scores of "least_squares"; None leaves it out.
      max_relative_distance: of the adapted from the meta-policy's parameters; None for
        the evaluator's own default. Of "logistic" only.
      held_out_fraction: of the transitions, to score on. Of "logistic" only.
      evaluator: "surrogate", "off_policy" or "rollout". Of "logistic" only.
      num_rollouts: episodes per subset and task of the evaluator "rollout".
      score: of the affinity; "standardized", "mean" or "transfer_gain".
      feature_precision: "float32" or "tf32".
      num_resamples: bootstrap samples of transitions and subsets, behind the report's
        intervals; 0 leaves them out.
      resample_length: consecutive transitions that are resampled together. Of
        "logistic" only.
    """

    regression: str = "least_squares"
    num_transitions: int = 32_768
    max_transitions: int | None = None
    stable_agreement: float = 0.9
    num_envs: int | None = None
    num_subsets: int = 1000
    subset_size: int = 3
    dim: int | None = 400
    l2: float = 0.1
    ridge: float = 1.0
    batch_transitions: int | None = None
    max_relative_distance: float | None = None
    held_out_fraction: float = 0.0
    evaluator: str = "surrogate"
    num_rollouts: int = 64
    score: str = "standardized"
    feature_precision: str = "float32"
    num_resamples: int = 40
    resample_length: int = 32

    def __post_init__(self):
        _check_choice("regression", self.regression, REGRESSIONS)
        _check_choice("evaluator", self.evaluator, (*EVALUATORS, "rollout"))
        _check_choice("score", self.score, SCORES)
        _check_choice("feature_precision", self.feature_precision, PRECISIONS)
        _check_least(
            self,
            num_transitions=1,
            num_subsets=1,
            subset_size=2,
            num_rollouts=2,
            num_resamples=0,
            resample_length=1,
        )
        for name, bound in (
            ("max_transitions", self.num_transitions),
            ("num_envs", 1),
            ("dim", 1),
            ("batch_transitions", 1),
        ):
            if getattr(self, name) is not None:
                _check_least(self, **{name: bound})
        _check_positive("l2", self.l2)
        _check_positive("ridge", self.ridge)
        if self.max_relative_distance is not None:
            _check_positive("max_relative_distance", self.max_relative_distance)
        if not 0 <= self.held_out_fraction < 1:
            raise ValueError(
                f"held_out_fraction must be in [0, 1), got {self.held_out_fraction}"
            )
        if not 0 < self.stable_agreement <= 1:
            raise ValueError(
                f"stable_agreement must be in (0, 1], got {self.stable_agreement}"
            )
        self._check_regression()

    def _check_regression(self) -> None:
        """Refuses settings that say nothing of the regression chosen."""
        if not self.uses_sums:
            return
        of_logistic = {
            "max_relative_distance": None,
            "held_out_fraction": 0.0,
            "evaluator": "surrogate",
        }
        for name, value in of_logistic.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name} must be {value!r} where regression is "
                    f"{self.regression!r}, got {getattr(self, name)!r}"
                )
        if self.dim is None:
            raise ValueError(
                f"dim must be a number where regression is {self.regression!r}, got "
                "None"
            )

    @property
    def uses_sums(self) -> bool:
        """Whether transitions are summed up as they come, until groups are stable."""
        return self.regression == "least_squares"

    @property
    def most_transitions(self) -> int:
        """The most that are collected per task."""
        if self.max_transitions is None:
            return ROUNDS_FACTOR * self.num_transitions
        return self.max_transitions


@dataclasses.dataclass(frozen=True)
class GroupingConfig:
    """The groups, and those to compare with.

    Attributes:
      method: "clustering" of the affinity, the paper's, over subsets of one size; or
        "partition", the best one by the scores of all subsets; or "race": a few
        candidates by the similarity of gradients, one policy and single tasks are
        trained, and the best partition of their groups is taken with its policies.
      num_candidates: of a race.
      num_race_episodes: whole episodes per task that decide a race.
      num_groups: k, or None to choose it: from the affinity or the scores, and for the
        groups by gradient similarity from that.
      other_num_groups: further k, for which the estimated groups are trained too.
      num_random_draws: random groupings to train and average over; their groups have
        the sizes of the estimated ones.
      single_tasks: also train one policy per task.
    """

    method: str = "race"
    num_candidates: int = 6
    num_race_episodes: int = 32
    num_groups: int | None = None
    other_num_groups: tuple[int, ...] = ()
    num_random_draws: int = 5
    single_tasks: bool = False

    def __post_init__(self):
        _check_choice("method", self.method, METHODS)
        _check_least(self, num_random_draws=0, num_candidates=1)
        _check_least(self, num_race_episodes=1)
        if self.num_groups is not None:
            _check_least(self, num_groups=1)

    @property
    def races(self) -> bool:
        """Whether candidates are trained, and their returns decide."""
        return self.method == "race"


@dataclasses.dataclass(frozen=True)
class GroupTrainingConfig:
    """Training of one policy per group, for every way of grouping.

    Attributes:
      num_updates: PPO updates of the groups that the estimate leads to. Methods that do
        without it train for as many more as its transitions take, and for those of
        meta-training where `start` is "scratch", so that all take as many steps.
      start: "meta" to go on from the meta-policy, "scratch" to draw new policies.
      match_race: whether to train all other methods for as many environment steps as a
        race took of all its groups together, in place of as many updates as each of its
        policies: what the race's steps would have done otherwise.
    """

    num_updates: int = 60
    start: str = "meta"
    match_race: bool = False

    def __post_init__(self):
        _check_choice("start", self.start, ("meta", "scratch"))
        _check_least(self, num_updates=1)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How policies are compared.

    Attributes:
      num_episodes: whole episodes per task.
      deterministic: take the most likely action, else sample.
      sampled_too: also evaluate with sampled actions, beside the most likely ones.
      scalarization: of the tasks' mean rewards per step into one number, where tasks
        are objectives of one environment; "linear", "smooth_tchebycheff", "concave", or
        None. See `pgx_jax.analysis.scalarization`.
    """

    num_episodes: int = 64
    deterministic: bool = True
    sampled_too: bool = False
    scalarization: str | None = None

    def __post_init__(self):
        _check_least(self, num_episodes=1)
        if self.sampled_too and not self.deterministic:
            raise ValueError(
                "sampled_too must be False where deterministic is: actions are sampled "
                "as it is"
            )
        if self.scalarization is not None:
            _check_choice("scalarization", self.scalarization, KINDS)


@dataclasses.dataclass(frozen=True)
class AdaptationConfig:
    """Adaptation to the suite's target tasks, where it has some.

    Attributes:
      num_updates: PPO updates on each target task, from the policy of the group that
        does best on it unadapted; 0 leaves target tasks out.
      num_selection_episodes: per policy and target task, to choose that policy by.
        Groupings that take fewer steps for it than others adapt for longer instead.
    """

    num_updates: int = 0
    num_selection_episodes: int = 8

    def __post_init__(self):
        _check_least(self, num_updates=0, num_selection_episodes=1)


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """All settings of a run.

    Attributes:
      seed: of all random draws.
      checkpoint_every: PPO updates between checkpoints, logging and progress.
    """

    seed: int = 0
    checkpoint_every: int = 10
    suite: SuiteConfig = SuiteConfig()
    network: NetworkConfig = NetworkConfig()
    ppo: PPOConfig = PPOConfig()
    meta_training: MetaTrainingConfig = MetaTrainingConfig()
    estimation: EstimationConfig = EstimationConfig()
    grouping: GroupingConfig = GroupingConfig()
    group_training: GroupTrainingConfig = GroupTrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    adaptation: AdaptationConfig = AdaptationConfig()

    def __post_init__(self):
        _check_least(self, checkpoint_every=1)
        estimation = self.estimation
        most = estimation.max_transitions
        if self.grouping.races and most not in (None, estimation.num_transitions):
            raise ValueError(
                "estimation.max_transitions must be None or num_transitions = "
                f"{estimation.num_transitions} where grouping.method is 'race', whose "
                f"candidates are of so many, got {most}"
            )
        if estimation.uses_sums:
            if self.num_estimation_envs % 4:
                raise ValueError(
                    f"{self._envs_field} must be a multiple of 4, for parts of the "
                    f"transitions that are kept apart, got {self.num_estimation_envs}"
                )
        elif estimation.num_transitions % self.num_estimation_envs:
            raise ValueError(
                f"estimation.num_transitions must be a multiple of {self._envs_field} "
                f"= {self.num_estimation_envs}, got {estimation.num_transitions}"
            )

    @property
    def num_estimation_envs(self) -> int:
        """Environments of each task that collect the transitions of the estimate."""
        return self.estimation.num_envs or self.ppo.num_envs

    @property
    def _envs_field(self) -> str:
        return (
            "ppo.num_envs"
            if self.estimation.num_envs is None
            else ("estimation.num_envs")
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PipelineConfig:
        """Builds the settings from a nested dict; what is left out keeps its default.

        Raises:
          ValueError: a field does not exist, has a value of another type or one that is
            not allowed; the message names the field and those that exist.
        """
        return _build(cls, values, "")

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> PipelineConfig:
        """Builds the settings of a run from what `to_dict` returned.

        Settings that a version before did not have take what it did, the paper's way
        of grouping; the rest have their defaults. Errors are those of `from_dict`.
        """
        filled = {
            name: known | values.get(name, {}) for name, known in FORMER_WAY.items()
        }
        return cls.from_dict({**values, **filled})

    def to_dict(self) -> dict[str, Any]:
        """The settings as a nested dict of JSON values."""
        return dataclasses.asdict(self)


def _build(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(
            f"config has no field {prefix + unknown[0]!r}; "
            f"{prefix[:-1] or 'the config'} has {', '.join(hints)}"
        )
    arguments = {}
    for name, value in values.items():
        path, hint = prefix + name, hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ValueError(f"config field {path!r} must be a dict, got {value!r}")
            arguments[name] = _build(hint, value, f"{path}.")
        else:
            arguments[name] = _convert(path, hint, value)
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"config field {prefix}{error}") from None


def _convert(path: str, hint: Any, value: Any) -> Any:
    """The value as the type that the field is declared with."""
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        item = typing.get_args(hint)[0]
        return tuple(_convert(path, item, x) for x in value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) is tuple or type(value) not in allowed:
        name = getattr(hint, "__name__", None) or str(hint)
        raise ValueError(f"config field {path!r} must be {name}, got {value!r}")
    return value
