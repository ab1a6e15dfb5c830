"""Checkpoints of meta-training: sums of several, regrouping, and their scores."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

# Scripts register the combination locks.
pytestmark = pytest.mark.usefixtures("registry")

FLAGS = ["config", "table", "output", "stages"]
SETTINGS = {
    "dim": 8,
    "num_parts": 2,
    "estimate_transitions": (160,),
    "chunk_transitions": 320,
    "collection_envs": 16,
    "tables": {
        "locks": {
            "config": "cartpole",
            "suite": "combination_locks",
            "tasks": (0, 1, 3),
            "meta_updates": 4,
        }
    },
}


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("checkpoint_sums", FLAGS)


@pytest.fixture(scope="module")
def methods(load_script):
    return load_script("checkpoint_methods", ["tables", "output", "checkpoints"])


def test_checkpoints_come_at_quarters_of_training_in_equal_pieces(script):
    assert script.checkpoint_updates(20) == (5, (5, 10, 15, 20))
    assert script.checkpoint_updates(50) == (5, (10, 25, 40, 50))
    assert script.checkpoint_updates(7) == (1, (2, 4, 5, 7))
    with pytest.raises(ValueError, match="num_updates must be at least 4"):
        script.checkpoint_updates(3)


def sums_of(features, advantages):
    """Sums over transitions, [n, N, d] and [n, N], in two parts."""
    from pgx_jax.estimation.sums import sum_transitions

    return sum_transitions(
        np.asarray(features, np.float32),
        np.asarray(advantages, np.float32),
        np.ones(advantages.shape, bool),
        num_parts=2,
        noise=False,
        fingerprint=None,
    )


def test_added_sums_are_those_of_standardized_transitions(script):
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(2, 12, 3)) * 4, rng.normal(size=(2, 12, 3))]
    advantages = [rng.normal(size=(2, 12)) + 1, 50 * rng.normal(size=(2, 12))]
    added = script.add_sums(
        [sums_of(*x) for x in zip(features, advantages, strict=True)], (1, 2)
    )
    unit = [
        (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) for x in advantages
    ]
    scaled = [x / np.sqrt(np.mean(x**2)) for x in features]
    parts = [sums_of(*x) for x in zip(scaled, unit, strict=True)]
    expected = jax.tree.map(lambda x, y: x + 2 * y, *parts)
    for found, wanted in zip(added[:6], expected[:6], strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_added_gradients_are_of_unit_length_at_each_checkpoint(script):
    gradients = [np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 5.0], [0.0, 2.0]])]
    added = script.add_gradients(gradients, (1, 2))
    np.testing.assert_allclose(added, [[1, 2], [0, 3]])
    np.testing.assert_allclose(script.cosine(added)[0, 1], 2 / np.sqrt(5))


def test_new_groups_go_on_from_where_most_of_their_tasks_come_from(script):
    old, new = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 2])
    np.testing.assert_array_equal(script.parents(old, new), [0, 1, 2])
    # A tie goes to the first.
    np.testing.assert_array_equal(script.parents(old[1:3], np.array([0, 0])), [0])
    ids = script.policy_ids(np.array([[0, 1, 1], [0, 1, 2]]), (2, 3))
    assert ids == [0, 2, 1, 3, 1, 4]


@pytest.mark.reliability
def test_pieces_train_the_policy_of_one_run_and_stages_are_not_repeated(
    script, tmp_path
):
    script.run(SETTINGS, "locks", tmp_path, stages=["checkpoints", "regrouping"])
    setup = script.Setup.create(SETTINGS, "locks")
    meta = script.load_arrays(tmp_path / "locks_policies.npz")
    ppo = script.PPO(setup.config.ppo, setup.actor_critic, 4)
    state, metrics = ppo.run(setup.suite, ppo.init(setup.suite, setup.key(0)), 4)
    np.testing.assert_array_equal(meta["meta_curve"], metrics["return"])
    last = script.load_policies(setup, meta)[-1]
    for found, wanted in zip(
        jax.tree.leaves(last.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)

    known = script.load_arrays(tmp_path / "locks_checkpoints.npz")
    assert known["cosine_160"].shape == (4, 3, 3)
    assert known["added_least_squares_10_320"].shape == (3, 7, 3)
    regrouped = script.load_arrays(tmp_path / "locks_regrouped.npz")
    assert regrouped["labels"].shape == (1, 3, 3)
    assert (regrouped["labels"].max(axis=2) == 1).all()
    before = {x: x.stat().st_mtime_ns for x in tmp_path.iterdir()}
    script.run(SETTINGS, "locks", tmp_path, stages=["checkpoints", "regrouping"])
    assert before == {x: x.stat().st_mtime_ns for x in tmp_path.iterdir()}


def test_ways_are_scored_by_what_their_partitions_are_worth(methods):
    from pgx_jax.analysis.truth_tables import TruthTable, all_subsets

    subsets = all_subsets(4)
    pair = [(subsets == x).all(axis=1) for x in ([1, 1, 0, 0], [0, 0, 1, 1])]
    values = np.zeros((2, *subsets.shape))
    values[:, pair[0] | pair[1]] = 1.0
    right, wrong = np.eye(4), np.eye(4)
    right[[0, 1, 2, 3], [1, 0, 3, 2]] = 0.9
    wrong[[0, 2, 1, 3], [2, 0, 3, 1]] = 0.8
    table = methods.Loaded(
        "x",
        TruthTable.create(subsets, values),
        {"meta_curve": np.zeros((1, 4)), "cosine_32768": right},
        {},
    )
    score = subsets[None] * np.ones((4, 1, 1))
    known = {
        "cosine_160": np.stack([wrong, wrong, wrong, right]),
        "added_cosine_160": np.stack([wrong, right, right]),
        "ends": np.arange(1, 5),
        "meta_curve": np.full((1, 4), 0.5),
        "meta_seconds": 1.0,
        "seconds": 2.0,
        "about": json.dumps({"device": "a CPU"}),
    }
    for ridge in methods.CHECKPOINT_RIDGES:
        known[f"least_squares_{ridge:g}_160"] = score
        known[f"added_least_squares_{ridge:g}_160"] = score[:3]
    labels = np.array([[[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]])
    regrouped = {
        "ks": [2],
        "labels": labels,
        "least_squares": np.stack([[score[0]] * 2]),
        "seconds": 3.0,
    }
    found = methods.score_table(table, known, regrouped)
    ways = found["ways"]
    assert ways["cosine, N = 32,768, last checkpoint"][0] == pytest.approx(100)
    assert ways["cosine, N = 131,072, first checkpoint"][0] < 0
    assert ways["cosine, N = 32,768, all four averaged, uniform"][0] < 0
    assert ways["cosine, N = 32,768, all four added up, linear"][0] == pytest.approx(
        100
    )
    regrouping = [
        found["regrouping"][f"regrouping, cosine, {x} interval"][0]
        for x in ("before any", "after the first", "after the second")
    ]
    assert regrouping[1] == pytest.approx(100)
    assert regrouping[0] == regrouping[2] < 0
    assert found["races"]["race of 6, last checkpoint"][0] == pytest.approx(100)
    assert found["curve_gap"] == 0.5
    assert "| x | 1 2 3 4 | 0.5 |" in methods.to_markdown({"x": found}, {})


def test_ways_cost_a_collection_each_time(methods):
    sizes = methods.Sizes(2, 100, 50, 10, 4, 1000, 131_072, 131_072, 1.0)
    once = 2 * 131_072 * (300 + 600)
    for way, times in (
        ("cosine, N = 131,072, last checkpoint", 1),
        ("cosine, N = 131,072, all four averaged, linear", 4),
        ("regrouping, cosine, after the second interval", 3),
    ):
        assert methods.way_flops(sizes, way) == times * once
    race = methods.way_flops(sizes, "race of 6, all four averaged, linear")
    assert race == 4 * once + 8 * methods.partition_flops(sizes)
