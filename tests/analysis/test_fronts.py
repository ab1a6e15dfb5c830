"""Fronts of policies against values computed by hand."""

import numpy as np
import pytest

from pgx_jax.analysis.fronts import (
    draw_preferences,
    expected_utility,
    hypervolume,
    non_dominated,
)


def test_dominated_policies_and_copies_are_filtered_out():
    returns = [[1, 3], [2, 2], [1, 2], [2, 2], [3, 0], [0, 3]]
    expected = [True, True, False, False, True, False]
    assert non_dominated(returns).tolist() == expected
    # 1 is lost in the rounding of the sums.
    assert non_dominated([[1e17, 0.0], [1e17, 1.0]]).tolist() == [False, True]


def test_area_of_a_staircase():
    # Above (-1, -2): rectangles 2 x 5, 1 x 4 and 1 x 2, and a point inside of them.
    returns = [[1, 3], [3, 0], [0, 1], [2, 2]]
    assert hypervolume(returns, [-1, -2]) == 16.0
    # What is not above the reference in both adds nothing.
    assert hypervolume([*returns, [9, -2], [-1, 9]], [-1, -2]) == 16.0
    assert hypervolume(returns, [3, 3]) == 0.0


def test_volume_is_that_of_the_union_of_boxes():
    # Two boxes of 2 x 2 x 1 and 1 x 1 x 3 share 1 x 1 x 1.
    assert hypervolume([[2, 2, 1], [1, 1, 3]], [0, 0, 0]) == 6.0
    # Unit cells below any of the points, counted.
    points = np.random.default_rng(0).integers(0, 8, (12, 3))
    cells = np.moveaxis(np.indices((8, 8, 8)), 0, -1)
    counted = np.any(np.all(cells[..., None, :] < points, axis=-1), axis=-1).sum()
    assert hypervolume(points, [0, 0, 0]) == counted


def test_expected_utility_of_corners_is_the_mean_of_the_largest_weight():
    assert expected_utility(np.eye(2)) == pytest.approx(3 / 4, abs=5e-3)
    assert expected_utility(5 * np.eye(3)) == pytest.approx(5 * 11 / 18, abs=2e-2)
    # A policy between corners is best for weights from 1/4 to 3/4: (2 * 7/8 + 3) / 4 .
    returns = [[1, 0], [0, 1], [0.75, 0.75]]
    assert expected_utility(returns) == pytest.approx(13 / 16, abs=5e-3)
    assert expected_utility(returns, [[1, 0], [0.5, 0.5]]) == pytest.approx(7 / 8)


def test_preferences_are_uniform():
    weights = draw_preferences(20_000, 3, seed=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=5e-3)
    np.testing.assert_allclose(weights.var(axis=0), 1 / 18, atol=2e-3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: non_dominated([1.0, 2.0]), r"returns must have shape \[n, K\]"),
        (lambda: hypervolume(np.zeros((0, 2)), [0, 0]), "returns must have shape"),
        (lambda: hypervolume([[np.nan, 1]], [0, 0]), "returns must be finite"),
        (lambda: hypervolume([[1, 2]], [0, 0, 0]), "reference must be 2 numbers"),
        (lambda: hypervolume([[1] * 4], [0] * 4), "returns must be of 2 or 3"),
        (lambda: expected_utility([[1, 2]], [[1, 1]]), "preferences must not be neg"),
        (lambda: expected_utility([[1, 2]], [[1]]), r"preferences must .* \[m, 2\]"),
        (lambda: draw_preferences(0, 2), "num_preferences must be at least 1"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
