"""What a config is checked for before any work, beyond the types of its fields."""

from __future__ import annotations

import jax
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis.truth_tables import all_subsets
from pgx_jax.envs import SUITES, TaskIdSuite, TaskSuite, make_suite
from pgx_jax.estimation.projection import count_params
from pgx_jax.networks.mlp import ActorCritic, make_actor_critic
from pgx_jax.pipeline.config import PipelineConfig

MOST_TASKS = 12  # of which all subsets are scored

STAGES = (
    "meta_training",
    "estimation",
    "grouping",
    "group_training",
    "evaluation",
    "adaptation",
)


def stage_key(seed: int, stage: str) -> jax.Array:
    """The key of a stage, of the draw of "subsets", or of the "race"."""
    names = (*STAGES, "subsets", "race")
    return jax.random.fold_in(jax.random.key(seed), names.index(stage))


def make_checked_suite(config: PipelineConfig) -> TaskSuite:
    """The suite, once every setting that depends on it has been found possible.

    Raises:
      ValueError: one is not; the message names the field and what is allowed.
    """
    suite = make_suite(config.suite.name)
    if config.suite.task_id:
        suite = TaskIdSuite.create(suite)
    _check_suite(suite)
    _check_groups(config, suite)
    _check_adaptation(config, suite)
    # Drawn here once, so that what cannot be sampled is refused before training.
    sample_subsets(config, suite.num_tasks)
    _check_dim(config, suite)
    return suite


def _check_suite(suite: TaskSuite) -> None:
    if suite.num_tasks < 2:
        raise ValueError(
            f"config field 'suite.name': {suite.name!r} has one task; there is nothing "
            "to group"
        )
    planted = suite.planted_labels
    if planted is not None and len(planted) != suite.num_tasks:
        raise ValueError(
            f"planted_labels of suite {suite.name!r} must be {suite.num_tasks} labels, "
            f"one for each task, got {len(planted)}"
        )


def _check_groups(config: PipelineConfig, suite: TaskSuite) -> None:
    num_groups, num_tasks = config.grouping.num_groups, suite.num_tasks
    if num_groups is not None and num_groups > num_tasks:
        raise ValueError(
            f"config field 'grouping.num_groups' must be at most the {num_tasks} tasks "
            f"of {suite.name!r}, or None to choose it, got {num_groups}"
        )
    if config.grouping.method == "partition" and num_tasks > MOST_TASKS:
        raise ValueError(
            "config field 'grouping.method' must be 'clustering' for more than "
            f"{MOST_TASKS} tasks, of which not all subsets are scored; {suite.name!r} "
            f"has {num_tasks}"
        )
    others = config.grouping.other_num_groups
    if not all(1 <= k <= num_tasks for k in others) or len({*others}) < len(others):
        raise ValueError(
            "config field 'grouping.other_num_groups' must be different numbers of at "
            f"least 1 and at most the {num_tasks} tasks of {suite.name!r}, got {others}"
        )


def _check_adaptation(config: PipelineConfig, suite: TaskSuite) -> None:
    if config.adaptation.num_updates and "target" not in SUITES[config.suite.name]:
        raise ValueError(
            f"config field 'adaptation.num_updates' must be 0, since {suite.name!r} "
            "has no target tasks"
        )
    if config.adaptation.num_updates and config.suite.task_id:
        raise ValueError(
            "config field 'suite.task_id' must be False for adaptation: a target task "
            "has no id among the source tasks"
        )


def _check_dim(config: PipelineConfig, suite: TaskSuite) -> None:
    dim, networks = config.estimation.dim, make_networks(config, suite)
    params = jax.eval_shape(networks.init, jax.random.key(0))["policy"]
    num_params = count_params(params)
    if dim is not None and dim > num_params:
        raise ValueError(
            f"config field 'estimation.dim' must be at most the {num_params} "
            f"parameters of the policy, or None for no projection, got {dim}"
        )


def make_networks(config: PipelineConfig, suite: TaskSuite) -> ActorCritic:
    """The networks of the config, in the sizes of the suite."""
    return make_actor_critic(
        suite.observation_size,
        suite.action_space.size,
        suite.action_space.discrete,
        config.network.hidden_sizes,
        config.network.activation,
        config.network.bounded_mean,
    )


def sample_subsets(config: PipelineConfig, num_tasks: int) -> np.ndarray:
    """The subsets that a run estimates: all, or a sample of one size; bool [m, n]."""
    if config.grouping.method == "partition":
        return all_subsets(num_tasks)
    settings = config.estimation
    return pge.sample_subsets(
        stage_key(config.seed, "subsets"),
        num_tasks,
        settings.num_subsets,
        settings.subset_size,
        singletons=settings.score == "transfer_gain",
    )
