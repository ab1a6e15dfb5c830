"""The whole run: the stages in order, each from the results of those before."""

from __future__ import annotations

import contextlib
import functools
import os

import jax
import numpy as np

from pgx_jax.grouping.clustering import number_labels
from pgx_jax.pipeline import stages
from pgx_jax.pipeline.assembly import assemble_results
from pgx_jax.pipeline.checks import (
    make_checked_suite,
    make_networks,
    sample_subsets,
    stage_key,
)
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.dependencies import first_stage
from pgx_jax.pipeline.estimation import estimate
from pgx_jax.pipeline.grouping import choose_groups
from pgx_jax.pipeline.guards import settings_to_lower
from pgx_jax.pipeline.methods import Groupings, list_methods, locate_policies
from pgx_jax.pipeline.race import (
    Race,
    choose_raced_groups,
    join_policies,
    run_race,
)
from pgx_jax.pipeline.results import RunResults
from pgx_jax.pipeline.runner import Runner
from pgx_jax.pipeline.side_by_side import Seat
from pgx_jax.pipeline.stages import Adaptation, Arrays, Policies, Problem
from pgx_jax.pipeline.tasks import make_tasks
from pgx_jax.runs.files import FREE_SPACE, explain_errors
from pgx_jax.runs.locks import lock
from pgx_jax.runs.metrics import Callback, MetricsWriter
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.wandb_logger import WandbLogger
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.meshes import make_mesh
from pgx_jax.training.ppo import TrainingState


def run_pipeline(
    config: PipelineConfig,
    workdir: str | os.PathLike[str],
    *,
    command: str = "",
    tensorboard: bool = True,
    wandb_project: str | None = None,
    callback: Callback | None = None,
    progress: Progress | None = None,
    debug: bool = False,
) -> RunResults:
    """Runs all stages that the workdir has no result of.

        results = run_pipeline(PipelineConfig(), "runs/cartpole_planted")
        print(summary_table(results))
        write_report(results, "runs/cartpole_planted")

    Args:
      config: the settings.
      workdir: directory of the run. One that holds a run goes on; settings that no
        stage that has begun depends on may differ from those of before.
      command: that started the run, for the report.
      tensorboard: whether to write TensorBoard events beside `metrics.jsonl`.
      wandb_project: also send the metrics to this project of Weights & Biases (needs
        the extra `wandb`; WANDB_MODE=offline keeps them on this machine).
      callback: called as `callback(stage, step, metrics)` after every PPO update, with
        the environment steps done in the stage and the numbers of `metrics.jsonl`. What
        it raises ends the run, which can be resumed.
      progress: where to show progress; standard output if None.
      debug: where training meets a NaN, repeat the update with a check after every
        operation, and name the one that gave it. Takes memory for the training state
        once more.

    Returns:
      The results, which are in `results.json` of the workdir too.

    Raises:
      ValueError: a setting is not allowed, or the workdir is of another config.
      OSError: the workdir cannot be written to, or another process uses it.
      TrainingDiverged: training met a NaN or an infinity.
      OutOfMemory: the device ran out of memory; the message names settings to lower.
    """
    return run_in(
        config,
        workdir,
        make_problem(config),
        command=command,
        tensorboard=tensorboard,
        wandb_project=wandb_project,
        callback=callback,
        progress=progress,
        debug=debug,
    )


def make_problem(config: PipelineConfig) -> Problem:
    """The tasks and networks of a run.

    Raises:
      ValueError: a setting is not allowed.
    """
    suite = make_checked_suite(config)
    return Problem(
        suite,
        make_networks(config, suite),
        config.ppo,
        config.inner,
        make_mesh(config.num_devices),
    )


def run_in(
    config: PipelineConfig,
    workdir: str | os.PathLike[str],
    problem: Problem,
    *,
    command: str,
    tensorboard: bool,
    wandb_project: str | None,
    callback: Callback | None,
    progress: Progress | None,
    debug: bool = False,
    seat: Seat | None = None,
) -> RunResults:
    """As `run_pipeline`, of a problem that has been made, beside others or alone."""
    suite = problem.suite
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock(workdir))
        directory = Workdir(
            workdir, config.to_dict(), lambda field: first_stage(field, config)
        )
        directory.remove_leavings()
        callbacks = [] if callback is None else [callback]
        if wandb_project is not None:
            logger = WandbLogger(
                wandb_project,
                directory.path,
                config=config.to_dict(),
                task_names=suite.task_names,
            )
            callbacks.append(stack.enter_context(logger))
        shown = stack.enter_context(progress or Progress())
        writer = stack.enter_context(
            MetricsWriter(
                directory.path,
                tensorboard=tensorboard,
                task_names=suite.task_names,
                callbacks=callbacks,
            )
        )
        runner = Runner(
            problem,
            directory,
            writer,
            shown,
            config.checkpoint_every,
            lower=functools.partial(settings_to_lower, config),
            debug=debug,
            seat=seat,
        )
        results = run_stages(config, runner, command)
        directory.require()
        path = directory.path / "results.json"
        with explain_errors(f"{path} cannot be written", FREE_SPACE, directory.require):
            results.to_json(path)
    return results


def run_stages(config: PipelineConfig, runner: Runner, command: str) -> RunResults:
    """Runs what is left to run, and gathers what the report shows."""
    suite = runner.problem.suite
    meta = train_meta_policy(config, runner)
    subsets = sample_subsets(config, suite.num_tasks)
    estimates = runner.once(
        "estimation",
        lambda: estimate(
            runner.problem,
            config.estimation,
            config.grouping,
            meta,
            subsets,
            stage_key(config.seed, "estimation"),
        ),
    )
    race = None
    if config.grouping.races:
        race = run_race(config, runner, meta, estimates["gradient_similarity"])
    raced = None if race is None else choose_raced_groups(config.grouping, race)
    labels = runner.once(
        "grouping",
        lambda: (
            choose_groups(
                config.grouping,
                config.estimation.score,
                estimates,
                stage_key(config.seed, "grouping"),
                raced,
            ),
            None,
        ),
    )
    planted = suite.planted_labels
    if planted is not None:
        planted = number_labels(np.asarray(planted))
    methods = list_methods(config.grouping, labels, planted)
    groupings = Groupings.create(methods)
    estimate_steps = int(estimates["num_transitions"]) * suite.distinct.num_tasks
    runner.directory.write_policies(
        locate_policies(methods, groupings, None if race is None else race.subsets)
    )
    trained = train_groups(config, runner, meta, groupings, estimate_steps, race)
    evaluation = runner.once(
        "evaluation",
        lambda: stages.evaluate_groupings(
            runner.problem,
            config.evaluation,
            trained,
            groupings,
            stage_key(config.seed, "evaluation"),
            config.group_training.learner,
        ),
    )
    adaptation = adapt(config, runner, trained, groupings)
    runner.writer.trim()
    runner.progress.note("writing the report")
    return assemble_results(
        config,
        runner,
        estimates=estimates,
        labels=labels,
        race=race,
        planted=planted,
        methods=methods,
        groupings=groupings,
        evaluation=evaluation,
        adaptation=adaptation,
        command=command,
    )


def train_meta_policy(config: PipelineConfig, runner: Runner) -> TrainingState:
    """Trains one policy on all tasks."""
    suite, settings = runner.problem.suite, config.meta_training
    ppo = runner.problem.make_trainer(settings.learner, settings.num_updates)
    key = stage_key(config.seed, "meta_training")
    rows = np.arange(suite.num_tasks)
    return runner.train(
        "meta_training", ppo, suite, rows, lambda suite: ppo.init(suite, key), rows
    )


def train_groups(
    config: PipelineConfig,
    runner: Runner,
    meta: TrainingState,
    groupings: Groupings,
    estimate_steps: int,
    race: Race | None = None,
) -> Policies:
    """Trains one policy per group of every grouping, but for those of a race.

    Args:
      config: of the run.
      runner: of its stages.
      meta: the meta-policy.
      groupings: of all methods.
      estimate_steps: environment steps that the transitions of the estimate took.
      race: has trained the estimated groups already; None if there was none.
    """
    key = stage_key(config.seed, "group_training")
    left = groupings.to_train
    steps = None if race is None else race.env_steps
    trained = runner.train_groupings(
        "group_training",
        runner.problem.suite,
        left,
        stages.count_group_updates(config, left, estimate_steps, steps),
        lambda ppo, suite: stages.start_groups(
            config.group_training, meta, left.policy_ids, left.tasks, ppo, suite, key
        ),
        config.group_training.learner,
    )
    return trained if race is None else join_policies(race, groupings, trained)


def adapt(
    config: PipelineConfig, runner: Runner, trained: Policies, groupings: Groupings
) -> Adaptation | None:
    """Adapts to target tasks, from the policy of each grouping that is best there.

    A grouping of one policy has no episodes to play for that choice; those that play
    fewer steps than others adapt for longer instead, in whole updates.

    Returns:
      None where the config adapts to nothing.
    """
    settings = config.adaptation
    if not settings.num_updates:
        return None
    targets = make_tasks(config.suite, "target")
    problem = runner.problem._replace(suite=targets)
    num_targets, num_groupings = targets.num_tasks, len(groupings.labels)
    select_key, train_key, evaluate_key = jax.random.split(
        stage_key(config.seed, "adaptation"), 3
    )
    selection: Arrays = runner.once(
        "adaptation_selection",
        lambda: stages.select_policies(
            problem,
            settings,
            config.evaluation.deterministic,
            trained,
            groupings,
            select_key,
        ),
    )
    best, selection_steps = selection["best"], selection["steps"]
    updates = stages.count_adaptation_updates(
        settings, config.ppo, selection_steps, num_targets
    )
    each = Groupings.alone(num_targets, num_groupings)
    adapted = runner.train_groupings(
        "adaptation_training",
        targets,
        each,
        updates,
        lambda ppo, suite: stages.start_adaptation(
            trained, groupings, best.ravel(), ppo, suite, train_key
        ),
        settings.learner,
        logs_all=True,
    )
    result = runner.once(
        "adaptation_evaluation",
        lambda: stages.evaluate_adapted(
            problem, config.evaluation, adapted, each, evaluate_key
        ),
    )
    steps = selection_steps + updates * config.ppo.steps_per_update * num_targets
    return Adaptation(result["target"], steps)
