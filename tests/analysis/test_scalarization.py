"""Scalarisations against closed forms."""

import numpy as np
import pytest
from scipy.special import logsumexp

from pgx_jax.analysis.scalarization import Scalarization, normalize

VALUES = np.array([[0.2, 0.9, 0.5], [1.0, 1.0, 1.0]], np.float32)


def test_linear_is_the_weighted_mean():
    scalarize = Scalarization("linear", weights=(1, 2, 1))
    np.testing.assert_allclose(
        scalarize(VALUES), [(0.2 + 1.8 + 0.5) / 4, 1.0], rtol=1e-6
    )


def test_smooth_tchebycheff_agrees_with_scipy_and_tends_to_the_worst_objective():
    weights = np.array([0.5, 0.3, 0.2])
    distance = 3 * weights * (1 - VALUES)
    expected = -0.1 * (logsumexp(distance / 0.1, axis=1) - np.log(3))
    scalarize = Scalarization("smooth_tchebycheff", weights=weights)
    np.testing.assert_allclose(scalarize(VALUES), expected, atol=1e-6)
    hard = Scalarization("smooth_tchebycheff", smoothness=1e-4)
    np.testing.assert_allclose(hard(VALUES), [-0.8, 0.0], atol=1e-3)


def test_concave_is_the_mean_logarithm_and_finite_below_zero():
    scalarize = Scalarization("concave")
    np.testing.assert_allclose(scalarize(VALUES), np.log(VALUES).mean(1), atol=1e-6)
    # One value of nothing is worse than all of little.
    assert scalarize([-0.1, 1.0, 1.0]) < scalarize([0.05, 0.05, 0.05])
    step = 1e-4
    around = scalarize(np.array([[0.01 - step] * 3, [0.01] * 3, [0.01 + step] * 3]))
    np.testing.assert_allclose(np.diff(around), step / 0.01, rtol=0.02)


def test_returns_are_put_on_one_scale():
    np.testing.assert_allclose(
        normalize([[5.0, -3.0], [10.0, -4.0]], [0.0, -4.0], [10.0, -2.0]),
        [[0.5, 0.5], [1.0, 0.0]],
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kind": "best"}, "kind must be one of linear"),
        ({"weights": (1, 0, 1)}, "weights must be positive"),
        ({"weights": ()}, "weights must be positive"),
        ({"smoothness": 0.0}, "smoothness must be positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Scalarization(**arguments)


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="weights must be 3 numbers"):
        Scalarization(weights=(1, 1))(VALUES)
    with pytest.raises(ValueError, match="high must be above low"):
        normalize(VALUES, [0, 0, 1], [1, 1, 1])
