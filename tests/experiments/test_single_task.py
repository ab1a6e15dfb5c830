"""The single-task experiment at a small size."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("single_task", ("config", "suite", "output"))


def test_every_seed_is_a_policy_of_its_own(script):
    settings = {
        "num_steps": 4_096,
        "network": {"hidden_sizes": (8,), "activation": "tanh"},
        "ppo": {"num_envs": 8, "unroll_length": 64, "num_epochs": 2},
    }
    found = script.solve("cartpole_v1", settings, (0, 1), num_episodes=4)
    assert found["num_steps"] == 4_096
    assert np.shape(found["curve"]) == (8, 2)
    for evaluation in found["evaluations"].values():
        # In CartPole every step earns one.
        np.testing.assert_allclose(evaluation["return"], evaluation["length"])
        assert evaluation["return"][0] != evaluation["return"][1]
    about = {"command": "python", "device": "CPU", "versions": {}, "commit": "abc"}
    table = script.write_page(about | found)
    assert table.count("| deterministic |") == table.count("| stochastic |") == 2


def test_a_suite_of_several_tasks_is_refused(script):
    with pytest.raises(ValueError, match="'cartpole' has 10"):
        script.solve("cartpole", {}, (0,), 1)
