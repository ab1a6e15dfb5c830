"""What architectures that read a one-hot task id are built of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from pgx_jax.extras import needs_extra

with needs_extra("envs"):
    import flax.linen as nn
    from flax.linen.dtypes import promote_dtype


class TaskNetwork(nn.Module):
    """A network of observations that end in a one-hot task id.

    Attributes:
      hidden_sizes: width of each hidden layer.
      output_size: width of the output.
      output_scale: gain of the last layer's orthogonal initializer.
      activation: between layers.
      num_tasks: n, the length of the task id.
    """

    hidden_sizes: Sequence[int]
    output_size: int
    output_scale: float
    activation: Callable[[jax.Array], jax.Array]
    num_tasks: int


def split_task_id(x: jax.Array, num_tasks: int) -> tuple[jax.Array, jax.Array]:
    """The observation and the one-hot task id that it ends in.

    Args:
      x: [..., observation_size].
      num_tasks: n, the length of the id.

    Returns:
      [..., observation_size - n] and [..., n].
    """
    return x[..., :-num_tasks], x[..., -num_tasks:]


class TaskTable(nn.Module):
    """A row of parameters for each task, which no other task's gradient reaches.

    Attributes:
      num_tasks: n.
      size: of a row.
      init: of the table, float32 [n, size].
    """

    num_tasks: int
    size: int
    init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, task_id: jax.Array) -> jax.Array:
        """The row of each id [..., n]; [..., size]."""
        table = self.param("table", self.init, (self.num_tasks, self.size), jnp.float32)
        task_id, table = promote_dtype(task_id, table)
        return task_id @ table


class StackedDense(nn.Module):
    """Several dense layers of one size side by side, each with orthogonal weights.

    Attributes:
      num: m, the number of layers.
      features: width of the output of each.
      scale: gain of the orthogonal initializer.
      shared_input: whether all take the same input; else each takes its own.
    """

    num: int
    features: int
    scale: float = 2**0.5
    shared_input: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of inputs [..., in], or [..., m, in] of each its own; [..., m, features]."""
        shape = (x.shape[-1], self.features)

        def init(key):
            one = nn.initializers.orthogonal(self.scale)
            # One after another: batched decompositions can block on a busy CPU.
            keys = jax.random.split(key, self.num)
            return jax.lax.map(lambda k: one(k, shape, jnp.float32), keys)

        kernel = self.param("kernel", init)
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, (self.num, self.features), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias)
        inputs = "...i" if self.shared_input else "...mi"
        output = jnp.einsum(f"{inputs},mio->...mo", x, kernel)
        return output + jnp.broadcast_to(bias, output.shape)


class StackedMLP(nn.Module):
    """Several MLPs of one input side by side, without an activation at their end.

    Attributes:
      num: m, the number of MLPs.
      sizes: width of each layer.
      activation: between layers.
    """

    num: int
    sizes: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of inputs [..., in]; [..., m, sizes[-1]]."""
        for i, size in enumerate(self.sizes):
            x = self.activation(x) if i else x
            x = StackedDense(self.num, size, shared_input=not i)(x)
        return x


def mix(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Sums of m values [..., m, size] with weights [..., m]; [..., size]."""
    weights, values = promote_dtype(weights, values)
    return jnp.einsum("...m,...ms->...s", weights, values)


def unit_rows(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Random rows of length 1."""
    rows = jax.random.normal(key, shape, dtype)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
