"""Surrogates of returns by subsets of tasks: regressions with known answers."""

import numpy as np
import pytest

from pgx_jax.analysis.truth_tables import TruthTable, all_subsets


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("kernel_surrogates", ["tables", "output"])


def test_left_out_points_are_those_of_fits_to_all_others(script):
    rng = np.random.default_rng(0)
    points, target = rng.normal(size=(6, 2)), rng.normal(size=6)
    kernel, ridge = points @ points.T, 0.3
    hat, _ = script.smoother(kernel, ridge)
    closed = (target - hat @ target) / (1.0 - np.diag(hat))
    for k in range(6):
        x, y = np.delete(points, k, axis=0), np.delete(target, k)
        design = x - x.mean(axis=0)
        slope = np.linalg.solve(design.T @ design + ridge * np.eye(2), design.T @ y)
        predicted = y.mean() + (points[k] - x.mean(axis=0)) @ slope
        np.testing.assert_allclose(closed[k], target[k] - predicted)


def test_only_the_radial_surrogate_learns_that_two_partners_are_one_too_many(script):
    """Task 0 gains by task 1 or by task 2, and loses by both: XOR."""
    subsets = all_subsets(7)
    member = subsets.astype(float)
    own = np.where(member[:, 1] != member[:, 2], 1.0, -1.0)
    values = np.where(subsets, 0.0, np.nan)
    values[subsets[:, 0], 0] = own[subsets[:, 0]]
    truth = TruthTable.create(subsets, np.stack([values, values]))
    drawn = np.arange(len(subsets)) % 5 != 0
    rows = subsets[:, 0] & ~drawn
    assert rows.sum() >= 3
    errors = {
        name: np.mean(
            (script.predict(subsets, values, drawn, kernels) - values)[rows, 0] ** 2
        )
        for name, kernels in script.SURROGATES.items()
    }
    assert errors["radial basis function"] < 0.3 < 0.7 < errors["linear"]
    scored = script.compare(truth)
    assert scored["radial basis function"]["held out"] > scored["linear"]["held out"]


def test_leave_one_out_compares_what_each_task_adds(script):
    subsets = all_subsets(3)
    member = subsets.astype(float)
    effect = np.array([[0.0, 2.0, -1.0], [3.0, 0.0, 1.0], [0.5, -2.0, 0.0]])
    scores = np.where(subsets, member @ effect.T, 0.0)
    assert script.leave_one_out(subsets, scores, scores) == pytest.approx(1.0)
    assert script.leave_one_out(subsets, -scores, scores) == pytest.approx(-1.0)
    assert script.leave_one_out(subsets, member, scores) == 0.0
