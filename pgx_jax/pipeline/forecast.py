"""What a run will take: environment steps, memory and time, before it has begun."""

from __future__ import annotations

import json
import math
import os
import time
from typing import NamedTuple

import jax

from pgx_jax.envs import TaskSuite
from pgx_jax.estimation.parameters import count_params
from pgx_jax.estimation.sums import NUM_PARTS
from pgx_jax.memory import format_bytes, memory_limit
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.tasks import make_tasks
from pgx_jax.runs.formats import format_count, format_duration
from pgx_jax.training.learners import choose_adapter, make_trainer
from pgx_jax.training.meshes import make_mesh

FLOAT = 4  # bytes of a float32
ADAM = 3  # arrays of the size of the parameters: they, and two moments


class Stage(NamedTuple):
    """A stage of a run.

    Attributes:
      name: as the workdir has it.
      env_steps: the most that it takes, of all tasks together.
      rows: the most tasks, or tasks of several policies, that it steps side by side.
      num_envs: environments of each row.
      policies: the most that it trains; 0 where it trains none.
    """

    name: str
    env_steps: int
    rows: int
    num_envs: int
    policies: int = 0


class Part(NamedTuple):
    """What takes memory.

    Attributes:
      name: what it is.
      size: in bytes.
      field: the setting to lower.
    """

    name: str
    size: int
    field: str


class Speed(NamedTuple):
    """What an update of meta-training took.

    Attributes:
      seconds: of the update, compiled.
      compiling: seconds that it took to compile.
      state_size: bytes that the environments' states take, of all tasks.
    """

    seconds: float
    compiling: float
    state_size: int


def count_steps(config: PipelineConfig, suite: TaskSuite) -> list[Stage]:
    """The stages of a run, with the most environment steps that each takes.

    Partitions that several methods have in common are trained once, and episodes may
    end early, so that a run may take fewer.
    """
    ppo, num_tasks, grouping = config.ppo, suite.num_tasks, config.grouping
    per_update = ppo.steps_per_update * num_tasks
    meta = config.meta_training.num_updates
    stages = [
        Stage("meta_training", meta * per_update, num_tasks, ppo.num_envs, 1),
        _estimation(config, suite),
    ]
    episode = suite.episode_length
    adapter = choose_adapter(config.group_training.learner, config.inner)
    adapting = 0 if adapter is None else adapter[1] * ppo.steps_per_update
    race_steps = 0
    if grouping.races:
        # One policy and single tasks, then the groups of candidates.
        partitions = 2 + grouping.num_candidates + len(grouping.other_num_groups)
        rows, updates = partitions * num_tasks, config.group_training.num_updates
        steps = rows * ppo.steps_per_update * updates
        episodes = grouping.num_race_episodes
        each = episodes * episode + adapting
        stages += [
            Stage("race_training", steps, rows, ppo.num_envs, rows),
            Stage("race_evaluation", rows * each, rows, episodes),
        ]
        race_steps = steps + rows * each
    estimated, others = _count_groupings(config, suite)
    groupings = estimated + others
    updates = config.group_training.num_updates
    if grouping.races and config.group_training.match_race:
        updates = -(-race_steps // per_update)
    extra = -(-stages[1].env_steps // per_update)
    if config.group_training.start != "meta":
        extra += meta
    trained = estimated if not grouping.races else 1  # by gradient similarity
    rows = (trained + others) * num_tasks
    steps = (trained * updates + others * (updates + extra)) * per_update
    stages.append(Stage("group_training", steps, rows, ppo.num_envs, rows))
    episodes = config.evaluation.num_episodes
    kinds = 1 + config.evaluation.sampled_too
    rows = groupings * num_tasks
    steps = rows * (episodes * episode * kinds + adapting)
    stages.append(Stage("evaluation", steps, rows, episodes))
    return stages + _adaptation(config, groupings, rows)


def _estimation(config: PipelineConfig, suite: TaskSuite) -> Stage:
    settings, num_tasks = config.estimation, suite.distinct.num_tasks
    transitions = settings.num_transitions
    if settings.uses_sums:
        block = config.num_estimation_envs * config.ppo.unroll_length
        chunk = -(-transitions // block) * block
        most = 1 if config.grouping.races else settings.most_transitions // chunk
        transitions = max(1, most) * chunk
    steps = transitions * num_tasks
    if settings.evaluator == "rollout":
        members = settings.num_subsets * min(settings.subset_size, num_tasks)
        steps += members * settings.num_rollouts * suite.episode_length
    return Stage("estimation", steps, num_tasks, config.num_estimation_envs)


def _count_groupings(config: PipelineConfig, suite: TaskSuite) -> tuple[int, int]:
    """The most partitions of methods with and without the estimate."""
    settings = config.grouping
    planted = suite.planted_labels is not None
    estimated = 2 + len(settings.other_num_groups)
    return estimated, 1 + settings.num_random_draws + planted + settings.single_tasks


def _adaptation(config: PipelineConfig, groupings: int, policies: int) -> list[Stage]:
    settings, ppo = config.adaptation, config.ppo
    if not settings.num_updates:
        return []
    targets = make_tasks(config.suite, "target")
    rows, episode = groupings * targets.num_tasks, targets.episode_length
    played = policies * targets.num_tasks
    selection, evaluation = (
        settings.num_selection_episodes,
        config.evaluation.num_episodes,
    )
    steps = played * selection * episode
    # Groupings that play fewer steps to choose adapt for longer instead.
    updates = settings.num_updates + -(-steps // (ppo.steps_per_update * rows))
    return [
        Stage("adaptation_selection", steps, played, selection),
        Stage(
            "adaptation_training",
            rows * ppo.steps_per_update * updates,
            rows,
            ppo.num_envs,
            rows,
        ),
        Stage("adaptation_evaluation", rows * evaluation * episode, rows, evaluation),
    ]


def measure_memory(
    config: PipelineConfig, suite: TaskSuite, networks: ActorCritic
) -> list[Part]:
    """The arrays that take most memory, each at the stage where it is largest.

    A lower bound: states of environments and intermediate results come on top.
    """
    ppo, settings, num_tasks = config.ppo, config.estimation, suite.num_tasks
    params = jax.eval_shape(networks.init, jax.random.key(0))
    num_params, num_policy = count_params(params), count_params(params["policy"])
    training = [stage for stage in count_steps(config, suite) if stage.policies]
    network_field = next(iter(config.network.sizes))
    rows = max(stage.rows for stage in training)
    policies = max(stage.policies for stage in training)
    # Observations before and after, actions, and eight numbers a step.
    step = 2 * suite.observation_size + suite.action_space.size + 8
    parts = [
        Part(
            "parameters and optimizers",
            FLOAT * ADAM * num_params * policies,
            network_field,
        ),
        Part(
            "steps of an update",
            FLOAT * step * rows * ppo.steps_per_update,
            "ppo.num_envs",
        ),
    ]
    if ppo.gradients.method != "mean":
        parts.append(
            Part("gradients of every task", FLOAT * num_params * rows, network_field)
        )
    dim = settings.dim
    if settings.uses_sums:
        assert dim is not None
        noise = 1 + (settings.batch_transitions is not None)
        parts += [
            Part("projection", FLOAT * num_policy * dim, "estimation.dim"),
            Part(
                "sums over transitions",
                FLOAT * noise * NUM_PARTS * num_tasks * dim**2,
                "estimation.dim",
            ),
        ]
    else:
        width = num_policy if dim is None else dim
        parts.append(
            Part(
                "projected gradients",
                FLOAT * suite.distinct.num_tasks * settings.num_transitions * width,
                "estimation.num_transitions",
            )
        )
    num_subsets = settings.num_subsets
    if config.grouping.method == "partition":
        num_subsets = 2**num_tasks - 1
    return [
        *parts,
        Part(
            "solutions",
            FLOAT * num_subsets * (dim or settings.num_transitions),
            "estimation.num_subsets",
        ),
        Part(
            "resampled scores",
            FLOAT * settings.num_resamples * num_subsets * num_tasks,
            "estimation.num_resamples",
        ),
        Part(
            "episodes",
            FLOAT * suite.observation_size * rows * config.evaluation.num_episodes,
            "evaluation.num_episodes",
        ),
    ]


def find_available_memory() -> int | None:
    """Bytes of the memory of the device, or of the machine; None where unknown."""
    limit = memory_limit()
    if limit is not None:
        return limit
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def measure_speed(
    config: PipelineConfig, suite: TaskSuite, networks: ActorCritic
) -> Speed:
    """Compiles an update of meta-training and times three of them; writes nothing."""
    ppo = make_trainer(
        config.meta_training.learner,
        config.ppo,
        networks,
        config.meta_training.num_updates,
        config.inner,
        make_mesh(config.num_devices),
    )
    state = ppo.init(suite, jax.random.key(config.seed))
    size = sum(x.nbytes for x in jax.tree.leaves(state.suite_state))
    began = time.perf_counter()
    state, _ = jax.block_until_ready(ppo.run(suite, state, 1))
    first = time.perf_counter() - began
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(ppo.run(suite, state, 1))
        seconds.append(time.perf_counter() - began)
    fastest = min(seconds)
    return Speed(fastest, max(first - fastest, 0.0), size)


def describe_run(config: PipelineConfig, suite: TaskSuite, networks) -> str:
    """The settings and what can be said without computing, as lines."""
    shapes = jax.eval_shape(networks.init, jax.random.key(0))
    total, policy = count_params(shapes), count_params(shapes["policy"])
    names = ", ".join(suite.task_names)
    return "\n".join(
        [
            json.dumps(config.to_dict(), indent=2),
            f"suite: {suite.name}, {suite.num_tasks} tasks: {names}",
            f"parameters: {policy:,} of the policy, {total - policy:,} of the critic",
        ]
    )


def describe_costs(
    config: PipelineConfig, suite: TaskSuite, networks: ActorCritic, speed: Speed
) -> str:
    """Steps, memory and time as lines."""
    stages = count_steps(config, suite)
    per_step = speed.seconds / (config.ppo.steps_per_update * suite.num_tasks)
    width = max(len(stage.name) for stage in stages)
    lines = [f"{'stage':<{width}}  env steps      time  (at most)"]
    for stage in [*stages, Stage("all", sum(x.env_steps for x in stages), 0, 0)]:
        steps = format_count(stage.env_steps)
        duration = format_duration(stage.env_steps * per_step)
        lines.append(f"{stage.name:<{width}}  {steps:>9}  {duration:>8}")
    trained = sum(stage.policies > 0 for stage in stages)
    lines += [
        f"time: by an update of meta-training measured now, {speed.seconds:.3g} s for "
        f"{format_count(config.ppo.steps_per_update * suite.num_tasks)} steps; it took "
        f"{speed.compiling:.0f} s to compile, as will each of the {trained} stages "
        "that train; the solution of the estimate is left out",
        "memory, at least:",
    ]
    per_env = speed.state_size / (config.ppo.num_envs * suite.num_tasks)
    most = max(stage.rows * stage.num_envs for stage in stages)
    parts = measure_memory(config, suite, networks)
    parts.append(Part("environments", math.ceil(per_env * most), ""))
    lines += [f"  {part.name}: {format_bytes(part.size)}" for part in parts]
    available = find_available_memory()
    total = sum(part.size for part in parts)
    of = "" if available is None else f" of {format_bytes(available)}"
    lines += [f"  together {format_bytes(total)}{of}", "nothing was written"]
    return "\n".join(lines)
