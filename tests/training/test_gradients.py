"""Gradients of rows combined for k policies, in PPO and in whole runs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.optim import combine_gradients
from pgx_jax.training.diagnostics import first_nonfinite
from pgx_jax.training.gradients import (
    CombinedState,
    combine_rows,
    list_members,
    make_weighting,
    start_combination,
)
from pgx_jax.training.learning import Batch, compute_gradients
from pgx_jax.training.losses import clipped_policy_loss, positive_losses
from pgx_jax.training.ppo import PPO, PPOConfig
from pgx_jax.training.ppo_config import GRADIENT_METHODS, GradientConfig

METHODS = [name for name in GRADIENT_METHODS if name != "mean"]
RADIUS = {"cagrad": {"radius": 0.7}}
NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(8,))
CONFIG = PPOConfig(
    num_envs=4, unroll_length=4, num_epochs=2, num_minibatches=2, learning_rate=1e-2
)


def with_method(name, **settings):
    return dataclasses.replace(CONFIG, gradients=GradientConfig(name, **settings))


def as_arrays(tree):
    """Leaves as NumPy arrays, keys as what they hold."""
    return [
        np.asarray(
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        )
        for x in jax.tree.leaves(tree)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_policies_of_several_sizes_are_combined_each_as_alone(method):
    """Rows 0, 2, 3 and row 1 and rows 4, 5, beside the transformation of each."""
    config = GradientConfig(method, **RADIUS.get(method, {}))
    ids = np.array([0, 1, 0, 0, 2, 2])
    rng = np.random.default_rng(0)
    stacked = {
        part: {"w": jnp.asarray(rng.normal(size=(6, 3, 2)), jnp.float32)}
        for part in ("policy", "value")
    }
    losses = {
        part: jnp.asarray(np.exp(rng.normal(size=6)), jnp.float32) for part in stacked
    }
    params = jax.tree.map(lambda x: x[:3], stacked)
    members = list_members(config, ids)
    np.testing.assert_array_equal(members, [[0, 2, 3], [1, -1, -1], [4, 5, -1]])
    state = start_combination(config, params, members, jax.random.key(0), ())
    combine = jax.jit(combine_rows, static_argnums=0)
    for _ in range(2):
        combined, state, metrics = combine(config, state, stacked, losses, ids)
    for policy, rows in enumerate(([0, 2, 3], [1], [4, 5])):
        for part, tree in stacked.items():
            own = jax.tree.map(lambda x, rows=rows: x[np.array(rows)], tree)
            if method == "pcgrad" and len(rows) > 2:
                continue  # in an order of its own
            alone = combine_gradients(make_weighting(config), len(rows))
            alone_state: Any = alone.init(())
            update: Any = alone.update
            for _ in range(2):
                expected, alone_state = update(
                    own, alone_state, losses=losses[part][np.array(rows)]
                )
            np.testing.assert_allclose(
                combined[part]["w"][policy], expected["w"], rtol=2e-3, atol=1e-4
            )
            if part == "policy":
                rows = np.array(rows)
                for name, of_alone in (
                    ("gradient_cosine", alone_state.cosine),
                    ("gradient_conflicts", alone_state.conflicts),
                    ("gradient_weight", alone_state.weights * len(rows)),
                ):
                    np.testing.assert_allclose(
                        metrics[name][rows], of_alone, rtol=2e-3, atol=1e-4
                    )


def test_a_radius_of_zero_gives_the_gradient_of_the_mean_loss():
    """The vmapped pass over rows against the joint one."""
    rng = np.random.default_rng(0)
    ids = jnp.array([0, 1, 0])
    params = jax.vmap(NETWORKS.init)(jax.random.split(jax.random.key(0), 2))
    batch = Batch(
        observation=rng.normal(size=(3, 20, 5)).astype(np.float32),
        action=rng.integers(0, 2, (3, 20)),
        log_prob=np.full((3, 20), -np.log(2.0), np.float32),
        advantage=rng.normal(size=(3, 20)).astype(np.float32),
        value_target=rng.normal(size=(3, 20)).astype(np.float32),
    )
    config = with_method("cagrad", radius=0.0)
    members = list_members(config.gradients, np.asarray(ids))
    state = start_combination(config.gradients, params, members, jax.random.key(0), ())
    joint, _, _ = compute_gradients(CONFIG, NETWORKS, params, (), ids, batch)
    combined, _, metrics = compute_gradients(
        config, NETWORKS, params, state, ids, batch
    )
    for one, other in zip(
        jax.tree.leaves(joint), jax.tree.leaves(combined), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["gradient_weight"], 1.0, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_keeps_finished_policies_and_is_reproducible(
    clock_suite, method
):
    suite = clock_suite([0, 1, 0, 0], [3, 99, 3, 3])
    ppo = PPO(with_method(method), NETWORKS, [1, 3])

    def train(count):
        state = ppo.init(suite, jax.random.key(0), [0, 1, 0, 1])
        for _ in range(count):
            state, metrics = ppo.run(suite, state, 1)
        return state, metrics

    early, metrics = train(1)
    assert isinstance(early.optimizer_state, CombinedState)
    for name in ("gradient_cosine", "gradient_conflicts", "gradient_weight"):
        assert metrics[name].shape == (1, 4)
        assert np.isfinite(metrics[name]).all()
    late, metrics = train(2)
    assert first_nonfinite(late, metrics) is None
    np.testing.assert_array_equal(metrics["gradient_weight"][0, [0, 2]], 0.0)
    of_policies = ("params", "optimizer_state")
    for name in of_policies:
        for one, other in zip(
            as_arrays(getattr(early, name)), as_arrays(getattr(late, name)), strict=True
        ):
            np.testing.assert_array_equal(one[0], other[0])
    kernels = [x.params["policy"]["Dense_0"]["kernel"][1] for x in (early, late)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4
    again, _ = train(2)
    for one, other in zip(as_arrays(late), as_arrays(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_mean_and_policies_of_one_row_do_without_a_method(clock_suite):
    suite = clock_suite([0, 1], [3, 3])
    for config, ids in ((CONFIG, [0, 0]), (with_method("pcgrad"), [0, 1])):
        state = PPO(config, NETWORKS, 2).init(suite, jax.random.key(0), ids)
        assert not isinstance(state.optimizer_state, CombinedState)


def test_positive_losses_are_zero_where_clipping_allows_no_better():
    rng = np.random.default_rng(0)
    advantage = rng.normal(size=(4, 50)).astype(np.float32)
    best = np.where(advantage > 0, np.log(1.2), np.log(0.8)).astype(np.float32)
    ratios = [best, 3 * best, 0 * best, rng.normal(size=best.shape)]
    found = []
    for log_ratio in ratios:
        policy = [
            clipped_policy_loss(x, np.zeros_like(x), a, 0.2).loss
            for x, a in zip(np.float32(log_ratio), advantage, strict=True)
        ]
        values = positive_losses(
            jnp.stack(policy), jnp.ones((4,)), jnp.asarray(advantage), 0.2
        )
        found.append(np.asarray(values["policy"]))
    np.testing.assert_allclose(found[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(found[1], 0.0, atol=1e-6)
    np.testing.assert_allclose(
        found[2], 0.2 * np.abs(advantage).mean(axis=1), rtol=1e-5
    )
    assert (found[3] > 0.01).all()


def test_settings_of_methods_are_checked():
    with pytest.raises(ValueError, match=r"method must be one of mean, .*pcgrad\?"):
        GradientConfig("pcgrd")
    for field in ("radius", "decay", "restoring_force"):
        with pytest.raises(ValueError, match=field):
            GradientConfig(**{field: -1.0})
    with pytest.raises(ValueError, match="learning_rate"):
        GradientConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match="gradients.method must be one of"):
        PPOConfig.from_dict({"gradients": {"method": "sum"}})


def test_methods_combine_gradients_that_returns_have_weighted(clock_suite):
    """Both settings in one run; tasks that pay nothing keep finite weights."""
    suite = clock_suite([0, 1, 0], [3, 3, 3])
    config = PPOConfig.from_dict(
        CONFIG.to_dict()
        | {"gradients": {"method": "famo"}, "return_weights": {"name": "concave"}}
    )
    ppo = PPO(config, NETWORKS, 3)
    state, metrics = ppo.run(suite, ppo.init(suite, jax.random.key(0)), 3)
    assert first_nonfinite(state, metrics) is None
    assert metrics["task_weight"].shape == metrics["gradient_weight"].shape == (3, 3)
    assert np.ptp(metrics["gradient_weight"][-1]) > 1e-3
