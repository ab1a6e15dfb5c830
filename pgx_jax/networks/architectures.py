"""The architectures by name, and the settings that each of them uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pgx_jax.extras import needs_extra
from pgx_jax.networks.care import CARE
from pgx_jax.networks.film import FiLM
from pgx_jax.networks.mlp import MLP
from pgx_jax.networks.moore import MOORE
from pgx_jax.networks.multi_head import MultiHead
from pgx_jax.networks.paco import PaCo
from pgx_jax.networks.soft_modularization import SoftModularization

with needs_extra("envs"):
    import flax.linen as nn


class Architecture(NamedTuple):
    """A network that can be chosen by name.

    Attributes:
      module: takes `hidden_sizes`, `output_size`, `output_scale`, `activation`, and
        `num_tasks` where it reads a task id.
      reads_task_id: whether observations must end in a one-hot task id.
      num_modules: the default number of what its tasks mix; None where they mix none.
      options: further settings that it takes.
    """

    module: type[nn.Module]
    reads_task_id: bool = True
    num_modules: int | None = None
    options: tuple[str, ...] = ()


ARCHITECTURES = {
    "mlp": Architecture(MLP, reads_task_id=False),
    "multi_head": Architecture(MultiHead),
    "soft_modularization": Architecture(SoftModularization, num_modules=2),
    "paco": Architecture(PaCo, num_modules=5),
    "care": Architecture(CARE, num_modules=6, options=("task_embeddings",)),
    "moore": Architecture(MOORE, num_modules=4, options=("shared_head",)),
    "film": Architecture(FiLM),
}
CRITICS = ("same", "wide_residual")
# What settings that not every network has are where it does without them.
UNUSED = {
    "num_modules": None,
    "shared_head": False,
    "task_embeddings": (),
    "critic_width": 512,
    "critic_depth": 2,
}


def explain_misuse(
    name: str, critic: str, hidden_sizes: Sequence[int], settings: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Settings that the networks do not use, or cannot work with, and what is allowed.

    Args:
      name: of the architecture.
      critic: one of `CRITICS`.
      hidden_sizes: positive integers.
      settings: the values of the settings in `UNUSED`.

    Yields:
      The setting, and a text to be read after its name.
    """
    architecture = ARCHITECTURES[name]
    used = {"num_modules"} if architecture.num_modules is not None else set()
    used |= {*architecture.options}
    if critic == "wide_residual":
        used |= {"critic_width", "critic_depth"}
    for field, default in UNUSED.items():
        if field not in used and settings[field] != default:
            of = "critic" if field.startswith("critic") else "name"
            value = critic if of == "critic" else name
            yield field, f"must be {default!r} where {of} is {value!r}, without use"
    num_experts = settings["num_modules"] or architecture.num_modules or 0
    if name == "moore" and num_experts > hidden_sizes[-1]:
        yield (
            "num_modules",
            f"must be at most {hidden_sizes[-1]}, the last of hidden_sizes, in which "
            f"{num_experts} experts cannot be orthogonal",
        )
    embeddings = settings["task_embeddings"]
    if len({len(row) for row in embeddings}) > 1 or (embeddings and not embeddings[0]):
        yield "task_embeddings", "must be rows of one length, of at least 1"
