"""Projected gradients against jax.grad and a P written out column by column."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation import projection as projection_module
from pgx_jax.estimation.blocks import map_blocks
from pgx_jax.estimation.parameters import count_params
from pgx_jax.estimation.projection import projection_gram

NUM_SAMPLES = 13
DIM = 7
KEY = jax.random.key(3)


def add_bias(values, bias):
    """Of one transition or of a batch."""
    return values + jnp.broadcast_to(bias, values.shape)


def discrete_log_prob(params, observation, action):
    """An MLP over four actions; of one transition or of a batch."""
    hidden = jnp.tanh(add_bias(observation @ params[0], params[1]))
    log_probs = jax.nn.log_softmax(hidden @ params[2])
    return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]


def gaussian_log_prob(params, observation, action):
    """A Gaussian over two actions, with nested parameters and observations."""
    layer = params["policy"]["mean"]
    mean = add_bias(observation["state"] @ layer["kernel"], layer["bias"])
    mean = mean + observation["goal"][..., None]
    std = jnp.broadcast_to(jnp.exp(params["log_std"]), mean.shape)
    return jnp.sum(jax.scipy.stats.norm.logpdf(action, mean, std), axis=-1)


def batch_log_prob(params, observation, action):
    """The MLP again, indexed in a way that works for batches only."""
    hidden = jnp.tanh(add_bias(observation @ params[0], params[1]))
    log_probs = jax.nn.log_softmax(hidden @ params[2], axis=1)
    return log_probs[jnp.arange(len(action)), action]


def discrete_case(log_prob_fn=discrete_log_prob):
    rng = np.random.default_rng(0)
    params = [rng.normal(size=s).astype(np.float32) for s in [(3, 5), (5,), (5, 4)]]
    observation = rng.normal(size=(NUM_SAMPLES, 3)).astype(np.float32)
    action = rng.integers(0, 4, size=NUM_SAMPLES)
    return log_prob_fn, params, observation, action


def gaussian_case():
    rng = np.random.default_rng(1)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    mean = {"kernel": draw(3, 2), "bias": draw(2)}
    params = {"policy": {"mean": mean}, "log_std": 0.3 * draw(2)}
    observation = {"state": draw(NUM_SAMPLES, 3), "goal": draw(NUM_SAMPLES)}
    return gaussian_log_prob, params, observation, draw(NUM_SAMPLES, 2)


CASES = {
    "discrete": discrete_case(),
    "gaussian": gaussian_case(),
    "batch_only": discrete_case(batch_log_prob),
}


def flatten(tree):
    """All leaves in one vector, float64."""
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]).astype(float)


def written_out(projection, key, params):
    """P, one column after the other; float64 [p, d]."""
    columns = [projection.column(key, params, j) for j in range(projection.dim)]
    return np.stack([flatten(c) for c in columns], axis=1)


def sample_gradients(log_prob_fn, params, observation, action):
    """Gradients of one transition after the other; float64 [N, p]."""

    gradient = jax.jit(jax.grad(lambda *batch: jnp.sum(log_prob_fn(*batch))))
    rows = []
    for t in range(NUM_SAMPLES):
        one = jax.tree.map(lambda x: x[t : t + 1], (observation, action))  # noqa: B023
        rows.append(flatten(gradient(params, *one)))
    return np.stack(rows)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "reverse"},
        {"method": "reverse", "sample_block": 5},
        {"method": "forward"},
        {"method": "forward", "sample_block": 4, "column_block": 3},
    ],
    ids=str,
)
def test_features_are_gradients_times_a_written_out_projection(case, settings):
    log_prob_fn, params, observation, action = CASES[case]
    projection = pge.GaussianProjection(DIM)
    features = jax.jit(
        lambda *arrays: pge.project_gradients(
            log_prob_fn, *arrays, key=KEY, projection=projection, **settings
        )
    )(params, observation, action)
    gradients = sample_gradients(log_prob_fn, params, observation, action)
    expected = gradients @ written_out(projection, KEY, params)
    assert features.shape == (NUM_SAMPLES, DIM)
    assert features.dtype == jnp.float32
    error = np.linalg.norm(features - expected) / np.linalg.norm(expected)
    assert error < 1e-5


@pytest.mark.parametrize(
    "distribution", [pge.GaussianProjection, pge.RademacherProjection]
)
def test_the_mean_of_p_times_its_transpose_is_the_identity(distribution):
    params = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(3)}
    dim, num_draws = 8, 2_000
    projection = distribution(dim)
    keys = jax.random.split(jax.random.key(0), num_draws)
    columns = jax.vmap(
        lambda key: projection_module.draw_columns(projection, key, params)
    )(keys)
    leaves = [
        np.asarray(x, float).reshape(num_draws, dim, -1) for x in columns.values()
    ]
    p = np.concatenate(leaves, axis=2)
    mean = np.einsum("kdi,kdj->ij", p, p) / num_draws
    # Var of one entry is 2 / d on the diagonal and 1 / d off it, at most.
    np.testing.assert_allclose(mean, np.eye(7), atol=5 * np.sqrt(2 / dim / num_draws))


def test_rademacher_entries_are_signs_over_the_root_of_d():
    params = jnp.zeros((20, 5))
    p = written_out(pge.RademacherProjection(16), KEY, params)
    np.testing.assert_allclose(np.abs(p), 0.25, rtol=1e-6)
    assert 0.45 < np.mean(p > 0) < 0.55


def test_columns_leaves_and_keys_are_independent():
    params = {"a": jnp.zeros(50), "b": jnp.zeros(50)}
    projection = pge.GaussianProjection(4)
    both = np.concatenate(
        [written_out(projection, jax.random.key(k), params) for k in range(2)], axis=1
    ).reshape(2, 50, 8)
    vectors = both.transpose(0, 2, 1).reshape(16, 50)
    correlation = np.corrcoef(vectors) - np.eye(16)
    assert np.abs(correlation).max() < 0.6


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "streamed"])
def test_gram_and_back_projection_equal_the_products(monkeypatch, stored):
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones(())}
    projection = pge.RademacherProjection(DIM)
    if not stored:
        # Room for two and a half columns, so that blocks do not divide d.
        room = 5 * count_params(params)
        monkeypatch.setattr(projection_module, "STORED_ELEMENTS", room)
        monkeypatch.setattr(projection_module, "draw_columns", None)
    delta = np.random.default_rng(0).normal(size=(2, 3, DIM)).astype(np.float32)

    @jax.jit
    def products():
        return (
            projection_gram(projection, KEY, params),
            pge.back_project(projection, KEY, params, delta),
        )

    gram, change = products()
    p = written_out(projection, KEY, params)
    np.testing.assert_allclose(gram, p.T @ p, rtol=1e-5, atol=1e-5)
    for index in np.ndindex(2, 3):
        actual = flatten(jax.tree.map(lambda x: x[index], change))  # noqa: B023
        np.testing.assert_allclose(actual, p @ delta[index], rtol=1e-4, atol=1e-5)
    shapes = jax.tree.map(lambda x, q: x.shape == (2, 3, *q.shape), change, params)
    assert all(jax.tree.leaves(shapes))


def test_auto_gives_the_same_features_where_p_is_too_large_to_store(monkeypatch):
    log_prob_fn, params, observation, action = CASES["gaussian"]

    def project():
        return pge.project_gradients(
            log_prob_fn,
            params,
            observation,
            action,
            key=KEY,
            projection=pge.RademacherProjection(DIM),
        )

    stored = jax.jit(lambda: project())()
    monkeypatch.setattr(projection_module, "STORED_ELEMENTS", 1)
    monkeypatch.setattr(projection_module, "draw_columns", None)  # Must not be called.
    streamed = jax.jit(lambda: project())()
    np.testing.assert_allclose(streamed, stored, rtol=1e-4, atol=1e-5)


def test_a_projection_of_the_users_own_is_taken():
    class Selection:
        """The first d parameters, in place of random directions."""

        dim = 3

        def column(self, key, params, index):
            return jnp.where(jnp.arange(params.size) == index, 1.0, 0.0)

    observation = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    features = pge.project_gradients(
        lambda params, obs, act: jnp.sum(params * obs, axis=-1) * act,
        jnp.zeros(5),
        observation,
        np.full(6, 2.0, np.float32),
        key=KEY,
        projection=Selection(),
    )
    np.testing.assert_allclose(features, 2 * observation[:, :3], rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda params, observation, action: jnp.zeros(3),
        lambda params, observation, action: observation @ params[0],
        lambda params, observation, action: (action, action),
        lambda params, observation, action: observation @ jnp.zeros((99, 1)),
    ],
    ids=["vector", "matrix", "tuple", "raises"],
)
def test_a_wrong_log_prob_fn_is_refused_by_name(wrong):
    _, params, observation, action = CASES["discrete"]
    with pytest.raises(ValueError, match="log_prob_fn.*one number per transition"):
        pge.project_gradients(wrong, params, observation, action, key=KEY)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method must be.*'sideways'"):
        pge.project_gradients(*CASES["discrete"], key=KEY, method="sideways")


@pytest.mark.parametrize("block", [1, 2, 3, 7, 8, 100])
def test_map_blocks_is_the_function_itself(block):
    arrays = (np.arange(7.0), {"x": np.arange(14.0).reshape(7, 2)})
    out = map_blocks(lambda a, b: a[:, None] + b["x"], arrays, block)
    np.testing.assert_array_equal(out, arrays[0][:, None] + arrays[1]["x"])
