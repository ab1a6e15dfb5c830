"""The settings of PPO."""

from __future__ import annotations

import dataclasses
from numbers import Integral
from typing import Any

from pgx_jax.arguments import MOST
from pgx_jax.settings import Checker, Settings
from pgx_jax.training.weights_config import ReturnWeightsConfig

# The settings that each way of combining gradients uses.
GRADIENT_METHODS = {
    "mean": (),
    "pcgrad": (),
    "cagrad": ("radius",),
    "famo": ("learning_rate", "decay"),
    "nash_mtl": (),
    "gradnorm": ("learning_rate", "restoring_force"),
    "uncertainty": ("learning_rate",),
}


@dataclasses.dataclass(frozen=True)
class GradientConfig(Settings):
    """How the gradients of a policy's tasks are combined; see `pgx_jax.optim`.

    Attributes:
      method: "mean", "pcgrad", "cagrad", "famo", "nash_mtl", "gradnorm" or
        "uncertainty".
      radius: of "cagrad", in units of the mean gradient's norm; 0 is the mean.
      learning_rate: of the weights that "famo", "gradnorm" and "uncertainty" learn.
      decay: of the weights of "famo".
      restoring_force: of "gradnorm"; how strongly slow tasks are favored.
    """

    method: str = "mean"
    radius: float = 0.4
    learning_rate: float = 0.025
    decay: float = 1e-3
    restoring_force: float = 1.5

    def check(self, checker: Checker) -> None:
        checker.choice("method", GRADIENT_METHODS)
        checker.positive("learning_rate")
        checker.not_negative("radius", "decay", "restoring_force")
        if checker.trusts("method"):
            checker.unused("method", GRADIENT_METHODS)


@dataclasses.dataclass(frozen=True)
class PPOConfig(Settings):
    """Settings of PPO.

    Attributes:
      num_envs: Environments per row.
      unroll_length: Steps of each environment per update.
      num_epochs: Passes over the data of an update.
      num_minibatches: Gradient steps per pass; divides num_envs * unroll_length.
      learning_rate: Learning rate of Adam.
      anneal_learning_rate: Decrease it linearly to zero over the run.
      discount: Discount factor, in [0, 1].
      gae_lambda: Decay of generalized advantage estimation, in [0, 1].
      clip_epsilon: Largest deviation of the probability ratio from 1.
      entropy_cost: Weight of the entropy bonus.
      value_cost: Weight of the squared value error.
      max_gradient_norm: Norm to which each policy's gradient is clipped.
      stagger_resets: Cut the first episode of each environment short at random, so that
        time limits are not reached in all environments at once, and no update sees one
        part of an episode only.
      value_decay: Weight of the past in the running statistics of returns, in [0, 1).
        A short memory is unstable: once a policy always earns the same return, the
        scale that the critic is trained on would shrink to nothing.
      return_weights: Weights of the tasks by what the policy returns on them.
      gradients: How the gradients of a policy's tasks are combined.

    Raises:
      ValueError: a setting is of the wrong kind or out of its range, or
        `num_minibatches` does not divide the data; the message names it.
    """

    num_envs: int = 16
    unroll_length: int = 128
    num_epochs: int = 8
    num_minibatches: int = 8
    learning_rate: float = 1e-3
    anneal_learning_rate: bool = True
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip_epsilon: float = 0.2
    entropy_cost: float = 0.005
    value_cost: float = 0.5
    max_gradient_norm: float = 0.5
    stagger_resets: bool = False
    value_decay: float = 0.99
    return_weights: ReturnWeightsConfig = ReturnWeightsConfig()
    gradients: GradientConfig = GradientConfig()

    def check(self, checker: Checker) -> None:
        checker.least(num_envs=1, unroll_length=1, num_epochs=1, num_minibatches=1)
        checker.positive("learning_rate", "clip_epsilon", "max_gradient_norm")
        checker.not_negative("entropy_cost", "value_cost")
        checker.fraction("discount", "gae_lambda")
        checker.fraction("value_decay", one=False)
        sizes = ("num_envs", "unroll_length")
        if checker.trusts(*sizes, "num_minibatches"):
            checker.require(
                self.steps_per_update <= MOST,
                "num_envs",
                f"must take at most {MOST:,} steps an update with unroll_length = "
                f"{self.unroll_length}",
                reads=("unroll_length",),
            )
            checker.require(
                self.steps_per_update % self.num_minibatches == 0,
                "num_minibatches",
                "must divide num_envs * unroll_length = "
                f"{self.num_envs} * {self.unroll_length} = {self.steps_per_update}",
                reads=sizes,
            )

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one row per update."""
        return self.num_envs * self.unroll_length


def check_count(name: str, value: Any) -> None:
    """Refuses what is not a positive integer, a bool included."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
