"""Estimates by least squares: of a batch, of a stream and of sums."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.closed_form import draw_halves, draw_times
from pgx_jax.estimation.least_squares import least_squares_scores, least_squares_steps
from pgx_jax.estimation.sums import weigh_parts

NUM_TASKS, NUM_SAMPLES, DIM = 3, 240, 6
KEY = jax.random.key(5)
PROJECTION = pge.GaussianProjection(DIM)
SUBSETS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]], bool)


def log_prob(params, observation, action):
    logits = jnp.tanh(observation @ params["hidden"]) @ params["out"]
    return jax.nn.log_softmax(logits)[action]


@pytest.fixture(scope="module")
def policy():
    keys = jax.random.split(jax.random.key(0))
    return {
        "hidden": jax.random.normal(keys[0], (4, 5)),
        "out": jax.random.normal(keys[1], (5, 3)),
    }


def draw(seed, num_samples=NUM_SAMPLES):
    rng = np.random.default_rng(seed)
    observation = rng.normal(size=(NUM_TASKS, num_samples, 4)).astype(np.float32)
    action = rng.integers(3, size=(NUM_TASKS, num_samples))
    preferred = np.eye(3)[action][..., 0] * np.array([1.0, -1.0, 0.5])[:, None]
    advantage = preferred + 0.3 * rng.normal(size=action.shape) + 0.1
    return pge.Transitions(observation, action, advantage.astype(np.float32))


def estimate(policy, data, **settings):
    settings = {"projection": PROJECTION, "num_parts": 4} | settings
    return pge.estimate_subsets(
        log_prob, policy, data, SUBSETS, key=KEY, regression="least_squares", **settings
    )


@pytest.fixture(scope="module")
def batch():
    return draw(1)


@pytest.fixture(scope="module")
def sums(policy, batch):
    projection_key = jax.random.split(KEY, 4)[0]
    return pge.accumulate(
        log_prob, policy, batch, projection_key, PROJECTION, num_parts=4
    )


def test_estimates_of_a_batch_are_those_of_its_sums(policy, batch, sums):
    found = estimate(policy, batch, ridge=0.5, num_folds=4, batch_transitions=50)
    expected = least_squares_scores(
        sums, SUBSETS, ridge=0.5, num_folds=4, batch_transitions=50
    )
    assert expected.noise is not None
    np.testing.assert_allclose(
        found.scores, expected.scores - expected.noise, rtol=1e-4, atol=1e-6
    )
    steps = least_squares_steps(sums, SUBSETS, ridge=0.5)
    np.testing.assert_allclose(found.delta, steps, rtol=1e-4, atol=1e-6)
    of_sums = pge.estimate_subsets(
        None,
        None,
        sums,
        SUBSETS,
        key=KEY,
        regression="least_squares",
        ridge=0.5,
        num_folds=4,
        batch_transitions=50,
    )
    np.testing.assert_allclose(of_sums.scores, found.scores, rtol=1e-4, atol=1e-6)
    assert np.isnan(of_sums.relative_distance).all()
    np.testing.assert_array_equal(found.status, 0)
    assert found.converged.all()


def test_theta_is_as_far_as_reported(policy, batch):
    found = estimate(policy, batch)
    projection_key = jax.random.split(KEY, 4)[0]
    change = pge.back_project(PROJECTION, projection_key, policy, found.delta)
    flat = np.concatenate(
        [np.asarray(x).reshape(len(SUBSETS), -1) for x in jax.tree.leaves(change)], 1
    )
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(policy)))
    np.testing.assert_allclose(
        found.relative_distance, np.linalg.norm(flat, axis=1) / norm, rtol=1e-4
    )


def test_the_loss_is_least_at_the_solution(policy, batch, sums):
    """The mean squared error of the centered advantages in float64, and the ridge."""
    found = estimate(policy, batch, ridge=0.5)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch[:2])
    features = pge.project_gradients(
        log_prob, policy, *flat, key=jax.random.split(KEY, 4)[0], projection=PROJECTION
    )
    g = np.asarray(features, np.float64).reshape(NUM_TASKS, NUM_SAMPLES, DIM)
    g = g - g.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.mean(np.square(g)))
    a = np.asarray(batch.advantage, np.float64)
    a = (a - a.mean(axis=1, keepdims=True)) / a.std(axis=1, keepdims=True)
    for row, delta, loss in zip(SUBSETS, found.delta, found.loss, strict=True):
        error = np.mean(np.square(a - g @ np.asarray(delta, np.float64)), axis=1)
        expected = error[row].mean() + 0.5 * np.sum(np.square(scale * delta))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_sums_of_a_stream_are_those_of_one_batch(policy, batch, sums, kind):
    # Each batch has a quarter of every part.
    order = np.arange(NUM_SAMPLES).reshape(4, 4, -1).swapaxes(0, 1).reshape(4, -1)
    batches = [jax.tree.map(lambda x, r=r: x[:, r], batch) for r in order]
    stream = batches if kind == "list" else (tuple(x[:3]) for x in batches)
    expected = estimate(policy, batch)
    found = estimate(policy, stream)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found.relative_distance, expected.relative_distance, rtol=1e-4
    )


def test_weights_of_members_only_differ_from_the_mean(policy, batch, sums):
    weights = np.random.default_rng(2).uniform(0.1, 2.0, SUBSETS.shape) * SUBSETS
    found = estimate(policy, batch, weights=weights)
    expected = least_squares_scores(sums, SUBSETS, weights=weights)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-6)


def test_halves_and_parts_are_scored_apart(policy, batch, sums):
    found = estimate(policy, batch, num_splits=2)
    assert found.half_scores.shape == (2, 2, 5, 3)
    assert found.part_scores.shape == (2, 2, 2, 5, 3)
    halves = draw_halves(4, 2)
    np.testing.assert_array_equal(halves[0], [[0, 2], [1, 3]])
    for split in range(2):
        for half in range(2):
            index = halves[split, half]
            # One half alone, one of its parts a fold; scales are those of all parts.
            chosen = weigh_parts(sums, np.isin(np.arange(4), index))
            small = jax.tree.map(lambda x, i=index: x[i], chosen)
            small = small._replace(fingerprint=sums.fingerprint)
            expected = least_squares_scores(small, SUBSETS, num_folds=2).scores
            np.testing.assert_allclose(
                found.half_scores[split, half], expected, rtol=0.05, atol=5e-3
            )
    # A part at what the other half teaches: fold 1 of a fit to fold 0.
    parts = [least_squares_scores(sums, SUBSETS).fold_scores[f] for f in (0, 1)]
    means = np.asarray(found.part_scores)[0].mean(axis=1)
    np.testing.assert_allclose(means, np.stack(parts), rtol=0.1, atol=5e-3)


@pytest.mark.parametrize("num_parts", [4, 6, 16])
def test_resamples_of_parts_vary_as_means_of_independent_parts_do(num_parts):
    times = jax.vmap(lambda k: draw_times(num_parts, 2, k))(
        jax.random.split(jax.random.key(0), 20_000)
    )
    half = num_parts // 2
    fold = np.asarray(times)[:, ::2]
    np.testing.assert_allclose(fold.sum(axis=1), half, rtol=1e-4)
    np.testing.assert_allclose(fold.mean(axis=0), 1.0, atol=0.06)
    values = np.random.default_rng(0).normal(size=half)
    spread = np.var(fold @ values / half)
    tolerance = 0.15 if half == 2 else 0.06
    np.testing.assert_allclose(spread, np.var(values, ddof=1) / half, rtol=tolerance)


def test_resampled_scores_are_behind_intervals_of_the_affinity(policy, batch):
    found = estimate(policy, batch, num_resamples=50)
    assert found.resampled_scores.shape == (50, 5, 3)
    spread = np.asarray(found.resampled_scores).std(axis=0)
    assert (spread[SUBSETS] > 0).all() and (spread[~SUBSETS] == 0).all()
    pairs = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], bool)
    again = pge.estimate_subsets(
        log_prob,
        policy,
        batch,
        pairs,
        key=KEY,
        regression="least_squares",
        projection=PROJECTION,
        num_resamples=20,
    )
    affinity = pge.task_affinity(again, key=KEY)
    assert bool(affinity.includes_transitions)


def test_inside_jit_the_numbers_are_the_same(policy, batch):
    @jax.jit
    def inside(params, batch):
        return estimate(params, batch, num_splits=1)

    found, expected = inside(policy, batch), estimate(policy, batch, num_splits=1)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
    bad = batch._replace(advantage=batch.advantage.copy())
    bad.advantage[1, 3] = np.nan
    broken = inside(policy, bad)
    np.testing.assert_array_equal(np.asarray(broken.status) > 0, SUBSETS[:, 1])
    assert np.isnan(np.asarray(broken.scores)[SUBSETS[:, 1]][:, 1]).all()


def test_advantages_of_one_sign_are_fitted_without_centering(policy, batch):
    ones = batch._replace(advantage=np.ones_like(batch.advantage))
    with pytest.raises(ValueError, match=r"advantage is constant.*tasks \[0, 1, 2\]"):
        estimate(policy, ones)
    found = estimate(policy, ones, center_features=False, num_folds=1, ridge=1e-3)
    assert (np.asarray(found.scores)[SUBSETS] > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l2": 0.1}, "l2 is no argument of regression='least_squares', got 0.1"),
        ({"evaluator": "off_policy"}, "evaluator is no argument"),
        ({"mesh": jax.make_mesh((1,), ("x",))}, "mesh is no argument"),
        ({"tolerance": 1e-3}, "tolerance is no argument"),
        ({"num_folds": 0}, "num_folds must be at least 1, got 0"),
        ({"num_folds": 5}, "num_folds must be in 1..4"),
        ({"num_parts": 3, "num_splits": 1}, "num_parts must be even and at least 4"),
        ({"dim": None, "projection": None}, "dim must be a number or 'auto'"),
        ({"ridge": -1.0}, "ridge must be positive and finite"),
        ({"regression": "ridge"}, "regression must be 'logistic' or 'least_squares'"),
        ({"regression": "logistic"}, "num_parts is no argument of.*'logistic'"),
    ],
)
def test_arguments_of_the_other_regression_are_refused(
    policy, batch, settings, message
):
    with pytest.raises(ValueError, match=message):
        arguments = {"regression": "least_squares", "projection": PROJECTION}
        arguments |= {"num_parts": 4} | settings
        pge.estimate_subsets(log_prob, policy, batch, SUBSETS, key=KEY, **arguments)


def test_data_that_cannot_be_taken_are_refused_by_name(policy, batch, sums):
    for data in ([batch, batch], iter([batch]), sums):
        with pytest.raises(ValueError, match="data must be one batch of Transitions"):
            pge.estimate_subsets(log_prob, policy, data, SUBSETS, key=KEY)
    with pytest.raises(ValueError, match="data must have at least one batch"):
        estimate(policy, iter([]))
    bad = batch._replace(advantage=np.full_like(batch.advantage, np.nan))
    with pytest.raises(ValueError, match="batch 1 of data: advantage holds 720 values"):
        estimate(policy, [batch, bad])
    fewer = jax.tree.map(lambda x: x[:2], batch)
    with pytest.raises(ValueError, match="batch 1 of data: advantage must be of n = 3"):
        estimate(policy, [batch, fewer])
    with pytest.raises(ValueError, match="dim is no argument where data are TaskSums"):
        pge.estimate_subsets(
            None, None, sums, SUBSETS, key=KEY, regression="least_squares", dim=6
        )


def test_a_file_holds_every_field(policy, batch, tmp_path):
    found = estimate(policy, batch, num_splits=1, num_resamples=2)
    pge.save_estimates(tmp_path / "estimates.npz", found)
    loaded = pge.load_estimates(tmp_path / "estimates.npz")
    for name, value in found._asdict().items():
        if value is None:
            assert getattr(loaded, name) is None
        else:
            np.testing.assert_array_equal(getattr(loaded, name), value)
