"""Runs and resumes stages; it alone touches the disk, metrics and progress.

Each stage leaves its result in the workdir and is not run again. Training stages also
checkpoint their whole state, so that a run that was killed resumes from there and ends
with the same numbers.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from pgx_jax.envs import TaskSuite
from pgx_jax.memory import explained
from pgx_jax.pipeline.guards import check_finite
from pgx_jax.pipeline.methods import Groupings
from pgx_jax.pipeline.side_by_side import Alone, Chunk, Seat
from pgx_jax.pipeline.stages import Arrays, Policies, Problem
from pgx_jax.runs.checkpoints import TrainingCheckpoints
from pgx_jax.runs.digests import Damaged
from pgx_jax.runs.interruption import awaited, stop_if_asked
from pgx_jax.runs.metrics import MetricsWriter
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.provenance import describe
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.debugging import copy_state, find_operation
from pgx_jax.training.diagnostics import first_nonfinite, on_host
from pgx_jax.training.ppo import PPO, TrainingState
from pgx_jax.training.weights_config import ReturnWeightsConfig
from pgx_jax.training.weights_diagnostics import explain_weights

# Share of a task's steps between two checkpoints that may diverge.
MOST_DIVERGENCES = 0.1
# Of every task, as returns are: their mean says nothing.
WEIGHT_METRICS = ("task_weight", "gradient_weight")


class TrainingDiverged(RuntimeError):
    """Training met a number that is not finite; the last good checkpoint is kept."""


class Runner:
    """Runs stages in a workdir, or takes from it what an earlier run has finished.

    Args:
      problem: the tasks, networks and PPO's settings.
      directory: of the run.
      writer: of the metrics.
      progress: the display.
      checkpoint_every: PPO updates between checkpoints, metrics and progress.
      lower: from the name of a stage, the settings that its memory grows with.
      debug: whether to find the operation that gave the first NaN of a diverged stage.
      seat: where training happens; beside other runs, or alone.

    Attributes:
      stages: names of the stages run or found so far, in order.
      provenance: device, versions and commit of this process.
    """

    def __init__(
        self,
        problem: Problem,
        directory: Workdir,
        writer: MetricsWriter,
        progress: Progress,
        checkpoint_every: int,
        lower: Callable[[str], Mapping[str, Any]] = lambda stage: {},
        debug: bool = False,
        seat: Seat | Alone | None = None,
    ) -> None:
        self.problem = problem
        self.directory = directory
        self.writer = writer
        self.progress = progress
        self.checkpoint_every = checkpoint_every
        self.lower = lower
        self.debug = debug
        self.seat = seat or Alone()
        self.reports_success = problem.suite.has_success
        self.stages: list[str] = []
        self.provenance = describe()
        self._noted: set[tuple[str, str]] = set()

    def once(
        self, stage: str, function: Callable[[], tuple[Arrays, int | None]]
    ) -> Arrays:
        """The stage's stored result, or the one that `function` now computes.

        Args:
          stage: its name.
          function: returns arrays by name, and the environment steps it took or None
            where it takes none.
        """
        before = self._begin(stage)
        if not self._has_result(stage, before):
            self.progress.start(stage.replace("_", " "), 0)
            with self.seat.turn(), explained(stage, self.lower(stage)):
                began = time.perf_counter()
                result, env_steps = function()
                seconds = time.perf_counter() - began
            check_finite(stage, result, self.problem.suite.task_names)
            info = {} if env_steps is None else {"env_steps": env_steps}
            info |= {"seconds": seconds, "computed_on": [self.provenance]}
            self.directory.finish(stage, result, info, before)
            self.progress.finish()
        return self.directory.result(stage)

    def train_groupings(
        self,
        stage: str,
        suite: TaskSuite,
        groupings: Groupings,
        num_updates: np.ndarray,
        start: Callable[[PPO, TaskSuite], TrainingState],
        learner: str = "ppo",
        *,
        logs_all: bool = False,
    ) -> Policies:
        """Trains all groupings in one program, each for its own number of updates.

        Args:
          stage: its name.
          suite: n tasks.
          groupings: of those tasks.
          num_updates: of every grouping; int [groupings].
          start: makes the state to start from.
          learner: name of the trainer.
          logs_all: whether returns of all groupings are logged, not of the first alone.
        """
        of_policy = np.repeat(num_updates, groupings.group_counts)
        problem = self.problem
        if suite is not problem.suite:  # of other tasks than weights are given for
            settings = dataclasses.replace(
                problem.ppo, return_weights=ReturnWeightsConfig()
            )
            problem = problem._replace(ppo=settings)
        ppo = problem.make_trainer(learner, of_policy)
        state = self.train(
            stage,
            ppo,
            suite,
            groupings.tasks,
            lambda selected: start(ppo, selected),
            groupings.rows(0),
            logged=np.arange(len(groupings.tasks)) if logs_all else None,
        )
        return Policies(
            state.params, state.observation_statistics, state.value_statistics
        )

    @awaited()
    def train(
        self,
        stage: str,
        ppo: PPO,
        suite: TaskSuite,
        tasks: np.ndarray,
        start: Callable[[TaskSuite], TrainingState],
        rows: np.ndarray,
        logged: np.ndarray | None = None,
    ) -> TrainingState:
        """Trains to the end of the stage, from its last checkpoint if there is one.

        Args:
          stage: its name.
          ppo: the training step.
          suite: n tasks.
          tasks: the task of every row; int [r].
          start: makes the state to start from, of the suite of those r tasks.
          rows: whose returns are shown, one of each task in their order, all of one
            number of updates.
          logged: rows whose returns are logged, of the same number; `rows` if None.

        Raises:
          TrainingDiverged: a number is not finite, or many steps diverged.
          OutOfMemory: the message names the settings to lower.
          SystemExit: a signal has asked for it, and all is saved.
        """
        if ppo.config.return_weights.name != "none":
            ppo = dataclasses.replace(ppo, tasks=tuple(np.asarray(tasks).tolist()))
        with explained(stage, self.lower(stage)):
            with self.seat.turn():
                state = start(suite.select(tasks))
            return self._train(stage, ppo, suite, tasks, state, rows, logged)

    def _train(
        self,
        stage: str,
        ppo: PPO,
        suite: TaskSuite,
        tasks: np.ndarray,
        state: TrainingState,
        rows: np.ndarray,
        logged: np.ndarray | None,
    ) -> TrainingState:
        """As `train`, from a state."""
        before = self._begin(stage)
        if self._has_result(stage, before):
            self._restore_lines(stage, self.directory.lines(stage), is_finished=True)
            return self.directory.result(stage, state)
        selected = suite.select(tasks)
        per_update = ppo.config.steps_per_update
        lengths = _Lengths.create(ppo, state)
        began = time.perf_counter()
        checkpoints = self.directory.training_checkpoints(stage, before)
        done, state, info = self._restore(stage, checkpoints, state)
        seconds_before = info["seconds"]
        self.progress.start(
            stage.replace("_", " "),
            lengths.count(ppo.total_updates) * per_update,
            lengths.count(done) * per_update,
            suite.task_names,
        )
        while done < ppo.total_updates:
            chunk = min(self.checkpoint_every, ppo.total_updates - done)
            kept = copy_state(state) if self.debug else None
            state, metrics = self.seat.run(
                Chunk(len(before), ppo, suite, tasks, done, chunk), state
            )
            place = first_nonfinite(state, metrics, selected.task_names)
            if place is not None:
                between = f"{done * per_update:,} to {(done + chunk) * per_update:,}"
                if kept is not None:
                    self.progress.note(f"{stage}: {place}; looking for the operation")
                    place += f" ({find_operation(ppo, selected, kept, chunk)})"
                self._stop(stage, place, done, f"steps {between} of each task")
            values = on_host(metrics)
            steps = per_update * lengths.in_chunk(done, chunk)
            self._check_divergences(stage, values["divergences"], selected, steps)
            self._note_weights(stage, state, ppo, selected, done + chunk)
            values = lengths.hide_finished(values, done)
            self._log(
                stage, values, rows if logged is None else logged, done, per_update
            )
            done += chunk
            info["seconds"] = seconds_before + time.perf_counter() - began
            if self.provenance not in info["computed_on"]:
                info["computed_on"].append(self.provenance)
            self.writer.flush()
            checkpoints.save(done, state, info, self.writer.lines(stage))
            shown = _latest_returns(values["return"][:, rows])
            self.progress.update(
                lengths.count(done) * per_update,
                shown if steps[rows].any() else None,
            )
            stop_if_asked()
        env_steps = lengths.count(ppo.total_updates) * per_update
        lines = self.writer.lines(stage)
        info = info | {"env_steps": env_steps}
        self.directory.finish(stage, state, info, before, lines)
        self.progress.finish()
        return state

    def _begin(self, stage: str) -> tuple[str, ...]:
        """Adds a stage to those of the run; returns the ones before it."""
        before = tuple(self.stages)
        self.stages.append(stage)
        return before

    def _has_result(self, stage: str, before: Sequence[str]) -> bool:
        """Whether the stage has a sound result, computed from those before it."""
        if not self.directory.is_finished(stage):
            return False
        try:
            self.directory.check(stage, before)
        except Damaged as damage:
            self.progress.note(f"{damage}; {stage} is computed again")
            return False
        return True

    def _restore(
        self, stage: str, checkpoints: TrainingCheckpoints, start: TrainingState
    ) -> tuple[int, TrainingState, dict[str, Any]]:
        """Updates done, the state then, and what a stage's `info` has of them."""
        restored = checkpoints.restore(start)
        if restored is None:
            self._restore_lines(stage, [])
            return 0, start, {"seconds": 0.0, "computed_on": []}
        for damage in restored.passed_over:
            self.progress.note(
                f"{damage}; going on from the checkpoint after update {restored.step}"
            )
        self._restore_lines(stage, restored.lines)
        # Checkpoints of earlier versions do not say what they were computed on.
        info = {"computed_on": []} | restored.info
        return restored.step, restored.state, info

    def _restore_lines(
        self, stage: str, lines: Sequence[str], *, is_finished: bool = False
    ) -> None:
        lost = self.writer.restore(stage, lines, is_finished=is_finished)
        if lost is not None:
            self.progress.note(lost)

    def _log(
        self,
        stage: str,
        metrics: Mapping[str, np.ndarray],
        rows: np.ndarray,
        done: int,
        per_update: int,
    ) -> None:
        """One line an update: returns of the rows logged, else means over all rows.

        Returns are left out once the rows logged have finished, and so are finished
        rows of the means.
        """
        per_task = ["return", *(["success"] if self.reports_success else [])]
        per_task += [name for name in WEIGHT_METRICS if name in metrics]
        for i in range(len(metrics["return"])):
            line: dict[str, Any] = {}
            if np.isfinite(metrics["episodes"][i, rows]).any():
                line = {name: metrics[name][i, rows] for name in per_task}
            for name, values in metrics.items():
                if name not in per_task:
                    finite = values[i][np.isfinite(values[i])]
                    line[name] = finite.mean() if len(finite) else np.nan
            self.writer.write(stage, (done + i + 1) * per_update, line)

    def _stop(self, stage: str, place: str, done: int, steps: str) -> NoReturn:
        """Ends the run, saying where a number was not finite and what is kept."""
        kept = (
            f"The checkpoint after update {done} is kept in "
            f"{self.directory.path / 'checkpoints' / stage}"
            if done
            else "There is no checkpoint of this stage yet"
        )
        raise TrainingDiverged(
            f"{stage} met a number that is not finite: {place}, in {steps}. {kept}"
        )

    def _check_divergences(
        self,
        stage: str,
        divergences: np.ndarray,
        suite: TaskSuite,
        steps: np.ndarray,
    ) -> None:
        """Reports environments whose physics diverged; refuses to train on many."""
        counts = divergences.sum(axis=0)
        shares = counts / np.maximum(steps, 1)
        worst = int(shares.argmax())
        if shares[worst] > MOST_DIVERGENCES:
            raise TrainingDiverged(
                f"{stage}: {shares[worst]:.0%} of the steps of task "
                f"{suite.task_names[worst]!r} gave an observation or a reward that is "
                "not finite; its environment seems to be broken"
            )
        if counts[worst]:
            self.progress.note(
                f"{stage}: {int(counts.sum()):,} of {int(steps.sum()):,} steps "
                "diverged, their environments were reset; most of them of "
                f"{suite.task_names[worst]!r}"
            )

    def _note_weights(
        self, stage: str, state: TrainingState, ppo: PPO, suite: TaskSuite, done: int
    ) -> None:
        """Says where returns are not what weights from them are made for."""
        if ppo.tasks is None:
            return
        for about, text in explain_weights(
            ppo.config.return_weights,
            state.return_weights,
            ppo.tasks,
            suite.task_names,
            is_over=done == ppo.total_updates,
        ):
            if (stage, about) not in self._noted:
                self._noted.add((stage, about))
                self.progress.note(f"{stage}: {text}")


class _Lengths(NamedTuple):
    """PPO updates of every row, int [r], and of every policy, int [k]."""

    rows: np.ndarray
    policies: np.ndarray

    @classmethod
    def create(cls, ppo: PPO, state: TrainingState) -> _Lengths:
        policy_ids = np.asarray(state.policy_ids)
        policies = np.broadcast_to(ppo.num_updates, policy_ids.max() + 1)
        return cls(policies[policy_ids], policies)

    def count(self, done: int) -> int:
        """Updates of all rows by then."""
        return int(np.minimum(self.rows, done).sum())

    def in_chunk(self, done: int, chunk: int) -> np.ndarray:
        """Updates of every row among the next ones; int [r]."""
        return np.clip(self.rows - done, 0, chunk)

    def hide_finished(
        self, metrics: Mapping[str, np.ndarray], done: int
    ) -> dict[str, np.ndarray]:
        """NaN where a row's or a policy's updates were over."""
        hidden = {}
        for name, values in metrics.items():
            lengths = self.policies if name == "gradient_norm" else self.rows
            update = done + np.arange(len(values))[:, None]
            hidden[name] = np.where(update < lengths, values, np.float32(np.nan))
        return hidden


def _latest_returns(returns: np.ndarray) -> np.ndarray:
    """The last return of every row that is not NaN; [updates, rows] to [rows]."""
    latest = np.full(returns.shape[1], np.nan)
    for row in returns:
        latest = np.where(np.isnan(row), latest, row)
    return latest
