"""The multi-head network: one trunk for all tasks, one output layer for each.

Source: multi-task multi-head SAC of Meta-World (Yu et al., CoRL 2019, arXiv 1910.10897,
section 5). Of task t with observation s:

    h = trunk(s),    y = W_t h + b_t

Deviations: PPO's actor and critic in place of SAC's, with the standard deviation of
continuous actions a parameter of the task, not an output; orthogonal weights.
"""

from __future__ import annotations

import jax

from pgx_jax.extras import needs_extra
from pgx_jax.networks.layers import StackedDense, TaskNetwork, mix, split_task_id
from pgx_jax.networks.mlp import hidden_layers

with needs_extra("envs"):
    import flax.linen as nn


class MultiHead(TaskNetwork):
    """A trunk that all tasks share, and one linear head for each of them."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of observations [..., observation_size]; [..., output_size]."""
        x, task_id = split_task_id(x, self.num_tasks)
        x = hidden_layers(x, self.hidden_sizes, self.activation)
        heads = StackedDense(
            self.num_tasks, self.output_size, self.output_scale, shared_input=True
        )
        return mix(task_id, heads(x))
