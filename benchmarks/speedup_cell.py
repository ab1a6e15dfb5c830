"""One cell of `speedup.py`: estimate and oracle for one suite, depth and seed."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import speedup_report as report
from flops import count_flops

import pgx_jax as pge
from pgx_jax.envs import TaskSuite, make_suite
from pgx_jax.evaluation.oracle import Oracle, OracleRun
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.diagnostics import first_nonfinite
from pgx_jax.training.ppo import PPO, PPOConfig, TrainingState

GRID = ("suites", "layers", "seeds")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The config, checked.

    Attributes:
      suites: names in `pgx_jax.envs.SUITES`.
      layers: hidden layers of the policy and of the critic.
      seeds: of all random draws.
      hidden_size: width of every hidden layer.
      num_groups: k.
      ppo: settings of meta-training and of fine-tuning.
      meta_updates: PPO updates of the meta-policy.
      num_subsets: m.
      subset_size: tasks in a subset.
      num_transitions: transitions per task that the estimate draws.
      collection_envs: environments per task that it draws them in, newly reset.
      dim: d, the number of columns of the projection.
      repeats: timed calls of the estimate, whose median counts.
      oracle: `num_updates` of each subset, and the fields of `Oracle` but `ppo`
        and `mesh`.
    """

    suites: tuple[str, ...]
    layers: tuple[int, ...]
    seeds: tuple[int, ...]
    hidden_size: int
    num_groups: int
    ppo: PPOConfig
    meta_updates: int
    num_subsets: int
    subset_size: int
    num_transitions: int
    collection_envs: int
    dim: int
    repeats: int
    oracle: Mapping[str, Any]

    @classmethod
    def create(cls, values: Mapping[str, Any]) -> Settings:
        """Checks the config.

        Raises:
          ValueError: a field is unknown, missing, or not allowed; the message names it.
        """
        fields = dataclasses.fields(cls)
        _check_fields("", values, [field.name for field in fields])
        of_oracle = {field.name for field in dataclasses.fields(Oracle)}
        oracle = ["num_updates", *sorted(of_oracle - {"ppo", "mesh"})]
        _check_fields("oracle.", values["oracle"], oracle)
        for name in GRID:
            if not values[name]:
                raise ValueError(f"config field {name!r} must not be empty")
        for name in [field.name for field in fields if field.type == "int"]:
            if not isinstance(values[name], int) or values[name] < 1:
                raise ValueError(
                    f"config field {name!r} must be a positive integer, got "
                    f"{values[name]!r}"
                )
        ppo = PipelineConfig.from_dict({"ppo": values["ppo"]}).ppo
        return cls(**{**values, "ppo": ppo})


def _check_fields(prefix: str, values: Mapping[str, Any], fields: list[str]) -> None:
    for name in sorted(set(fields) ^ set(values)):
        state = "lacks the" if name in fields else "has an unknown"
        raise ValueError(f"the config {state} field {prefix + name!r}")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One suite, depth and seed, with all that computes the affinity of its tasks.

    Attributes:
      ppo: trains the meta-policy.
      collector: draws the estimate's transitions.
      oracle: fine-tunes on subsets.
      subsets: bool [m, n].
    """

    settings: Settings
    suite: TaskSuite
    layers: int
    seed: int
    ppo: PPO
    collector: PPO
    oracle: Oracle
    subsets: np.ndarray

    @classmethod
    def create(cls, settings: Settings, name: str, layers: int, seed: int) -> Cell:
        """Builds all that the cell runs, so that wrong settings are refused at once."""
        suite = make_suite(name)
        if settings.num_groups > suite.num_tasks:
            raise ValueError(
                f"config field 'num_groups' must be at most the {suite.num_tasks} "
                f"tasks of {name!r}, got {settings.num_groups}"
            )
        config = settings.ppo
        networks = make_actor_critic(
            suite.observation_size,
            suite.action_space.size,
            suite.action_space.discrete,
            (settings.hidden_size,) * layers,
        )
        options = dict(settings.oracle)
        fine_tuner = PPO(config, networks, options.pop("num_updates"))
        many_envs = dataclasses.replace(config, num_envs=settings.collection_envs)
        return cls(
            settings=settings,
            suite=suite,
            layers=layers,
            seed=seed,
            ppo=PPO(config, networks, settings.meta_updates),
            collector=PPO(many_envs, networks, 1),
            oracle=Oracle(fine_tuner, **options),
            subsets=pge.sample_subsets(
                stage_key(seed, "subsets"),
                suite.num_tasks,
                settings.num_subsets,
                settings.subset_size,
            ),
        )

    @property
    def title(self) -> str:
        return f"{self.suite.name} {self.layers} layers seed {self.seed}"

    def key(self, stage: str) -> jax.Array:
        return stage_key(self.seed, stage)

    def run(self, directory: Workdir, progress: Progress) -> dict[str, Any]:
        """Runs all stages; returns a dict of JSON values."""
        progress.start(f"{self.title}: meta-training", 0)
        meta, meta_seconds = self.train(directory)
        progress.start(f"{self.title}: estimate", 0)
        estimate, estimate_seconds = self.time_estimate(meta, directory)
        oracle, again = (
            self.fine_tune(meta, directory, progress, stage)
            for stage in ("oracle", "oracle_again")
        )
        seconds = {
            "meta_training": meta_seconds["run"],
            "estimate": statistics.median(estimate_seconds["every_run"]),
            "oracle": min(oracle.seconds, again.seconds),
        }
        operations = self.count(meta, int(estimate["num_iterations"].max()), oracle)
        scores = {
            "estimate": estimate["scores"],
            "oracle": oracle.result.scores,
            "oracle_again": again.result.scores,
        }
        return {
            "suite": self.suite.name,
            "layers": self.layers,
            "seed": self.seed,
            "num_tasks": self.suite.num_tasks,
            "num_subsets": len(self.subsets),
            "num_parameters": sum(
                x[0].size for x in jax.tree.leaves(meta.params["policy"])
            ),
            "seconds": seconds,
            "every_run": {
                "estimate": estimate_seconds["every_run"],
                "oracle": [oracle.seconds, again.seconds],
            },
            "compile_seconds": {
                "meta_training": meta_seconds["compile"],
                "estimate": estimate_seconds["compile"],
                "oracle": max(oracle.compile_seconds, again.compile_seconds),
            },
            "flops": operations,
            "speedup": {"wall": _ratios(seconds), "flops": _ratios(operations)},
            "env_steps": self.env_steps(oracle),
            "regression_iterations": int(estimate["num_iterations"].max()),
            "regressions_converged": float(estimate["converged"].mean()),
            "block_size": oracle.block_size,
            **report.compare(
                self.subsets,
                scores,
                self.settings.num_groups,
                self.suite.planted_labels,
            ),
        }

    def env_steps(self, run: OracleRun) -> dict[str, int]:
        """Environment steps of each part, summed over tasks."""
        meta_steps = self.ppo.total_updates * self.settings.ppo.steps_per_update
        return {
            "meta_training": self.suite.num_tasks * meta_steps,
            "estimate": self.suite.num_tasks * self.settings.num_transitions,
            "oracle": run.env_steps,
        }

    def train(self, directory: Workdir) -> tuple[TrainingState, dict[str, float]]:
        """The meta-policy, and the seconds that it took."""
        stage, num_updates = "meta_training", self.ppo.total_updates
        start = self.ppo.init(self.suite, self.key(stage))
        if not directory.is_finished(stage):
            program, compile_seconds = _compile(
                lambda suite, state: self.ppo.run(suite, state, num_updates),
                self.suite,
                start,
            )
            began = time.perf_counter()
            state, metrics = jax.block_until_ready(program(self.suite, start))
            seconds = {"run": time.perf_counter() - began, "compile": compile_seconds}
            if place := first_nonfinite(state, metrics):
                raise FloatingPointError(f"{self.title}: meta-training met {place}")
            directory.finish(stage, state, seconds)
        return directory.result(stage, start), directory.info(stage)

    def estimate(
        self, suite: TaskSuite, meta: TrainingState, key: jax.Array
    ) -> dict[str, jax.Array]:
        """The whole estimate, from the meta-policy to the affinity."""
        reset_key, collect_key, estimate_key = jax.random.split(key, 3)
        state = self.collector.init_from(
            suite,
            reset_key,
            np.zeros(suite.num_tasks, np.int32),
            meta.params,
            meta.observation_statistics,
            meta.value_statistics,
        )
        batch = self.collector.collect_transitions(
            suite, state, collect_key, self.settings.num_transitions
        )
        estimates = pge.estimate_subsets(
            self.ppo.actor_critic.log_prob,
            jax.tree.map(lambda x: x[0], meta.params["policy"]),
            batch,
            self.subsets,
            key=estimate_key,
            dim=self.settings.dim,
        )
        return {
            "scores": estimates.scores,
            "num_iterations": estimates.num_iterations,
            "converged": estimates.converged,
            "affinity": pge.task_affinity(estimates).matrix,
        }

    def time_estimate(
        self, meta: TrainingState, directory: Workdir
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `estimate` returns, and the seconds of every call."""
        stage = "estimate"
        if not directory.is_finished(stage):
            arguments = self.suite, meta, self.key(stage)
            program, compile_seconds = _compile(self.estimate, *arguments)
            result = jax.device_get(program(*arguments))
            every_run = []
            for _ in range(self.settings.repeats):
                began = time.perf_counter()
                jax.block_until_ready(program(*arguments))
                every_run.append(time.perf_counter() - began)
            seconds = {"every_run": every_run, "compile": compile_seconds}
            directory.finish(stage, result, seconds)
        return directory.result(stage), directory.info(stage)

    def fine_tune(
        self, meta: TrainingState, directory: Workdir, progress: Progress, stage: str
    ) -> OracleRun:
        """One run of the oracle."""
        total = int(self.subsets.sum()) * self.oracle.env_steps_per_task
        label = f"{self.title}: {stage.replace('_', ' ')}"
        progress.start(label, total, task_names=self.suite.task_names)
        result = self.oracle.run(
            self.suite,
            meta,
            self.subsets,
            self.key(stage),
            workdir=directory,
            stage=stage,
            on_block=progress.update,
        )
        progress.finish()
        return result

    def count(
        self, meta: TrainingState, num_iterations: int, run: OracleRun
    ) -> dict[str, float]:
        """Floating-point operations of each part.

        Each of the two programs with `while` loops has loops of one kind: the solver of
        the regressions, of which every block is counted with as many iterations as the
        slowest one, and the evaluation of the oracle, with an iteration for each step.
        """

        def with_loops(function, *args):
            none, one = (
                count_flops(function, *args, while_iterations=rounds)
                for rounds in (0, 1)
            )
            return none, one - none

        key, num_updates = self.key("estimate"), self.ppo.total_updates
        block = self.oracle.blocks(self.suite, self.subsets)[0]
        estimate, solver = with_loops(self.estimate, self.suite, meta, key)
        fine_tune, evaluate = with_loops(self.oracle.fine_tune, block, meta, key)
        # All blocks have one shape; the subsets that pad the last one do not count.
        share = len(self.subsets) / (run.num_blocks * run.block_size)
        return {
            "meta_training": float(
                count_flops(lambda s: self.ppo.run(self.suite, s, num_updates), meta)
            ),
            "estimate": float(estimate + num_iterations * solver),
            "oracle": share
            * (run.num_blocks * fine_tune + run.evaluation_steps * evaluate),
        }


def stage_key(seed: int, stage: str) -> jax.Array:
    stages = ("meta_training", "estimate", "oracle", "oracle_again", "subsets")
    return jax.random.fold_in(jax.random.key(seed), stages.index(stage))


def _compile(function: Callable, *args: Any) -> tuple[Callable, float]:
    """The compiled program, and the seconds that compiling took."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    return program, time.perf_counter() - began


def _ratios(cost: Mapping[str, float]) -> dict[str, float]:
    """The oracle's cost over the estimate's, meta-training counted out and in."""
    meta = cost["meta_training"]
    return {
        "without_meta_training": cost["oracle"] / cost["estimate"],
        "with_meta_training": (meta + cost["oracle"]) / (meta + cost["estimate"]),
    }
