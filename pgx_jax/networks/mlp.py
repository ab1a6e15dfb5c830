"""A multilayer-perceptron actor and critic that share no parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pgx_jax.arguments import as_integer, check_choice, check_switch, show
from pgx_jax.extras import needs_extra
from pgx_jax.networks.distributions import Categorical, Distribution, Gaussian
from pgx_jax.types import PyTree

with needs_extra("envs"):
    import flax.linen as nn

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu, "swish": nn.swish}


class MLP(nn.Module):
    """Dense layers with an activation between them and orthogonal weights.

    Attributes:
      hidden_sizes: width of each hidden layer.
      output_size: width of the last, linear, layer.
      output_scale: gain of the last layer's orthogonal initializer.
      activation: between layers.
    """

    hidden_sizes: Sequence[int]
    output_size: int
    output_scale: float
    activation: Callable[[jax.Array], jax.Array] = nn.tanh

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.hidden_sizes:
            x = nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))(x)
            x = self.activation(x)
        init = nn.initializers.orthogonal(self.output_scale)
        return nn.Dense(self.output_size, kernel_init=init)(x)


class GaussianHead(nn.Module):
    """An MLP for the mean, and a log standard deviation that no input changes.

    Attributes:
      mean: of the action.
      initial_log_std: of every component.
      bounded: whether the mean goes through tanh.
    """

    mean: MLP
    initial_log_std: float = 0.0
    bounded: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = self.mean(x)
        if self.bounded:
            mean = jnp.tanh(mean)
        init = nn.initializers.constant(self.initial_log_std)
        log_std = self.param("log_std", init, (mean.shape[-1],))
        return mean, jnp.broadcast_to(log_std, mean.shape)


@dataclasses.dataclass(frozen=True)
class ActorCritic:
    """A policy and a value function as pure functions of their parameters.

    Parameters are a dict `{"policy": ..., "value": ...}`; the estimator is given the
    policy's alone, and `log_prob` as its `log_prob_fn`.
    """

    policy_network: nn.Module
    value_network: nn.Module
    observation_size: int
    discrete: bool

    def init(self, key: jax.Array) -> PyTree:
        """Draws float32 parameters."""
        policy_key, value_key = jax.random.split(key)
        observation = jnp.zeros((self.observation_size,))
        return {
            "policy": self.policy_network.init(policy_key, observation)["params"],
            "value": self.value_network.init(value_key, observation)["params"],
        }

    def distribution(self, policy_params: PyTree, observation: jax.Array):
        """The action distribution at observations of shape [..., observation_size]."""
        output: Any = self.policy_network.apply({"params": policy_params}, observation)
        return Categorical(output) if self.discrete else Gaussian(*output)

    def log_prob(
        self, policy_params: PyTree, observation: jax.Array, action: jax.Array
    ) -> jax.Array:
        """Log-probability of actions; shape [...]."""
        distribution: Distribution = self.distribution(policy_params, observation)
        return distribution.log_prob(action)

    def value(self, value_params: PyTree, observation: jax.Array) -> jax.Array:
        """The normalized value at observations [..., observation_size]; shape [...]."""
        output: Any = self.value_network.apply({"params": value_params}, observation)
        return output[..., 0]


def make_actor_critic(
    observation_size: int,
    action_size: int,
    discrete: bool,
    hidden_sizes: Sequence[int] = (64, 64),
    activation: str = "tanh",
    bounded_mean: bool = False,
) -> ActorCritic:
    """Builds an MLP actor and an MLP critic of the same hidden sizes.

    Args:
      observation_size: length of the observation vector.
      action_size: number of discrete actions, or length of the action vector.
      discrete: a categorical head if true, else a Gaussian one.
      hidden_sizes: width of each hidden layer of either network.
      activation: "tanh", "relu" or "swish".
      bounded_mean: whether the mean of a Gaussian head is in [-1, 1].

    Raises:
      ValueError: the activation does not exist, or a size is no positive integer.
    """
    observation_size = as_integer("observation_size", observation_size, 1)
    action_size = as_integer("action_size", action_size, 1)
    check_switch("discrete", discrete)
    check_switch("bounded_mean", bounded_mean)
    check_choice("activation", activation, tuple(ACTIVATIONS))
    if not isinstance(hidden_sizes, (list, tuple)) or not hidden_sizes:
        raise ValueError(
            "hidden_sizes must be positive integers, at least one, got "
            f"{show(hidden_sizes)}"
        )
    hidden_sizes = tuple(as_integer("hidden_sizes", x, 1) for x in hidden_sizes)
    policy = MLP(hidden_sizes, action_size, 0.01, ACTIVATIONS[activation])
    return ActorCritic(
        policy_network=(
            policy if discrete else GaussianHead(policy, bounded=bounded_mean)
        ),
        value_network=MLP(hidden_sizes, 1, 1.0, ACTIVATIONS[activation]),
        observation_size=observation_size,
        discrete=discrete,
    )
