"""The learners by their names in configs, and how each one's policies are adapted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from pgx_jax.arguments import check_choice
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.settings import Checker, Settings
from pgx_jax.training.maml import MAML
from pgx_jax.training.policy_gradient import PolicyGradient
from pgx_jax.training.ppo import PPO
from pgx_jax.training.ppo_config import PPOConfig
from pgx_jax.training.reptile import Reptile

INNER_LEARNERS = ("maml", "first_order_maml")
LEARNERS = ("ppo", *INNER_LEARNERS, "reptile")
ADAPTERS = ("ppo", "policy_gradient")


@dataclasses.dataclass(frozen=True)
class InnerConfig(Settings):
    """Steps of the policy gradient on one task.

    Attributes:
      learning_rate: of MAML's inner steps and of the adaptation "policy_gradient".
      num_steps: inner steps of MAML. `num_steps + 1` divides the environments.
    """

    learning_rate: float = 0.1
    num_steps: int = 1

    def check(self, checker: Checker) -> None:
        checker.positive("learning_rate")
        checker.least(num_steps=1)


def make_trainer(
    name: str,
    config: PPOConfig,
    actor_critic: ActorCritic,
    num_updates: int | Sequence[int] | np.ndarray,
    inner: InnerConfig,
    mesh: Mesh | None = None,
) -> PPO:
    """The trainer of that name.

    Args:
      name: one of `LEARNERS` or `ADAPTERS`.
      config: settings of PPO.
      actor_critic: the networks.
      num_updates: as of PPO.
      inner: steps on one task.
      mesh: as of PPO.

    Raises:
      ValueError: there is no such name, or the settings do not fit each other.
    """
    check_choice("learner", name, (*LEARNERS, "policy_gradient"))
    if name == "ppo":
        return PPO(config, actor_critic, num_updates, mesh=mesh)
    if name == "reptile":
        return Reptile(config, actor_critic, num_updates, mesh=mesh)
    if name == "policy_gradient":
        return PolicyGradient(
            config,
            actor_critic,
            num_updates,
            inner_learning_rate=inner.learning_rate,
            mesh=mesh,
        )
    return MAML(
        config,
        actor_critic,
        num_updates,
        inner_learning_rate=inner.learning_rate,
        num_inner_steps=inner.num_steps,
        first_order=name == "first_order_maml",
        mesh=mesh,
    )


def choose_adapter(learner: str, inner: InnerConfig) -> tuple[str, int] | None:
    """What a learner trains its policies to be adapted by.

    Returns:
      The name of the trainer, and its updates; None where policies are to be used as
      they are.
    """
    if learner == "ppo":
        return None
    if learner == "reptile":
        return "reptile", 1  # of one task a policy: its copy, moved to all the way
    return "policy_gradient", inner.num_steps
