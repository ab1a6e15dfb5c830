"""Trained policies in code of one's own, and which of them a new task is given."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from pgx_jax.envs import ActionSpace, from_functions, make_suite
from pgx_jax.pipeline import load_policies, route
from pgx_jax.pipeline.checks import stage_key
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.runs.workdir import Workdir


@pytest.mark.parametrize(("index", "draw"), [(0, 0), (1, 0), (2, 1)])
def test_policies_get_the_returns_that_are_reported(finished, index, draw):
    """Routing plays every policy on every task: its own tasks' are the report's."""
    workdir, results, _ = finished
    method = results.methods[index]
    policies = load_policies(workdir, method["name"], draw=draw)
    assert policies.task_names == tuple(results.task_names)
    found = route(
        policies, make_suite("cartpole_planted"), stage_key(0, "evaluation"), 4
    )
    assert found.returns.shape == (policies.num_groups, 10)
    own = found.returns[policies.labels, np.arange(10)]
    reported = np.mean(method["source"][draw], axis=-1)
    np.testing.assert_allclose(own, reported, rtol=1e-5)
    np.testing.assert_array_equal(found.groups, found.returns.argmax(axis=0))
    if index == 0:
        assert policies.labels.tolist() == results.groups["estimated"]
    # CartPole pays 1 a step: as many steps as all policies' episodes were paid for.
    assert found.env_steps == round(4 * float(found.returns.sum()))


def test_actions_are_those_of_the_stored_numbers(finished):
    """The network in NumPy: normalized, clipped, a layer of tanh, and logits."""
    policies = load_policies(finished[0], "one policy")
    observation = 100.0 * np.random.default_rng(0).normal(size=(7, 4))
    mean, variance = (
        np.asarray(x[0], np.float64)
        for x in (
            policies.observation_statistics.mean,
            policies.observation_statistics.variance,
        )
    )
    x = np.clip((observation - mean) / np.sqrt(variance + 1e-8), -10, 10)
    first, last = (policies.params[name] for name in ("Dense_0", "Dense_1"))
    x = np.tanh(x @ first["kernel"][0] + first["bias"][0])
    logits = x @ last["kernel"][0] + last["bias"][0]

    apply, act = jax.jit(policies.apply), jax.jit(policies.act)
    actions = np.arange(7) % 2
    np.testing.assert_allclose(
        apply(observation, 0).log_prob(actions),
        log_softmax(logits, axis=-1)[np.arange(7), actions],
        rtol=1e-4,
    )
    np.testing.assert_array_equal(act(observation, 0), logits.argmax(axis=-1))
    # 20,000 samples at one observation: 5 standard errors.
    many = act(jnp.tile(observation[0], (20_000, 1)), 0, jax.random.key(0))
    share = np.exp(log_softmax(logits[0]))[1]
    assert abs(np.mean(many) - share) < 5 * np.sqrt(share * (1 - share) / 20_000)
    # Of several groups at once, each with its own parameters.
    policies = load_policies(finished[0], "random groups")
    groups = np.array([policies.num_groups - 1, 0])
    together = jax.vmap(policies.apply)(observation[:2], groups).logits
    for row, group in enumerate(groups):
        alone = policies.apply(observation[row], int(group)).logits
        np.testing.assert_allclose(together[row], alone, rtol=1e-5)


def test_a_finished_run_may_be_read_only(finished):
    """Loading writes nothing, nor does it make a directory of a wrong path."""
    workdir, *_ = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    load_policies(workdir)
    after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert before == after


def test_what_cannot_be_loaded_is_reported(finished, tmp_path):
    with pytest.raises(ValueError, match="workdir .*nowhere' holds no run"):
        load_policies(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ValueError, match="one of estimated groups, one policy.*'mine'"):
        load_policies(finished[0], "mine")
    with pytest.raises(ValueError, match=r"draw must be in 0..1 for 'random groups'"):
        load_policies(finished[0], "random groups", draw=2)
    begun = Workdir(tmp_path / "begun", PipelineConfig().to_dict())
    with pytest.raises(ValueError, match="groups are not known yet"):
        load_policies(begun.path)
    places = {"one policy": {"stage": "group_training", "policy_ids": [[0] * 10]}}
    begun.write_policies(places)
    with pytest.raises(ValueError, match="not yet trained the policies of 'one policy"):
        load_policies(begun.path, "one policy")


def test_tasks_and_observations_that_do_not_fit_are_refused(finished):
    policies = load_policies(finished[0])
    with pytest.raises(ValueError, match="task must be one of .*; got 'nobody'"):
        policies.group_of("nobody")
    assert policies.group_of(policies.task_names[3]) == policies.labels[3]
    with pytest.raises(ValueError, match=r"group must be in 0..\d, got 9"):
        policies.act(jnp.zeros(4), 9)
    with pytest.raises(ValueError, match=r"shape \[..., 4\], got \[5\]"):
        policies.act(jnp.zeros(5), 0)

    def suite(size, num_actions):
        return from_functions(
            lambda parameters, key: ((), jnp.zeros(size)),
            lambda parameters, state, action, key: ((), jnp.zeros(size), 0.0, False),
            jnp.zeros(1),
            action_space=ActionSpace(num_actions, discrete=True),
            episode_length=3,
        )

    key = jax.random.key(0)
    with pytest.raises(ValueError, match="observations of size 4, .*got 3"):
        route(policies, suite(3, 2), key)
    with pytest.raises(ValueError, match="discrete actions of size 2"):
        route(policies, suite(4, 3), key)
    with pytest.raises(ValueError, match="TaskSuite or a Brax environment, got str"):
        route(policies, "cartpole", key)
    with pytest.raises(ValueError, match="num_episodes"):
        route(policies, suite(4, 2), key, 0)


def test_examples_of_the_guide_run(finished, tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "guides" / "trained_policies.md"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cartpole_planted").symlink_to(finished[0])
    monkeypatch.chdir(tmp_path)
    suite = make_suite("cartpole_planted")
    names = {"jax": jax, "suite": suite, "observation": jnp.zeros(4)}
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(example, names)
    assert int(names["action"]) in (0, 1)
    assert names["found"].returns.shape == (names["policies"].num_groups, 10)
    assert names["found"].groups.shape == (10,)
