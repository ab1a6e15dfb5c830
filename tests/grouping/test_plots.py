"""The figure of an affinity shows its entries, in the order of the groups."""

import matplotlib
import numpy as np
import pytest

import pgx_jax as pge

matplotlib.use("Agg")


def test_entries_are_ordered_by_group_and_groups_outlined():
    matrix = np.array([[9.0, -1.0, 2.0], [-1.0, 9.0, 0.5], [2.0, 0.5, 9.0]])
    axes = pge.plot_affinity(matrix, [0, 1, 0], task_names=["a", "b", "c"])
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(
        shown, [[np.nan, 2.0, -1.0], [2.0, np.nan, 0.5], [-1.0, 0.5, np.nan]]
    )
    assert [x.get_text() for x in axes.get_yticklabels()] == ["a", "c", "b"]
    boxes = [(x.get_xy(), x.get_width()) for x in axes.patches]
    assert boxes == [((-0.5, -0.5), 2), ((1.5, 1.5), 1)]
    assert axes.images[0].get_clim() == (-2.0, 2.0)


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (np.zeros((2, 3)), {}, r"affinity must have shape \[n, n\]"),
        (np.full((2, 2), np.nan), {}, "affinity must be finite"),
        (np.zeros((2, 2)), {"grouping": [0]}, "grouping must have shape"),
        (np.zeros((2, 2)), {"task_names": ["a"]}, "task_names must hold 2"),
    ],
)
def test_bad_input_is_refused_by_name(matrix, options, message):
    with pytest.raises(ValueError, match=message):
        pge.plot_affinity(matrix, **options)
