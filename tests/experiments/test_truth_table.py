"""How truth tables order their rows and shorten their curves."""

import numpy as np
import pytest

from pgx_jax.analysis.partitions import all_subsets


@pytest.fixture(scope="module")
def script(load_script):
    names = ("config", "table", "output", "stages", "block", "seconds")
    return load_script("truth_table", names)


def test_rows_go_by_task_and_return_to_their_places(script):
    subsets = all_subsets(3)
    rows = script.Rows.create(subsets, num_replicates=2)
    assert len(rows.task) == 2 * subsets.sum() == 24  # each task is in four of seven
    assert (np.diff(rows.task) >= 0).all()
    assert len(set(rows.policy_ids)) == 2 * len(subsets)
    values = 100 * rows.replicate + 10 * rows.subset + rows.task
    placed = rows.place(np.stack([values, -values]))
    assert placed.shape == (2, 2, len(subsets), 3)
    for replicate, subset, task in np.argwhere(np.ones((2, 7, 3))):
        expected = 100 * replicate + 10 * subset + task
        if not subsets[subset, task]:
            expected = np.nan
        np.testing.assert_equal(placed[replicate, 0, subset, task], expected)
        np.testing.assert_equal(placed[replicate, 1, subset, task], -expected)
    episodes = np.stack([rows.task, rows.task + 1.0], axis=1)
    np.testing.assert_allclose(rows.mean_by_task(episodes), [0.5, 1.5, 2.5])


def test_curves_are_means_over_the_episodes_that_ended(script):
    values = np.array([[1.0, np.nan], [4.0, 5.0], [np.nan, 7.0], [np.nan, 9.0]])
    episodes = np.array([[1, 0], [2, 4], [0, 1], [0, 3]])
    # (1 + 2 * 4) / 3, then none ended; 5, then (7 + 3 * 9) / 4.
    np.testing.assert_allclose(
        script.thin(values, episodes, 2), [[3.0, 5.0], [3.0, 8.5]]
    )
    assert script.thin(values, episodes, 20).shape == (4, 2)
