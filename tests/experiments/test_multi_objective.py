"""The units that fronts are compared in, and the page, on made-up policies."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(load_script):
    names = "robots num_seeds num_updates num_envs num_episodes others output"
    return load_script("multi_objective", names.split())


def test_preferences_are_a_grid_of_the_simplex(script):
    np.testing.assert_allclose(script.make_grid(2, 2), [[1, 0], [0.5, 0.5], [0, 1]])
    assert len(script.make_grid(4, 3)) == 15
    np.testing.assert_allclose(script.make_grid(4, 3).sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("problem", "returns", "length", "ours", "theirs"),
    [
        ("half-cheetah, 2 objectives", [1e3, -600], 500, [1e3, -600], [1500, 1900]),
        # 800 of velocity, 500 of height, 300 of squared actions; one each step.
        ("hopper, 3 objectives", [1200, 900, 100], 400, [1200, 900, 100], None),
        ("hopper, 2 objectives", [1200, 900, 100], 400, [1199.7, 899.7], None),
    ],
)
def test_returns_are_those_of_both_definitions(
    script, problem, returns, length, ours, theirs
):
    expected = (
        theirs
        or {
            "hopper, 3 objectives": [1600.0, 1000.0, 1700.0],
            "hopper, 2 objectives": [1599.94, 999.94],
        }[problem]
    )
    found = script.convert(problem, np.array(returns), np.array(length))
    np.testing.assert_allclose(found[0], ours)
    np.testing.assert_allclose(found[1], expected)


def test_page_has_every_methods_front(script):
    about = {"command": "python", "device": "CPU", "versions": {}, "commit": "abc"}
    front = {"returns": [[[1e3, -1e3], [0, 0]]], "lengths": [[500, 500]]}
    ours = about | front | {"preferences": [[1, 0], [0, 1]], "steps_per_policy": 4096}
    spent = ("training", "seconds_without_compilation", "evaluation")
    ours |= {x if "_" in x else f"{x}_seconds": 9.0 for x in spent}
    ours |= {"steps_per_second": 100.0, "num_episodes": 8}
    other = front | {"method": "PGMORL", "robot": "half_cheetah", "steps": 7}
    other |= {"training_seconds": 60.0, "about": "one thread"}
    page = script.write_page({"half_cheetah": ours}, [other])
    # 1500 x 1500 and 500 x 1000 above; 1100 x 2000 and 100 x 1000 in the other units.
    assert "| pgx_jax | 2.75 | 1.75 | 2.30 | 0.25 | 2 of 2 | 8,192 | 9 |" in page
    assert "| PGMORL, morl-baselines | 2.75 | 1.75 | 2.30 | 0.25 | 2 of 2 | 7 |" in page
    assert page.count("published |") == 15
    assert len(script.draw_fronts({"half_cheetah": ours}, [other]).axes) == 2
