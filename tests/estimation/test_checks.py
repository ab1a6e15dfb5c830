"""What the estimator takes for its arguments, and what it refuses by name."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.estimation.subsets import as_subsets

NUM_TASKS, NUM_SAMPLES = 4, 6
KEY = jax.random.key(0)
SUBSETS = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 1]])


def log_prob(params, observation, action):
    mean = jnp.tanh(observation @ params["kernel"]) + params["bias"]
    return jax.scipy.stats.norm.logpdf(action, mean, 0.5)


def make_problem():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    batch = pge.Transitions(
        draw(NUM_TASKS, NUM_SAMPLES, 3),
        draw(NUM_TASKS, NUM_SAMPLES),
        draw(NUM_TASKS, NUM_SAMPLES),
        np.arange(NUM_SAMPLES) < np.array([6, 4, 6, 5])[:, None],
    )
    return {"kernel": draw(3), "bias": draw()}, batch


PARAMS, BATCH = make_problem()


def estimate(params=PARAMS, batch=BATCH, subsets=SUBSETS, **settings):
    settings = {"key": KEY, "dim": 3, **settings}
    fn = settings.pop("log_prob_fn", log_prob)
    return pge.estimate_subsets(fn, params, batch, subsets, **settings)


@pytest.fixture(scope="module")
def expected():
    return estimate()


def as_lists(tree):
    return jax.tree.map(lambda x: x.tolist(), tree)


SAME = {
    "int mask": {"batch": BATCH._replace(mask=BATCH.mask.astype(int))},
    "float mask": {"batch": BATCH._replace(mask=BATCH.mask.astype(np.float32))},
    "device mask": {"batch": BATCH._replace(mask=jnp.asarray(BATCH.mask, jnp.int32))},
    "lists": {"batch": as_lists(BATCH)},
    "tuple": {"batch": tuple(BATCH)},
    "device": {"batch": jax.tree.map(jnp.asarray, BATCH)},
    "float64": {
        "batch": jax.tree.map(lambda x: x.astype(float), BATCH[:3]) + BATCH[3:]
    },
    "python float": {"params": {**PARAMS, "bias": float(PARAMS["bias"])}},
    "index lists": {"subsets": [[0, 1], [1, 2, 3], [3, 0]]},
    "sets": {"subsets": [{0, 1}, {1, 2, 3}, {0, 3}]},
    "rows": {"subsets": SUBSETS.tolist()},
    "float rows": {"subsets": SUBSETS.astype(float)},
    "device subsets": {"subsets": jnp.asarray(SUBSETS)},
    "int key": {"key": 0},
    "numpy int key": {"key": np.int64(0)},
    "whole float": {"dim": 3.0},
    "numpy l2": {"l2": np.float64(0.1)},
    "device number": {"held_out_fraction": jnp.zeros(())},
}


@pytest.mark.parametrize("case", SAME)
def test_inputs_of_one_meaning_give_the_same_numbers(case, expected):
    estimates = estimate(**SAME[case])
    np.testing.assert_array_equal(estimates.subsets, SUBSETS)
    np.testing.assert_array_equal(estimates.scores, expected.scores)


def test_a_key_of_the_old_style_is_taken(expected):
    estimates = estimate(key=jax.random.PRNGKey(0))
    np.testing.assert_array_equal(estimates.scores, expected.scores)


@pytest.mark.parametrize(("num_params", "dim"), [(4, 4), (500, 400)])
def test_the_default_dimension_is_that_of_the_paper_or_of_a_smaller_policy(
    num_params, dim
):
    params = {**PARAMS, "bias": np.zeros(num_params - 3, np.float32)}

    def estimate(**settings):
        return pge.estimate_subsets(
            lambda p, obs, act: log_prob({**p, "bias": p["bias"].sum()}, obs, act),
            params,
            BATCH,
            SUBSETS,
            key=KEY,
            **settings,
        )

    default = estimate()
    assert default.delta.shape == (3, dim)
    np.testing.assert_array_equal(default.scores, estimate(dim=dim).scores)


@pytest.mark.parametrize(
    ("subsets", "matrix"),
    [
        # Rows of n zeros and ones are rows, those of other numbers are indices.
        ([[0, 1], [1, 0]], [[0, 1], [1, 0]]),
        ([[0, 1], [1]], [[1, 1], [0, 1]]),
        ([[1, 0], {0}], [[1, 1], [1, 0]]),
        ([{0, 1}], [[1, 1]]),
        ([(True, False)], [[1, 0]]),
        ([np.array([1]), np.array([0, 1])], [[0, 1], [1, 1]]),
    ],
)
def test_lists_of_subsets_are_read_as_documented(subsets, matrix):
    np.testing.assert_array_equal(as_subsets(subsets, 2), np.array(matrix, bool))


def with_param(name, value):
    return {"params": {**PARAMS, name: value}}


def with_entry(field, index, value):
    values = getattr(BATCH, field).copy()
    values[index] = value
    return {"batch": BATCH._replace(**{field: values})}


@dataclasses.dataclass(eq=True)
class Unhashable:
    """A policy that cannot be hashed, as it has an `__eq__` of its own."""

    def __call__(self, params, observation, action):
        return log_prob(params, observation, action)


REFUSED = {
    "integer leaf": (
        with_param("steps", np.arange(3)),
        r"params\['steps'\].*got int64\[3\].*close log_prob_fn over it",
    ),
    "boolean leaf": (with_param("on", True), r"params\['on'\].*got bool"),
    "complex leaf": (with_param("bias", 1j), r"params\['bias'\].*got complex128"),
    "function leaf": (with_param("act", jnp.tanh), r"params\['act'\] must be an array"),
    "no params": ({"params": {}}, r"at least one parameter, got \{\}"),
    "empty params": ({"params": np.zeros((0, 3), np.float32)}, "at least one param"),
    "nan param": (
        with_param("bias", np.nan),
        r"params\['bias'\] holds 1 .* not finite",
    ),
    "inf param": (
        with_param("kernel", np.array([1, 2, np.inf])),
        r"params\['kernel'\] holds 1 .* index \(2,\)",
    ),
    "observation": (
        with_entry("observation", (2, 5, 1), np.nan),
        "observation holds 1 .*task 2, transition 5",
    ),
    "action": (with_entry("action", (3, 4), -np.inf), "action.*task 3, transition 4"),
    "advantage too large": (
        {"batch": BATCH._replace(advantage=1e40 * BATCH.advantage.astype(float))},
        "advantage holds 21 .*not finite in float32.*task 0, transition 0",
    ),
    "complex observation": (
        {"batch": BATCH._replace(observation=1j * BATCH.observation)},
        "observation must hold real numbers, got complex",
    ),
    "text": ({"batch": BATCH._replace(action="left")}, "action must hold real numbers"),
    "ragged": ({"batch": BATCH._replace(advantage=[[1.0], [1.0, 2.0]])}, "advantage"),
    "mask values": (
        {"batch": BATCH._replace(mask=2 * BATCH.valid)},
        "mask must hold.*0",
    ),
    "mask nan": (
        {"batch": BATCH._replace(mask=np.where(BATCH.mask, 1.0, np.nan))},
        "mask must hold only 0 and 1",
    ),
    "no observation": ({"batch": BATCH._replace(observation=None)}, "observation must"),
    "mapping": ({"batch": BATCH._asdict()}, "batch must be pge.Transitions.*got dict"),
    "index": (
        {"subsets": [[0, 1], [1, 4]]},
        r"0\.\.3, for each subset; row 1 is \[1, 4",
    ),
    "negative index": ({"subsets": [[0, -1]]}, "row 0"),
    "fraction index": ({"subsets": [[0, 1.5, 2]]}, "row 0"),
    "twice": ({"subsets": [[0, 1], [2, 2, 3]]}, "name a task once; row 1"),
    "empty subset": ({"subsets": [[0, 1], []]}, "must not be empty; row 1"),
    "no subsets": ({"subsets": []}, r"subsets must be.*n = 4.*shape \(0, 4\)"),
    "float key": ({"key": 0.5}, "key must be one key.*got 0.5"),
    "bool key": ({"key": True}, "key must be one key"),
    "keys": ({"key": jax.random.split(KEY, 2)}, "key must be one key"),
    "dim": ({"dim": 1.5}, "dim must be an integer, got 1.5"),
    "dim true": ({"dim": True}, "dim must be an integer, got True"),
    "dim text": ({"dim": "3"}, "dim must be an integer, got '3'"),
    "dim 0": ({"dim": 0}, "dim must be at least 1, got 0"),
    "dim above p": ({"dim": 5}, "p = 4, got 5. dim=None does without.*exact"),
    "projection": ({"projection": 3}, "projection must have a dim.*got 3"),
    "projection dim": (
        {"projection": pge.RademacherProjection(400)},
        "at most the number of parameters, p = 4, got 400",
    ),
    "iterations": ({"max_iterations": -1}, "max_iterations must be at least 0, got -1"),
    "iterations nan": ({"max_iterations": np.nan}, "max_iterations must be an integer"),
    "resamples": ({"num_resamples": 2.5}, "num_resamples must be an integer, got 2.5"),
    "run": ({"resample_length": 0}, "resample_length must be at least 1, got 0"),
    "tolerance nan": ({"tolerance": np.nan}, "tolerance must be at least 0 and finite"),
    "tolerance": ({"tolerance": -1e-5}, "tolerance must be at least 0.*got -1e-05"),
    "l2 inf": ({"l2": np.inf}, "l2 must be positive and finite, got inf"),
    "l2 nan": ({"l2": jnp.nan}, "l2 must be positive and finite, got nan"),
    "mesh": ({"mesh": 1}, "mesh must be a jax.sharding.Mesh or None, got 1"),
    "center": ({"center_features": "no"}, "center_features must be True, False or"),
    "normalize": ({"normalize_advantages": None}, "normalize_advantages must be True"),
    "precision": ({"feature_precision": ["tf32"]}, "feature_precision must be one of"),
    "l2 0": ({"l2": 0}, "l2 must be positive and finite, got 0"),
    "l2 true": ({"l2": True}, "l2 must be one real number, got True"),
    "l2 array": ({"l2": np.ones(2)}, "l2 must be one real number"),
    "l2 complex": ({"l2": 1j}, "l2 must be one real number, got 1j"),
    "limit": ({"max_relative_distance": np.nan}, "max_relative_distance must be pos"),
    "limit text": ({"max_relative_distance": "far"}, "'auto' or None, got 'far'"),
    "held out": ({"held_out_fraction": np.nan}, "held_out_fraction must be at least 0"),
    "function": ({"log_prob_fn": 3}, "log_prob_fn must be a function, got int"),
    "unhashable": (
        {"log_prob_fn": Unhashable()},
        "log_prob_fn must be hashable.*unhashable type.*def",
    ),
    "evaluator": ({"evaluator": ["surrogate"]}, "evaluator must be a function or one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_of_no_meaning_are_refused_by_name(case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        estimate(**settings)
    assert re.match(r"[a-z_]+[\w\[\]'.]* (must|holds)\b", str(error.value))


def test_known_values_are_refused_inside_jit_too():
    batch = with_entry("observation", (1, 2, 0), np.inf)["batch"]

    @jax.jit
    def scores(params):
        return estimate(params, batch).scores

    with pytest.raises(ValueError, match="observation.*task 1, transition 2"):
        scores(PARAMS)


def test_a_traced_number_that_shapes_depend_on_is_refused_by_name():
    with pytest.raises(ValueError, match="held_out_fraction must be known outside"):
        jax.jit(lambda x: estimate(held_out_fraction=x).scores)(0.5)


def test_values_that_the_mask_leaves_out_are_not_looked_at(expected):
    batch = BATCH
    for field in ("observation", "action", "advantage"):
        batch = batch._replace(
            **with_entry(field, ~BATCH.mask, np.nan)["batch"]._asdict()
            | {
                other: getattr(batch, other)
                for other in ("observation", "action", "advantage")
                if other != field
            }
        )
    assert np.isnan(batch.observation).sum() == 9
    np.testing.assert_array_equal(estimate(batch=batch).scores, expected.scores)


def test_checks_make_no_implicit_transfer():
    arrays = jax.device_put((PARAMS, BATCH))
    estimate(*arrays)
    with jax.transfer_guard("disallow"), pytest.raises(ValueError, match="l2"):
        estimate(*arrays, l2=-1.0)


FEATURES = BATCH.observation

REGRESSION_REFUSED = {
    "features": ({"features": FEATURES[0]}, "features must begin with.*\\[4, 6\\]"),
    "flat": ({"features": FEATURES[..., 0]}, r"features must be one array.*\[4, 6\]"),
    "nan": (
        {"features": with_entry("observation", (1, 3, 0), np.nan)["batch"].observation},
        "features holds 1 .*task 1, transition 3",
    ),
    "advantage": ({"advantage": np.zeros(4)}, "advantage must have shape"),
    "mask": ({"mask": np.ones((4, 5))}, "mask must have the shape"),
    "subsets": ({"subsets": [[0, 9]]}, "row 0"),
    "l2": ({"l2": np.inf}, "l2 must be positive and finite"),
    "tolerance": ({"tolerance": np.nan}, "tolerance must be"),
    "iterations": ({"max_iterations": -1}, "max_iterations must be at least 0"),
    "block": ({"subset_block": 0}, "subset_block must be at least 1, got 0"),
    "initial": (
        {"initial": np.zeros((3, 2))},
        r"initial must.*\[3, 3\], got.*\[3, 2\]",
    ),
}


@pytest.mark.parametrize("case", REGRESSION_REFUSED)
def test_the_regression_refuses_by_name(case):
    changed, message = REGRESSION_REFUSED[case]
    arguments = {"features": FEATURES, "advantage": BATCH.advantage, "subsets": SUBSETS}
    with pytest.raises(ValueError, match=message):
        pge.solve_regressions(**{**arguments, **changed})


def test_the_regression_takes_lists():
    settings = dict(l2=0.1, max_iterations=3)
    one = pge.solve_regressions(FEATURES, BATCH.advantage, SUBSETS, **settings)
    other = pge.solve_regressions(
        FEATURES.tolist(),
        BATCH.advantage.tolist(),
        [[0, 1], {1, 2, 3}, [0, 3]],
        **settings,
    )
    np.testing.assert_array_equal(one.delta, other.delta)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (with_param("bias", np.nan), r"params\['bias'\]"),
        (with_param("bias", 1), r"params\['bias'\].*floating-point"),
        (with_entry("action", (0, 3), np.nan), "action.*task 0, transition 3"),
        ({"batch": BATCH._replace(action=BATCH.action[:, 1:])}, "action must begin"),
    ],
)
def test_gradients_of_tasks_refuse_by_name(changed, message):
    params, batch = changed.get("params", PARAMS), changed.get("batch", BATCH)
    for function in (pge.task_gradients, pge.gradient_similarity):
        with pytest.raises(ValueError, match=message):
            function(log_prob, params, batch)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"params": {}}, "at least one parameter"),
        ({"key": 1.5}, "key must be"),
        ({"observation": np.full((6, 3), np.nan)}, "observation holds 18"),
        ({"action": np.zeros(5)}, "lengths 6 and 5"),
        ({"action": np.zeros(())}, r"action must hold arrays.*\[\(\)\]"),
        ({"sample_block": 0}, "sample_block must be at least 1"),
        ({"column_block": 1.5}, "column_block must be an integer"),
    ],
)
def test_projected_gradients_refuse_by_name(changed, message):
    arguments = {
        "params": PARAMS,
        "observation": BATCH.observation[0],
        "action": BATCH.action[0],
        "key": KEY,
    }
    with pytest.raises(ValueError, match=message):
        pge.project_gradients(log_prob, **{**arguments, **changed})
