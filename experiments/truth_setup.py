"""What the stages of `truth_table.py` share: the tasks and budgets of one table."""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.envs import TaskIdSuite, TaskSuite, make_suite, register_suite
from pgx_jax.envs.locks import combination_locks
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.pipeline.checks import make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.runs.provenance import describe
from pgx_jax.training.ppo import PPO
from pgx_jax.training.running_statistics import RunningStatistics

BEGAN = time.monotonic()


@dataclasses.dataclass(frozen=True)
class Setup:
    """The tasks, networks and budgets of one table.

    Attributes:
      name: of the table.
      settings: of all tables.
      config: the pipeline's, with the changes of the table.
      suite: the n tasks.
      actor_critic: the networks.
    """

    name: str
    settings: Mapping[str, Any]
    config: PipelineConfig
    suite: TaskSuite
    actor_critic: ActorCritic

    @classmethod
    def create(cls, values: Mapping[str, Any], name: str) -> Setup:
        """Reads the settings of one table.

        Raises:
          ValueError: there is no such table, or a setting is not allowed.
        """
        if name not in values["tables"]:
            raise ValueError(
                f"table {name!r} does not exist; there are "
                f"{', '.join(values['tables'])}"
            )
        given = values["tables"][name]
        register_suite("combination_locks", source=combination_locks)
        module = importlib.import_module(f"pgx_jax.configs.{given['config']}")
        config = module.get_config()
        config.seed = given.get("seed", 0)
        for field, (section, setting) in {
            "suite": ("suite", "name"),
            "hidden_sizes": ("network", "hidden_sizes"),
            "num_envs": ("ppo", "num_envs"),
            "meta_updates": ("meta_training", "num_updates"),
            "updates": ("group_training", "num_updates"),
        }.items():
            if field in given:
                config[section][setting] = given[field]
        config = PipelineConfig.from_dict(config.to_dict())
        suite = make_suite(config.suite.name)
        tasks = given.get("tasks") or [
            suite.task_names.index(x) for x in given["task_names"]
        ]
        suite = suite.select(list(tasks))
        if config.suite.task_id:
            suite = TaskIdSuite.create(suite)
        return cls(name, values, config, suite, make_networks(config, suite))

    @property
    def num_episodes(self) -> int:
        """Episodes of the evaluation of each row."""
        given = self.settings["tables"][self.name]
        return given.get("num_episodes", self.settings["num_episodes"])

    def key(self, stage: int) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.config.seed), stage)

    def policy(self, meta: Mapping[str, Any]) -> tuple[Any, ...]:
        """The meta-policy of a file: parameters [1, ...], observation and value
        statistics."""
        like = jax.eval_shape(self.actor_critic.init, jax.random.key(0))
        leaves, treedef = jax.tree.flatten(like)
        params = [jnp.asarray(meta[f"params_{i}"]) for i in range(len(leaves))]
        statistics = [
            RunningStatistics(*(jnp.asarray(meta[f"{x}_{i}"]) for i in range(3)))
            for x in ("observation", "value")
        ]
        return jax.tree.unflatten(treedef, params), *statistics

    def collecting_ppo(self) -> PPO:
        """PPO whose unrolls are a chunk of transitions of every task."""
        num_envs = self.settings["collection_envs"]
        length = self.settings["chunk_transitions"] // num_envs
        config = dataclasses.replace(
            self.config.ppo, num_envs=num_envs, unroll_length=length, num_minibatches=1
        )
        return PPO(config, self.actor_critic, 1)

    def about(self) -> str:
        """The settings of a stage, and what it runs on, as JSON."""
        about = {
            "table": self.name,
            "config": self.config.to_dict(),
            "task_names": list(self.suite.task_names),
            **describe(),
        }
        return json.dumps(about)


def report(setup: Setup, what: str, values: Any) -> None:
    """Prints values of a stage with the time since the start."""
    shown = np.array2string(np.asarray(values), precision=1, max_line_width=200)
    print(f"{time.monotonic() - BEGAN:6.0f} s {setup.name}: {what} {shown}", flush=True)


def save_arrays(path: Path, values: Mapping[str, Any]) -> None:
    """Writes the file at once, so that one that exists is whole."""
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **jax.device_get(dict(values)))
    temporary.replace(path)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
