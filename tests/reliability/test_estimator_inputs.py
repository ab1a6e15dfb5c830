"""No input makes a public function fail by another package's error, or give nonsense.

The table is `bad_inputs.py`. A share of it runs with the other tests, all of it by
`pytest -m reliability`.
"""

from __future__ import annotations

import collections
import re

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from reliability import bad_inputs, calls, outcomes

import pgx_jax as pge
from pgx_jax import arguments
from pgx_jax.analysis import statistics

CASES = collections.defaultdict(list)
for _case in bad_inputs.cases():
    CASES[_case.function].append(_case)


def failures(cases) -> list[str]:
    found = []
    for case in cases:
        outcome, message = outcomes.outcome(case, calls.CALLS)
        if outcome != "refused":
            found.append(f"{case.argument}={case.value!r}: {outcome}: {message}")
    return found


@pytest.fixture(autouse=True)
def figures():
    """Pictures without a display, closed afterwards."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def test_the_table_is_as_large_as_it_says():
    assert sum(len(cases) for cases in CASES.values()) > 2000
    assert set(CASES) == set(calls.CALLS)


def test_every_function_of_arrays_is_in_the_table():
    functions = {
        name
        for name in pge.__all__
        if callable(getattr(pge, name)) and not isinstance(getattr(pge, name), type)
    }
    assert functions <= set(calls.CALLS)


@pytest.mark.parametrize("function", CASES)
def test_bad_inputs_are_refused_by_name(function):
    assert failures(CASES[function][::5]) == []


@pytest.mark.reliability
@pytest.mark.parametrize("function", CASES)
def test_every_bad_input_is_refused_by_name(function):
    assert failures(CASES[function]) == []


# Values of one meaning work, whatever their type.
WORK = {
    "whole float": ("cluster_tasks", {"num_groups": 2.0}),
    "numpy integer": ("cluster_tasks", {"num_groups": np.int8(2)}),
    "array of one integer": ("cluster_tasks", {"num_groups": np.array(2)}),
    "lists for an affinity": (
        "cluster_tasks",
        {"affinity": calls.MATRIX.tolist()},
    ),
    "a device's affinity": (
        "cluster_tasks",
        {"affinity": jax.numpy.asarray(calls.MATRIX)},
    ),
    "integer subsets": (
        "best_trained_partition",
        {"subsets": calls.ALL_SUBSETS.astype(int)},
    ),
    "lists for subsets": (
        "best_trained_partition",
        {"subsets": calls.ALL_SUBSETS.tolist()},
    ),
    "a whole float of tasks": ("sample_subsets", {"num_tasks": 4.0}),
    "an integer for a key": ("sample_subsets", {"key": 0}),
    "labels of a list": ("partition_value", {"labels": [0, 0, 1, 1]}),
    "labels of bytes": (
        "partition_value",
        {"labels": np.array([3, 3, 7, 7], np.uint8)},
    ),
    "lists for samples": ("t_interval", {"values": calls.VALUES.tolist()}),
    "half precision": (
        "rank_correlation",
        {"a": jax.numpy.asarray(calls.VALUES, jax.numpy.bfloat16)},
    ),
    "lists for transitions": (
        "task_gradients",
        {"batch": jax.tree.map(lambda x: x.tolist(), calls.BATCH)},
    ),
}


@pytest.mark.parametrize("case", WORK)
def test_inputs_of_one_meaning_give_the_same_result(case):
    name, changed = WORK[case]
    function, usual = calls.CALLS[name]
    expected = jax.tree.leaves(function(**usual))
    for a, b in zip(
        jax.tree.leaves(function(**{**usual, **changed})), expected, strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
)
ANYTHING = st.one_of(
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12),
    hypothesis.extra.numpy.arrays(
        st.sampled_from([bool, np.int8, np.uint64, np.float16, np.float64, complex]),
        hypothesis.extra.numpy.array_shapes(min_dims=0, max_dims=3, max_side=4),
    ),
)


def returned(function, *arguments):
    """What a check returns, or None where it refuses; it does nothing else."""
    try:
        return function(*arguments)
    except ValueError as error:
        assert str(error).startswith(("argument", "subsets", "key", "seed"))
        return None


@hypothesis.settings(deadline=None, max_examples=300, derandomize=True)
@hypothesis.given(ANYTHING)
def test_checks_refuse_or_return_what_they_promise(value):
    number = returned(arguments.as_integer, "argument", value, -3, 10**6)
    assert number is None or (type(number) is int and -3 <= number <= 10**6)
    share = returned(arguments.as_share, "argument", value)
    assert share is None or 0.0 < share < 1.0
    numbers = returned(arguments.as_numbers, "argument", value)
    assert numbers is None or np.isfinite(numbers).all()
    square = returned(arguments.as_square, "argument", value)
    assert square is None or (square.ndim == 2 and len(set(square.shape)) == 1)
    labels = returned(arguments.as_labels, "argument", value, 3)
    assert labels is None or (labels.shape == (3,) and labels.dtype == np.int64)
    subsets = returned(arguments.as_subset_matrix, value)
    assert subsets is None or (subsets.dtype == bool and subsets.any(axis=1).all())
    key = returned(arguments.as_key, value)
    assert key is None or jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    returned(arguments.check_number, "argument", value)
    returned(arguments.check_switch, "argument", value)


@hypothesis.settings(deadline=None, max_examples=100, derandomize=True)
@hypothesis.given(ANYTHING, ANYTHING)
def test_statistics_of_anything_are_finite_or_refused(first, second):
    for function, given in (
        (statistics.interquartile_mean, (first,)),
        (statistics.normalized_mutual_information, (first, second)),
        (statistics.t_interval, (first,)),
    ):
        try:
            result = function(*given)
        except ValueError as error:
            assert re.match(r"(values|a|b|a and b) must", str(error))
        else:
            assert np.isfinite(result).all()
