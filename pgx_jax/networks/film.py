"""FiLM: features that each task scales and shifts.

Source: Perez, Strub, de Vries, Dumoulin and Courville, "FiLM: Visual Reasoning with a
General Conditioning Layer", AAAI 2018 (arXiv 1709.07871), section 2. Of task t, in
every hidden layer l:

    h_l = sigma((1 + gamma_tl) * (W_l h_(l-1) + b_l) + beta_tl),    y = W h_L + b

Deviations: the input that conditions is a one-hot task id in place of a question, so
that the network that generates gamma and beta is a table of them; they start at 0, as
an MLP. The layers are dense in place of convolutions with batch normalization. The
standard deviation of continuous actions is a parameter of the task.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.extras import needs_extra
from pgx_jax.networks.layers import TaskNetwork, TaskTable, split_task_id

with needs_extra("envs"):
    import flax.linen as nn


class FiLM(TaskNetwork):
    """An MLP with a scale and a shift of each task for every hidden feature."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of observations [..., observation_size]; [..., output_size]."""
        x, task_id = split_task_id(x, self.num_tasks)
        zeros = nn.initializers.zeros_init()
        for layer, size in enumerate(self.hidden_sizes):
            x = nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))(x)
            table = TaskTable(self.num_tasks, 2 * size, zeros, name=f"task_{layer}")
            scale, shift = jnp.split(table(task_id), 2, axis=-1)
            x = self.activation((1.0 + scale) * x + shift)
        init = nn.initializers.orthogonal(self.output_scale)
        return nn.Dense(self.output_size, kernel_init=init)(x)
