"""The experiment that compares evaluators refuses what it cannot compare."""

import pytest


@pytest.fixture(scope="module")
def script(load_script):
    names = ("config", "output", "suites", "seeds", "evaluators")
    return load_script("evaluators", names)


def test_suites_need_planted_groups(script):
    script.check_suites(["cartpole_planted", "cartpole_planted_3"])
    with pytest.raises(ValueError, match="planted groups, 'lunar_lander' has none"):
        script.check_suites(["cartpole_planted", "lunar_lander"])


def test_a_page_has_a_line_for_each_suite_and_evaluator(script):
    names = ("score", "spread", "standard_error", "effective_sample_size", "seconds")
    rows = [
        {"suite": "a", "evaluator": "surrogate", "nmi": nmi, "num_groups": k}
        | dict.fromkeys(names, value)
        for nmi, k, value in ((1.0, 2, 3.0), (0.5, 3, 4.0))
    ]
    about = {"command": "python x.py", "device": "abacus", "commit": "abc"}
    page = script.write_page({**about, "versions": {"jax": "1.2"}, "rows": rows})
    assert page.startswith("`python x.py`\n\nabacus; jax 1.2; commit abc.\n\n| suite |")
    expected = "| a | surrogate | 1.00 0.50 | 2 3 | 3.5 | 3.5 | 3.5 | 3.5 | 3.5 |"
    assert expected in page
