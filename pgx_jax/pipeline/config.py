"""Settings of the pipeline, checked before any long work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from pgx_jax.analysis.scalarization import KINDS
from pgx_jax.estimation.evaluators import EVALUATORS
from pgx_jax.estimation.settings import PRECISIONS
from pgx_jax.grouping.affinity import SCORES
from pgx_jax.networks.architectures import (
    ARCHITECTURES,
    CRITICS,
    UNUSED,
    explain_misuse,
)
from pgx_jax.networks.mlp import ACTIVATIONS
from pgx_jax.networks.wide_residual import MOST_DEPTH
from pgx_jax.settings import Checker, Settings
from pgx_jax.training.learners import ADAPTERS, INNER_LEARNERS, LEARNERS, InnerConfig
from pgx_jax.training.maml import explain_division
from pgx_jax.training.ppo_config import PPOConfig

REGRESSIONS = ("logistic", "least_squares")
METHODS = ("clustering", "partition", "race")
FORMER_WAY = {
    "estimation": {"regression": "logistic"},
    "grouping": {"method": "clustering"},
}
MOST_TRAINED = 1000  # partitions of one kind, each of which is trained
ROUNDS_FACTOR = 16  # of the transitions of the first round, collected at most


@dataclasses.dataclass(frozen=True)
class SuiteConfig(Settings):
    """Which tasks.

    Attributes:
      name: a name in `pgx_jax.envs.SUITES`. Where rewards are vectors, tasks are their
        objectives (`pgx_jax.envs.ObjectiveTasks`).
      task_id: append a one-hot task id to the observation.
    """

    name: str = "cartpole_planted"
    task_id: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkConfig(Settings):
    """The actor and the critic.

    Attributes:
      hidden_sizes: width of each hidden layer of either network.
      activation: "tanh", "relu" or "swish".
      bounded_mean: keep the mean of continuous actions in [-1, 1], for environments
        that clip them: a mean far outside would explore nothing.
      name: of the architecture: "mlp", "multi_head", "soft_modularization", "paco",
        "care", "moore" or "film". All but "mlp" read the task id of `suite.task_id`.
      num_modules: what tasks mix: modules a layer of "soft_modularization" (2 if None),
        sets of parameters of "paco" (5), encoders of "care" (6), experts of "moore"
        (4).
      shared_head: one head for all tasks in place of one for each; of "moore".
      task_embeddings: fixed ones in place of learned ones, one row a task; of "care".
      critic: "same" for the architecture of the actor, or "wide_residual".
      critic_width: of the layers of a "wide_residual" critic.
      critic_depth: blocks of two layers of a "wide_residual" critic, at most 100.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    bounded_mean: bool = False
    name: str = "mlp"
    num_modules: int | None = None
    shared_head: bool = False
    task_embeddings: tuple[tuple[float, ...], ...] = ()
    critic: str = "same"
    critic_width: int = 512
    critic_depth: int = 2

    def check(self, checker: Checker) -> None:
        checker.choice("activation", ACTIVATIONS)
        checker.choice("name", ARCHITECTURES)
        checker.choice("critic", CRITICS)
        checker.least(num_modules=1, critic_width=1, critic_depth=1)
        checker.require(
            self.critic_depth <= MOST_DEPTH,
            "critic_depth",
            f"must be at most {MOST_DEPTH}",
        )
        checker.require(
            bool(self.hidden_sizes) and min(self.hidden_sizes) >= 1,
            "hidden_sizes",
            "must be positive, and at least one",
        )
        checker.finite("task_embeddings")
        if checker.trusts("name", "critic", "hidden_sizes", "num_modules"):
            settings = {field: getattr(self, field) for field in UNUSED}
            for field, allowed in explain_misuse(
                self.name, self.critic, self.hidden_sizes, settings
            ):
                checker.require(False, field, allowed)

    @property
    def reads_task_id(self) -> bool:
        """Whether observations must end in a one-hot task id."""
        return ARCHITECTURES[self.name].reads_task_id

    @property
    def sizes(self) -> dict[str, Any]:
        """The settings that the networks' memory grows with, the largest ones first."""
        sizes: dict[str, Any] = {"hidden_sizes": self.hidden_sizes}
        if self.num_modules is not None:
            sizes["num_modules"] = self.num_modules
        if self.critic == "wide_residual":
            sizes["critic_width"] = self.critic_width
        order = sorted(sizes, key=lambda name: np.max(sizes[name]), reverse=True)
        return {f"network.{name}": sizes[name] for name in order}


@dataclasses.dataclass(frozen=True)
class MetaTrainingConfig(Settings):
    """Training of the meta-policy.

    Attributes:
      num_updates: PPO updates; each takes `ppo.num_envs * ppo.unroll_length`
        environment steps of every task.
      learner: "ppo"; or "maml", "first_order_maml" or "reptile", which train for what
        a policy is after steps on one task.
    """

    num_updates: int = 40
    learner: str = "ppo"

    def check(self, checker: Checker) -> None:
        checker.choice("learner", LEARNERS)
        checker.least(num_updates=1)


@dataclasses.dataclass(frozen=True)
class EstimationConfig(Settings):
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
      evaluator: "surrogate", "off_policy", "logistic_loss" or "rollout". Of "logistic"
        only.
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

    def check(self, checker: Checker) -> None:
        checker.choice("regression", REGRESSIONS)
        checker.choice("evaluator", (*EVALUATORS, "rollout"))
        checker.choice("score", SCORES)
        checker.choice("feature_precision", PRECISIONS)
        checker.least(
            num_transitions=1,
            num_envs=1,
            num_subsets=1,
            subset_size=2,
            dim=1,
            batch_transitions=1,
            num_rollouts=2,
            num_resamples=0,
            resample_length=1,
        )
        checker.positive("l2", "ridge", "max_relative_distance")
        checker.fraction("held_out_fraction", one=False)
        checker.fraction("stable_agreement", zero=False)
        checker.require(
            self.max_transitions is None
            or self.max_transitions >= self.num_transitions,
            "max_transitions",
            f"must be at least num_transitions = {self.num_transitions}",
            reads=("num_transitions",),
        )
        if checker.trusts("regression"):
            self._check_regression(checker)

    def _check_regression(self, checker: Checker) -> None:
        """Refuses what the regression chosen does without, or cannot do with."""
        where = f"where regression is {self.regression!r}"
        if self.uses_sums:
            for name in ("max_relative_distance", "held_out_fraction", "evaluator"):
                default = getattr(EstimationConfig, name)
                checker.require(
                    getattr(self, name) == default,
                    name,
                    f"must be {default!r} {where}",
                )
            checker.require(self.dim is not None, "dim", f"must be a number {where}")
            return
        fitted = self.num_transitions - round(
            self.num_transitions * self.held_out_fraction
        )
        checker.require(
            fitted > 0
            and (fitted < self.num_transitions or not self.held_out_fraction),
            "held_out_fraction",
            f"must leave some of num_transitions = {self.num_transitions} to fit and "
            "some to score",
            reads=("num_transitions",),
        )
        checker.require(
            self.resample_length == 1
            or 2 * self.resample_length <= self.num_transitions,
            "resample_length",
            f"must be at most half of num_transitions = {self.num_transitions}",
            reads=("num_transitions",),
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
class GroupingConfig(Settings):
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

    def check(self, checker: Checker) -> None:
        checker.choice("method", METHODS)
        checker.least(
            num_random_draws=0, num_candidates=1, num_race_episodes=1, num_groups=1
        )
        for name in ("num_random_draws", "num_candidates"):
            checker.require(
                getattr(self, name) <= MOST_TRAINED,
                name,
                f"must be at most {MOST_TRAINED:,}",
            )
        others = self.other_num_groups
        checker.require(
            all(k >= 1 for k in others) and len({*others}) == len(others),
            "other_num_groups",
            "must be different numbers of at least 1",
        )

    @property
    def races(self) -> bool:
        """Whether candidates are trained, and their returns decide."""
        return self.method == "race"


@dataclasses.dataclass(frozen=True)
class GroupTrainingConfig(Settings):
    """Training of one policy per group, for every way of grouping.

    Attributes:
      num_updates: PPO updates of the groups that the estimate leads to. Methods that do
        without it train for as many more as its transitions take, and for those of
        meta-training where `start` is "scratch", so that all take as many steps.
      start: "meta" to go on from the meta-policy, "scratch" to draw new policies.
      match_race: whether to train all other methods for as many environment steps as a
        race took of all its groups together, in place of as many updates as each of its
        policies: what the race's steps would have done otherwise.
      learner: as of meta-training. Where it is not "ppo", policies are judged, in a
        race and at the end, after the steps on one task that they were trained for:
        `inner.num_steps` of the policy gradient after MAML, an update of PPO after
        Reptile.
    """

    num_updates: int = 60
    start: str = "meta"
    match_race: bool = False
    learner: str = "ppo"

    def check(self, checker: Checker) -> None:
        checker.choice("learner", LEARNERS)
        checker.choice("start", ("meta", "scratch"))
        checker.least(num_updates=1)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Settings):
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

    def check(self, checker: Checker) -> None:
        checker.least(num_episodes=1)
        checker.require(
            self.deterministic or not self.sampled_too,
            "sampled_too",
            "must be False where deterministic is: actions are sampled as it is",
            reads=("deterministic",),
        )
        if self.scalarization is not None:
            checker.choice("scalarization", KINDS)


@dataclasses.dataclass(frozen=True)
class AdaptationConfig(Settings):
    """Adaptation to the suite's target tasks, where it has some.

    Attributes:
      num_updates: updates on each target task, from the policy of the group that does
        best on it unadapted; 0 leaves target tasks out.
      num_selection_episodes: per policy and target task, to choose that policy by.
        Groupings that take fewer steps for it than others adapt for longer instead.
      learner: "ppo"; or "policy_gradient", whose updates are one step each, at
        `inner.learning_rate`, of the kind that MAML trains for.
    """

    num_updates: int = 0
    num_selection_episodes: int = 8
    learner: str = "ppo"

    def check(self, checker: Checker) -> None:
        checker.choice("learner", ADAPTERS)
        checker.least(num_updates=0, num_selection_episodes=1)
        if not self.num_updates:
            checker.unused("num_updates", {0: ()})


@dataclasses.dataclass(frozen=True)
class PipelineConfig(Settings):
    """All settings of a run.

    Attributes:
      seed: of all random draws.
      checkpoint_every: PPO updates between checkpoints, logging and progress.
      num_devices: that environments, episodes and transitions are split over; None for
        all that there are. It divides the numbers of environments and of episodes, and
        may change when a run goes on. One unless asked for: few environments take
        longer on several devices, and the numbers of a run depend on how many there
        are, if only by the order of sums.
    """

    seed: int = 0
    checkpoint_every: int = 10
    num_devices: int | None = 1
    suite: SuiteConfig = SuiteConfig()
    network: NetworkConfig = NetworkConfig()
    ppo: PPOConfig = PPOConfig()
    inner: InnerConfig = InnerConfig()
    meta_training: MetaTrainingConfig = MetaTrainingConfig()
    estimation: EstimationConfig = EstimationConfig()
    grouping: GroupingConfig = GroupingConfig()
    group_training: GroupTrainingConfig = GroupTrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    adaptation: AdaptationConfig = AdaptationConfig()

    SEEDS: ClassVar[tuple[str, ...]] = ("seed",)

    def check(self, checker: Checker) -> None:
        # JAX would take a seed modulo 2^32, and two seeds would give one run.
        checker.require(0 <= self.seed < 2**32, "seed", "must be in [0, 2^32)")
        checker.least(checkpoint_every=1, num_devices=1)
        estimation = self.estimation
        most, num_transitions = estimation.max_transitions, estimation.num_transitions
        checker.require(
            not self.grouping.races or most in (None, num_transitions),
            "estimation.max_transitions",
            f"must be None or num_transitions = {num_transitions} where "
            "grouping.method is 'race', whose candidates are of so many",
            reads=("grouping.method", "estimation.num_transitions"),
        )
        self._check_inner(checker)
        envs, num_envs = self._envs_field, self.num_estimation_envs
        if checker.trusts(envs, "estimation.regression"):
            if estimation.uses_sums:
                checker.require(
                    num_envs % 4 == 0,
                    envs,
                    "must be a multiple of 4, for parts of the transitions that are "
                    "kept apart",
                )
            else:
                checker.require(
                    num_transitions % num_envs == 0,
                    "estimation.num_transitions",
                    f"must be a multiple of {envs} = {num_envs}",
                )

    def _check_inner(self, checker: Checker) -> None:
        """What learners other than PPO do without, or cannot work with."""
        stages = ["meta_training", "group_training"]
        if checker.trusts("adaptation") and self.adaptation.num_updates:
            stages.append("adaptation")
        learners = {stage: getattr(self, stage).learner for stage in stages}
        self._check_inner_use(checker, learners)
        for stage, learner in learners.items():
            checker.require(
                learner == "ppo" or self.ppo.return_weights.name == "none",
                f"{stage}.learner",
                "must be 'ppo' where tasks are weighted by their returns "
                "(ppo.return_weights.name), as other learners do without weights",
                reads=("ppo.return_weights.name",),
            )
            checker.require(
                learner == "ppo" or self.ppo.gradients.method == "mean",
                f"{stage}.learner",
                "must be 'ppo' where gradients of tasks are combined "
                "(ppo.gradients.method), as other learners take their mean",
                reads=("ppo.gradients.method",),
            )
            reads = ("ppo", f"{stage}.learner", "inner.num_steps")
            if not checker.trusts(*reads) or learner not in INNER_LEARNERS:
                continue
            if problem := explain_division(self.ppo, self.inner.num_steps):
                field, allowed = problem
                allowed = allowed.replace("num_inner_steps", "inner.num_steps")
                checker.require(
                    False,
                    f"ppo.{field}",
                    f"{allowed}, where {stage}.learner is {learner!r}",
                )
                return

    def _check_inner_use(self, checker: Checker, learners: Mapping[str, str]) -> None:
        """Refuses settings of inner steps that no learner takes."""
        takers = {
            "learning_rate": (*INNER_LEARNERS, "policy_gradient"),
            "num_steps": INNER_LEARNERS,
        }
        for field, takes in takers.items():
            default = getattr(InnerConfig, field)
            is_used = not {*takes}.isdisjoint(learners.values())
            checker.require(
                is_used or getattr(self.inner, field) == default,
                f"inner.{field}",
                f"must be {default} where no learner is {' or '.join(takes)}, "
                "without use",
                reads=("meta_training.learner", "group_training.learner", "adaptation"),
            )

    @property
    def num_estimation_envs(self) -> int:
        """Environments of each task that collect the transitions of the estimate."""
        return self.estimation.num_envs or self.ppo.num_envs

    @property
    def _envs_field(self) -> str:
        chosen = self.estimation.num_envs is not None
        return "estimation.num_envs" if chosen else "ppo.num_envs"

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
