"""Policy evaluation by rollouts: the returns of theta_S in the environments."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pgx_jax.arguments import (
    as_integer,
    as_share,
    check_choice,
    check_number,
    check_switch,
)
from pgx_jax.envs.core import SuiteState, TaskSuite
from pgx_jax.envs.wrappers import MembersView
from pgx_jax.estimation.blocks import Incidence, map_blocks
from pgx_jax.estimation.evaluators import Adapted, Evaluation
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.training.episodes import METRICS, evaluate
from pgx_jax.training.running_statistics import RunningStatistics

# Environments stepped at once: enough to fill a GPU.
BLOCK_ENVIRONMENTS = 2**16


@dataclasses.dataclass(frozen=True, eq=False)
class RolloutEvaluator:
    """Scores theta_S by whole episodes of every task of S.

        estimate_subsets(..., evaluator=RolloutEvaluator(suite, actor_critic, stats))

    Every subset meets the same initial states and the same random numbers in task i, so
    that what they have in common cancels where subsets are compared. Of a task whose
    reward is a vector, the n tasks are its objectives: each subset is played once for
    all of them.

    Attributes:
      suite: the n tasks that the transitions are of, or the one of n objectives.
      actor_critic: the networks; `params` of the estimate are those of its policy.
      observation_statistics: of the meta-policy; [1, observation_size].
      num_episodes: per subset and task.
      metric: "return", or "success" for the share of successful episodes.
      quantile: score the q-quantile over episodes in place of the mean, for users
        averse to risk; in (0, 1).
      deterministic: take the most likely action, else sample.
      max_relative_distance: Largest |theta_S - theta*| / |theta*|, unless the estimate
        is given another one. Nothing is linearized here, and the effect of steps as
        short as the other evaluators need is lost in the noise of returns.
      block_size: Subsets played at once. If None, enough to fill a GPU.

    Raises:
      ValueError: a setting is out of range, or the suite has several tasks whose
        rewards are vectors, or is to be scored by success and has such rewards.
    """

    suite: TaskSuite
    actor_critic: ActorCritic
    observation_statistics: RunningStatistics
    num_episodes: int = 64
    metric: str = "return"
    quantile: float | None = None
    deterministic: bool = False
    max_relative_distance: float = 0.2
    block_size: int | None = None

    def __post_init__(self):
        check_choice("metric", self.metric, tuple(METRICS))
        if self.suite.reward_shape and self.suite.num_tasks > 1:
            raise ValueError(
                "suite must have one task where rewards are vectors, whose objectives "
                f"are the tasks of the estimate, got {self.suite.num_tasks}"
            )
        if self.suite.reward_shape and self.metric != "return":
            raise ValueError(
                "metric must be 'return' where rewards are vectors, since successes "
                f"are of no objective, got {self.metric!r}"
            )
        check_switch("deterministic", self.deterministic)
        check_number("max_relative_distance", self.max_relative_distance)
        as_integer("num_episodes", self.num_episodes, 2)
        if self.quantile is not None:
            as_share("quantile", self.quantile)
        if self.block_size is not None:
            as_integer("block_size", self.block_size, 1)
        # On no mesh: each device scores subsets by itself.
        statistics = jax.tree.map(
            lambda x: x if isinstance(x, Tracer) else jnp.asarray(np.asarray(x)),
            self.observation_statistics,
        )
        object.__setattr__(self, "observation_statistics", statistics)

    def __call__(self, adapted: Adapted) -> Evaluation:
        """f_i(S), with its standard error over episodes; [m, n]."""
        objectives = self.suite.objective_names
        num_tasks = len(objectives) or self.suite.num_tasks
        what = "objectives" if objectives else "tasks"
        if adapted.subsets.shape[1] != num_tasks:
            raise ValueError(
                f"the evaluator's suite {self.suite.name!r} has {num_tasks} {what}, "
                f"the transitions {adapted.subsets.shape[1]} tasks"
            )

        def score(subsets, delta):
            incidence = Incidence.create(subsets, adapted.plan)
            play = jax.vmap(self._play, (0, 0, None))
            returns = play(adapted.adapt(delta), incidence.task_of, adapted.key)
            return jax.tree.map(incidence.members_to_matrix, self._summarize(returns))

        rows = 1 if objectives else adapted.plan.most_tasks
        most = BLOCK_ENVIRONMENTS // (rows * self.num_episodes)
        block = min(self.block_size or max(1, most), adapted.plan.block)
        scores, error = map_blocks(score, (adapted.subsets, adapted.delta), block)
        size = jnp.full(scores.shape, float(self.num_episodes))
        return Evaluation(scores, error, size)

    def _play(self, params, tasks: jax.Array, key: jax.Array) -> jax.Array:
        """Returns of the episodes of some tasks under one policy; [s, episodes]."""
        played, rows = _Members(self.suite, tasks), tasks
        if self.suite.reward_shape:
            played, rows = self.suite, jnp.zeros((1,), jnp.int32)
        result = evaluate(
            played,
            self.actor_critic,
            jax.tree.map(lambda x: x[None], params),
            self.observation_statistics,
            jnp.zeros(rows.shape, jnp.int32),
            key,
            self.num_episodes,
            deterministic=self.deterministic,
            row_ids=rows,
        )
        values = getattr(result, METRICS[self.metric])
        if self.suite.reward_shape:
            return values[0].T[tasks]
        return values

    def _summarize(self, returns: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Score and standard error over the last axis."""
        root = math.sqrt(self.num_episodes)
        if self.quantile is None:
            return returns.mean(-1), returns.std(-1, ddof=1) / root
        q = self.quantile
        # From the binomial spread of the rank (Woodruff, 1952).
        spread = math.sqrt(q * (1 - q)) / root
        levels = jnp.clip(jnp.array([q - spread, q, q + spread]), 0.0, 1.0)
        low, middle, high = jnp.quantile(returns, levels, axis=-1)
        return middle, 0.5 * (high - low)


@dataclasses.dataclass(frozen=True)
class _Members(MembersView):
    """Some tasks of a suite by a traced index; resets are those of the suite."""

    suite: TaskSuite
    tasks: jax.Array

    def step(self, state: SuiteState, action: jax.Array) -> SuiteState:
        return self.suite.step_tasks(self.tasks, state, action)


jax.tree_util.register_dataclass(
    _Members, data_fields=["suite", "tasks"], meta_fields=[]
)
