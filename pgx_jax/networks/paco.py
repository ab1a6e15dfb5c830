"""PaCo: the parameters of each task are a combination of a few sets of parameters.

Source: Sun, Zhang, Xu and Tomizuka, "PaCo: Parameter-Compositional Multi-Task
Reinforcement Learning", NeurIPS 2022 (arXiv 2210.11653), section 3. Of task t, with K
sets Phi = (phi_1, .., phi_K) of all weights and biases of an MLP:

    theta_t = Phi w_t = sum_k w_tk phi_k

A layer is linear in its parameters, so that it is computed as the sum over k of w_tk
times the k-th layer's output, which is the same and needs no parameters of each sample.

Deviations:

- PPO's actor and critic in place of SAC's; the standard deviation of continuous actions
  is a parameter of the task, and not composed.
- Neither are the losses of tasks masked that explode, nor their w_t drawn anew: PPO's
  clipped losses do not explode in the same way.
- w_t starts as a random direction of length 1, with which composed orthogonal weights
  have the scale of one set.
"""

from __future__ import annotations

import jax

from pgx_jax.extras import needs_extra
from pgx_jax.networks.layers import (
    StackedDense,
    TaskNetwork,
    TaskTable,
    mix,
    split_task_id,
    unit_rows,
)

with needs_extra("envs"):
    import flax.linen as nn


class PaCo(TaskNetwork):
    """An MLP whose parameters are composed for each task.

    Attributes:
      num_modules: K, the sets of parameters.
    """

    num_modules: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of observations [..., observation_size]; [..., output_size]."""
        x, task_id = split_task_id(x, self.num_tasks)
        weights = TaskTable(self.num_tasks, self.num_modules, unit_rows, name="task")(
            task_id
        )

        def composed(x, size, scale):
            return mix(weights, StackedDense(self.num_modules, size, scale, True)(x))

        for size in self.hidden_sizes:
            x = self.activation(composed(x, size, 2**0.5))
        return composed(x, self.output_size, self.output_scale)
