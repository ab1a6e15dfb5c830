"""Regressions of all subsets against SciPy's and scikit-learn's, one at a time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression

import pgx_jax as pge
from pgx_jax.estimation.solver import task_statistics

# Beyond it, float32 can no longer tell whether the gradient falls.
TOLERANCE = 1e-6


def rows_of(features, advantage, subset, mask=None):
    """The transitions of a subset with their weights in the mean; float64."""
    mask = np.ones(advantage.shape, bool) if mask is None else mask
    members = np.flatnonzero(subset)
    x = np.concatenate([features[i][mask[i]] for i in members]).astype(float)
    a = np.concatenate([advantage[i][mask[i]] for i in members]).astype(float)
    share = np.concatenate(
        [np.full(mask[i].sum(), 1 / mask[i].sum() / len(members)) for i in members]
    )
    return x, np.where(a >= 0, 1.0, -1.0), np.abs(a) * share


def loss(delta, x, sign, weight, l2):
    logits = sign * (x @ delta)
    return weight @ np.logaddexp(0, -logits) + 0.5 * l2 * delta @ delta


def gradient(delta, x, sign, weight, l2):
    logits = sign * (x @ delta)
    return -(weight * sign * special.expit(-logits)) @ x + l2 * delta


def hessian(delta, x, sign, weight, l2):
    p = special.expit(x @ delta)
    return (x * (weight * p * (1 - p))[:, None]).T @ x + l2 * np.eye(x.shape[1])


def solve_with_scipy(x, sign, weight, l2):
    result = optimize.minimize(
        loss,
        np.zeros(x.shape[1]),
        args=(x, sign, weight, l2),
        jac=gradient,
        hess=hessian,
        method="trust-exact",
        options={"gtol": 1e-11},
    )
    return result.x


def solve_with_scikit_learn(x, sign, weight, l2):
    # It minimizes sum of w_t log(1 + ...) + |Delta|^2 / (2 C).
    used = weight > 0
    model = LogisticRegression(
        C=1.0, fit_intercept=False, solver="lbfgs", tol=1e-11, max_iter=20_000
    )
    # Their stopping rule is absolute, so that the loss is brought to a scale near one.
    model.fit(x[used], sign[used], sample_weight=weight[used] / l2)
    return model.coef_[0]


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def draw(seed, num_tasks=4, num_samples=40, dim=6, num_subsets=6):
    """Tasks whose signs depend on the features, each in another way."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_tasks, num_samples, dim))
    features *= np.geomspace(0.3, 2, dim)
    truth = rng.normal(size=(num_tasks, dim)) / np.sqrt(dim)
    advantage = np.einsum("ntd,nd->nt", features, truth)
    advantage = advantage + rng.normal(size=advantage.shape)
    subsets = rng.random((num_subsets, num_tasks)) < 0.5
    subsets[0] = True
    subsets[1] = np.arange(num_tasks) == 1
    subsets[~subsets.any(axis=1), 0] = True
    return features.astype(np.float32), advantage.astype(np.float32), subsets


# Jitted with sizes that all problems share, so that it compiles once.
@functools.partial(jax.jit, static_argnames="max_iterations")
def solve(features, advantage, subsets, l2, mask=None, max_iterations=1_000):
    return pge.solve_regressions(
        features,
        advantage,
        subsets,
        l2=l2,
        mask=mask,
        tolerance=TOLERANCE,
        max_iterations=max_iterations,
    )


def check_against_both(features, advantage, subsets, l2, mask=None, solution=None):
    """Compares every subset with SciPy, and two with scikit-learn."""
    if solution is None:
        solution = solve(features, advantage, subsets, l2, mask)
    assert solution.delta.dtype == jnp.float32
    for index, subset in enumerate(subsets):
        rows = rows_of(features, advantage, subset, mask)
        delta = np.asarray(solution.delta[index], float)
        expected = solve_with_scipy(*rows, l2)
        assert relative_error(delta, expected) < 1e-4
        if index < 2 and len(np.unique(rows[1][rows[2] > 0])) == 2:
            assert relative_error(delta, solve_with_scikit_learn(*rows, l2)) < 1e-4
        np.testing.assert_allclose(
            solution.loss[index], loss(delta, *rows, l2), rtol=1e-5
        )
        at_zero = np.linalg.norm(gradient(np.zeros_like(delta), *rows, l2))
        np.testing.assert_allclose(
            solution.gradient_norm[index],
            np.linalg.norm(gradient(delta, *rows, l2)),
            atol=2e-6 * at_zero,
        )
        assert np.linalg.norm(gradient(delta, *rows, l2)) <= 2 * TOLERANCE * at_zero
    assert np.all(solution.converged)


@pytest.mark.parametrize("l2", [1e-3, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_twenty_problems_equal_scipy_and_scikit_learn(seed, l2):
    check_against_both(*draw(seed), l2)


def test_unequal_weights_equal_scipy_and_scikit_learn():
    features, advantage, subsets = draw(10)
    weight = np.geomspace(1e-3, 10, 40, dtype=np.float32)
    check_against_both(features, advantage * weight, subsets, 0.05)


def test_zero_advantages_have_no_weight():
    features, advantage, subsets = draw(11)
    advantage[:, ::3] = 0.0
    check_against_both(features, advantage, subsets, 0.05)
    garbage = features.copy()
    garbage[:, ::3] = 100.0
    np.testing.assert_allclose(
        solve(garbage, advantage, subsets, 0.05).delta,
        solve(features, advantage, subsets, 0.05).delta,
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_separable_data_equal_scipy_and_scikit_learn(l2):
    features, advantage, subsets = draw(12)
    advantage = features[..., 0] + 0.5 * features[..., 1]
    check_against_both(features, advantage, subsets, l2)


def test_one_sign_only_equals_scipy():
    features, advantage, subsets = draw(13)
    check_against_both(features, np.abs(advantage), subsets, 0.05)


def test_padding_is_left_out_of_each_tasks_mean():
    features, advantage, subsets = draw(14)
    mask = np.arange(40) < np.array([40, 25, 8, 33])[:, None]
    features[~mask], advantage[~mask] = np.nan, np.nan
    check_against_both(features, advantage, subsets, 0.02, mask)


@pytest.mark.parametrize(
    ("dim", "num_samples"),
    [
        (1, 30),
        (100, 60),
        pytest.param(400, 200, marks=pytest.mark.slow),
    ],
)
def test_other_dimensions_equal_scipy_and_scikit_learn(dim, num_samples):
    problem = draw(20, num_tasks=2, num_samples=num_samples, dim=dim, num_subsets=2)
    check_against_both(*problem, 0.05)


def test_every_subset_of_a_few_tasks_equals_scipy():
    features, advantage, _ = draw(21)
    subsets = np.array([[s >> i & 1 for i in range(4)] for s in range(1, 16)], bool)
    check_against_both(features, advantage, subsets, 0.1)


@pytest.mark.parametrize("block", [1, 5, 50])
def test_block_size_does_not_change_the_solution(block):
    features, advantage, subsets = draw(22, num_subsets=11)
    # Small ones first, so that no block is as large as the last.
    subsets = subsets[np.argsort(subsets.sum(axis=1))]
    solution = pge.solve_regressions(
        features, advantage, subsets, l2=0.02, tolerance=TOLERANCE, subset_block=block
    )
    check_against_both(features, advantage, subsets, 0.02, solution=solution)


def test_order_and_repetition_of_subsets_do_not_change_the_solution():
    features, advantage, subsets = draw(23)
    order = np.array([3, 0, 5, 3, 1, 4, 2])
    solution = pge.solve_regressions(
        features, advantage, subsets[order], l2=0.02, tolerance=TOLERANCE
    )
    check_against_both(features, advantage, subsets[order], 0.02, solution=solution)


def test_concrete_and_traced_subsets_have_the_same_solution():
    features, advantage, subsets = draw(24)
    concrete = pge.solve_regressions(features, advantage, subsets, l2=0.05)
    for dtype in (bool, np.float32):
        traced = jax.jit(
            lambda s: pge.solve_regressions(features, advantage, s, l2=0.05)
        )(subsets.astype(dtype))
        assert np.all(traced.converged)
        np.testing.assert_allclose(traced.delta, concrete.delta, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(traced.loss, concrete.loss, rtol=1e-6)


def test_any_start_leads_to_the_solution():
    features, advantage, subsets = draw(25)
    initial = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    solution = pge.solve_regressions(
        features, advantage, subsets, l2=0.05, initial=initial, tolerance=TOLERANCE
    )
    check_against_both(features, advantage, subsets, 0.05, solution=solution)


def test_the_solution_itself_is_a_start_that_takes_no_iteration():
    features, advantage, subsets = draw(25)
    expected = [
        solve_with_scipy(*rows_of(features, advantage, s), 0.05) for s in subsets
    ]
    initial = np.array(expected, np.float32)
    solution = pge.solve_regressions(
        features, advantage, subsets, l2=0.05, initial=initial
    )
    assert np.all(solution.num_iterations == 0)
    np.testing.assert_array_equal(solution.delta, initial)


def test_too_few_iterations_are_reported():
    features, advantage, subsets = draw(26)
    solution = solve(features, advantage, subsets, 1e-3, max_iterations=2)
    assert not np.any(solution.converged)
    assert np.all(solution.num_iterations == 2)
    for index, subset in enumerate(subsets):
        rows = rows_of(features, advantage, subset)
        delta = np.asarray(solution.delta[index], float)
        norm = np.linalg.norm(gradient(delta, *rows, 1e-3))
        np.testing.assert_allclose(solution.gradient_norm[index], norm, rtol=1e-3)


def test_without_an_advantage_nothing_is_changed():
    features, advantage, subsets = draw(27)
    solution = solve(features, np.zeros_like(advantage), subsets, 0.1)
    np.testing.assert_array_equal(solution.delta, 0.0)
    assert np.all(solution.converged)


def test_the_gradient_at_zero_is_minus_half_the_policy_gradient():
    rng = np.random.default_rng(0)
    params = rng.normal(size=3).astype(np.float32)
    observation = rng.normal(size=(2, 9, 3)).astype(np.float32)
    action = rng.integers(0, 2, size=(2, 9))
    advantage = rng.normal(size=(2, 9)).astype(np.float32)

    def log_prob(p, obs, act):
        return jax.nn.log_sigmoid((2.0 * act.astype(jnp.float32) - 1.0) * (obs @ p))

    def policy_objective(p, task):
        return jnp.mean(advantage[task] * log_prob(p, observation[task], action[task]))

    # The features of the identity in place of a random projection.
    features = jax.vmap(jax.vmap(jax.grad(log_prob), (None, 0, 0)), (None, 0, 0))(
        params, observation, action
    )
    statistics = task_statistics(features, advantage)
    for task in range(2):
        expected = -0.5 * jax.grad(policy_objective)(params, task)
        np.testing.assert_allclose(statistics.gradient[task], expected, rtol=1e-5)


def test_the_curvature_bounds_the_hessian_everywhere():
    features, advantage, _ = draw(28)
    curvature = np.asarray(task_statistics(features, advantage).curvature, float)
    rng = np.random.default_rng(0)
    for task in range(4):
        rows = rows_of(features, advantage, np.arange(4) == task)
        at_zero = hessian(np.zeros(6), *rows, 0.0)
        np.testing.assert_allclose(curvature[task], at_zero, rtol=1e-4, atol=1e-6)
        other = hessian(rng.normal(size=6), *rows, 0.0)
        assert np.linalg.eigvalsh(curvature[task] - other).min() > 0


def test_products_are_of_full_precision_whatever_the_default():
    features, advantage, subsets = draw(29)
    with jax.default_matmul_precision("default"):
        program = jax.make_jaxpr(
            lambda x: pge.solve_regressions(x, advantage, subsets, l2=0.1)
        )(features)
    highest = str(program).count("precision=(Precision.HIGHEST, Precision.HIGHEST)")
    assert highest == str(program).count("dot_general[") > 0


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        (np.zeros((2, 4), int), "row 0"),
        (np.full((2, 4), 2), "only 0 and 1"),
        (np.ones((2, 3), int), r"n = 4 tasks, got shape \(2, 3\)"),
    ],
)
def test_bad_subsets_are_refused(subsets, message):
    features, advantage, _ = draw(30)
    with pytest.raises(ValueError, match=message):
        pge.solve_regressions(features, advantage, subsets)


@pytest.mark.parametrize("l2", [0.0, -1.0, float("nan")])
def test_a_penalty_that_is_not_positive_is_refused(l2):
    with pytest.raises(ValueError, match="l2 must be positive"):
        pge.solve_regressions(*draw(31), l2=l2)


def test_few_transitions_of_many_features_give_the_same_solution():
    rng = np.random.default_rng(5)
    features = rng.normal(size=(4, 9, 30)).astype(np.float32)
    advantage = rng.normal(size=(4, 9)).astype(np.float32)
    subsets = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 1]])
    few = pge.solve_regressions(features, advantage, subsets)
    # With padding there are enough of them for a matrix per task to pay.
    padding = ((0, 0), (0, 21))
    many = pge.solve_regressions(
        np.pad(features, (*padding, (0, 0))),
        np.pad(advantage, padding),
        subsets,
        mask=np.broadcast_to(np.arange(30) < 9, (4, 30)),
    )
    assert few.converged.all() and int(few.num_iterations.max()) < 20
    np.testing.assert_allclose(few.delta, many.delta, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(few.num_iterations, many.num_iterations)
