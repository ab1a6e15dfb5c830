"""The programs of experiments/embedding find the groups known beforehand."""

import runpy
from pathlib import Path

import pytest

from pgx_jax.runtime import allow_promotion

PROGRAMS = Path(__file__).parents[2] / "experiments" / "embedding"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "library", "size"),
    [
        ("rejax_agent", "rejax", {"total_timesteps": 16_384}),
        ("nnx_policy", "flax", {"num_updates": 100}),
        ("language_model", "flax", {"num_updates": 50}),
    ],
)
def test_known_groups_are_found(program, library, size, capsys):
    pytest.importorskip(library)
    # Optax, Rejax and the environments of Gymnax convert implicitly.
    with allow_promotion():
        runpy.run_path(str(PROGRAMS / f"{program}.py"))["main"](**size)
    printed = capsys.readouterr().out
    assert printed.startswith("groups: [0 0 0 ")
    assert "\naffinity:\n[[" in printed
    assert float(printed.rpartition("\nNMI: ")[2]) == pytest.approx(1.0)
