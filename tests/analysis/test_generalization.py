"""The bound against its minimum over sigma, by SciPy."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from pgx_jax.analysis.generalization import pac_bayes_bound


def test_the_bound_is_the_least_over_all_standard_deviations():
    trace, distance, n, top, weight = 3.0, 2.0, 40, 1.5, 1.2

    def bound(log_sigma):
        variance = np.exp(2 * log_sigma)
        divergence = distance**2 / (2 * variance) + np.log(1 / 0.1)
        right = 0.3 + 0.5 * variance * trace + weight * top / n * divergence
        return right / (1 - 1 / (2 * weight))

    least = minimize_scalar(bound, bounds=(-5, 5), method="bounded")
    found = pac_bayes_bound(
        0.3, trace, distance, n, loss_range=top, confidence=0.9, temperature=weight
    )
    assert found.loss == pytest.approx(least.fun)
    assert found.noise == pytest.approx(np.exp(least.x), rel=1e-4)
    assert found.leading == pytest.approx(np.sqrt(1.5 * 3.0 * 4.0 / 40))


def test_curvature_below_zero_counts_as_none():
    flat = pac_bayes_bound(0.1, 0.0, 2.0, 100)
    assert pac_bayes_bound(0.1, -5.0, 2.0, 100) == flat
    assert flat.leading == 0.0
    assert flat.loss == pytest.approx((0.1 + 2 * np.log(20) / 100) / 0.75)
    assert flat.noise == np.inf


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"observed_loss": 2.0}, "observed_loss must be at most loss_range"),
        ({"observed_loss": -0.1}, "observed_loss must be at least 0"),
        ({"trace": np.nan}, "trace must be finite"),
        ({"distance": np.inf}, "distance must be"),
        ({"num_samples": 0}, "num_samples must be"),
        ({"confidence": 1.0}, "confidence must be in"),
        ({"temperature": 0.5}, "temperature must be above 0.5"),
    ],
)
def test_numbers_out_of_range_are_refused(changed, match):
    given = {"observed_loss": 0.5, "trace": 1.0, "distance": 1.0, "num_samples": 10}
    with pytest.raises(ValueError, match=match):
        pac_bayes_bound(**(given | changed))
