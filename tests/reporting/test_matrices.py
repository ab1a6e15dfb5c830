"""Figures of the affinity."""

import dataclasses

import numpy as np
import pytest

from pgx_jax.reporting.labels import shorten
from pgx_jax.reporting.matrices import draw_affinity


def test_long_names_keep_their_ends():
    assert shorten("button-press-topdown-wall-v3") == ("button-press-topdown-wall-v3")
    assert shorten("abcdefghij", length=6) == "abc…ij"


def test_affinity_is_drawn_in_the_order_of_its_groups(make_results):
    """Tasks 0 and 2 are one group; the diagonal, as it has no meaning, is masked."""
    results = dataclasses.replace(
        make_results(num_tasks=3),
        task_names=["a", "b", "c"],
        groups={"estimated": [0, 1, 0]},
        affinity=[[9.0, -2.0, 1.0], [-2.0, 9.0, -1.5], [1.0, -1.5, 9.0]],
    )
    axes = draw_affinity(results).axes[0]
    image = axes.get_images()[0]
    shown = np.ma.filled(image.get_array(), np.nan)
    nan = np.nan
    expected = [[nan, 1.0, -2.0], [1.0, nan, -1.5], [-2.0, -1.5, nan]]
    np.testing.assert_array_equal(shown, expected)
    assert [x.get_text() for x in axes.get_xticklabels()] == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("score", "limits"),
    [
        ("standardized", (-2.0, 2.0)),
        ("transfer_gain", (-2.0, 2.0)),
        ("mean", (-2.0, 1.0)),
        ("standard", (-2.0, 1.0)),  # another score, though it begins like one
    ],
)
def test_zero_is_in_the_middle_where_it_has_a_meaning(make_results, score, limits):
    results = dataclasses.replace(
        make_results(num_tasks=3),
        affinity=[[9.0, -2.0, 1.0], [-2.0, 9.0, -1.5], [1.0, -1.5, 9.0]],
        affinity_method=score,
    )
    assert draw_affinity(results).axes[0].get_images()[0].get_clim() == limits
