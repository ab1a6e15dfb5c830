"""MOORE: a mixture of experts whose representations are made orthogonal.

Source: Hendawy, Peters and D'Eramo, "Multi-Task Reinforcement Learning with Mixture of
Orthogonal Experts", ICLR 2024 (arXiv 2311.11385), section 4. Of task t, observation s
and K experts:

    u_k = expert_k(s),    r_k = u_k - sum_(j<k) <v_j, u_k> v_j,    v_k = r_k / |r_k|
    v   = sum_k w_tk v_k,    y = W_t sigma(v) + b_t

(V = [v_1 .. v_K] is on the Stiefel manifold: V^T V = 1.) With `shared_head` W and b are
those of all tasks.

Deviations:

- PPO's actor and critic in Meta-World too, where the paper's are SAC's; the standard
  deviation of continuous actions is a parameter of the task.
- w_t starts as a random direction of length sqrt(d), d the size of a representation, so
  that v has unit mean square; weights are orthogonal.
- The Gram-Schmidt process is the modified one, which rounds less, and |r_k|^2 has
  1e-10 (1 + |u_k|^2) added to it: an expert that depends on those before it gives
  nearly 0, not noise or NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pgx_jax.extras import needs_extra
from pgx_jax.networks.layers import (
    StackedDense,
    StackedMLP,
    TaskNetwork,
    TaskTable,
    mix,
    split_task_id,
    unit_rows,
)

with needs_extra("envs"):
    import flax.linen as nn


class MOORE(TaskNetwork):
    """Orthogonal representations, mixed by weights of the task, and linear heads.

    Attributes:
      hidden_sizes: width of each layer of an expert; the last one is d >= K, the size
        of a representation.
      num_modules: K, the experts.
      shared_head: whether all tasks have one head, else each its own.
    """

    num_modules: int
    shared_head: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of observations [..., observation_size]; [..., output_size]."""
        x, task_id = split_task_id(x, self.num_tasks)
        experts = StackedMLP(
            self.num_modules, tuple(self.hidden_sizes), self.activation, name="experts"
        )
        orthonormal = gram_schmidt(experts(x))
        size = self.hidden_sizes[-1]

        def init(key, shape, dtype):
            return size**0.5 * unit_rows(key, shape, dtype)

        weights = TaskTable(self.num_tasks, self.num_modules, init, name="task")
        x = self.activation(mix(weights(task_id), orthonormal))
        if self.shared_head:
            head = nn.initializers.orthogonal(self.output_scale)
            return nn.Dense(self.output_size, kernel_init=head, name="head")(x)
        heads = StackedDense(
            self.num_tasks, self.output_size, self.output_scale, True, name="heads"
        )
        return mix(task_id, heads(x))


def gram_schmidt(vectors: jax.Array) -> jax.Array:
    """Orthonormal vectors of the same span, one after another.

    Args:
      vectors: [..., K, d], K <= d; one that depends on those before it becomes
        nearly 0.
    """
    basis: list[jax.Array] = []
    for k in range(vectors.shape[-2]):
        rest = vectors[..., k, :]
        least = 1e-10 * (1.0 + jnp.sum(rest**2, axis=-1, keepdims=True))
        for v in basis:
            rest = rest - jnp.sum(v * rest, axis=-1, keepdims=True) * v
        square = jnp.sum(rest**2, axis=-1, keepdims=True)
        basis.append(rest * jax.lax.rsqrt(square + least))
    return jnp.stack(basis, axis=-2)
