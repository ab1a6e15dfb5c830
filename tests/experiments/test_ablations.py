"""Ablations on a table whose best partitions are known."""

import numpy as np
import pytest

from pgx_jax.analysis.partition_judges import PartitionJudge
from pgx_jax.analysis.truth_tables import TruthTable, all_subsets


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("ablations", ["tables", "output"])


@pytest.fixture
def table(script):
    """Returns that the mean affinity of partners gives, the same in both trainings."""
    subsets = all_subsets(4)
    matrix = np.random.default_rng(0).normal(size=(4, 4))
    scores = script.affinity_scores(matrix, subsets)
    values = np.where(subsets, scores, np.nan)
    truth = TruthTable.create(subsets, np.stack([values, values]))
    return script.Loaded("a", truth, {"surrogate_32768": -scores}, {})


def test_trainings_that_agree_choose_the_best_and_their_opposite_the_worst(
    script, table
):
    judge = PartitionJudge(table.truth)
    estimate, *trainings = script.list_sources(table, judge)
    assert [x.judges for x in trainings] == [[1], [0]]
    for source in trainings:
        found = script.score_search(table, judge, source.scored, source.judges)
        assert found == pytest.approx(100.0)
    assert script.score_search(table, judge, estimate.scored, [0, 1]) < -20.0


def test_draws_cover_every_pair(script):
    subsets = all_subsets(5)
    rows = np.flatnonzero(subsets.sum(axis=1) == 3)
    for draw in range(5):
        chosen = script.draw_rows(subsets, rows, 5, np.random.default_rng(draw))
        assert len(set(chosen)) == 5
        assert np.all(np.einsum("mi,mj->ij", subsets[chosen], 1 * subsets[chosen]) > 0)


def test_noise_of_parts_adds_nothing_to_cosines(script):
    """Noise of one part alone: products of different parts are exact."""
    signal = np.array([[3.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    noise = np.array([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0]])
    found = script.cross_cosine(np.stack([signal + noise, signal]))
    np.testing.assert_allclose(found, [[1.0, 0.6], [0.6, 1.0]])


def test_differences_are_those_of_tables(script):
    scores, beside = {"a": 10.0, "b": 30.0}, {"a": 5.0, "b": 5.0}
    cells = list(script.show_scores(scores, beside))
    assert cells == ["20", "10 to 30", "+15 (5 to 25)", "", "10", "30"]
