"""README's code runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.envs import SUITES

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ESTIMATOR, ADAPTERS, ENVIRONMENT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_estimator_example_prints_the_groups_that_it_says(capsys):
    exec(ESTIMATOR, {})
    printed = capsys.readouterr().out.strip()
    assert printed == "[0 0 0 0 0 1 1 1 1 1]"
    assert printed in ESTIMATOR


def test_adapters_example_makes_suites():
    namespace = {}
    exec(ADAPTERS, namespace)
    assert namespace["ants"].observation_size == 27
    suite = namespace["reach"]
    state = suite.reset(jax.random.key(0), 2)
    distance = np.linalg.norm(state.observation, axis=-1)
    state = suite.step(state, 10.0 * state.observation)
    assert (-state.reward < distance).all()


def test_environment_example_is_a_suite():
    namespace = {}
    try:
        exec(ENVIRONMENT, namespace)
        suite = namespace["point_mass"]()
        state = jax.jit(suite.reset, static_argnums=1)(jax.random.key(0), 3)
        for _ in range(2):
            state = jax.jit(suite.step)(state, jnp.ones((4, 3, 1)))
        goal = np.array([-1.0, -0.8, 0.8, 1.0])[:, None]
        position = np.asarray(
            state.observation[..., 0] - 0.1 * state.observation[..., 1]
        )
        np.testing.assert_allclose(state.reward, -np.abs(position - goal), atol=1e-6)
    finally:
        SUITES.pop("point_mass", None)


def test_test_command_is_what_ci_runs():
    assert "bash .ci/run" in README
