"""The estimate of all subsets: its parts recomputed, its limits, what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import pgx_jax as pge

NUM_TASKS, NUM_SAMPLES, DIM = 4, 24, 6
KEY = jax.random.key(7)
SUBSETS = np.array(
    [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1]]
)


def log_prob(params, observation, action):
    """A Gaussian whose mean is a small network; a plain function, no library."""
    hidden = jnp.tanh(observation @ params["hidden"])
    mean = jnp.sum(hidden * params["out"], axis=-1)
    return jax.scipy.stats.norm.logpdf(action, mean, 0.5)


def make_problem(seed=0, num_samples=NUM_SAMPLES):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    params = {"hidden": draw(3, 4), "out": draw(4)}
    batch = pge.Transitions(
        draw(NUM_TASKS, num_samples, 3),
        draw(NUM_TASKS, num_samples),
        draw(NUM_TASKS, num_samples),
    )
    return params, batch


PARAMS, BATCH = make_problem()


def estimate(batch=BATCH, subsets=SUBSETS, params=PARAMS, **settings):
    settings = {"key": KEY, "dim": DIM, **settings}
    return pge.estimate_subsets(log_prob, params, batch, subsets, **settings)


def step_lengths(adapted):
    """An evaluator that measures theta_S itself, in place of what it is worth."""
    base = jax.tree.leaves(PARAMS)
    moved = jax.tree.leaves(adapted.adapt(adapted.delta))
    squares = [
        jnp.sum((a - b[None]) ** 2, axis=tuple(range(1, a.ndim)))
        for a, b in zip(moved, base, strict=True)
    ]
    return jnp.sqrt(sum(squares))[:, None] * jnp.ones((1, NUM_TASKS))


def flat_rows(tree):
    """Leaves [r, ...] side by side; float64 [r, p]."""
    leaves = [np.reshape(x, (len(x), -1)) for x in jax.tree.leaves(tree)]
    return np.concatenate(leaves, axis=1).astype(float)


def test_the_estimate_equals_the_stages_done_by_hand():
    l2 = 0.1
    seen = {}

    def spy(adapted):
        jax.debug.callback(
            lambda **values: seen.update(jax.tree.map(np.asarray, values)),
            batch=adapted.batch[:3],
            features=adapted.features,
            solution=adapted.solution,
            moved=adapted.adapt(jnp.eye(DIM)),
        )
        return jnp.zeros(adapted.subsets.shape)

    estimate(evaluator=spy, l2=l2)
    jax.effects_barrier()
    estimates = estimate(l2=l2)

    # The transitions are those given, in some order common to all tasks.
    observation, action, advantage = seen["batch"]
    order = [
        int(np.flatnonzero((BATCH.observation[0] == row).all(axis=1))[0])
        for row in observation[0]
    ]
    assert sorted(order) == list(range(NUM_SAMPLES))
    np.testing.assert_array_equal(observation, BATCH.observation[:, order])
    np.testing.assert_array_equal(action, BATCH.action[:, order])
    weight = np.abs(BATCH.advantage)[:, order]
    weight = weight / weight.mean(axis=1, keepdims=True)
    sign = np.sign(BATCH.advantage)[:, order]
    np.testing.assert_allclose(advantage, sign * weight, rtol=1e-5)

    # P from steps along each axis. The features are P^T gradients, less their mean.
    p = flat_rows(jax.tree.map(lambda a, b: a - b, seen["moved"], PARAMS)).T
    per_sample = jax.vmap(jax.grad(log_prob), (None, 0, 0))
    gradients = np.stack(
        [flat_rows(per_sample(PARAMS, observation[i], action[i])) for i in range(4)]
    )
    features = (gradients - gradients.mean(axis=1, keepdims=True)) @ p
    size = np.sqrt(np.mean(features**2))
    np.testing.assert_allclose(seen["features"], features, atol=1e-5 * size)

    def task_loss(delta, task):
        logits = sign[task] * (features[task] @ delta)
        return np.mean(weight[task] * np.logaddexp(0, -logits))

    for index, subset in enumerate(SUBSETS):
        members = np.flatnonzero(subset)

        def objective(delta, members=members):
            losses = [task_loss(delta, i) for i in members]
            # The penalty is for features of mean squared norm 400.
            penalty = 0.5 * l2 * DIM * size**2 / 400.0 * delta @ delta
            return np.mean(losses) + penalty

        delta = optimize.minimize(objective, np.zeros(DIM), tol=1e-10).x
        error = np.linalg.norm(seen["solution"][index] - delta)
        assert error < 1e-3 * np.linalg.norm(delta)
        np.testing.assert_allclose(estimates.loss[index], objective(delta), rtol=1e-5)
        for task in range(NUM_TASKS):
            drop = np.mean(weight[task]) * np.log(2) - task_loss(delta, task)
            np.testing.assert_allclose(
                estimates.scores[index, task],
                drop if subset[task] else 0.0,
                atol=1e-4,
            )


def test_results_have_the_documented_shapes_and_dtypes():
    estimates = estimate(num_resamples=3)
    num_subsets = len(SUBSETS)
    expected = {
        "subsets": ((num_subsets, NUM_TASKS), bool),
        "scores": ((num_subsets, NUM_TASKS), np.float32),
        "delta": ((num_subsets, DIM), np.float32),
        "loss": ((num_subsets,), np.float32),
        "gradient_norm": ((num_subsets,), np.float32),
        "num_iterations": ((num_subsets,), np.int32),
        "converged": ((num_subsets,), bool),
        "relative_distance": ((num_subsets,), np.float32),
        "standard_error": ((num_subsets, NUM_TASKS), np.float32),
        "effective_sample_size": ((num_subsets, NUM_TASKS), np.float32),
        "resampled_scores": ((3, num_subsets, NUM_TASKS), np.float32),
        "status": ((num_subsets,), np.int32),
    }
    fields = estimates._asdict()
    # Those of least squares.
    assert fields.pop("half_scores") is None
    assert fields.pop("part_scores") is None
    actual = {k: (v.shape, v.dtype) for k, v in fields.items()}
    assert actual == expected
    np.testing.assert_array_equal(estimates.subsets, SUBSETS)
    assert np.all(estimates.converged)


@pytest.mark.parametrize("limit", [None, 100.0, 0.01, 0.001])
def test_theta_is_as_far_as_reported_and_the_limit_is_kept(limit):
    estimates = estimate(evaluator=step_lengths, max_relative_distance=limit)
    members = SUBSETS.astype(bool)
    lengths = np.asarray(estimates.scores).max(axis=1)
    norm = np.linalg.norm(flat_rows(jax.tree.map(lambda x: x[None], PARAMS)))
    np.testing.assert_allclose(lengths / norm, estimates.relative_distance, rtol=1e-3)
    np.testing.assert_array_equal(np.asarray(estimates.scores)[~members], 0.0)
    free = estimate(evaluator=step_lengths, max_relative_distance=None)
    largest = float(free.relative_distance.max())
    if limit is None or limit > largest:
        np.testing.assert_allclose(estimates.delta, free.delta, rtol=1e-5)
    else:
        np.testing.assert_allclose(estimates.relative_distance.max(), limit, rtol=1e-4)
        # One factor for all subsets.
        factor = limit / largest
        np.testing.assert_allclose(
            estimates.delta, free.delta * factor, rtol=1e-3, atol=1e-8
        )


def test_the_same_key_gives_the_same_numbers_and_another_one_others():
    first, again, other = estimate(), estimate(), estimate(key=jax.random.key(8))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.abs(first.scores - other.scores).max() > 1e-3


def test_numbers_under_jit_are_those_outside():
    expected = estimate()
    params, batch, subsets = PARAMS, BATCH, jnp.asarray(SUBSETS)
    traced = jax.jit(
        lambda p, b, s: pge.estimate_subsets(log_prob, p, b, s, key=KEY, dim=DIM)
    )(params, batch, subsets)
    np.testing.assert_array_equal(traced.subsets, expected.subsets)
    for name in ("scores", "delta", "loss", "relative_distance"):
        np.testing.assert_allclose(
            getattr(traced, name), getattr(expected, name), rtol=1e-3, atol=1e-5
        )


def test_vmap_over_keys_and_penalties_equals_a_loop():
    keys, penalties = jax.random.split(KEY, 3), jnp.array([0.05, 0.1, 1.0])
    together = jax.vmap(lambda key, l2: estimate(key=key, l2=l2).scores)(
        keys, penalties
    )
    for index in range(3):
        one = estimate(key=keys[index], l2=float(penalties[index])).scores
        np.testing.assert_allclose(together[index], one, rtol=1e-3, atol=1e-5)


def test_vmap_over_seeds_of_the_training_equals_a_loop():
    problems = [make_problem(seed) for seed in range(2)]
    params, batch = jax.tree.map(lambda *x: jnp.stack(x), *problems)
    together = jax.vmap(lambda p, b: estimate(b, params=p).scores)(params, batch)
    for index, (one_params, one_batch) in enumerate(problems):
        one = estimate(one_batch, params=one_params).scores
        np.testing.assert_allclose(together[index], one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("fill", [0.0, 50.0, np.nan])
def test_padding_changes_nothing(fill):
    expected = estimate()

    def pad(x):
        padding = np.full((NUM_TASKS, 9, *x.shape[2:]), fill, np.float32)
        return np.concatenate([x, padding], axis=1)

    mask = np.arange(NUM_SAMPLES + 9) < NUM_SAMPLES
    padded = pge.Transitions(
        *(pad(x) for x in BATCH[:3]), np.broadcast_to(mask, (NUM_TASKS, mask.size))
    )
    estimates = estimate(padded)
    np.testing.assert_allclose(estimates.scores, expected.scores, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(estimates.delta, expected.delta, rtol=1e-3, atol=1e-6)


def test_held_out_transitions_are_not_fitted():
    seen = {}

    def spy(adapted):
        jax.debug.callback(
            lambda x: seen.update(rows=x), adapted.batch.observation, ordered=True
        )
        return jnp.zeros(adapted.subsets.shape)

    estimates = estimate(evaluator=spy, held_out_fraction=0.25)
    jax.effects_barrier()
    rows = np.asarray(seen["rows"])
    assert rows.shape == (NUM_TASKS, 6, 3)
    held_out = (BATCH.observation[:, :, None] == rows[:, None]).all(-1).any(-1)
    np.testing.assert_array_equal(held_out.sum(axis=1), 6)
    # Only the order of the advantages of the others enters the regression.
    advantage = BATCH.advantage.copy()
    advantage[held_out] *= -1
    changed = estimate(
        BATCH._replace(advantage=advantage), evaluator=spy, held_out_fraction=0.25
    )
    np.testing.assert_allclose(changed.delta, estimates.delta, rtol=1e-5, atol=1e-8)
    advantage[~held_out] *= -1
    changed = estimate(
        BATCH._replace(advantage=advantage), evaluator=spy, held_out_fraction=0.25
    )
    assert np.abs(changed.delta - estimates.delta).max() > 1e-4


def test_the_scale_of_log_probabilities_is_taken_out():
    def sharper(params, observation, action):
        return 16.0 * log_prob(params, observation, action)

    settings = dict(key=KEY, dim=DIM, max_relative_distance=None)
    one = pge.estimate_subsets(log_prob, PARAMS, BATCH, SUBSETS, **settings)
    other = pge.estimate_subsets(sharper, PARAMS, BATCH, SUBSETS, **settings)
    np.testing.assert_allclose(other.scores, one.scores, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(16 * other.delta, one.delta, rtol=1e-3, atol=1e-5)


def test_a_projection_of_another_size_is_taken():
    estimates = estimate(projection=pge.RademacherProjection(3))
    assert estimates.delta.shape == (len(SUBSETS), 3)


def test_products_are_of_full_precision_whatever_the_default():
    def score(adapted):
        return adapted.adapt(adapted.delta)["out"]

    with jax.default_matmul_precision("default"):
        program = str(jax.make_jaxpr(lambda: estimate(evaluator=score))())
    highest = program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")
    assert highest == program.count("dot_general[") > 0


def test_tf32_is_for_the_features_only():
    def count(feature_precision):
        program = jax.make_jaxpr(lambda: estimate(feature_precision=feature_precision))
        found = str(program())
        # JAX calls TF32 by this name.
        names = ("(Precision.HIGH,", "(Precision.HIGHEST,")
        return [found.count(f"precision={name}") for name in names]

    reduced, full = count("tf32")
    assert 0 < reduced < full
    assert count("float32") == [0, reduced + full]


def with_advantage(index, value):
    advantage = BATCH.advantage.copy()
    advantage[index] = value
    return BATCH._replace(advantage=advantage)


MASKED = np.ones((NUM_TASKS, NUM_SAMPLES), bool)
MASKED[3] = False

REFUSED = {
    "nan": ({"batch": with_advantage((2, 5), np.nan)}, "1 val.*task 2, transition 5"),
    "inf": ({"batch": with_advantage((0, 1), -np.inf)}, "advantage.*task 0, trans.* 1"),
    "zero": ({"batch": with_advantage(1, 0.0)}, r"advantage is zero.*tasks \[1\]"),
    "advantage": ({"batch": BATCH._replace(advantage=BATCH.advantage[0])}, "advantage"),
    "lengths": (
        {"batch": BATCH._replace(observation=BATCH.observation[:, 1:])},
        r"observation.*\[4, 24\].*\(4, 23, 3\)",
    ),
    "action": (
        {"batch": BATCH._replace(action=BATCH.action[1:])},
        r"action.*\(3, 24\)",
    ),
    "mask shape": (
        {"batch": BATCH._replace(mask=MASKED[:, 1:])},
        r"mask must have.*\[4, 24\].*\(4, 23\)",
    ),
    "mask": ({"batch": BATCH._replace(mask=MASKED)}, r"mask leaves tasks \[3\]"),
    "subsets": ({"subsets": SUBSETS[:, 1:]}, "subsets must.*n = 4"),
    "empty": ({"subsets": 0 * SUBSETS}, "row 0"),
    "evaluator": ({"evaluator": "oracle"}, "evaluator must.*surrogate.*'oracle'"),
    "held out": ({"held_out_fraction": 1.0}, r"held_out_fraction must be in \[0, 1\)"),
    "negative": ({"held_out_fraction": -0.1}, "held_out_fraction.*-0.1"),
    "none fitted": ({"held_out_fraction": 0.999}, "no transition to fit"),
    "none scored": ({"held_out_fraction": 0.001}, "no transition to score"),
    "l2": ({"l2": 0.0}, "l2 must be positive and finite, got 0.0"),
    "negative l2": ({"l2": -1.0}, "l2 must be positive"),
    "distance": ({"max_relative_distance": 0.0}, "max_relative_distance must be pos"),
    "dim": ({"dim": 0}, "dim must be at least 1"),
    "precision": ({"feature_precision": "bf16"}, "feature_precision must.*'bf16'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused_by_name(case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        estimate(**settings)


def test_a_wrong_log_prob_fn_is_refused_by_name():
    with pytest.raises(ValueError, match="log_prob_fn"):
        pge.estimate_subsets(
            lambda params, observation, action: observation,
            PARAMS,
            BATCH,
            SUBSETS,
            key=KEY,
            dim=DIM,
        )


def test_masked_values_that_are_not_finite_are_no_fault():
    mask = np.ones((NUM_TASKS, NUM_SAMPLES), bool)
    mask[2, 5] = False
    batch = with_advantage((2, 5), np.nan)._replace(mask=mask)
    assert np.isfinite(estimate(batch).scores).all()


def test_the_paper_example_in_ten_lines_finds_two_planted_groups():
    rng = np.random.default_rng(0)
    num_samples, num_tasks = 200, 6
    sign = np.where(np.arange(num_tasks) % 2, 1.0, -1.0)
    observation = rng.normal(size=(num_tasks, num_samples, 3)).astype(np.float32)
    action = rng.normal(size=(num_tasks, num_samples)).astype(np.float32)
    # Tasks of one group want the action along the first observation, others against it.
    advantage = sign[:, None] * observation[..., 0] * action
    advantage += 0.3 * rng.normal(size=advantage.shape)

    def linear_log_prob(params, obs, act):
        return jax.scipy.stats.norm.logpdf(act, obs @ params, 1.0)

    subsets = pge.sample_subsets(jax.random.key(0), num_tasks, 60, 3)
    estimates = pge.estimate_subsets(
        linear_log_prob,
        jnp.full(3, 0.01),
        pge.Transitions(observation, action, advantage.astype(np.float32)),
        subsets,
        key=KEY,
        dim=None,
    )
    affinity = pge.task_affinity(estimates)
    for num_groups in (2, None):
        groups = pge.cluster_tasks(affinity, num_groups=num_groups)
        np.testing.assert_array_equal(groups.labels, [0, 1, 0, 1, 0, 1])
