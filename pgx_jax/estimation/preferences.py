"""Preference pairs as transitions, of which the regression is DPO's loss, linearized.

A pair of answers to one prompt is one transition: its observation is the prompt, its
action the pair, its advantage 1, and its log-probability

    h(theta) = beta (log pi_theta(chosen | prompt) - log pi_theta(rejected | prompt)).

With theta* for the reference policy, DPO's loss of the pair is -log sigma(h(theta) -
h(theta*)). To first order in Delta = theta - theta*, with g the gradient of h at
theta*, it is log(1 + exp(-g . Delta)): the loss of `pgx_jax.estimation.regression` with
y = 1 and w = 1. With the squared loss of `pgx_jax.estimation.least_squares`, not
centered, it is that of IPO, (g . Delta - 1)^2 up to the scale of Delta.

beta rescales Delta, and features are scaled to one norm whatever beta is: at a given
`l2` scores do not depend on it, and Delta is proportional to 1 / beta. A ridge penalty
(lambda / 2) |Delta|^2 of the parameters themselves, in coordinates of P, is
l2 = 400 lambda / (beta^2 times the mean squared norm of the features at beta = 1).

Sources: Rafailov et al., "Direct preference optimization" (arXiv 2305.18290), equation
7; Azar et al., "A general theoretical paradigm to understand learning from human
preferences" (arXiv 2310.12036), equation 17, for IPO; PolicyGradEx (arXiv 2511.12779),
section 3.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pgx_jax.arguments import check_number
from pgx_jax.estimation.checks import as_mask, as_samples, check_callable, describe
from pgx_jax.estimation.projection import LogProbFn
from pgx_jax.types import PyTree, Transitions

# That of the experiments of the DPO paper, unless they say otherwise.
BETA = 0.1


@dataclasses.dataclass(frozen=True)
class PreferenceLogProb:
    """The difference of the log-probabilities of two answers, as a `log_prob_fn`.

        log_prob_fn = pge.PreferenceLogProb(sequence_log_prob)
        batch = pge.preference_transitions(prompt, chosen, rejected)
        groups = pge.group_tasks(log_prob_fn, params, batch, key=key)

    Two of the same function and beta are equal, so that nothing compiles anew.

    Attributes:
      log_prob_fn: `log_prob_fn(params, prompt, answer) -> log-probability` of the whole
        answer, summed over its tokens; of one pair or of a batch.
      beta: strength of DPO's KL penalty. How it enters is said above.

    Raises:
      ValueError: `log_prob_fn` is no function that can be hashed, or `beta` is not
        positive.

    Source: DPO (arXiv 2305.18290), equation 7.
    """

    log_prob_fn: LogProbFn
    beta: float = BETA

    def __post_init__(self):
        check_callable("log_prob_fn", self.log_prob_fn)
        check_number("beta", self.beta)
        object.__setattr__(self, "beta", float(self.beta))

    def __call__(self, params: PyTree, prompt: PyTree, pair: PyTree) -> jax.Array:
        """h(theta); of the shape that `log_prob_fn` returns."""
        chosen, rejected = pair
        preferred = self.log_prob_fn(params, prompt, chosen)
        return self.beta * (preferred - self.log_prob_fn(params, prompt, rejected))


def preference_transitions(
    prompt: PyTree,
    chosen: PyTree,
    rejected: PyTree,
    *,
    label: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> Transitions:
    """Pairs of n sets of preferences, N each, as transitions of n tasks.

    Pairs whose label is 0 are turned round, so that every advantage is 1 and the order
    of a pair changes nothing. An advantage of -1 for pairs as they stand is the same
    wherever features are not centered. `batch._replace(advantage=w)` weighs pairs.

    Args:
      prompt: pytree of arrays [n, N, ...].
      chosen: answers; pytree of arrays [n, N, ...].
      rejected: the others; of the structure and shapes of `chosen`, sequences padded.
      label: 1 where `chosen` is preferred, 0 where `rejected` is; [n, N]. None for 1
        throughout.
      mask: false where a pair is padding; bool [n, N], or None.

    Returns:
      Transitions for `PreferenceLogProb`; actions are tuples (preferred, other).

    Raises:
      ValueError: shapes or structures differ, or a label is neither 0 nor 1; the
        message names the argument.
    """
    shape = _leading_axes(chosen)
    samples = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    prompt, chosen, rejected = (
        as_samples(name, tree, shape, of="chosen") for name, tree in samples.items()
    )
    _check_pairs(chosen, rejected)
    if label is not None:
        preferred = jnp.asarray(as_mask(label, shape, name="label", of="chosen"))
        chosen, rejected = (
            _choose(preferred, chosen, rejected),
            _choose(preferred, rejected, chosen),
        )
    if mask is not None:
        mask = jnp.asarray(as_mask(mask, shape, of="chosen"))
    return Transitions(prompt, (chosen, rejected), jnp.ones(shape, jnp.float32), mask)


def _leading_axes(chosen: PyTree) -> tuple[int, int]:
    """[n, N] of the first array."""
    leaves = jax.tree.leaves(chosen)
    shape = jnp.shape(leaves[0]) if leaves else ()
    if len(shape) < 2 or 0 in shape[:2]:
        raise ValueError(
            "chosen must hold arrays of shape [n, N, ...] with n, N >= 1, got "
            f"{describe(leaves[0]) if leaves else repr(chosen)}"
        )
    return shape[0], shape[1]


def _check_pairs(chosen: PyTree, rejected: PyTree) -> None:
    """Refuses answers that could not take each other's place."""

    def describe_all(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype.name), tree)

    found = [jax.tree.structure(x) for x in (chosen, rejected)]
    if found[0] != found[1] or describe_all(chosen) != describe_all(rejected):
        raise ValueError(
            "rejected must have the structure, shapes and dtypes of chosen, "
            f"{jax.tree.map(describe, chosen)}, got {jax.tree.map(describe, rejected)}"
        )


def _choose(preferred: jax.Array, first: PyTree, second: PyTree) -> PyTree:
    """`first` where a pair is preferred as it stands, else `second`."""

    def choose(a, b):
        condition = preferred.reshape(*preferred.shape, *[1] * (a.ndim - 2))
        return jnp.where(condition, a, b)

    return jax.tree.map(choose, first, second)
