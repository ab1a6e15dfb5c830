"""Actor-critics of any architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pgx_jax.arguments import (
    as_integer,
    as_numbers,
    check_choice,
    check_switch,
    show,
)
from pgx_jax.extras import needs_extra
from pgx_jax.networks.architectures import (
    ARCHITECTURES,
    CRITICS,
    explain_misuse,
)
from pgx_jax.networks.distributions import Categorical, Distribution, Gaussian
from pgx_jax.networks.layers import split_task_id
from pgx_jax.networks.mlp import ACTIVATIONS
from pgx_jax.networks.wide_residual import MOST_DEPTH, WideResidual
from pgx_jax.types import PyTree

with needs_extra("envs"):
    import flax.linen as nn


class GaussianHead(nn.Module):
    """A network for the mean, and a log standard deviation that no observation changes.

    Attributes:
      mean: of the action.
      initial_log_std: of every component.
      bounded: whether the mean goes through tanh.
      num_tasks: n, where every task has a log standard deviation of its own and
        observations end in a one-hot task id; 0 where there is one for all.
    """

    mean: nn.Module
    initial_log_std: float = 0.0
    bounded: bool = False
    num_tasks: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean: Any = self.mean(x)  # pyright: ignore[reportCallIssue]
        if self.bounded:
            mean = jnp.tanh(mean)
        init = nn.initializers.constant(self.initial_log_std)
        size = mean.shape[-1]
        shape = (self.num_tasks, size) if self.num_tasks else (size,)
        log_std = self.param("log_std", init, shape, jnp.float32)
        if self.num_tasks:
            _, task_id = split_task_id(x, self.num_tasks)
            log_std = task_id @ log_std.astype(task_id.dtype)
        return mean, jnp.broadcast_to(log_std, mean.shape)


@dataclasses.dataclass(frozen=True)
class ActorCritic:
    """A policy and a value function as pure functions of their parameters.

    Parameters are a dict `{"policy": ..., "value": ...}`; the estimator is given the
    policy's alone, and `log_prob` as its `log_prob_fn`.

    Attributes:
      policy_network: from observations to logits, or to mean and log standard
        deviation.
      value_network: from observations to [..., 1], or [..., K].
      observation_size: length of the observation vector.
      discrete: whether actions are.
      num_tasks: n, where observations end in a one-hot task id that the networks read:
        running normalization leaves it as it is. 0 where they read none.
      num_objectives: K, where the critic has one head for each of K objectives; 0 where
        it has one for a single reward.
    """

    policy_network: nn.Module
    value_network: nn.Module
    observation_size: int
    discrete: bool
    num_tasks: int = 0
    num_objectives: int = 0

    def init(self, key: jax.Array) -> PyTree:
        """Draws float32 parameters."""
        policy_key, value_key = jax.random.split(key)
        observation = jnp.zeros((self.observation_size,))
        return {
            "policy": self.policy_network.init(policy_key, observation)["params"],
            "value": self.value_network.init(value_key, observation)["params"],
        }

    def distribution(self, policy_params: PyTree, observation: jax.Array):
        """The action distribution at observations of shape [..., observation_size].

        Raises:
          ValueError: observations have another size.
        """
        self._check_observation(observation)
        output: Any = self.policy_network.apply({"params": policy_params}, observation)
        return Categorical(output) if self.discrete else Gaussian(*output)

    def log_prob(
        self, policy_params: PyTree, observation: jax.Array, action: jax.Array
    ) -> jax.Array:
        """Log-probability of actions; shape [...]."""
        distribution: Distribution = self.distribution(policy_params, observation)
        return distribution.log_prob(action)

    def value(self, value_params: PyTree, observation: jax.Array) -> jax.Array:
        """The normalized value at observations [..., observation_size].

        Its shape is [...], or [..., K] of K objectives.

        Raises:
          ValueError: observations have another size.
        """
        self._check_observation(observation)
        output: Any = self.value_network.apply({"params": value_params}, observation)
        return output if self.num_objectives else output[..., 0]

    def _check_observation(self, observation: jax.Array) -> None:
        if jnp.shape(observation)[-1:] != (self.observation_size,):
            raise ValueError(
                "observation must have shape [..., observation_size] = "
                f"[..., {self.observation_size}], got {list(jnp.shape(observation))}"
            )


def make_actor_critic(
    observation_size: int,
    action_size: int,
    discrete: bool,
    hidden_sizes: Sequence[int] = (64, 64),
    activation: str = "tanh",
    bounded_mean: bool = False,
    *,
    name: str = "mlp",
    num_tasks: int = 0,
    num_objectives: int = 0,
    num_modules: int | None = None,
    shared_head: bool = False,
    task_embeddings: Any = (),
    critic: str = "same",
    critic_width: int = 512,
    critic_depth: int = 2,
) -> ActorCritic:
    """Builds an actor and a critic, which share no parameters.

    Args:
      observation_size: length of the observation vector, task id included.
      action_size: number of discrete actions, or length of the action vector.
      discrete: a categorical head if true, else a Gaussian one.
      hidden_sizes: width of each hidden layer; what they are of, an architecture's
        module says.
      activation: "tanh", "relu" or "swish".
      bounded_mean: whether the mean of a Gaussian head is in [-1, 1].
      name: of the architecture, one of `ARCHITECTURES`.
      num_tasks: n, where observations end in a one-hot task id that running
        normalization is to leave as it is, as all architectures but "mlp" need it.
      num_objectives: K, for a critic with one head for each of K objectives, as suites
        of vector rewards need it; 0 for a single reward.
      num_modules: what tasks mix: modules a layer of "soft_modularization" (2 if None),
        sets of parameters of "paco" (5), encoders of "care" (6) or experts of "moore"
        (4).
      shared_head: one head for all tasks in place of one for each; of "moore".
      task_embeddings: fixed ones in place of learned ones, [n, e]; of "care".
      critic: "same" for the architecture of the actor, or "wide_residual".
      critic_width: of the layers of a "wide_residual" critic.
      critic_depth: blocks of two layers of a "wide_residual" critic, at most 100.

    Raises:
      ValueError: a name does not exist, a size is no positive integer, a setting is
        given that the networks do not use, or there is no task id for them to read.
    """
    observation_size = as_integer("observation_size", observation_size, 1)
    action_size = as_integer("action_size", action_size, 1)
    check_switch("discrete", discrete)
    check_switch("bounded_mean", bounded_mean)
    check_choice("activation", activation, tuple(ACTIVATIONS))
    hidden_sizes = _as_sizes(hidden_sizes)
    num_tasks = as_integer("num_tasks", num_tasks, 0)
    num_objectives = as_integer("num_objectives", num_objectives, 0)
    settings = _as_settings(
        name,
        critic,
        hidden_sizes,
        num_modules=num_modules,
        shared_head=shared_head,
        task_embeddings=task_embeddings,
        critic_width=critic_width,
        critic_depth=critic_depth,
    )
    _check_num_tasks(name, num_tasks, observation_size, settings["task_embeddings"])
    architecture = ARCHITECTURES[name]
    options = {option: settings[option] for option in architecture.options}
    if architecture.reads_task_id:
        options["num_tasks"] = num_tasks
    if architecture.num_modules is not None:
        options["num_modules"] = settings["num_modules"] or architecture.num_modules

    def network(output_size, output_scale):
        return architecture.module(
            hidden_sizes=hidden_sizes,
            output_size=output_size,
            output_scale=output_scale,
            activation=ACTIVATIONS[activation],
            **options,
        )

    policy = network(action_size, 0.01)
    if not discrete:
        per_task = num_tasks if architecture.reads_task_id else 0
        policy = GaussianHead(policy, bounded=bounded_mean, num_tasks=per_task)
    value = network(num_objectives or 1, 1.0)
    if critic == "wide_residual":
        value = WideResidual(
            settings["critic_width"], settings["critic_depth"], num_objectives or 1
        )
    return ActorCritic(
        policy, value, observation_size, discrete, num_tasks, num_objectives
    )


def _as_sizes(hidden_sizes: Any) -> tuple[int, ...]:
    if not isinstance(hidden_sizes, (list, tuple)) or not hidden_sizes:
        raise ValueError(
            "hidden_sizes must be positive integers, at least one, got "
            f"{show(hidden_sizes)}"
        )
    return tuple(as_integer("hidden_sizes", x, 1) for x in hidden_sizes)


def _as_settings(
    name: str, critic: str, hidden_sizes: tuple[int, ...], **given: Any
) -> dict[str, Any]:
    """The settings that not all networks use, once these can use them."""
    check_choice("name", name, tuple(ARCHITECTURES))
    check_choice("critic", critic, CRITICS)
    check_switch("shared_head", given["shared_head"])
    settings = given | {
        "task_embeddings": _as_embeddings(given["task_embeddings"]),
        "critic_width": as_integer("critic_width", given["critic_width"], 1),
        "critic_depth": as_integer(
            "critic_depth", given["critic_depth"], 1, MOST_DEPTH
        ),
    }
    if given["num_modules"] is not None:
        settings["num_modules"] = as_integer("num_modules", given["num_modules"], 1)
    for field, allowed in explain_misuse(name, critic, hidden_sizes, settings):
        raise ValueError(f"{field} {allowed}, got {show(settings[field])}")
    return settings


def _as_embeddings(value: Any) -> tuple[tuple[float, ...], ...]:
    """Nested tuples, which compiled programs are found again by."""
    if isinstance(value, tuple | list) and not value:
        return ()
    array = as_numbers("task_embeddings", value)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"task_embeddings must have shape [n, e], got {list(array.shape)}"
        )
    return tuple(tuple(row) for row in array.tolist())


def _check_num_tasks(
    name: str, num_tasks: int, observation_size: int, embeddings: Sequence[Any]
) -> None:
    if ARCHITECTURES[name].reads_task_id and not num_tasks:
        raise ValueError(
            f"num_tasks must be at least 1 where name is {name!r}, which reads a "
            "one-hot task id at the end of observations (TaskIdSuite), got 0"
        )
    if num_tasks >= observation_size:
        raise ValueError(
            f"num_tasks must be below observation_size = {observation_size}, whose "
            f"last entries are the task id, got {num_tasks}"
        )
    if embeddings and len(embeddings) != num_tasks:
        raise ValueError(
            f"task_embeddings must have a row for each of num_tasks = {num_tasks} "
            f"tasks, got {len(embeddings)}"
        )
