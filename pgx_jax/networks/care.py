"""CARE: encoders of the observation that an embedding of the task attends to.

Source: Sodhani, Zhang and Pineau, "Multi-Task Reinforcement Learning with Context-based
Representations", ICML 2021 (arXiv 2102.06177), section 4. Of task t with embedding e_t,
observation s and m encoders:

    c = context(e_t),    a = softmax(A c + b),    z = sum_j a_j encoder_j(s)
    y = MLP([z, c])

Deviations:

- e_t is learned, or given by the user and then fixed, where the paper embeds a sentence
  that describes the task with a fixed language model. Embeddings of such a model can be
  given as they are.
- PPO's actor and critic, each with encoders of its own, in place of SAC's, whose actor
  and critic share those that the critic's loss trains; the standard deviation of
  continuous actions is a parameter of the task.
- context and encoders have two layers, A c + b is linear, and all are as wide as the
  first hidden size; 50 in the paper. Weights are orthogonal; those of A start small, so
  that all encoders are mixed evenly at first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.extras import needs_extra
from pgx_jax.networks.layers import (
    StackedMLP,
    TaskNetwork,
    TaskTable,
    mix,
    split_task_id,
)
from pgx_jax.networks.mlp import MLP

with needs_extra("envs"):
    import flax.linen as nn


class CARE(TaskNetwork):
    """An MLP of a mixture of encodings and of the context.

    Attributes:
      hidden_sizes: width of each hidden layer; of the encoders and the context the
        first.
      num_modules: m, the encoders.
      task_embeddings: of the user, n tuples of one length; learned where empty.
    """

    num_modules: int
    task_embeddings: tuple[tuple[float, ...], ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of observations [..., observation_size]; [..., output_size]."""
        x, task_id = split_task_id(x, self.num_tasks)
        width = self.hidden_sizes[0]
        if self.task_embeddings:
            embedding = task_id @ jnp.asarray(self.task_embeddings, task_id.dtype)
        else:
            init = nn.initializers.normal(1.0)
            embedding = TaskTable(self.num_tasks, width, init, name="task")(task_id)
        context = MLP((width,), width, 2**0.5, self.activation, name="context")(
            embedding
        )
        small = nn.initializers.orthogonal(0.01)
        attention = nn.Dense(self.num_modules, kernel_init=small, name="attention")
        encoders = StackedMLP(
            self.num_modules, (width, width), self.activation, name="encoders"
        )
        encoding = mix(nn.softmax(attention(context)), encoders(x))
        joined = jnp.concatenate([encoding, context], axis=-1)
        return MLP(
            self.hidden_sizes, self.output_size, self.output_scale, self.activation
        )(joined)
