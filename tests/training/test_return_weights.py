"""Weights from returns, on bandits whose best policy is known, by exact gradients."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import make_suite
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.pipeline.checks import make_checked_suite
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.settings import SettingsError
from pgx_jax.training.losses import weight_advantages
from pgx_jax.training.ppo import PPO, PPOConfig
from pgx_jax.training.return_weights import (
    concave,
    constrained,
    power_mean,
    project,
    projected,
    tchebycheff,
)
from pgx_jax.training.weights_config import (
    ReturnWeightsConfig,
    make_return_weighting,
)
from pgx_jax.training.weights_diagnostics import explain_weights

NO_FLOOR, NO_CEILING = -np.inf, np.inf


def solve(weighting, arms, *, num_steps=20_000, rate=0.05):
    """The policy, averaged over the second half, and the last state."""
    arms = jnp.asarray(arms, jnp.float32)  # [arms, tasks]

    def returns_of(logits):
        return jax.nn.softmax(logits) @ arms

    def take(carry, _):
        logits, state = carry
        weights, state = weighting.weights(state, returns_of(logits))
        step = jax.grad(lambda x: weights @ returns_of(x))(logits)
        return (logits + rate * step, state), jax.nn.softmax(logits)

    start = jnp.zeros(len(arms)), weighting.init(arms.shape[1])
    (_, state), policies = jax.jit(lambda: jax.lax.scan(take, start, None, num_steps))()
    return policies[num_steps // 2 :].mean(axis=0), state


@pytest.mark.parametrize(
    ("floor", "arms", "best", "multiplier"),
    [
        (0.3, [[1.0, 0.0], [0.0, 0.5]], [0.4, 0.6], 0.5),
        # 3 - (1 + 2 lambda) = 1 + 2 lambda.
        (0.0, [[3.0, -1.0], [0.0, 1.0]], [0.5, 0.5], 0.25),
        (1e-3, [[3.0, -1.0], [0.0, 1.0]], [0.4995, 0.5005], 0.25),
    ],
)
def test_a_floor_is_met_at_its_multiplier(floor, arms, best, multiplier):
    weighting = constrained(np.array([NO_FLOOR, floor]), np.full(2, NO_CEILING))
    policy, state = solve(weighting, arms)
    np.testing.assert_allclose(policy, best, atol=2e-3)
    np.testing.assert_allclose(state.floor, [0.0, multiplier], atol=5e-3)
    np.testing.assert_array_equal(state.ceiling, 0.0)


def test_a_ceiling_is_met():
    # The first arm is the better one; its task may return 0.7 at most.
    weighting = constrained(np.full(2, NO_FLOOR), np.array([0.7, NO_CEILING]))
    policy, state = solve(weighting, [[1.0, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(policy, [0.7, 0.3], atol=2e-3)
    # 1/2 - lambda = 1/4.
    np.testing.assert_allclose(state.ceiling, [0.25, 0.0], atol=5e-3)


def test_multipliers_of_what_cannot_be_met_stay_at_the_most():
    weighting = constrained(np.array([0.9, 0.4]), np.full(2, NO_CEILING), most=7.0)
    _, state = solve(weighting, [[1.0, 0.0], [0.0, 0.5]])
    assert state.floor.max() == 7.0


def test_alpha_fairness():
    policy, _ = solve(concave(2.0), [[1.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(policy, [2 / 3, 1 / 3], atol=2e-3)


def test_fairness_counts_from_the_origins():
    # The same problem, its returns lower by 1 and 3.
    weighting = concave(2.0, origins=np.array([-1.0, -3.0]))
    policy, _ = solve(weighting, [[0.0, -3.0], [-1.0, 1.0]])
    np.testing.assert_allclose(policy, [2 / 3, 1 / 3], atol=2e-3)


@pytest.mark.parametrize("smoothness", [0.0, 0.01])
def test_tchebycheff_reaches_what_fixed_weights_cannot(smoothness):
    arms, preferences = np.eye(2), np.array([0.7, 0.3])
    weighting = tchebycheff(preferences, np.ones(2), smoothness=smoothness)
    policy, _ = solve(weighting, arms)
    # (1 - 0.7) 0.7 = (1 - 0.3) 0.3; a smooth maximum is off by less than mu.
    np.testing.assert_allclose(policy, [0.7, 0.3], atol=0.01)
    fixed = concave(0.0)._replace(
        weights=lambda state, returns: (jnp.asarray(preferences, jnp.float32), state)
    )
    corner, _ = solve(fixed, arms)
    assert corner[0] > 0.98


@pytest.mark.parametrize("target", [None, 1.25])
def test_projections_reach_the_best_power_mean(target):
    # M = ((0.2^0.5 + 3.2^0.5) / 2)^2 = 1.25.
    weighting = projected(0.5, target=target)
    policy, _ = solve(weighting, [[1.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(policy, [0.2, 0.8], atol=3e-3)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0, -2.0])
def test_a_projection_is_the_nearest_point_of_its_set(power):
    x = jnp.array([0.3, 5.0, 100.0])
    groups = jnp.zeros(3, jnp.int32)
    target = 1.3 * power_mean(x, power, groups)
    found = project(x, power, target, groups)
    np.testing.assert_allclose(power_mean(found, power, groups), target, rtol=1e-3)
    # Along the set's normal, which is proportional to the gradient of the power mean.
    normal = jax.grad(lambda y: power_mean(y, power, groups)[0])(found)
    way = found - x
    cosine = way @ normal / jnp.linalg.norm(way) / jnp.linalg.norm(normal)
    assert cosine > 0.999


@pytest.mark.parametrize("power", [-100.0, -2.0, 1e-9, 0.5])
def test_extreme_weights_are_those_of_the_formulas(power):
    """In float64, relative to the least return; p - 1 of power means is -alpha."""
    returns = np.array([500.0, 400.0, 20.0, 9.0])
    slope = (returns / 9.0) ** (power - 1.0)
    for weighting in (projected(power, step=1e-6), concave(1.0 - power)):
        found, _ = weighting.weights(weighting.init(4), jnp.asarray(returns))
        np.testing.assert_allclose(found, 4 * slope / slope.sum(), rtol=1e-3, atol=1e-9)
        below, _ = weighting.weights(weighting.init(2), jnp.array([-5.0, 900.0]))
        assert np.isfinite(below).all() and below[0] > 1.99


@pytest.mark.parametrize("floor", [0.0, 1e-30])
def test_what_is_short_counts_in_units_of_the_largest_return(floor):
    weighting = constrained(np.array([floor, NO_FLOOR]), np.full(2, NO_CEILING))
    weights, state = weighting.weights(weighting.init(2), jnp.array([0.0, 7.0]))
    assert np.isfinite(weights).all()
    _, state = weighting.weights(weighting.init(2), jnp.array([400.0, 7.0]))
    weights, state = weighting.weights(state, jnp.array([-200.0, 7.0]))
    np.testing.assert_allclose(state.floor, [0.05 * 0.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(weights, [1 + 2 * (0.025 + 0.5), 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "returns", "texts"),
    [
        (
            "constrained",
            {"floors": ((0, 9.0), (1, 1.0)), "ceilings": ((2, 4.0),), "most": 0.04},
            [-9.0, 0.5, 4.3],
            ["floor of task 'a', 9, seems .* run away to 0.04, at a return of -9"]
            + ["floor of task 'b', 1, is not met .* come to 0.025, at .* of 0.5"],
        ),
        (
            "concave",
            {"origins": (0.0, 2.0, 5.0)},
            [-1.0, 1.0, 4.0],
            ["3 of 3 tasks .* such as 'a': -1, where that is 0"],
        ),
        (
            "projected",
            {},
            [1.0, -1.0, np.nan],
            ["no episode of task 'c' has ended", "1 of 3 tasks .* such as 'b'"],
        ),
        ("tchebycheff", {"ideals": (0.0,) * 3}, [-1.0, 1.0, 4.0], []),
    ],
)
def test_returns_that_weights_are_not_made_for_are_reported(
    name, settings, returns, texts
):
    config = ReturnWeightsConfig(name, **settings)
    weighting = make_return_weighting(config, range(3))
    assert weighting is not None
    returns = jnp.array(returns)
    _, state = weighting.weights(weighting.init(3), returns, ~jnp.isnan(returns))
    found = explain_weights(config, state, range(3), "abc", is_over=True)
    for (_, text), expected in itertools.zip_longest(found, texts, fillvalue="?"):
        assert re.search(expected, text)


def weigh(weighting, returns=(1.0, 2.0), **others):
    return weighting.weights(weighting.init(2), np.asarray(returns), **others)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: concave(-1.0), "alpha"),
        (lambda: concave(1.0, decay=1.0), "decay"),
        (lambda: projected(2.0), "power"),
        (lambda: projected(0.5, step=0.0), "step"),
        (lambda: tchebycheff(np.zeros(2), np.ones(2)), "preferences"),
        (lambda: constrained(np.ones(2), np.zeros(2)), "floors"),
        (lambda: constrained(np.ones(3), np.ones(2)), "floors"),
        (lambda: constrained(np.full(2, np.inf), np.full(2, np.inf)), "floors"),
        (lambda: weigh(concave(1.0, origins=np.zeros(3))), "origins"),
        (lambda: weigh(tchebycheff(np.ones(1), np.ones(2))), "preferences"),
        (lambda: weigh(constrained(np.zeros(3), np.ones(3))), "floors"),
        (lambda: weigh(concave(1.0), np.ones((1, 2))), "returns"),
        (lambda: weigh(concave(1.0), known=np.ones(3, bool)), "known"),
        (lambda: weigh(concave(1.0), groups=np.zeros(3, int)), "groups"),
    ],
)
def test_arguments_out_of_range_are_refused(make, name):
    with pytest.raises(ValueError, match=f"{name} must (be|have)"):
        make()


@pytest.mark.parametrize(
    "weighting",
    [
        lambda n: constrained(np.full(n, 2.5), np.full(n, 5.0)),
        lambda n: concave(1.0),
        lambda n: tchebycheff(np.full(n, 0.5), np.full(n, 10.0), smoothness=0.5),
        lambda n: tchebycheff(np.full(n, 0.5), np.full(n, 10.0)),
        lambda n: projected(0.5),
    ],
)
def test_groups_are_weighted_apart(weighting):
    returns = jnp.array([1.0, 2.0, 3.0, 6.0, 2.0])
    groups = jnp.array([1, 0, 1, 0, 1], jnp.int32)
    together = weighting(5)
    weights, _ = together.weights(together.init(5), returns, groups=groups)
    for group in (0, 1):
        rows = np.flatnonzero(groups == group)
        alone = weighting(len(rows))
        expected, _ = alone.weights(alone.init(len(rows)), returns[rows])
        np.testing.assert_allclose(weights[rows], expected, rtol=1e-4)


def test_tasks_that_have_returned_nothing_have_equal_weights():
    weighting = concave(2.0)
    state = weighting.init(2)
    known = jnp.array([True, False])
    weights, state = weighting.weights(state, jnp.array([1.0, 0.0]), known)
    np.testing.assert_array_equal(weights, 1.0)
    weights, state = weighting.weights(state, jnp.array([9.0, 2.0]), ~known)
    # The first one's return of before.
    np.testing.assert_allclose(weights, [2 / 1.25, 2 * 0.25 / 1.25], rtol=1e-5)


WEIGHTS = {
    "constrained": {"floors": ((1, 500.0),), "most": 0.06},
    "concave": {"alpha": 2.0},
    "tchebycheff": {"ideals": tuple(range(500, 510)), "smoothness": 10.0},
    "projected": {"power": 0.0, "origins": (-1.0,) * 10},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_training_weights_tasks_by_their_returns(name):
    """Of two policies on four rows of three tasks, in one go and in two."""
    weights = ReturnWeightsConfig(name=name, **WEIGHTS[name])
    config = PPOConfig(
        num_envs=4,
        unroll_length=16,
        num_epochs=1,
        num_minibatches=1,
        return_weights=weights,
    )
    tasks, policy_ids = [1, 4, 1, 9], [0, 0, 1, 1]
    suite = make_suite("cartpole").select(tasks)
    networks = make_actor_critic(suite.observation_size, 2, True, (4,))
    ppo = PPO(config, networks, 4, tuple(tasks))
    state, metrics = ppo.run(suite, ppo.init(suite, jax.random.key(0), policy_ids), 4)
    again = ppo.init(suite, jax.random.key(0), policy_ids)
    for _ in range(2):
        again, last = ppo.run(suite, again, 2)
    for one, other in zip(*map(jax.tree.leaves, (state, again)), strict=True):
        np.testing.assert_array_equal(*map(as_numbers, (one, other)))
    assert metrics["task_weight"].shape == (4, 4)
    found = np.asarray(metrics["task_weight"])[-1]
    np.testing.assert_array_equal(found, last["task_weight"][-1])
    if name == "constrained":
        # The rows of task 1 are below their floor, the others have none.
        assert np.all(found[[0, 2]] > 1.0) and np.all(found[[1, 3]] == 1.0)
        assert np.all(state.return_weights.floor[jnp.array([0, 2])] == 0.06)
    else:
        np.testing.assert_allclose(found.reshape(2, 2).mean(axis=1), 1.0, rtol=1e-4)
        assert len(np.unique(found)) > 1
    if name in ("tchebycheff", "projected"):
        with pytest.raises(ValueError, match=r"return_weights\.\w+ must be 4 numbers"):
            PPO(config, networks, 4).run(suite, again, 1)


def as_numbers(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


def test_weighted_advantages_share_one_scale():
    advantages = jnp.array([[1.0, -1.0], [3.0, 9.0], [0.0, 4.0]])
    weights, policy_ids = jnp.array([2.0, 1.0, 5.0]), jnp.array([0, 0, 1])
    # Of the first policy variances are 1 and 9, of the second 4.
    scale = np.sqrt(5.0)
    np.testing.assert_allclose(
        weight_advantages(advantages, weights, policy_ids),
        [[2 / scale, -2 / scale], [-3 / scale, 3 / scale], [-5.0, 5.0]],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"name": "concav"}, "name"),
        ({"name": "constrained"}, "floors"),
        ({"name": "concave", "floors": ((1, 2.0),)}, "floors"),
        ({"name": "constrained", "floors": ((1, 2.0, 3.0),)}, "floors"),
        ({"name": "constrained", "ceilings": ((1.5, 2.0),)}, "ceilings"),
        ({"name": "constrained", "floors": ((1, 2.0), (1, 3.0))}, "floors"),
        ({"name": "tchebycheff"}, "ideals"),
        (
            {"name": "tchebycheff", "ideals": (1.0,), "preferences": (-1.0,)},
            "preferences",
        ),
        ({"name": "projected", "power": 2.0}, "power"),
        ({"name": "projected", "power": -np.inf}, "power"),
        ({"name": "tchebycheff", "ideals": (1e39,)}, "ideals"),
        (
            {"name": "constrained", "floors": ((1, 3.0),), "ceilings": ((1, 2.0),)},
            "floors",
        ),
        ({"alpha": 2.0}, "alpha"),
    ],
)
def test_settings_without_sense_are_refused_by_name(settings, field):
    with pytest.raises(SettingsError) as error:
        ReturnWeightsConfig(**settings)
    assert field in {problem.field for problem in error.value.problems}


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "constrained", "floors": ((12, 1.0),)},
        {"name": "tchebycheff", "ideals": (1.0, 2.0)},
    ],
)
def test_settings_of_other_tasks_are_refused_before_the_run(settings):
    values = {"ppo": {"return_weights": settings}}
    with pytest.raises(SettingsError, match=r"ppo\.return_weights\.\w+ must be"):
        make_checked_suite(PipelineConfig.from_dict(values))
