"""Soft Modularization: layers of modules that a routing network weighs for each task.

Source: Yang, Xu, Wu and Wang, "Multi-Task Reinforcement Learning with Soft
Modularization", NeurIPS 2020 (arXiv 2003.13661), section 4. With f(s) and h(t)
embeddings of observation and task, m modules a layer, sigma the activation, and layers
l = 1..L of the hidden sizes given:

    e        = f(s) * h(t)
    p^1      = V^1 ReLU(e),    p^(l+1) = V^(l+1) ReLU((U^l p^l) * e)
    q^l_ij   = exp(p^l_ij) / sum_j exp(p^l_ij)                                  [m, m]
    g^1_j    = f(s),           g^(l+1)_i = sum_j q^l_ij sigma(W^l_j g^l_j + b^l_j)
    y        = sum_j (W_j g^(L+1)_j + b_j)

Deviations:

- PPO's actor and critic in place of SAC's, and no weights of the tasks' losses from
  SAC's temperatures; the standard deviation of continuous actions is a parameter of the
  task, not an output.
- f is one dense layer and sigma, as wide as the first hidden size, in place of two of
  400 units; h is linear. sigma is the activation of the config, ReLU in the paper.
- Weights are orthogonal; those of V^l start small, so that all modules are mixed evenly
  at first, and those of the last layer are divided by sqrt(m), as the outputs of m
  modules are added up.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.extras import needs_extra
from pgx_jax.networks.layers import StackedDense, TaskNetwork, TaskTable, split_task_id
from pgx_jax.networks.mlp import hidden_layers

with needs_extra("envs"):
    import flax.linen as nn


class SoftModularization(TaskNetwork):
    """Modules that all tasks share, mixed by weights of observation and task.

    Attributes:
      hidden_sizes: width of the modules of each layer; of the embeddings the first.
      num_modules: m, in each layer.
    """

    num_modules: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of observations [..., observation_size]; [..., output_size]."""
        x, task_id = split_task_id(x, self.num_tasks)
        width, m = self.hidden_sizes[0], self.num_modules
        observed = hidden_layers(x, (width,), self.activation)
        # Of unit mean square, so that a product with it keeps the other one's scale.
        init = nn.initializers.normal(1.0)
        e = observed * TaskTable(self.num_tasks, width, init, name="task")(task_id)
        routes = e
        modules = jnp.broadcast_to(
            observed[..., None, :], (*observed.shape[:-1], m, width)
        )
        for layer, size in enumerate(self.hidden_sizes):
            if layer:
                routes = self._dense(width, 2**0.5, f"route_in_{layer}")(routes) * e
            routes = self._dense(m * m, 0.01, f"route_{layer}")(nn.relu(routes))
            weights = nn.softmax(routes.reshape(*routes.shape[:-1], m, m))
            outputs = self.activation(
                StackedDense(m, size, name=f"modules_{layer}")(modules)
            )
            modules = jnp.einsum("...ij,...js->...is", weights, outputs)
        last = StackedDense(m, self.output_size, self.output_scale / m**0.5)
        return jnp.sum(last(modules), axis=-2)

    def _dense(self, size: int, scale: float, name: str) -> nn.Dense:
        return nn.Dense(size, kernel_init=nn.initializers.orthogonal(scale), name=name)
