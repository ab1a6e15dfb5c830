"""Truth tables: one made from end to end, and the ways of choosing on it."""

from __future__ import annotations

import json

import numpy as np
import pytest

FLAGS = ["config", "table", "output", "stages", "block", "seconds"]
SETTINGS = {
    "num_replicates": 2,
    "num_episodes": 2,
    "num_points": 2,
    "dim": 8,
    "num_parts": 2,
    "estimate_transitions": (160,),
    "chunk_transitions": 320,
    "num_chunks": 2,
    "collection_envs": 16,
    "tables": {
        "locks": {
            "config": "cartpole",
            "suite": "combination_locks",
            "tasks": (0, 1, 3),
            "meta_updates": 1,
            "updates": 2,
        }
    },
}


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("truth_table", FLAGS)


@pytest.fixture(scope="module")
def made(script, tmp_path_factory):
    output = tmp_path_factory.mktemp("truth")
    script.run(SETTINGS, "locks", output, stages=["meta", "sums", "truth"], block=1)
    return output


def load(path):
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def test_a_table_has_every_subset_and_training(made):
    table = load(made / "locks.npz")
    assert table["returns"].shape == (2, 7, 3)
    np.testing.assert_array_equal(
        np.isfinite(table["returns"]), np.broadcast_to(table["subsets"], (2, 7, 3))
    )
    assert table["finished"].all()
    assert table["curve"].shape == (2, 2, 7, 3)
    np.testing.assert_allclose(table["curve_steps"], [2048, 4096])
    # Trainings differ; halves of a lock are between chance, 1.25, and all right, 5.
    assert not np.allclose(table["returns"][0], table["returns"][1], equal_nan=True)
    assert 0 <= np.nanmin(table["returns"]) <= np.nanmax(table["returns"]) <= 5
    assert json.loads(str(table["about"]))["task_names"][0] == "A first half"
    assert json.loads(str(table["about_truth"]))["table"] == "locks"
    assert sorted(x.name for x in made.glob("*truth*")) == [
        "locks_truth_0.npz",
        "locks_truth_1.npz",
    ]


def test_values_are_of_modes_and_of_samples_with_their_errors(made, script):
    table = load(made / "locks.npz")
    for name in ("returns_sampled", "returns_error", "success_sampled"):
        np.testing.assert_array_equal(
            np.isfinite(table[name]), np.isfinite(table["returns"])
        )
    # Locks start anew alike and pay no more than 5: the error of a mean of 32 episodes.
    assert 0 < np.nanmax(table["returns_error_sampled"]) <= 2.5 / np.sqrt(31) + 1e-6
    assert np.nanmax(np.abs(table["returns"] - table["returns_sampled"])) > 0


def test_a_training_out_of_time_is_evaluated(script, made, tmp_path):
    (tmp_path / "locks_meta.npz").write_bytes((made / "locks_meta.npz").read_bytes())
    script.run(SETTINGS, "locks", tmp_path, stages=["truth"], seconds=0.0, block=2)
    table = load(tmp_path / "locks.npz")
    assert not table["finished"].any()
    np.testing.assert_allclose(table["curve_steps"], [2048])
    assert np.isfinite(table["returns"][:, table["subsets"]]).all()


def test_sums_are_over_all_chunks(made):
    sums = load(made / "locks_sums.npz")
    np.testing.assert_array_equal(sums["count_all"].sum(axis=0), 640)
    np.testing.assert_array_equal(sums["count_chunk"].sum(axis=0), 320)
    np.testing.assert_array_equal(sums["count_160"].sum(axis=0), 160)
    assert sums["noise_outer_all"].shape == (2, 3, 36)
    assert sums["surrogate_160"].shape == (7, 3)


def test_finished_stages_are_not_run_again(script, made):
    before = {x.name: x.stat().st_mtime_ns for x in made.iterdir()}
    (made / "locks.npz").unlink()
    script.run(SETTINGS, "locks", made, stages=["meta", "sums", "truth"], block=1)
    after = {x.name: x.stat().st_mtime_ns for x in made.iterdir()}
    assert before.keys() == after.keys()
    kept = [name for name in before if name != "locks.npz"]
    assert all(before[name] == after[name] for name in kept)


def test_an_unknown_table_is_refused(script, tmp_path):
    with pytest.raises(ValueError, match="'ants' does not exist; there are locks"):
        script.run(SETTINGS, "ants", tmp_path, stages=["meta"])


def test_thinned_curves_are_means_over_episodes(script):
    values = np.array([[1.0], [np.nan], [3.0], [np.nan]])
    episodes = np.array([[3.0], [0.0], [1.0], [0.0]])
    np.testing.assert_allclose(script.thin(values, episodes, 1), [[1.5]])
    np.testing.assert_allclose(script.thin(values, episodes, 4)[:, 0], [1, 1, 3, 3])
    np.testing.assert_allclose(script.thin(values, episodes, 9)[:, 0], [1, 1, 3, 3])


@pytest.fixture(scope="module")
def methods(load_script):
    return load_script("partition_methods", ["tables", "output"])


def test_pair_scores_of_a_partition_are_the_objective_of_the_program(methods):
    from pgx_jax.analysis.partitions import all_subsets, encode_subsets

    affinity = np.random.default_rng(0).normal(size=(5, 5))
    scores = methods.pair_scores(all_subsets(5), affinity)
    labels = np.array([0, 1, 0, 0, 1])
    same = labels[:, None] == labels
    expected = np.sum(affinity * same / same.sum(axis=1))
    rows = [encode_subsets(labels == g) - 1 for g in range(2)]
    np.testing.assert_allclose(sum(scores[row].sum() for row in rows), expected)


def test_aggregation_scores_are_squared_errors_of_mean_gradients(methods):
    rng = np.random.default_rng(1)
    gradients, variance = rng.normal(size=(3, 7)), np.array([1.0, 2.0, 4.0])
    subsets = np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1]], bool)
    found = methods.aggregation_scores(subsets, gradients @ gradients.T, variance)
    mean = gradients[:2].mean(axis=0)
    expected = -np.sum((mean - gradients[1]) ** 2) - 3.0 / 4
    np.testing.assert_allclose(found[0], [found[0, 0], expected, 0.0])
    np.testing.assert_allclose(found[1], [0, 0, -4.0], atol=1e-12)


def test_sums_survive_their_file(methods, script, made):
    known = load(made / "locks_sums.npz")
    sums = methods.unpack_sums(known, "all")
    outer = np.asarray(sums.outer)
    np.testing.assert_array_equal(outer, np.swapaxes(outer, 2, 3))
    again = script._pack(sums, "all")
    np.testing.assert_array_equal(again["outer_all"], known["outer_all"])
    assert methods.unpack_sums(known, "160").noise_outer is None
