"""The same numbers in every precision of the inputs and under every JAX setting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.parameters import global_norm

NUM_TASKS, NUM_SAMPLES = 4, 20
KEY = jax.random.key(0)
SUBSETS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]])


def log_prob(params, observation, action):
    # Weights near zero still have a gradient: their sizes are what is tested.
    weight, bias = (params[x].astype(observation.dtype) for x in ("weight", "bias"))
    mean = jnp.sum(observation * weight) + bias
    return -0.5 * jnp.square(action - jnp.tanh(mean)).astype(jnp.float32)


def make_problem():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    mask = np.arange(NUM_SAMPLES) < np.array([20, 15, 18, 20])[:, None]
    shape = (NUM_TASKS, NUM_SAMPLES)
    batch = pge.Transitions(draw(*shape, 3), draw(*shape), draw(*shape), mask)
    return {"weight": draw(3), "bias": draw()}, batch


PARAMS, BATCH = make_problem()


def estimate(params=PARAMS, batch=BATCH, **settings):
    settings = {"key": KEY, "dim": 3, **settings}
    return pge.estimate_subsets(log_prob, params, batch, SUBSETS, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        dict(num_resamples=2, held_out_fraction=0.3),
        dict(dim=None, evaluator="off_policy"),
        dict(projection=pge.RademacherProjection(2), center_features=False),
    ],
    ids=str,
)
def test_x64_and_strict_promotion_change_no_number(settings):
    expected = estimate(**settings)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        estimates = estimate(**settings)
    for name, value in expected._asdict().items():
        actual = getattr(estimates, name)
        if value is None:
            assert actual is None, name
            continue
        assert actual.dtype == value.dtype, name
        np.testing.assert_allclose(actual, value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_other_stages_bear_x64_and_strict_promotion():
    samples = BATCH.observation[0], BATCH.action[0]

    def stages():
        return (
            pge.task_gradients(log_prob, PARAMS, BATCH),
            *(
                pge.project_gradients(
                    log_prob,
                    PARAMS,
                    *samples,
                    key=KEY,
                    projection=pge.GaussianProjection(3),
                    method=method,
                )
                for method in ("reverse", "forward")
            ),
            pge.solve_regressions(
                BATCH.observation, BATCH.advantage, SUBSETS, mask=BATCH.mask, l2=0.1
            )._replace(num_iterations=None, gradient_norm=None),
        )

    expected = stages()
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        actual = stages()
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_regression_works_in_the_precision_of_its_features():
    single = pge.solve_regressions(
        BATCH.observation, BATCH.advantage, SUBSETS, mask=BATCH.mask, l2=0.1
    )
    with jax.enable_x64(True):
        double = pge.solve_regressions(
            BATCH.observation.astype(float),
            BATCH.advantage,
            SUBSETS,
            mask=BATCH.mask,
            l2=0.1,
            tolerance=1e-12,
        )
    assert double.delta.dtype == np.float64
    # Out of reach of float32.
    assert np.all(double.converged)
    assert np.all(np.asarray(double.gradient_norm) < 1e-11)
    np.testing.assert_allclose(single.delta, double.delta, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("weight", [300.0, 3e-5, 1.0])
def test_half_precision_has_the_distances_of_its_values(dtype, weight):
    params = {
        "weight": jnp.full(3, 0.01 * weight, dtype).at[0].set(weight),
        "bias": jnp.zeros((), dtype),
    }
    # Small observations, so that the policy is not saturated.
    batch = BATCH._replace(observation=BATCH.observation / max(weight, 1.0))
    values = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    norm = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(values)))
    # Without a projection, delta is the change of the parameters itself.
    for limit in (None, 0.01):
        estimates = estimate(params, batch, dim=None, max_relative_distance=limit)
        assert np.isfinite(estimates.scores).all()
        distance = np.linalg.norm(np.asarray(estimates.delta, float), axis=1) / norm
        assert np.all(distance > 0)
        np.testing.assert_allclose(estimates.relative_distance, distance, rtol=1e-4)
    assert np.max(distance) <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_agrees_with_float32_at_the_same_values(dtype):
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
    full = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    seen = {}

    def spy(adapted):
        moved = adapted.adapt(adapted.delta)
        assert jax.tree.map(lambda x: x.dtype, moved) == jax.tree.map(
            lambda x: x.dtype, adapted.params
        )
        jax.debug.callback(lambda x: seen.update(moved=x), moved)
        return jnp.zeros(adapted.subsets.shape)

    moved = []
    for values in (params, full):
        estimate(values, evaluator=spy, max_relative_distance=0.5)
        jax.effects_barrier()
        moved.append(jax.tree.map(np.asarray, seen["moved"]))
    eps = float(jnp.finfo(dtype).eps)
    for half, single in zip(*map(jax.tree.leaves, moved), strict=True):
        np.testing.assert_allclose(half.astype(float), single, atol=8 * eps)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", ["off_policy", "logistic_loss"])
def test_half_precision_is_refused_where_it_would_round_adaptations_away(name, dtype):
    params = {"weight": PARAMS["weight"], "bias": jnp.ones((), dtype)}
    with pytest.raises(ValueError, match=rf"{name}.*\['bias'\] is \w*float16.*surr"):
        estimate(params, evaluator=name)


def test_parameters_of_zero_have_scores_but_no_limit():
    params = jax.tree.map(np.zeros_like, PARAMS)
    estimates = estimate(params)
    assert np.isfinite(estimates.scores).all()
    assert np.asarray(estimates.scores)[SUBSETS == 1].max() > 1e-2
    assert np.all(np.isposinf(estimates.relative_distance))
    for settings in ({"evaluator": "off_policy"}, {"max_relative_distance": 0.01}):
        with pytest.raises(ValueError, match="params must have a norm.*None"):
            estimate(params, **settings)
    free = estimate(params, evaluator="off_policy", max_relative_distance=None)
    assert np.isfinite(free.scores).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e37])
def test_the_size_of_advantages_does_not_matter(scale):
    batch = BATCH._replace(advantage=BATCH.advantage * np.float32(scale))
    np.testing.assert_allclose(
        estimate(batch=batch).scores, estimate().scores, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [3e-5, 1.0, 300.0])
def test_the_norm_is_that_of_float64(dtype, size):
    tree = {"a": np.array([3.0, 0.0]) * size, "b": np.array([[-4.0]]) * size}
    tree = jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)
    expected = np.sqrt(sum(np.sum(np.asarray(x, float) ** 2) for x in tree.values()))
    np.testing.assert_allclose(global_norm(tree), expected, rtol=1e-6)


def test_the_norm_of_very_large_and_of_zero_weights():
    assert global_norm({"a": jnp.zeros(3), "b": jnp.zeros(())}) == 0.0
    large = jnp.array([3e30, -4e30])
    np.testing.assert_allclose(global_norm(large), 5e30, rtol=1e-6)
