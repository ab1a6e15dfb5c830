"""Learning curves go on where no episode ended in an update."""

import numpy as np

from pgx_jax.reporting.curves import draw_learning_curves, fill_gaps, smooth


def test_smoothing_averages_what_is_known():
    values = np.array([[np.nan], [2.0], [4.0], [np.nan], [9.0]])
    np.testing.assert_allclose(
        smooth(values, 3), [[np.nan], [3.0], [3.0], [np.nan], [9.0]]
    )
    np.testing.assert_allclose(smooth(values, 1), values)
    np.testing.assert_allclose(smooth(values, 99)[[1, 2, 4], 0], 5.0)


def test_gaps_are_straight_lines_between_what_is_known():
    nan, inf = np.nan, np.inf
    steps = np.array([10.0, 20.0, 40.0, 50.0, 60.0])
    values = np.array([[nan, 1.0, nan, 7.0, inf], [nan] * 5]).T
    # One third of the way from 1 to 7 is not at the middle update but at step 40.
    np.testing.assert_allclose(fill_gaps(values, steps)[:, 0], [nan, 1, 5, 7, 7])
    assert np.isnan(fill_gaps(values, steps)[:, 1]).all()


def test_learning_curves_do_not_break_off(make_results):
    """Episodes end in every third update only, and in none of the last ten."""
    results = make_results(num_tasks=4)
    for curve in results.learning_curves.values():
        returns = np.array(curve["returns"])
        returns[np.arange(len(returns)) % 3 != 0] = np.nan
        returns[50:] = np.nan
        curve["returns"] = returns.tolist()
    figure = draw_learning_curves(results)
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    assert len(lines) == 2 * 2 * 4  # raw and smooth, two stages, four tasks
    for line in lines:
        known = np.isfinite(line.get_ydata())
        assert known[3:].all() and not known[:3].any()
        assert np.ptp(np.asarray(line.get_ydata())[50:]) == 0.0  # the last value known
