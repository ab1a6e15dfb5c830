"""The stage "estimation": transitions of the meta-policy to scores of subsets.

By the logistic regression they are collected once. By least squares they are summed up
as they come, in rounds that double them, until the groups that they lead to are those
of bootstrap samples too, or a limit is reached; memory does not grow with their number.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pgx_jax as pge
from pgx_jax.estimation.moments import task_moments
from pgx_jax.estimation.parameters import global_norm
from pgx_jax.estimation.projection import GaussianProjection, projection_gram
from pgx_jax.estimation.scoring import relative_distance
from pgx_jax.estimation.settings import PRECISIONS
from pgx_jax.estimation.sums import NUM_PARTS, TaskSums
from pgx_jax.evaluation.rollouts import RolloutEvaluator
from pgx_jax.evaluation.transition_sums import collect_sums
from pgx_jax.pipeline.config import EstimationConfig, GroupingConfig
from pgx_jax.pipeline.grouping import group_scores, measure_stability
from pgx_jax.pipeline.stages import Arrays, Problem
from pgx_jax.training.ppo import PPO, TrainingState

# Bootstrap samples behind the question whether the groups are stable, and ways of
# splitting the transitions into halves behind the gain by groups.
STABILITY_RESAMPLES = 8
NUM_SPLITS = 4


def estimate(
    problem: Problem,
    settings: EstimationConfig,
    grouping: GroupingConfig,
    meta: TrainingState,
    subsets: np.ndarray,
    key: jax.Array,
) -> tuple[Arrays, int]:
    """Estimates all subsets, and the affinities that follow.

    Args:
      problem: the tasks and networks.
      settings: of the estimate.
      grouping: the groups that are to be stable.
      meta: the meta-policy.
      subsets: bool [m, n].
      key: of the transitions, the estimate and the bootstrap.

    Returns:
      Arrays by name, "num_transitions" per task among them, and the environment steps
      taken.
    """
    function = _from_sums if settings.uses_sums else _from_batch
    result, steps = function(problem, settings, grouping, meta, subsets, key)
    return jax.device_get(result), steps


def _from_batch(
    problem, settings, grouping, meta, subsets, key
) -> tuple[dict[str, Any], int]:
    """By the logistic regression."""
    suite, actor_critic = problem.suite.distinct, problem.actor_critic
    collect_key, estimate_key, affinity_key = jax.random.split(key, 3)
    ppo, state = _collector(problem, settings, meta, collect_key)
    batch = ppo.collect_transitions(suite, state, collect_key, settings.num_transitions)
    policy = jax.tree.map(lambda x: x[0], meta.params["policy"])
    estimates = pge.estimate_subsets(
        actor_critic.log_prob,
        policy,
        batch,
        subsets,
        key=estimate_key,
        dim=settings.dim,
        l2=settings.l2,
        max_relative_distance=(
            "auto"
            if settings.max_relative_distance is None
            else settings.max_relative_distance
        ),
        held_out_fraction=settings.held_out_fraction,
        evaluator=_evaluator(problem, settings, meta),
        feature_precision=settings.feature_precision,
        num_resamples=settings.num_resamples,
        resample_length=settings.resample_length,
        mesh=problem.mesh,
    )
    similarity = pge.gradient_similarity(
        actor_critic.log_prob, policy, batch, center_features=None
    )
    result = _tabulate(settings, estimates, affinity_key) | {
        "gradient_similarity": similarity.matrix,
        "num_transitions": np.array(settings.num_transitions),
    }
    steps = settings.num_transitions * suite.num_tasks
    if settings.evaluator == "rollout":  # at most: episodes may end sooner
        played = len(subsets) if problem.suite.objective_names else int(subsets.sum())
        steps += played * settings.num_rollouts * suite.episode_length
    return result, steps


def _from_sums(
    problem, settings, grouping, meta, subsets, key
) -> tuple[dict[str, Any], int]:
    """By least squares, from as many transitions as it takes."""
    collect_key, estimate_key, affinity_key = jax.random.split(key, 3)
    sums, rounds = collect_until_stable(
        problem, settings, grouping, meta, subsets, collect_key, estimate_key
    )
    estimates = _estimate_sums(
        settings,
        sums,
        subsets,
        estimate_key,
        num_resamples=settings.num_resamples,
        num_splits=NUM_SPLITS,
    )
    policy = jax.tree.map(lambda x: x[0], meta.params["policy"])
    projection = _projection(settings)
    gram = projection_gram(projection, _projection_key(collect_key), policy)
    distance = relative_distance(estimates.delta, gram, global_norm(policy))
    estimates = estimates._replace(relative_distance=distance)
    taken = rounds.num_transitions[-1]
    result = _tabulate(settings, estimates, affinity_key) | {
        "gradient_similarity": feature_similarity(sums),
        "num_transitions": np.array(taken),
    }
    if rounds.agreement:
        result["round_transitions"] = np.array(rounds.num_transitions)
        result["round_agreement"] = np.array(rounds.agreement)
    return result, int(taken) * problem.suite.distinct.num_tasks


class Rounds(NamedTuple):
    """How collecting went on.

    Attributes:
      num_transitions: per task, by the end of every round.
      agreement: mean NMI of the groups with those of bootstrap samples then; empty of
        a race, whose groups are not known before it.
    """

    num_transitions: list[int]
    agreement: list[float]


def collect_until_stable(
    problem: Problem,
    settings: EstimationConfig,
    grouping: GroupingConfig,
    meta: TrainingState,
    subsets: np.ndarray,
    collect_key: jax.Array,
    estimate_key: jax.Array,
) -> tuple[TaskSums, Rounds]:
    """Collects and sums up transitions until the groups are stable, or to the limit.

    Args:
      problem: the tasks and networks.
      settings: of the estimate.
      grouping: the groups that are to be stable.
      meta: the meta-policy.
      subsets: bool [m, n].
      collect_key: of the environments, the actions and the projection.
      estimate_key: of the bootstrap.
    """
    ppo, state = _collector(problem, settings, meta, collect_key)
    suite = problem.suite.distinct
    unrolls = math.ceil(settings.num_transitions / ppo.config.steps_per_update)
    chunk = unrolls * ppo.config.steps_per_update  # one program for all of them
    most = 1 if grouping.races else max(1, settings.most_transitions // chunk)
    total: TaskSums | None = None
    done = 0
    rounds = Rounds([], [])
    while True:
        for _ in range(max(1, min(done, most - done))):
            with jax.default_matmul_precision(PRECISIONS[settings.feature_precision]):
                state, sums = collect_sums(
                    ppo,
                    suite,
                    state,
                    jax.random.fold_in(collect_key, done),
                    chunk,
                    _projection_key(collect_key),
                    _projection(settings),
                    num_parts=math.gcd(ppo.config.num_envs, NUM_PARTS),
                    noise=settings.batch_transitions is not None,
                )
            total = sums if total is None else total + sums
            done += 1
        assert total is not None
        rounds.num_transitions.append(done * chunk)
        if grouping.races:  # whose groups are not known before it
            return total, rounds
        estimates = _estimate_sums(
            settings, total, subsets, estimate_key, num_resamples=STABILITY_RESAMPLES
        )
        rounds.agreement.append(_agreement(settings, grouping, estimates, estimate_key))
        if done >= most or rounds.agreement[-1] >= settings.stable_agreement:
            return total, rounds


def _agreement(settings, grouping, estimates, key) -> float:
    """Mean NMI of the groups with those of the estimates' resamples."""
    table = jax.device_get(_tabulate(settings, estimates, key))
    labels = group_scores(grouping, settings.score, table)
    return measure_stability(grouping, settings.score, table, labels).nmi.mean()


def _estimate_sums(
    settings, sums, subsets, key, *, num_resamples, num_splits=0
) -> pge.SubsetEstimates:
    return pge.estimate_subsets(
        None,
        None,
        sums,
        subsets,
        key=key,
        regression=settings.regression,
        ridge=settings.ridge,
        batch_transitions=settings.batch_transitions,
        num_resamples=num_resamples,
        num_splits=num_splits,
    )


def _tabulate(
    settings: EstimationConfig, estimates: pge.SubsetEstimates, key: jax.Array
) -> dict[str, Any]:
    """The scores and the affinity of pairs, by name."""
    with_resamples = estimates.resampled_scores is not None
    affinity = pge.task_affinity(
        estimates, score=settings.score, key=key if with_resamples else None
    )
    optional = {
        "lower": affinity.lower,
        "upper": affinity.upper,
        "resamples": affinity.resamples,
        "resampled_scores": estimates.resampled_scores,
        "half_scores": estimates.half_scores,
        "part_scores": estimates.part_scores,
    }
    return {
        "subsets": estimates.subsets,
        "scores": estimates.scores,
        "converged": estimates.converged,
        "relative_distance": estimates.relative_distance,
        "affinity": affinity.matrix,
        "pair_counts": affinity.pair_counts,
    } | {name: value for name, value in optional.items() if value is not None}


def feature_similarity(sums: TaskSums) -> jax.Array:
    """The cosine of every pair of tasks' projected policy gradients; float32 [n, n]."""
    target = task_moments(sums).target
    norm = jnp.linalg.norm(target, axis=1, keepdims=True)
    unit = target / jnp.where(norm > 0, norm, 1.0)
    return jnp.matmul(unit, unit.T, precision="highest")


def _projection(settings: EstimationConfig) -> GaussianProjection:
    assert settings.dim is not None  # as settings of sums are checked for
    return GaussianProjection(settings.dim)


def _projection_key(collect_key: jax.Array) -> jax.Array:
    return jax.random.fold_in(collect_key, 2**31 - 1)  # no chunk has that number


def _collector(
    problem: Problem, settings: EstimationConfig, meta: TrainingState, key: jax.Array
) -> tuple[PPO, TrainingState]:
    """What collects: meta-training's environments, or others of another number.

    Tasks that are objectives of one environment have those of the first of them.
    """
    suite, actor_critic, config = problem.suite, problem.actor_critic, problem.ppo
    suite = suite.distinct
    meta = meta.first_rows(suite.num_tasks)
    if settings.num_envs is None or settings.num_envs == config.num_envs:
        return PPO(config, actor_critic, 1, mesh=problem.mesh), meta
    config = dataclasses.replace(config, num_envs=settings.num_envs, num_minibatches=1)
    ppo = PPO(config, actor_critic, 1, mesh=problem.mesh)
    state = ppo.init_from(
        suite,
        jax.random.fold_in(key, 2**31 - 2),
        np.zeros(suite.num_tasks, np.int32),
        meta.params,
        meta.observation_statistics,
        meta.value_statistics,
    )
    return ppo, state


def _evaluator(
    problem: Problem, settings: EstimationConfig, meta: TrainingState
) -> str | RolloutEvaluator:
    """What scores the adapted policies."""
    if settings.evaluator != "rollout":
        return settings.evaluator
    return RolloutEvaluator(
        problem.suite.distinct,
        problem.actor_critic,
        meta.observation_statistics,
        num_episodes=settings.num_rollouts,
    )
