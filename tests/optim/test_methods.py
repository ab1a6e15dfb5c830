"""Every method against a slow NumPy version of its paper, and at the edges."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from pgx_jax.optim import (
    Weighting,
    cagrad,
    combine_gradients,
    famo,
    gradnorm,
    nash_mtl,
    pcgrad,
    uncertainty_weighting,
)
from pgx_jax.optim.pcgrad import PCGradState, draw_orders
from pgx_jax.optim.weighting import measure_agreement

METHODS = {
    "pcgrad": pcgrad,
    "cagrad": cagrad,
    "famo": famo,
    "nash_mtl": nash_mtl,
    "gradnorm": gradnorm,
    "uncertainty": uncertainty_weighting,
}
PARAMS = {"kernel": jnp.zeros((4, 5)), "bias": jnp.zeros((5,))}
NUM_PARAMS = 25


def draw(num_tasks, seed=0):
    """Gradients of different sizes that conflict; float32 [n, 25]."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(size=(num_tasks, 1)))
    return (sizes * rng.normal(size=(num_tasks, NUM_PARAMS))).astype(np.float32)


def stack(flat):
    """The same as leaves of the parameters; bias first, as in a dict's order."""
    return {
        "bias": jnp.asarray(flat[:, :5]),
        "kernel": jnp.asarray(flat[:, 5:]).reshape(-1, 4, 5),
    }


def combine(weighting, steps, **extra):
    """What the transformation returns for gradients [n, p], one after another."""
    optimizer = combine_gradients(weighting, len(steps[0]), key=3)
    state, combined = optimizer.init(PARAMS), []
    update = jax.jit(optimizer.update)
    for i, flat in enumerate(steps):
        some = {name: x[i] for name, x in extra.items()}
        out, state = update(stack(flat), state, PARAMS, **some)
        assert out["kernel"].shape == (4, 5)
        combined.append(np.concatenate([out["bias"], out["kernel"].ravel()]))
    return np.array(combined, np.float64), state


def slow_pcgrad(gradients, order):
    total = np.zeros(NUM_PARAMS)
    for i, own in enumerate(gradients):
        changed = own.copy()
        for j in order[i]:
            if j != i and changed @ gradients[j] < 0:
                other = gradients[j]
                changed -= (changed @ other) / (other @ other) * other
        total += changed
    return total / len(gradients)


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_pcgrad_projects_in_the_order_drawn(num_tasks):
    steps = [draw(num_tasks, seed) for seed in range(4)]
    found, state = combine(pcgrad(), steps)
    for i, (gradients, one) in enumerate(zip(steps, found, strict=True)):
        drawn = PCGradState(state.method.seed, jnp.asarray(i, jnp.int32))
        order = np.asarray(draw_orders(drawn, num_tasks))
        assert {tuple(sorted(x)) for x in order} == {tuple(range(num_tasks))}
        expected = slow_pcgrad(gradients.astype(np.float64), order)
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)


def test_orders_of_pcgrad_are_those_of_its_key_and_change():
    state = pcgrad().init(5, jax.random.key(7))
    again = pcgrad().init(5, jax.random.key(7))
    other = pcgrad().init(5, jax.random.key(8))
    order = draw_orders(state, 5)
    np.testing.assert_array_equal(order, draw_orders(again, 5))
    later = state._replace(count=state.count + 1)
    for changed in (draw_orders(other, 5), draw_orders(later, 5)):
        assert np.any(np.asarray(order) != np.asarray(changed))


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
@pytest.mark.parametrize("radius", [0.4, 0.9])
def test_cagrad_is_the_best_direction_near_the_mean(num_tasks, radius):
    steps = [draw(num_tasks, seed) for seed in range(4)]
    found, _ = combine(cagrad(radius), steps)
    for gradients, one in zip(steps, found, strict=True):
        gradients = gradients.astype(np.float64)
        mean = gradients.mean(axis=0)
        length = radius * np.linalg.norm(mean)

        def dual(w, gradients=gradients, mean=mean, length=length):
            return (w @ gradients) @ mean + length * np.linalg.norm(w @ gradients)

        solution = scipy.optimize.minimize(
            dual,
            np.full(num_tasks, 1 / num_tasks),
            method="SLSQP",
            bounds=[(0, 1)] * num_tasks,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-12, "maxiter": 1000},
        )
        worst = solution.x @ gradients
        expected = mean + length * worst / np.linalg.norm(worst)
        np.testing.assert_allclose(one, expected, rtol=0, atol=2e-3 * length)
        # The primal: within the ball, no direction is better for the worst task.
        assert np.linalg.norm(one - mean) <= length * (1 + 1e-5)
        np.testing.assert_allclose((gradients @ one).min(), solution.fun, rtol=1e-3)


def test_cagrad_without_a_radius_is_the_mean():
    gradients = draw(5)
    found, _ = combine(cagrad(0.0), [gradients])
    np.testing.assert_allclose(found[0], gradients.mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_nash_mtl_maximizes_the_product_of_gains(num_tasks):
    """Its weights solve G^T G w = 1 / w, found here by fixed-point root search."""
    steps = [draw(num_tasks, seed) for seed in range(4)]
    found, _ = combine(nash_mtl(), steps)
    for gradients, one in zip(steps, found, strict=True):
        gradients = gradients.astype(np.float64)
        gram = gradients @ gradients.T
        gram /= np.linalg.norm(gram)
        root = scipy.optimize.root(
            lambda u, gram=gram: gram @ np.exp(u) * np.exp(u) - 1.0,
            -0.5 * np.log(np.diag(gram)),
        )
        assert root.success
        expected = np.exp(root.x) @ gradients / num_tasks
        np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-3)
        # Nash's product of gains is largest in the direction found.
        gains = gradients @ one
        assert gains.min() > 0
        rng = np.random.default_rng(0)
        for _ in range(100):
            other = one + 0.1 * np.linalg.norm(one) * rng.normal(size=NUM_PARAMS)
            other *= np.linalg.norm(one) / np.linalg.norm(other)
            product = np.prod(np.maximum(gradients @ other, 0.0))
            assert product <= np.prod(gains) * (1 + 1e-4)


def slow_famo(losses, rate, decay, steps):
    """Weights of each step: algorithm 1, with Adam written out for the logits."""
    num_tasks = losses.shape[1]
    logits, first, second = np.zeros((3, num_tasks))
    weights = []
    for t in range(steps):
        if t:
            shares = np.exp(logits) / np.exp(logits).sum()
            jacobian = np.diag(shares) - np.outer(shares, shares)
            slope = jacobian.T @ (np.log(losses[t - 1]) - np.log(losses[t]))
            slope = slope + decay * logits
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope**2
            scaled = first / (1 - 0.9**t)
            logits = logits - rate * scaled / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        parts = np.exp(logits) / np.exp(logits).sum() / losses[t]
        weights.append(parts / parts.sum())
    return np.array(weights)


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_famo_follows_the_decrease_of_log_losses(num_tasks):
    steps = [draw(num_tasks, seed) for seed in range(6)]
    rng = np.random.default_rng(1)
    losses = np.exp(rng.normal(size=(6, num_tasks))).astype(np.float32)
    found, _ = combine(famo(0.1, 0.01), steps, losses=losses)
    weights = slow_famo(losses.astype(np.float64), 0.1, 0.01, 6)
    assert np.ptp(weights * losses, axis=1)[-1] > 0.01
    for one, gradients, w in zip(found, steps, weights, strict=True):
        np.testing.assert_allclose(one, w @ gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_gradnorm_balances_norms_by_rates_of_training(num_tasks):
    steps = [draw(num_tasks, seed) for seed in range(5)]
    rng = np.random.default_rng(1)
    losses = np.exp(rng.normal(size=(5, num_tasks))).astype(np.float32)
    found, _ = combine(gradnorm(0.05, 1.5), steps, losses=losses)
    w = np.ones(num_tasks)
    for one, gradients, loss in zip(found, steps, losses, strict=True):
        gradients = gradients.astype(np.float64)
        np.testing.assert_allclose(one, w @ gradients / num_tasks, rtol=1e-4, atol=1e-5)
        norms = np.linalg.norm(gradients, axis=1)
        ratio = loss / losses[0]
        target = np.mean(w * norms) * (ratio / ratio.mean()) ** 1.5

        def objective(w, norms=norms, target=target):
            return np.abs(w * norms - target).sum()

        step = 1e-6 * np.eye(num_tasks)
        slope = [(objective(w + e) - objective(w - e)) / 2e-6 for e in step]
        w = np.maximum(w - 0.05 * np.array(slope), 1e-3)
        w = num_tasks * w / w.sum()
    assert np.ptp(w) > 0.1


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_uncertainty_weighting_descends_its_joint_loss(num_tasks):
    steps = [draw(num_tasks, seed) for seed in range(5)]
    rng = np.random.default_rng(1)
    losses = np.exp(rng.normal(size=(5, num_tasks))).astype(np.float32)
    found, _ = combine(uncertainty_weighting(0.1), steps, losses=losses)
    s = np.zeros(num_tasks)

    def joint(s, loss):
        return np.sum(loss / (2 * np.exp(s)) + s / 2)

    for one, gradients, loss in zip(found, steps, losses, strict=True):
        expected = 2 * (0.5 * np.exp(-s)) @ gradients / num_tasks
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)
        step = 1e-6 * np.eye(num_tasks)
        slope = [(joint(s + e, loss) - joint(s - e, loss)) / 2e-6 for e in step]
        s = s - 0.1 * np.array(slope)


def test_uncertainty_weighting_comes_to_one_over_the_loss():
    losses = np.tile(np.float32([0.5, 2.0]), (400, 1))
    _, state = combine(uncertainty_weighting(0.1), [draw(2)] * 400, losses=losses)
    np.testing.assert_allclose(state.weights, 0.5 / losses[0], rtol=1e-4)


EDGES = {
    "zero": np.zeros((3, NUM_PARAMS), np.float32),
    "one is zero": draw(3) * np.float32([[1], [0], [1]]),
    "identical": np.tile(draw(1), (3, 1)),
    "opposite": np.concatenate([draw(1), -draw(1), draw(1)]),
    "cancel": np.concatenate([draw(1), -2 * draw(1), draw(1)]),
    "tiny": 1e-12 * draw(3),
    "large": 1e8 * draw(3),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("edge", EDGES)
def test_edges_are_finite(name, edge):
    gradients = EDGES[edge]
    losses = np.array([[1, 2, 3], [1, 1e-9, 3], [1, 2, 0]], np.float32)
    found, state = combine(METHODS[name](), [gradients] * 3, losses=losses)
    assert np.isfinite(found).all()
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(np.asarray(leaf)).all()
    largest = np.linalg.norm(gradients, axis=1).max()
    # Of uncertainty weighting exp(-s) may exceed one by what its steps have moved s.
    assert np.linalg.norm(found, axis=1).max() <= 3 * largest + 1e-12
    if edge == "identical" and name not in ("cagrad", "uncertainty"):
        expected = np.tile(gradients[0], (3, 1))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    if edge == "zero":
        np.testing.assert_array_equal(found, 0.0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
def test_what_is_not_finite_or_a_negative_loss_shows_at_once(name, bad):
    gradients, losses = draw(3), np.float32([[1, bad, 3]])
    gradients[2] = bad
    left_out = np.array([[True, True, False]])
    found, _ = combine(
        METHODS[name](), [gradients], losses=[[1, 2, bad]], mask=left_out
    )
    assert np.isfinite(found).all()
    gradients = draw(3)
    found, _ = combine(METHODS[name](), [gradients], losses=losses)
    assert np.isnan(found).all() == METHODS[name]().needs_losses
    gradients[1, 0] = bad
    found, _ = combine(METHODS[name](), [gradients], losses=np.ones((1, 3)))
    assert np.isfinite(found[0, 0]) == np.isfinite(bad)


@pytest.mark.parametrize("name", METHODS)
def test_a_single_task_keeps_its_gradient(name):
    gradients = draw(1)
    losses = np.array([[2.0], [1.0]], np.float32)
    found, _ = combine(METHODS[name](), [gradients] * 2, losses=losses)
    np.testing.assert_allclose(found, np.tile(gradients, (2, 1)), rtol=1e-6)


@pytest.mark.parametrize("name", [x for x in METHODS if x != "pcgrad"])
def test_tasks_left_out_change_nothing(name):
    """As if there were no such rows; PCGrad's orders are of another length."""
    gradients = [draw(5, seed) for seed in range(3)]
    losses = np.exp(np.random.default_rng(1).normal(size=(3, 5))).astype(np.float32)
    mask = np.array([True, False, True, True, False])
    masked, state = combine(
        METHODS[name](), gradients, losses=losses, mask=np.tile(mask, (3, 1))
    )
    alone, _ = combine(
        METHODS[name](), [x[mask] for x in gradients], losses=losses[:, mask]
    )
    np.testing.assert_allclose(masked, alone, rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(state.weights[~mask], 0.0)


def test_pcgrad_leaves_tasks_out():
    gradients = draw(4)
    mask = np.array([True, False, True, False])
    found, _ = combine(pcgrad(), [gradients], mask=mask[None])
    two = gradients[mask].astype(np.float64)
    expected = slow_pcgrad(two, [[1], [0]])  # of two tasks there is one order only
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


def test_agreement_is_that_of_the_pairs():
    gradients = draw(5).astype(np.float64)
    _, state = combine(pcgrad(), [draw(5)])
    norms = np.linalg.norm(gradients, axis=1)
    cosines = gradients @ gradients.T / np.outer(norms, norms)
    others = ~np.eye(5, dtype=bool)
    for i in range(5):
        own = cosines[i][others[i]]
        np.testing.assert_allclose(state.cosine[i], own.mean(), atol=1e-5)
        np.testing.assert_allclose(state.conflicts[i], np.mean(own < 0), rtol=1e-6)
    alone = measure_agreement(jnp.ones((2, 2)), jnp.array([True, False]))
    assert (alone.cosine[0], alone.conflicts[0]) == (1.0, 0.0)


def test_a_chain_with_adam_trains_parameters_of_any_dtype():
    optimizer = optax.chain(combine_gradients(nash_mtl(), 2), optax.sgd(0.1))
    params = {"half": jnp.zeros((3,), jnp.bfloat16), "whole": jnp.zeros((2,))}
    gradients = jax.tree.map(lambda x: jnp.ones((2, *x.shape), x.dtype), params)
    update: Any = optimizer.update
    updates, _ = update(gradients, optimizer.init(params), params)
    for name, leaf in params.items():
        assert updates[name].dtype == leaf.dtype
        np.testing.assert_allclose(
            np.asarray(updates[name], np.float32), -0.1, rtol=1e-2
        )


def test_double_precision_and_vmap_go_through():
    with jax.enable_x64(True):
        for name, method in METHODS.items():
            optimizer = combine_gradients(method(), 3, key=1)
            states = jax.vmap(lambda _, o=optimizer: o.init(PARAMS))(jnp.arange(2))
            gradients = jnp.asarray(np.stack([draw(3), draw(3, 1)]), jnp.float64)
            update: Any = jax.jit(
                jax.vmap(
                    lambda g, s, losses, o=optimizer: o.update(g, s, losses=losses)
                )
            )
            losses = jnp.ones((2, 3))
            updates, states = update({"all": gradients}, states, losses)
            assert updates["all"].dtype == jnp.float64, name
            assert np.isfinite(updates["all"]).all()


def test_bad_arguments_are_refused():
    for build, value, name in (
        (cagrad, -0.1, "radius"),
        (famo, 0.0, "learning_rate"),
        (gradnorm, float("nan"), "learning_rate"),
        (uncertainty_weighting, -1.0, "learning_rate"),
    ):
        with pytest.raises(ValueError, match=name):
            build(value)
    with pytest.raises(ValueError, match="restoring_force"):
        gradnorm(restoring_force=-1.0)
    with pytest.raises(ValueError, match="decay"):
        famo(decay=-1.0)
    with pytest.raises(ValueError, match="num_tasks must be at least 1"):
        combine_gradients(pcgrad(), 0)
    with pytest.raises(ValueError, match=r"weighting must be .* got <function pcgrad"):
        combine_gradients(pcgrad, 3)
    for method in (famo, gradnorm, uncertainty_weighting):
        optimizer = combine_gradients(method(), 3)
        with pytest.raises(ValueError, match="losses must be given"):
            optimizer.update(stack(draw(3)), optimizer.init(PARAMS))
    optimizer = combine_gradients(pcgrad(), 3)
    state = optimizer.init(PARAMS)
    with pytest.raises(ValueError, match=r"bias.*\[3, ...\].*got float32\[2, 5\]"):
        optimizer.update(stack(draw(2)), state)
    for updates, given in (
        ({}, "got {}"),
        ({"a": 1.0}, "got 1.0"),
        ({"a": np.ones((3, 2), int)}, "got int"),
    ):
        with pytest.raises(ValueError, match=f"updates.* must .*{given}"):
            optimizer.update(updates, state)
    for name, given in itertools.product(("losses", "mask"), ([1.0, 2.0], [[1.0]])):
        with pytest.raises(ValueError, match=rf"{name} must have shape \[3\]"):
            optimizer.update(stack(draw(3)), state, **{name: jnp.asarray(given)})


def test_a_weighting_of_ones_own_is_taken():
    own = Weighting(
        lambda num_tasks, key: (),
        lambda state, gram, losses, mask: (jnp.array([1.0, 2.0, 0.0]), state),
    )
    gradients = draw(3)
    found, _ = combine(own, [gradients])
    np.testing.assert_allclose(found[0], gradients[0] + 2 * gradients[1], rtol=1e-5)
