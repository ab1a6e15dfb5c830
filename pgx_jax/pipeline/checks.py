"""What a config is checked for before any work, beyond the types of its fields."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import pgx_jax as pge
from pgx_jax.analysis.truth_tables import all_subsets
from pgx_jax.envs import SUITES, TaskSuite, make_suite
from pgx_jax.estimation.parameters import count_params
from pgx_jax.memory import format_bytes
from pgx_jax.networks.actor_critic import ActorCritic, make_actor_critic
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.forecast import find_available_memory, measure_memory
from pgx_jax.pipeline.tasks import make_tasks
from pgx_jax.settings import (
    CONFIG_FIELD,
    MOST,
    Checker,
    Problem,
    SettingsError,
    suggest,
)
from pgx_jax.training.weights_config import BOUNDS, PER_TASK

MOST_TASKS = 12  # of which all subsets are scored
MOST_SUBSETS = 100_000  # drawn one after another, some seconds for so many

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
      SettingsError: some are not; the message names each field and what is allowed.
    """
    suite, problems = check_suite(config)
    if problems:
        raise SettingsError(problems, CONFIG_FIELD)
    assert suite is not None
    return suite


def find_problems(
    values: Mapping[str, Any], known: Sequence[Problem] = ()
) -> tuple[PipelineConfig, list[Problem]]:
    """Settings from a nested dict, and all that is wrong with them.

    Args:
      values: of the settings; those left out keep their defaults.
      known: problems that are known already; what depends on them is left out.
    """
    config, problems = PipelineConfig.read(values)
    problems = [*known, *problems]
    problems += check_suite(config, {problem.field for problem in problems})[1]
    return config, problems


def check_suite(
    config: PipelineConfig, bad: Collection[str] = ()
) -> tuple[TaskSuite | None, list[Problem]]:
    """The suite of a config, and what the config asks of it in vain.

    Args:
      config: its fields are right, but for those that `bad` names.
      bad: fields that are known to be wrong already.

    Returns:
      None for the suite where there is no such one.
    """
    checker = Checker(config, bad)
    name = config.suite.name
    checker.require(
        name in SUITES,
        "suite.name",
        f"must be one of {', '.join(sorted(SUITES))}{suggest(name, SUITES)}",
    )
    if not checker.trusts("suite.name"):
        return None, checker.problems
    suite = make_suite(name)
    checker.require(
        suite.num_tasks == 1 or not suite.objective_names,
        "suite.name",
        "must have one task where rewards are vectors, whose objectives are then "
        f"grouped, not {suite.num_tasks}",
    )
    if not checker.trusts("suite.name"):
        return None, checker.problems
    suite = make_tasks(config.suite)
    _check_planted(suite)
    _check_objectives(config, suite, checker)
    checker.require(
        suite.num_tasks >= 2,
        "suite.name",
        "must have two tasks or more: there is nothing to group",
    )
    _check_devices(config, checker)
    _check_groups(config, suite, checker)
    _check_subsets(config, suite, checker)
    _check_network(config, suite, checker)
    _check_adaptation(config, suite, checker)
    weights = config.ppo.return_weights
    if checker.trusts(*(f"ppo.return_weights.{x}" for x in (*PER_TASK, *BOUNDS))):
        for field, allowed in weights.misfits(suite.num_tasks):
            where = f"ppo.return_weights.{field}"
            checker.require(False, where, f"{allowed} of {suite.name!r}")
    _check_dim(config, suite, checker)
    if not checker.problems and not bad:
        _check_memory(config, suite, checker)
    return suite, checker.problems


def _check_objectives(
    config: PipelineConfig, suite: TaskSuite, checker: Checker
) -> None:
    """Refuses what tasks cannot have that are objectives of one environment."""
    if not suite.objective_names:
        return
    shares = f"of {suite.name!r}, whose objectives have their samples in common"
    checker.require(
        not config.suite.task_id,
        "suite.task_id",
        f"must be False {shares}: none acts by itself, to be told apart",
    )
    checker.require(
        not (checker.trusts("network.name") and config.network.reads_task_id),
        "network.name",
        f"must be 'mlp' {shares}: there is no task id to read",
    )
    for field, value, allowed in (
        ("meta_training.learner", config.meta_training.learner, "ppo"),
        ("group_training.learner", config.group_training.learner, "ppo"),
        ("ppo.gradients.method", config.ppo.gradients.method, "mean"),
    ):
        checker.require(
            value == allowed,
            field,
            f"must be {allowed!r} {shares}: no steps or gradients are of one alone",
        )
    checker.require(
        config.ppo.return_weights.name == "none",
        "ppo.return_weights.name",
        f"must be 'none' {shares}: a group's policy would be weighted by the returns "
        "of objectives outside of it, too",
    )


def _check_planted(suite: TaskSuite) -> None:
    planted = suite.planted_labels
    if planted is not None and len(planted) != suite.num_tasks:
        raise ValueError(
            f"planted_labels of suite {suite.name!r} must be {suite.num_tasks} labels, "
            f"one for each task, got {len(planted)}"
        )


def _check_devices(config: PipelineConfig, checker: Checker) -> None:
    """Whether there are as many devices, and environments can be split over them."""
    if not checker.trusts("num_devices") or config.num_devices == 1:
        return
    there_are = jax.local_device_count()
    number = config.num_devices or there_are
    checker.require(
        number <= there_are,
        "num_devices",
        f"must be at most the {there_are} there are ({jax.default_backend()})",
    )
    counts = {
        "ppo.num_envs": config.ppo.num_envs,
        "evaluation.num_episodes": config.evaluation.num_episodes,
    }
    if config.estimation.num_envs is not None:
        counts["estimation.num_envs"] = config.estimation.num_envs
    if config.grouping.races:
        counts["grouping.num_race_episodes"] = config.grouping.num_race_episodes
    if config.adaptation.num_updates:
        episodes = config.adaptation.num_selection_episodes
        counts["adaptation.num_selection_episodes"] = episodes
    for field, count in counts.items():
        if checker.trusts(field, "num_devices") and count % number:
            text = f"must be a multiple of num_devices = {number}, got {count}"
            checker.add(Problem(field, text, ("num_devices",)))


def _check_groups(config: PipelineConfig, suite: TaskSuite, checker: Checker) -> None:
    grouping, num_tasks = config.grouping, suite.num_tasks
    of_suite = f"the {num_tasks} tasks of {suite.name!r}"
    checker.require(
        grouping.num_groups is None or grouping.num_groups <= num_tasks,
        "grouping.num_groups",
        f"must be at most {of_suite}, or None to choose it",
    )
    checker.require(
        all(k <= num_tasks for k in grouping.other_num_groups),
        "grouping.other_num_groups",
        f"must be at most {of_suite}",
    )
    checker.require(
        grouping.method != "partition" or num_tasks <= MOST_TASKS,
        "grouping.method",
        f"must be another one for more than {MOST_TASKS} tasks, of which not all "
        f"subsets are scored; {suite.name!r} has {num_tasks}",
    )


def _check_subsets(config: PipelineConfig, suite: TaskSuite, checker: Checker) -> None:
    """Whether there are such subsets, and as many cover every pair of tasks."""
    settings, num_tasks = config.estimation, suite.num_tasks
    if config.grouping.method == "partition":
        return
    size = settings.subset_size
    checker.require(
        size <= num_tasks,
        "estimation.subset_size",
        f"must be at most the {num_tasks} tasks of {suite.name!r}",
    )
    checker.require(
        settings.num_subsets <= MOST_SUBSETS,
        "estimation.num_subsets",
        f"must be at most {MOST_SUBSETS:,}",
    )
    if checker.trusts("estimation.subset_size", "estimation.num_subsets"):
        least = -(-math.comb(num_tasks, 2) // math.comb(size, 2))
        checker.require(
            settings.num_subsets >= least,
            "estimation.num_subsets",
            f"must be at least {least}, so that subsets of {size} out of {num_tasks} "
            "tasks hold every pair",
        )
    if not checker.trusts("seed", "grouping.method", "estimation"):
        return
    try:  # drawn once, since chance decides whether a few subsets hold every pair
        sample_subsets(config, num_tasks)
    except ValueError as error:
        checker.add(Problem("estimation.num_subsets", f"is too small: {error}"))


def _check_network(config: PipelineConfig, suite: TaskSuite, checker: Checker) -> None:
    """Whether a network that reads a task id is given one, and of all tasks."""
    network = config.network
    if not checker.trusts("network.name"):
        return
    adapts = bool(config.adaptation.num_updates)
    checker.require(
        not network.reads_task_id or not adapts,
        "network.name",
        "must be 'mlp' for adaptation: a target task has no id that a network could "
        "read; leave target tasks out (adaptation.num_updates = 0), or let an MLP "
        "adapt to them",
        reads=("adaptation.num_updates",),
    )
    checker.require(
        not network.reads_task_id or config.suite.task_id,
        "suite.task_id",
        f"must be True where network.name is {network.name!r}, which reads the task id",
        reads=("network.name",),
    )
    num_embeddings = len(network.task_embeddings)
    if num_embeddings not in (0, suite.num_tasks):
        checker.add(
            Problem(
                "network.task_embeddings",
                f"must be {suite.num_tasks} rows, one for each task of "
                f"{suite.name!r}, got {num_embeddings}",
            )
        )


def _check_adaptation(
    config: PipelineConfig, suite: TaskSuite, checker: Checker
) -> None:
    adapts, name = bool(config.adaptation.num_updates), config.suite.name
    checker.require(
        not adapts or "target" in SUITES[name],
        "adaptation.num_updates",
        f"must be 0, since {name!r} has no target tasks",
    )
    if adapts and suite.objective_names and "target" in SUITES[name]:
        others = make_suite(name, "target").objective_names
        checker.require(
            others == suite.objective_names,
            "adaptation.num_updates",
            f"must be 0, since the target tasks of {name!r} have other objectives",
        )
    checker.require(
        not adapts or not config.suite.task_id,
        "suite.task_id",
        "must be False for adaptation: a target task has no id among the source tasks",
        reads=("adaptation.num_updates", "network.name"),
    )


def _check_dim(config: PipelineConfig, suite: TaskSuite, checker: Checker) -> None:
    if not checker.trusts("network", "suite.task_id"):
        return
    networks = make_networks(config, suite)
    params = jax.eval_shape(networks.init, jax.random.key(0))
    total = count_params(params)
    checker.require(
        total <= MOST,
        next(iter(config.network.sizes)),
        f"must make at most {MOST:,} parameters, not {total:,}",
    )
    dim, num_params = config.estimation.dim, count_params(params["policy"])
    checker.require(
        dim is None or dim <= num_params,
        "estimation.dim",
        f"must be at most the {num_params} parameters of the policy"
        + ("" if config.estimation.uses_sums else ", or None for no projection"),
        reads=("network.hidden_sizes",),
    )


def _check_memory(config: PipelineConfig, suite: TaskSuite, checker: Checker) -> None:
    """Refuses what cannot fit, by arrays that there will be in any case."""
    available = find_available_memory()
    for part in measure_memory(config, suite, make_networks(config, suite)):
        checker.require(
            available is None or part.size <= available,
            part.field,
            f"makes {part.name} take {format_bytes(part.size)}, more memory than "
            f"the {format_bytes(available or 0)} there are; lower it",
        )


def make_networks(config: PipelineConfig, suite: TaskSuite) -> ActorCritic:
    """The networks of the config, in the sizes of the suite."""
    return make_actor_critic(
        suite.observation_size,
        suite.action_space.size,
        suite.action_space.discrete,
        num_tasks=suite.num_ids if config.network.reads_task_id else 0,
        num_objectives=len(suite.objective_names),
        **dataclasses.asdict(config.network),
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
