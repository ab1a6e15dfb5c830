"""Calls of suites, networks and training, and what each must refuse by name.

The form is that of `bad_inputs.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from reliability.bad_values import (
    INF,
    NAN,
    NO_COUNT,
    NO_INTEGER,
    NO_KEY,
    NO_NUMBER,
    NO_PATH,
    NO_POSITIVE,
    NO_SHARE,
    NO_SUBSETS,
    NO_SWITCH,
)
from reliability.calls import KEY

from pgx_jax.envs import ActionSpace, make_suite
from pgx_jax.estimation.projection import GaussianProjection
from pgx_jax.evaluation.oracle import Oracle
from pgx_jax.evaluation.rollouts import RolloutEvaluator
from pgx_jax.evaluation.transition_sums import collect_sums
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.pipeline.config import NetworkConfig, PipelineConfig, SuiteConfig
from pgx_jax.pipeline.policies import TrainedPolicies, load_policies, route
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.ppo import PPO, PPOConfig

SUITE = make_suite("cartpole_planted_3")
N = SUITE.num_tasks
NETWORKS = make_actor_critic(
    SUITE.observation_size, SUITE.action_space.size, discrete=True, hidden_sizes=(8,)
)
CONFIG = PPOConfig(num_envs=4, unroll_length=16, num_epochs=1, num_minibatches=2)
TRAINER = PPO(CONFIG, NETWORKS, 4)
STATE = TRAINER.init(SUITE, KEY)
TAKEN = jax.tree.map(jnp.copy, STATE)  # as a call of `run` leaves a state
jax.tree.map(lambda x: x.delete(), TAKEN)
TWO = STATE._replace(
    params=jax.tree.map(lambda x: jnp.concatenate([x, x]), STATE.params)
)
POLICIES = TrainedPolicies(
    SUITE.name,
    tuple(SUITE.task_names),
    "one policy",
    np.zeros(N, np.int32),
    NETWORKS,
    STATE.params["policy"],
    STATE.observation_statistics,
)


def write_run():
    """A workdir with one trained policy, and what keeps it."""
    directory = tempfile.TemporaryDirectory()
    config = PipelineConfig(
        suite=SuiteConfig(SUITE.name), network=NetworkConfig((8,)), ppo=CONFIG
    )
    workdir = Workdir(Path(directory.name) / "run", config.to_dict())
    workdir.finish("meta_training", STATE, {"seconds": 1.0, "env_steps": 1})
    ids = {"stage": "meta_training", "policy_ids": [[0] * N]}
    workdir.write_policies({"one policy": ids})
    return directory, workdir.path


DIRECTORY, WORKDIR = write_run()


def make_trainer(num_updates):
    return PPO(CONFIG, NETWORKS, num_updates)


def make_oracle(ppo=TRAINER, **settings):
    return Oracle(ppo, **settings)


def make_evaluator(**settings):
    return RolloutEvaluator(SUITE, NETWORKS, None, **settings)


# What is called, and arguments that work.
CALLS: dict[str, tuple[Callable, dict[str, Any]]] = {
    "PPOConfig": (PPOConfig, {}),
    "PPO": (make_trainer, {"num_updates": 4}),
    "PPO.init": (TRAINER.init, {"suite": SUITE, "key": KEY}),
    "PPO.run": (TRAINER.run, {"suite": SUITE, "state": STATE, "num_updates": 1}),
    "PPO.collect_transitions": (
        TRAINER.collect_transitions,
        {"suite": SUITE, "state": STATE, "key": KEY, "num_steps": 8},
    ),
    "collect_sums": (
        collect_sums,
        {
            "ppo": TRAINER,
            "suite": SUITE,
            "state": STATE,
            "key": KEY,
            "num_transitions": CONFIG.steps_per_update,
            "projection_key": KEY,
            "projection": GaussianProjection(3),
            "num_parts": 2,
        },
    ),
    "Oracle": (make_oracle, {}),
    "Oracle.run": (
        Oracle(TRAINER).run,
        {"suite": SUITE, "meta": STATE, "subsets": np.eye(N), "key": KEY},
    ),
    "load_policies": (load_policies, {"workdir": WORKDIR, "method": "one policy"}),
    "route": (route, {"policies": POLICIES, "tasks": SUITE, "key": KEY}),
    "RolloutEvaluator": (make_evaluator, {}),
    "make_suite": (make_suite, {"name": "cartpole"}),
    "select": (SUITE.select, {"tasks": [0]}),
    "reset": (SUITE.reset, {"key": KEY, "num_envs": 2}),
    "task_environment": (SUITE.task_environment, {"task": 0}),
    "make_actor_critic": (
        make_actor_critic,
        {"observation_size": 3, "action_size": 2, "discrete": True},
    ),
    "make_actor_critic, care": (
        make_actor_critic,
        {
            "observation_size": 3,
            "action_size": 2,
            "discrete": True,
            "name": "care",
            "num_tasks": 2,
        },
    ),
    "ActionSpace": (ActionSpace, {"size": 2, "discrete": True}),
}
BLOCKS = [x for x in NO_COUNT if x is not None]
POSITIVE = [*NO_POSITIVE, None]
NOT_NEGATIVE = [*NO_NUMBER, NAN, INF, -1.0, None]
FRACTION = [*NOT_NEGATIVE, 2.0]
NO_NAME = [None, 3, "best", [], {}]
NO_SUITE = [None, 3, "cartpole", SUITE.name, {}, object()]
NO_STATE = [
    *(None, 3, "text", {}, STATE.params, STATE._asdict(), tuple(STATE), TAKEN),
    STATE._replace(policy_ids=jnp.zeros(N + 1, jnp.int32)),
    STATE._replace(
        suite_state=jax.tree.map(lambda x: x[:, :2], STATE.suite_state),
    ),
    STATE._replace(params=jax.tree.map(lambda x: x[..., :-1], STATE.params)),
    STATE._replace(params=STATE.params["policy"]),
]
REFUSED: dict[str, dict[str, list[Any]]] = {
    "PPOConfig": {
        **{
            name: NO_COUNT
            for name in ("num_envs", "unroll_length", "num_epochs", "num_minibatches")
        },
        **{
            name: POSITIVE
            for name in ("learning_rate", "clip_epsilon", "max_gradient_norm")
        },
        "entropy_cost": NOT_NEGATIVE,
        "value_cost": NOT_NEGATIVE,
        "discount": FRACTION,
        "gae_lambda": FRACTION,
        "value_decay": [*NO_SHARE, None],
        "stagger_resets": NO_SWITCH,
        "anneal_learning_rate": NO_SWITCH,
    },
    "PPO": {
        # Several numbers are one a policy.
        "num_updates": [1.5, NAN, INF, "3", True, -1, 1j, {}, None, 0, [], [0], [[1]]],
    },
    "PPO.init": {
        "suite": [None, 3, "cartpole", SUITE.name, {}],
        "key": NO_KEY,
        "policy_ids": [
            *([0], [0.5] * N, [-1] + [0] * (N - 1), "text", 3, [NAN] * N, {}),
            *([None] * N, np.zeros((N, 1), int), [2] * N, [[0], [0, 1]]),
        ],
    },
    "PPO.run": {
        "suite": [*NO_SUITE, make_suite("cartpole")],
        "state": NO_STATE,
        "num_updates": NO_COUNT,
    },
    "PPO.collect_transitions": {
        "suite": [*NO_SUITE, make_suite("cartpole")],
        "state": NO_STATE,
        "key": NO_KEY,
        "num_steps": [*NO_COUNT, CONFIG.num_envs + 1],
    },
    "collect_sums": {
        "ppo": [None, 3, "text", CONFIG, NETWORKS],
        "suite": [*NO_SUITE, make_suite("cartpole")],
        "state": [*NO_STATE, TWO],
        "key": NO_KEY,
        "num_transitions": [*NO_COUNT, CONFIG.steps_per_update + 1],
        "projection_key": NO_KEY,
        "projection": [3, "text", object(), {}, GaussianProjection],
        "num_parts": [*NO_COUNT, 3],
        "noise": NO_SWITCH,
    },
    "Oracle": {
        "ppo": [None, 3, "text", CONFIG],
        "num_episodes": NO_COUNT,
        "block_size": BLOCKS,
        "score": NO_NAME,
        "deterministic": NO_SWITCH,
    },
    "Oracle.run": {
        "suite": [*NO_SUITE, make_suite("cartpole")],
        "meta": [*NO_STATE, TWO],
        "subsets": [*NO_SUBSETS, np.ones((2, N + 1)), 0.5 * np.eye(N)],
        "key": NO_KEY,
        "workdir": [3, "text", str(WORKDIR), WORKDIR, {}],
        "stage": [None, 3, "", "a/b", [], {}],
        "on_block": [3, "text", {}],
    },
    "load_policies": {
        "workdir": [*NO_PATH, "no/such/run", str(WORKDIR.parent)],
        "method": [None, 3, [], {}, "", "no such method", b"one policy", 1.5],
        "draw": [*NO_INTEGER, None, 1],
    },
    "route": {
        "policies": [None, 3, "text", {}, STATE, STATE.params],
        "tasks": [None, 3, "cartpole", {}, make_suite("highway")],
        "key": NO_KEY,
        "num_episodes": NO_COUNT,
        "deterministic": NO_SWITCH,
        "episode_length": NO_COUNT,
    },
    "RolloutEvaluator": {
        "num_episodes": [*NO_COUNT, 1],
        "block_size": BLOCKS,
        "metric": NO_NAME,
        "quantile": [*NO_NUMBER, NAN, 0.0, 1.0, -1.0],
        "deterministic": NO_SWITCH,
        "max_relative_distance": NO_POSITIVE,
    },
    "make_suite": {"name": NO_NAME, "split": NO_NAME},
    "select": {
        "tasks": [
            *(None, 3, "text", [], [99], [-1], [0.5], [None], [NAN], [True], {}),
            [[0]],
        ],
    },
    "reset": {"num_envs": NO_COUNT, "key": NO_KEY},
    "task_environment": {"task": [None, "a", 99, -1, 0.5, [], NAN, True]},
    "make_actor_critic": {
        "observation_size": NO_COUNT,
        "action_size": NO_COUNT,
        "discrete": NO_SWITCH,
        "bounded_mean": NO_SWITCH,
        "num_objectives": [*NO_INTEGER, None, -1],
        "hidden_sizes": [(), (0,), (1.5,), "ab", 3, None, (NAN,), {}],
        "activation": NO_NAME,
        "name": NO_NAME,
        "num_tasks": [*NO_NUMBER, NAN, -1, 1.5, None, True, 3],
        "num_modules": [1],
        "shared_head": [*NO_SWITCH, True],
        "task_embeddings": [*NO_NUMBER, [[1.0]], None],
        "critic": NO_NAME,
        "critic_width": [*NO_COUNT, 64],
        "critic_depth": [*NO_COUNT, 3],
    },
    "make_actor_critic, care": {
        "num_modules": BLOCKS,
        "num_tasks": [0, 3],
        "task_embeddings": [
            *([[1.0]], [1.0, 2.0], [[NAN], [1.0]], [[1.0], [1.0, 2.0]], "text", None),
            [[], []],
        ],
    },
    "ActionSpace": {"size": NO_COUNT, "discrete": NO_SWITCH},
}
