"""The multilayer perceptron: what architectures are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from pgx_jax.extras import needs_extra

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
        x = hidden_layers(x, self.hidden_sizes, self.activation)
        init = nn.initializers.orthogonal(self.output_scale)
        return nn.Dense(self.output_size, kernel_init=init)(x)


def hidden_layers(
    x: jax.Array, sizes: Sequence[int], activation: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Dense layers with an activation after each; for use within a compact module."""
    for size in sizes:
        x = nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))(x)
        x = activation(x)
    return x
