"""Which operation first gave a NaN, found by repeating the update that diverged."""

from __future__ import annotations

import dataclasses
import traceback
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from pgx_jax.envs.core import StepSuite
from pgx_jax.training.ppo import PPO, TrainingState


def copy_state(state: TrainingState) -> TrainingState:
    """A state that stays when `PPO.run` takes the buffers of the other one."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), state)


def find_operation(
    ppo: PPO, suite: StepSuite, state: TrainingState, num_updates: int
) -> str:
    """Repeats updates one at a time with every operation checked.

    The program is compiled anew, with a check after each operation, which takes several
    times as long as the one of training.

    Args:
      ppo: the training step.
      suite: r tasks.
      state: before the first of the updates.
      num_updates: among which there was a number that is not finite.

    Returns:
      The update, and the operation that gave the first NaN or division by zero with the
      line of the source; or that none did.
    """

    ppo = dataclasses.replace(ppo, mesh=None)  # which checks do not know of

    def update(state: TrainingState) -> Any:
        return ppo.step(suite, state, jax.random.fold_in(state.key, state.num_updates))

    checked = jax.jit(checkify.checkify(update, errors=checkify.float_checks))
    for _ in range(num_updates):
        error, (state, _) = checked(state)
        if error.get() is not None:
            return f"update {int(state.num_updates) - 1}: {_describe(error)}"
    return (
        "no operation of these updates gave a NaN or divided by zero: a number became "
        "infinite, or was not finite before"
    )


def _describe(error: checkify.Error) -> str:
    """The operation and the line that it stands in."""
    try:
        error.throw()
    except checkify.JaxRuntimeError as raised:
        message = " ".join(str(raised).split()).rstrip(".")
        cause = raised.__cause__
        frames = traceback.extract_tb(None if cause is None else cause.__traceback__)
        if not frames:
            return message
        return f"{message}, at {frames[-1].filename}:{frames[-1].lineno}"
    return "no error"
