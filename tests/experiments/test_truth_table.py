"""Truth tables: one made from end to end, and the ways of choosing on it."""

from __future__ import annotations

import json

import numpy as np
import pytest

# Scripts register the combination locks.
pytestmark = pytest.mark.usefixtures("registry")

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


@pytest.fixture(scope="module")
def races(load_script):
    return load_script("partition_races", ["tables", "output"])


@pytest.fixture(scope="module")
def files(load_script):
    return load_script("truth_files", [])


def test_aggregation_scores_are_squared_errors_of_mean_gradients(methods):
    rng = np.random.default_rng(1)
    gradients, variance = rng.normal(size=(3, 7)), np.array([1.0, 2.0, 4.0])
    subsets = np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1]], bool)
    found = methods.aggregation_scores(subsets, gradients @ gradients.T, variance)
    mean = gradients[:2].mean(axis=0)
    expected = -np.sum((mean - gradients[1]) ** 2) - 3.0 / 4
    np.testing.assert_allclose(found[0], [found[0, 0], expected, 0.0])
    np.testing.assert_allclose(found[1], [0, 0, -4.0], atol=1e-12)


def test_sums_survive_their_file(files, script, made):
    known = load(made / "locks_sums.npz")
    sums = files.unpack_sums(known, "all")
    outer = np.asarray(sums.outer)
    np.testing.assert_array_equal(outer, np.swapaxes(outer, 2, 3))
    again = script._pack(sums, "all")
    np.testing.assert_array_equal(again["outer_all"], known["outer_all"])
    assert files.unpack_sums(known, "160").noise_outer is None


def sums_of(features, advantages, num_parts):
    """Sums over transitions, [n, N, d] and [n, N], in parts one after another."""
    from pgx_jax.estimation.sums import TaskSums

    def add(x):
        parts = np.array_split(x, num_parts, axis=1)
        return np.stack([part.sum(axis=1) for part in parts]).astype(np.float32)

    outer = features[..., :, None] * features[..., None, :]
    return TaskSums(
        count=add(np.ones_like(advantages)),
        feature=add(features),
        outer=add(outer),
        advantage=add(advantages),
        squared_advantage=add(advantages**2),
        product=add(advantages[..., None] * features),
        squared_product=None,
        noise_outer=None,
        fingerprint=None,
    )


def test_lookahead_is_the_loss_that_a_step_takes_off(methods):
    rng = np.random.default_rng(2)
    # Two halves that are the same, so that cross-fitting changes nothing.
    features = np.tile(rng.normal(size=(2, 30, 3)), (1, 2, 1))
    advantages = np.tile(rng.normal(size=(2, 30)), (1, 2))
    found = methods.lookahead(sums_of(features, advantages, 2))
    centered = features - features.mean(axis=1, keepdims=True)
    unit = advantages - advantages.mean(axis=1, keepdims=True)
    unit = unit / unit.std(axis=1, keepdims=True)
    gradient = np.einsum("it,itd->id", unit, centered) / 60
    # The step along task 1's gradient that lowers its own loss the most, by search.
    image = centered @ gradient[1]
    sizes = np.linspace(0, 10, 100_001)
    own = [np.mean(unit[1] * image[1]), np.mean(image[1] ** 2)]
    size = sizes[np.argmin(-2 * sizes * own[0] + sizes**2 * own[1])]
    for task in range(2):
        before = np.mean(unit[task] ** 2)
        after = np.mean((unit[task] - size * image[task]) ** 2)
        np.testing.assert_allclose(found[task, 1], before - after, atol=1e-4)


def test_scores_shrink_to_task_means_where_halves_disagree(methods):
    subsets = np.ones((3, 2), bool)
    folds = np.array([[[1.0, 1.0], [2, 2], [6, 3]], [[3.0, 3.0], [4, 2], [8, 1]]])
    found = methods.shrink(subsets, folds)
    np.testing.assert_allclose(found[:, 0], [2, 3, 7])  # halves agree but for a shift
    np.testing.assert_allclose(found[:, 1], [2, 2, 2])  # halves are opposed


def test_a_way_is_chosen_on_the_other_tables(methods):
    rows = {
        "a": {"x": 0.0, "y": 90.0, "z": 80.0, "lunar_lander": 5.0},
        "b": {"x": 100.0, "y": 20.0, "z": 30.0, "lunar_lander": 99.0},
    }
    # Without x, a is better (85 against 25); without y and z b is, 65 against 40 and 60
    # against 45. On all three a is, 57 against 50.
    expected = {"x": 0.0, "y": 20.0, "z": 30.0, "lunar_lander": 5.0}
    assert methods.leave_one_out(rows) == expected


def test_races_choose_by_one_training_and_are_judged_by_the_others(races, files):
    from pgx_jax.analysis.truth_tables import TruthTable, all_subsets

    subsets = all_subsets(4)
    values = np.zeros((2, *subsets.shape))
    pair = (subsets == [True, True, False, False]).all(axis=1)
    values[0, pair] = 1.0  # {0, 1} is good in training 0, {2, 3} in training 1
    values[1, (subsets == [False, False, True, True]).all(axis=1)] = 1.0
    affinity = np.eye(4, dtype=np.float32)
    affinity[0, 1] = affinity[1, 0] = 0.9
    known = {f"cosine_{x}": affinity for x in (2048, 8192, 32768, "chunk")}
    known["curve"] = values[:, None]
    table = files.Loaded("x", TruthTable.create(subsets, values), known, {})
    (choice,) = races.race("cosine_32768", 1)(table, 0, 3)
    np.testing.assert_array_equal(choice.labels, [0, 0, 1, 2])
    assert choice.cost == 3
    (choice,) = races.every_subset(table, 1, 2)
    assert choice.labels[2] == choice.labels[3]
    assert choice.cost == 8
    scored = races.score_ways(table)["ways"]
    # Two groups: {0, 1} and {2, 3}, 100. Three: one of six partitions is best, and that
    # of the other training is worth as little as the others, -100 (1 / 6) / (5 / 6).
    np.testing.assert_allclose(scored["every subset"]["given"], (100 - 20) / 2)
    assert scored["one policy or single tasks"]["given"] is None
    assert scored["every pair, averaged"]["given_cost"] == 3


@pytest.fixture(scope="module")
def costs(load_script):
    return load_script("method_costs", [])


def test_networks_cost_what_xla_counts(costs):
    import jax
    import jax.numpy as jnp

    from pgx_jax.networks.actor_critic import make_actor_critic

    networks = make_actor_critic(4, 2, True, (64, 64))
    policy = jax.eval_shape(networks.init, jax.random.key(0))["policy"]
    number = 256
    sizes = costs.Sizes(1, costs.count_params(policy), 0, 1, 1, 1, 1, 1, 1.0)
    observation = jax.ShapeDtypeStruct((number, 4), jnp.float32)
    action = jax.ShapeDtypeStruct((number,), jnp.int32)

    def total(params, observation, action):
        return networks.log_prob(params, observation, action).sum()

    def flops(function):
        compiled = jax.jit(function).lower(policy, observation, action).compile()
        return compiled.cost_analysis()["flops"]

    forward = costs.collection_flops(sizes, number)
    assert flops(total) == pytest.approx(forward, rel=0.1)
    # 6 p a transition, less what the gradient of the observations would take.
    assert flops(jax.grad(total)) == pytest.approx(3 * forward, rel=0.1)


def test_costs_of_ways_follow_from_their_names(costs):
    sizes = costs.Sizes(
        num_tasks=2,
        policy=100,
        critic=50,
        dim=10,
        epochs=4,
        steps=1000,
        transitions=9,
        chunk=131_072,
        partition_seconds=2.0,
    )
    # Actions and values take 2 * 150 a transition, a gradient 6 * 100.
    cosine = 2 * 2048 * (300 + 600)
    assert costs.estimate_flops(sizes, "cosine, N = 2,048") == cosine
    trained = 2 * 1000 * 150 * (2 + 6 * 4)
    assert costs.race_flops(sizes, "race of 6, cosine, N = 2,048", 8) == (
        cosine + 8 * trained
    )
    assert costs.race_flops(sizes, "every pair, averaged", 2) == 2 * trained
    assert costs.estimate_flops(sizes, "one policy") is None
    # A projection takes 2 * 10 * 100 more, and sums 2 * 10^2.
    sums = 2 * 9 * (300 + 600 + 2000 + 200)
    assert costs.estimate_flops(sizes, "lookahead, N = all") == sums
    noise = costs.estimate_flops(sizes, "target aggregation, batch of 1,000, N = all")
    assert noise == sums + 2 * 9 * 200
    solved = costs.estimate_flops(sizes, "least squares, ridge 1, sum, N = all")
    assert solved == pytest.approx(sums + 2 * 3 * (400 + 1000 / 3 + 200 + 400))
    surrogate = "surrogate, N = 8,192, best partition"
    rounds = 2 * 30 + 1
    assert costs.estimate_flops(sizes, surrogate) == 2 * 8192 * (
        300 + 600 + 2000 + rounds * 2 * 10 * 3
    )
