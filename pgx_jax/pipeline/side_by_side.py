"""Runs that train side by side: one program a stage for the runs of several seeds.

A simulator on a GPU takes as long for one run's few environments as for those of many
runs, and tracing and compiling are done once. Each run has a thread, a workdir and a
state of its own; what they share is the program of each chunk of updates, in which the
rows and policies of all of them stand one after another. Noise is drawn for all rows
from the first run's key, so that a run's numbers depend on which ones are beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.envs import TaskSuite
from pgx_jax.training.ppo import PPO, Metrics, TrainingState


class Chunk(NamedTuple):
    """Updates to take without a checkpoint between them.

    Attributes:
      stage: its number in the order of stages.
      ppo: the training step.
      suite: n tasks.
      tasks: the task of every row; int [r].
      done: updates done before.
      num_updates: to take.
    """

    stage: int
    ppo: PPO
    suite: TaskSuite
    tasks: np.ndarray
    done: int
    num_updates: int

    def is_like(self, other: Chunk) -> bool:
        """Whether one program can take both.

        The state of combined gradients has rows of each policy as its shape, so that
        such runs train one after another.
        """
        return (
            self.ppo.config.gradients.method == "mean"
            and self.order == other.order
            and self.num_updates == other.num_updates
            and self._trainer == other._trainer
            and self.suite.name == other.suite.name
            and self.suite.task_names == other.suite.task_names
        )

    @property
    def _trainer(self) -> PPO:
        """The training step of any rows and any length."""
        return dataclasses.replace(self.ppo, num_updates=1, tasks=None)

    @property
    def order(self) -> tuple[int, int]:
        """How far its run has come."""
        return self.stage, self.done


class Alone:
    """The place of a run beside which there are no others."""

    def run(self, chunk: Chunk, state: TrainingState) -> tuple[TrainingState, Metrics]:
        """As `PPO.run`."""
        suite = chunk.suite.select(chunk.tasks)
        return chunk.ppo.run(suite, state, chunk.num_updates)

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """There is nobody to wait for."""
        return contextlib.nullcontext()


class SideBySide:
    """Where several runs, one a thread, meet for each chunk of training.

    A chunk is taken when every run that has not left has come to one: then those that
    have come least far take theirs, in one program, while the others wait. So runs
    that were stopped at different chunks come together again.

    Args:
      num_runs: that are to meet; each takes one of `seats`.
    """

    def __init__(self, num_runs: int) -> None:
        self.seats = [Seat(self, i) for i in range(num_runs)]
        self.turn = threading.Lock()
        self._present = set(range(num_runs))
        self._asked: dict[int, tuple[Chunk, TrainingState]] = {}
        self._answers: dict[int, tuple[TrainingState, Metrics] | BaseException] = {}
        self._changed = threading.Condition()

    def run(
        self, number: int, chunk: Chunk, state: TrainingState
    ) -> tuple[TrainingState, Metrics]:
        """Takes a chunk of the run of that number, with those of the others.

        What one program raises is raised by all runs that it was of.
        """
        with self._changed:
            self._asked[number] = chunk, state
            while number not in self._answers:
                if self._asked.keys() == self._present:
                    self._answer_first()
                    self._changed.notify_all()
                else:
                    self._changed.wait()
            answer = self._answers.pop(number)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def leave(self, number: int) -> None:
        """The run of that number has ended; the others no longer wait for it."""
        with self._changed:
            self._present.discard(number)
            self._changed.notify_all()

    def _answer_first(self) -> None:
        """Takes the chunks of those that have come least far."""
        first = min(self._asked, key=lambda i: (self._asked[i][0].order, i))
        leader = self._asked[first][0]
        others = [i for i in sorted(self._asked) if i != first]
        members = [i for i in others if leader.is_like(self._asked[i][0])]
        members.insert(0, first)
        asked = [self._asked.pop(i) for i in members]
        try:
            answers = run_together([x[0] for x in asked], [x[1] for x in asked])
        except BaseException as error:  # of all of them, each in its own thread
            answers = [error] * len(members)
        self._answers.update(zip(members, answers, strict=True))


class Seat(NamedTuple):
    """The place of one run beside others; as `Alone`."""

    table: SideBySide
    number: int

    def run(self, chunk: Chunk, state: TrainingState) -> tuple[TrainingState, Metrics]:
        """As `PPO.run`, in one program with what the others ask for."""
        return self.table.run(self.number, chunk, state)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One run at a time, so that a program of all of them is compiled once."""
        with self.table.turn:
            yield


def run_together(
    chunks: Sequence[Chunk], states: Sequence[TrainingState]
) -> list[tuple[TrainingState, Metrics]]:
    """Takes one chunk of each run, all in one program.

    Args:
      chunks: which are like each other.
      states: of the runs; their buffers are gone afterwards.

    Returns:
      What `PPO.run` returns, of each run.
    """
    first = chunks[0]
    if len(chunks) == 1:
        return [Alone().run(first, states[0])]
    num_policies = [jax.tree.leaves(x.params)[0].shape[0] for x in states]
    lengths = [
        np.broadcast_to(chunk.ppo.num_updates, number)
        for chunk, number in zip(chunks, num_policies, strict=True)
    ]
    tasks = np.concatenate([x.tasks for x in chunks])
    ppo = dataclasses.replace(
        first.ppo,
        num_updates=np.concatenate(lengths),
        tasks=None if first.ppo.tasks is None else tuple(tasks.tolist()),
    )
    suite = first.suite.select(tasks)
    return _run_joined(ppo, suite, list(states), tuple(num_policies), first.num_updates)


@functools.partial(jax.jit, static_argnums=(0, 3, 4), donate_argnums=2)
def _run_joined(ppo, suite, states, num_policies, num_updates):
    num_rows = tuple(len(x.policy_ids) for x in states)
    joined, metrics = ppo.run(suite, _join(states, num_policies), num_updates)
    parts = _split(joined._replace(key=None, num_updates=None), num_policies, num_rows)
    first = np.cumsum([0, *num_policies])
    results = []
    for i, (state, part) in enumerate(zip(states, parts, strict=True)):
        part = part._replace(
            policy_ids=part.policy_ids - first[i],
            key=state.key,
            num_updates=joined.num_updates,
        )
        results.append(part)
    by_run = _split(metrics, num_policies, num_rows, axis=1)
    return list(zip(results, by_run, strict=True))


def _join(
    states: Sequence[TrainingState], num_policies: Sequence[int]
) -> TrainingState:
    """One state of all policies and rows, with the first one's key."""
    first = np.cumsum([0, *num_policies])
    apart = [
        x._replace(policy_ids=x.policy_ids + first[i], key=None, num_updates=None)
        for i, x in enumerate(states)
    ]
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *apart)
    return joined._replace(key=states[0].key, num_updates=states[0].num_updates)


def _split(
    tree, num_policies: Sequence[int], num_rows: Sequence[int], axis: int = 0
) -> list:
    """The trees of each run: leaves are of all policies, or of all rows."""
    sizes = {sum(num_policies): num_policies, sum(num_rows): num_rows}
    # Where both are equal, every run has as many policies as rows.

    def part(i):
        def of_leaf(leaf):
            of_runs = sizes[leaf.shape[axis]]
            start = sum(of_runs[:i])
            return jax.lax.slice_in_dim(leaf, start, start + of_runs[i], axis=axis)

        return jax.tree.map(of_leaf, tree)

    return [part(i) for i in range(len(num_rows))]
