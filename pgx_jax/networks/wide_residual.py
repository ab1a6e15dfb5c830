"""A wide residual critic, normalized in every block.

Source: BroNet (Nauman, Ostaszewski, Jankowski, Milos and Cygan, "Bigger, Regularized,
Optimistic", NeurIPS 2024, arXiv 2405.16158, section 3), as BRC has it for many tasks
(Nauman et al., "Bigger, Regularized, Categorical", 2025, arXiv 2505.23150), where the
width of the critic mattered most:

    x_0     = ReLU(LN(W s + b))
    x_(l+1) = x_l + LN(V_l ReLU(LN(W_l x_l + b_l)) + c_l),    value = w x_L + c

Deviations: a value of the state, trained by the squared error of PPO, in place of
categorical values of actions (BRC's C); a one-hot task id goes into the first layer
with the observation, where BRC learns an embedding of 32 numbers, which the columns of
W are here; no weight decay. Weights are orthogonal. BRC's critics are 4,096 wide, with
two blocks.
"""

from __future__ import annotations

import jax

from pgx_jax.extras import needs_extra

with needs_extra("envs"):
    import flax.linen as nn

MOST_DEPTH = 100  # blocks are traced one by one


class WideResidual(nn.Module):
    """The critic.

    Attributes:
      width: of every layer.
      depth: blocks of two layers, at most 100.
      output_size: values of an observation.
    """

    width: int
    depth: int
    output_size: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of observations [..., observation_size]; [..., output_size]."""
        x = nn.relu(self._normalized(x))
        for _ in range(self.depth):
            x = x + self._normalized(nn.relu(self._normalized(x)))
        init = nn.initializers.orthogonal(1.0)
        return nn.Dense(self.output_size, kernel_init=init)(x)

    def _normalized(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.orthogonal(2**0.5)
        return nn.LayerNorm()(nn.Dense(self.width, kernel_init=init)(x))
