"""Action distributions as functions of a network's output."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

LOG_TWO_PI = 1.8378770664093453


class Categorical(NamedTuple):
    """A discrete action in 0..A-1; logits of shape [..., A]."""

    logits: jax.Array

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-probability of integer actions of shape [...]."""
        log_probs = jax.nn.log_softmax(self.logits)
        # A one-hot product, since its derivative is dense where a gather's would be a
        # scatter, which vmap over tangents makes slow.
        return jnp.sum(log_probs * jax.nn.one_hot(action, log_probs.shape[-1]), axis=-1)

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def mode(self) -> jax.Array:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def entropy(self) -> jax.Array:
        """Entropy in nats; shape [...]."""
        log_probs = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


class Gaussian(NamedTuple):
    """A vector of independent normals; mean and log_std of shape [..., A]."""

    mean: jax.Array
    log_std: jax.Array

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-density of actions of shape [..., A]."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - 0.5 * LOG_TWO_PI, axis=-1)

    def sample(self, key: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, self.mean.shape)
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> jax.Array:
        return self.mean

    def entropy(self) -> jax.Array:
        """Differential entropy in nats; shape [...]."""
        return jnp.sum(self.log_std + 0.5 * (1.0 + LOG_TWO_PI), axis=-1)


Distribution = Categorical | Gaussian
