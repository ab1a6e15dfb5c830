"""The losses of Standley et al., and partitions by them."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("standley", ["output"])


def test_totals_are_those_that_were_published(script):
    tables, names = script.read_losses(script.LOSSES)
    assert names == ["segmentation", "depth", "normals", "keypoints", "edges"]
    truth = tables["test"]
    size = truth.subsets.sum(axis=1)
    assert len(truth.subsets) == 31
    together = -np.nansum(truth.values[0][size == 5])
    assert together == pytest.approx(0.35989)  # one network for all
    alone = -np.nansum(truth.values[0][size == 1])
    assert alone == pytest.approx(0.35216)  # five independent networks


def test_a_group_of_three_is_the_mean_of_its_pairs(script):
    table = script.read_losses(script.LOSSES)[0]["validation"]
    found = script.average_pairs(table)
    row = np.flatnonzero((table.subsets == [1, 1, 1, 0, 0]).all(axis=1))[0]
    expected = [-(0.03606 + 0.03275) / 2, -(0.1434 + 0.1385) / 2]
    np.testing.assert_allclose(found[row, :2], expected)
    np.testing.assert_array_equal(found[row, 3:], 0.0)
    pairs = table.subsets.sum(axis=1) == 2
    inside = table.subsets & pairs[:, None]
    np.testing.assert_array_equal(found[inside], table.values[0][inside])


def test_no_partition_has_less_loss_than_those_on_the_page(script):
    tables, names = script.read_losses(script.LOSSES)
    page = script.to_markdown(tables, names).splitlines()
    losses = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:4] for line in page}
    # {segmentation, edges}, {depth}, {normals, keypoints}, by hand.
    by_hand = 0.03485 + 0.01583 + 0.1424 + 0.08941 + 0.04209
    assert losses["3"] == [f"{by_hand:.4f}"] * 3
