"""Suites, networks and trainers refuse by name what has no meaning for them."""

from __future__ import annotations

import numpy as np
import pytest
from reliability import bad_training_inputs, calls, outcomes
from reliability.bad_training_inputs import CALLS, REFUSED


def failures(function, step):
    found = []
    cases = list(outcomes.cases_of({function: REFUSED[function]}))
    for case in cases[::step]:
        outcome, message = outcomes.outcome(case, CALLS)
        if outcome != "refused":
            found.append(f"{case.argument}={case.value!r}: {outcome}: {message}")
    return found


@pytest.mark.parametrize("function", REFUSED)
def test_bad_inputs_are_refused_by_name(function):
    assert failures(function, 3) == []


@pytest.mark.reliability
@pytest.mark.parametrize("function", REFUSED)
def test_every_bad_input_is_refused_by_name(function):
    assert failures(function, 1) == []


def test_an_integer_is_a_key_of_episodes():
    key, seed = calls.KEY, 0
    suite = bad_training_inputs.SUITE
    first, second = (suite.reset(x, 2).observation for x in (key, seed))
    np.testing.assert_array_equal(first, second)
