"""The whole path under JAX's strict settings gives the numbers of the default ones."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import pgx_jax as pge

STRICT = {
    "promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "transfers": lambda: jax.transfer_guard("disallow"),
}
KEY = jax.random.key(0)
PARAMS = np.array([0.1, -0.2, 0.3], np.float32)


def log_prob(params, observation, action):
    return jax.scipy.stats.norm.logpdf(action, observation @ params, 1.0)


def make_batch(masked):
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(5, 4, 20)).astype(np.float32)
    mask = np.arange(20) < np.array([[20], [15], [9], [20]])
    return pge.Transitions(
        np.moveaxis(draws[:3], 0, -1), draws[3], draws[4], mask if masked else None
    )


def whole_path(batch, **settings):
    subsets = pge.sample_subsets(KEY, 4, 6, 2)
    estimates = pge.estimate_subsets(
        log_prob,
        PARAMS,
        batch,
        subsets,
        key=KEY,
        num_resamples=2,
        resample_length=2,
        held_out_fraction=0.2,
        **settings,
    )
    affinity = pge.task_affinity(estimates, key=KEY)
    grouping = pge.cluster_tasks(affinity, 2)
    stability = pge.grouping_stability(affinity, grouping, 2)
    similarity = pge.gradient_similarity(log_prob, PARAMS, batch, center_features=True)
    solution = pge.solve_regressions(
        batch.observation, batch.advantage, subsets, mask=batch.mask
    )
    return jax.device_get(
        (estimates.scores, affinity, grouping.labels, stability, similarity, solution)
    )


@pytest.mark.parametrize(
    ("masked", "settings"),
    [(True, {"dim": 3}), (False, {"dim": None, "evaluator": "off_policy"})],
)
def test_strict_settings_give_the_same_numbers(masked, settings):
    batch = make_batch(masked)
    expected = whole_path(batch, **settings)
    for setting in STRICT.values():
        with setting():
            actual = whole_path(batch, **settings)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            actual,
            expected,
        )


@pytest.mark.parametrize("setting", STRICT)
def test_the_settings_would_refuse_what_is_implicit(setting):
    with STRICT[setting](), pytest.raises(Exception, match="promotion|Disallowed"):
        _ = jax.jit(lambda x: x)(np.float32(1)) + jax.numpy.arange(3)
