"""Splits by name, which every family of tasks takes."""

import pytest

from pgx_jax.envs.cartpole import cartpole
from pgx_jax.envs.highway import highway
from pgx_jax.envs.locomotion import (
    ant_direction,
    changed_bodies,
    half_cheetah_velocity,
)
from pgx_jax.envs.lunar_lander import lunar_lander
from pgx_jax.envs.splits import find_split


def test_the_splits_are_those_that_results_were_made_with():
    assert find_split("source") == (1, 10)
    assert find_split("target") == (2, 50)


@pytest.mark.parametrize(
    "suite",
    [
        ant_direction,
        cartpole,
        half_cheetah_velocity,
        highway,
        lambda split: changed_bodies("hopper", split),
        lunar_lander,
    ],
)
@pytest.mark.parametrize("split", ["targets", "Source", ""])
def test_other_splits_are_refused_by_name(suite, split):
    with pytest.raises(
        ValueError, match=f"split must be one of source, target, got '{split}'"
    ):
        suite(split)
