"""The oracle: the values that an estimate predicts, by fine-tuning on every subset.

A copy of the meta-policy is trained by PPO on the tasks of one subset, for every one of
m subsets, and then evaluated on those tasks. Blocks of subsets train side by side in
one program; on a CPU, which such a program leaves mostly idle, several programs run at
once, and on a mesh every device trains a block of its own. Every subset trains from a
key of its own, so that its score does not depend on the block that it is in, and is
evaluated on the same initial states and random numbers of each task as every other, so
that these cancel where subsets are compared.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgx_jax.arguments import (
    as_integer,
    as_key,
    as_subset_matrix,
    check_choice,
    check_switch,
    show,
)
from pgx_jax.envs.core import TaskSuite
from pgx_jax.estimation.blocks import bounded_elements
from pgx_jax.estimation.sharding import auto_mesh
from pgx_jax.evaluation.concurrency import compile_training
from pgx_jax.evaluation.subset_blocks import Block, BlockScores, SubsetSuite, lay_out
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.episodes import METRICS, evaluate
from pgx_jax.training.meshes import check_mesh
from pgx_jax.training.ppo import PPO, TrainingState

BLOCK_BYTES = 2**31
# Of the memory of a device of less than 16 GiB.
BLOCK_SHARE = 1 / 8


class SubsetScores(NamedTuple):
    """How well a policy fine-tuned on each of m subsets does on its tasks.

    `pgx_jax.task_affinity` takes it as it takes the estimates.

    Attributes:
      subsets: the subsets S as a 0/1 matrix; bool NumPy array of shape [m, n].
      scores: f_i(S), the mean return (in units of reward) or success rate of task i
        under the policy of S; float32 NumPy array of shape [m, n], 0 where task i is
        not in S.
    """

    subsets: np.ndarray  # shape=[m, n], dtype=bool
    scores: np.ndarray  # shape=[m, n], dtype=float32


class OracleRun(NamedTuple):
    """The scores of a run, and what they cost.

    Attributes:
      result: subsets and scores.
      seconds: wall time of all blocks, compilation left out, in s; of blocks that an
        earlier process finished too.
      compile_seconds: wall time of compilation in this process, in s.
      env_steps: environment steps of fine-tuning.
      evaluation_steps: length of each block's longest evaluation episode, in steps,
        summed over blocks.
      block_size: subsets trained at once.
      num_blocks: blocks in all.
    """

    result: SubsetScores
    seconds: float
    compile_seconds: float
    env_steps: int
    evaluation_steps: int
    block_size: int
    num_blocks: int


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Fine-tunes a meta-policy on subsets of tasks and scores the results.

    Attributes:
      ppo: settings, networks and the number of updates per subset.
      num_episodes: whole evaluation episodes per subset and task.
      deterministic: evaluate the most likely action, else sample.
      score: "return", the mean return, or "success", the share of episodes that met
        success at any step.
      block_size: subsets trained in one program. If None, as many as fit in about
        2 GiB, but one on a CPU, where products of many small matrices take longer
        together than one by one.
      mesh: devices that train a block each, side by side; any `jax.sharding.Mesh`. If
        None, that of `ppo`.

    Raises:
      ValueError: `score`, `num_episodes`, `block_size` or `mesh` is not allowed.
    """

    ppo: PPO
    num_episodes: int = 32
    deterministic: bool = True
    score: str = "return"
    block_size: int | None = None
    mesh: Mesh | None = None

    def __post_init__(self):
        if not isinstance(self.ppo, PPO):
            raise ValueError(f"ppo must be a PPO, got {show(self.ppo)}")
        check_mesh(self.mesh)
        mesh = self.ppo.mesh if self.mesh is None else auto_mesh(self.mesh)
        object.__setattr__(self, "mesh", mesh)
        check_choice("score", self.score, tuple(METRICS))
        check_switch("deterministic", self.deterministic)
        as_integer("num_episodes", self.num_episodes, 1)
        if self.block_size is not None:
            as_integer("block_size", self.block_size, 1)

    def run(
        self,
        suite: TaskSuite,
        meta: TrainingState,
        subsets: np.ndarray,
        key: jax.Array,
        *,
        workdir: Workdir | None = None,
        stage: str = "oracle",
        on_block: Callable[[int, np.ndarray], None] | None = None,
    ) -> OracleRun:
        """Fine-tunes on every subset, block by block, and scores its member tasks.

        Subsets of one size share one compiled program.

        Args:
          suite: n tasks.
          meta: one policy trained on all of them: k = 1, n rows.
          subsets: 0/1 matrix [m, n], no row empty.
          key: of training, folded with the number of each subset, and of evaluation.
          workdir: keeps every finished block, so that the same call goes on from there;
            with as many devices, since blocks are as many as keep all of them busy.
          stage: what its blocks are called there.
          on_block: called after every block with the environment steps of fine-tuning
            done so far and the mean score of every task, NaN where it has none; [n].

        Raises:
          ValueError: the suite's rewards are vectors and its tasks no objectives, or
            such are to be scored by success, the subsets are no 0/1 matrix of its
            tasks, `meta` is not one policy for all of them, or another argument is
            none.
          FloatingPointError: fine-tuning met a number that is not finite; the message
            names the subset.
        """
        subsets, key = self._check(suite, meta, subsets), as_key(key)
        if workdir is not None and not isinstance(workdir, Workdir):
            raise ValueError(f"workdir must be a Workdir or None, got {show(workdir)}")
        if not isinstance(stage, str) or not stage or Path(stage).name != stage:
            raise ValueError(f"stage must be a name of files, got {show(stage)}")
        if on_block is not None and not callable(on_block):
            raise ValueError(f"on_block must be a function, got {show(on_block)}")
        blocks = self.blocks(suite, subsets)
        names = [f"{stage}_{i + 1}_of_{len(blocks)}" for i in range(len(blocks))]
        done: dict[int, tuple[BlockScores, float]] = {
            i: (BlockScores(**workdir.result(name)), workdir.info(name)["seconds"])
            for i, name in enumerate(names)
            if workdir is not None and workdir.is_finished(name)
        }
        pending = [i for i in range(len(blocks)) if i not in done]
        began = time.perf_counter()
        train, together = compile_training(
            self, [blocks[i] for i in pending], meta, key, self.mesh
        )
        compile_seconds = time.perf_counter() - began
        for numbers in together:
            numbers = [pending[i] for i in numbers]
            began = time.perf_counter()
            results = train([blocks[i] for i in numbers])
            took = (time.perf_counter() - began) / len(numbers)
            for i, result in zip(numbers, results, strict=True):
                _check_finite(blocks[i], result)
                if workdir is not None:
                    workdir.finish(names[i], result._asdict(), {"seconds": took})
                done[i] = result, took
            if on_block is not None:
                scores = _gather(subsets, blocks, done)
                num_scores = int(np.isfinite(scores).sum())
                on_block(num_scores * self.env_steps_per_task, _task_means(scores))
        scores = _gather(subsets, blocks, done)
        return OracleRun(
            result=SubsetScores(subsets, np.where(subsets, scores, 0.0)),
            seconds=sum(took for _, took in done.values()),
            compile_seconds=compile_seconds,
            env_steps=int(subsets.sum()) * self.env_steps_per_task,
            evaluation_steps=sum(int(x.evaluation_steps) for x, _ in done.values()),
            block_size=blocks[0].place.shape[0],
            num_blocks=len(blocks),
        )

    def _check(
        self, suite: TaskSuite, meta: TrainingState, subsets: np.ndarray
    ) -> np.ndarray:
        if not isinstance(suite, TaskSuite):
            raise ValueError(f"suite must be a TaskSuite, got {show(suite)}")
        if suite.objective_names and suite.objectives is None:
            raise ValueError(
                "suite must be ObjectiveTasks.create(suite) where rewards are vectors, "
                f"as those of {suite.name!r} are"
            )
        if suite.objective_names and self.score != "return":
            raise ValueError(
                "score must be 'return' where rewards are vectors, since successes are "
                f"of no objective, got {self.score!r}"
            )
        self.ppo.check_state("meta", meta, suite)
        num_policies = jax.tree.leaves(meta.params)[0].shape[0]
        if num_policies != 1:
            raise ValueError(
                f"meta must be one policy for all tasks of suite, got {num_policies}"
            )
        return as_subset_matrix(subsets, suite.num_tasks)

    @property
    def env_steps_per_task(self) -> int:
        """Environment steps of fine-tuning for one task of one subset."""
        return self.ppo.total_updates * self.ppo.config.steps_per_update

    def blocks(self, suite: TaskSuite, subsets: np.ndarray) -> list[Block]:
        """The subsets in blocks of one shape for each size of subset.

        Args:
          suite: n tasks.
          subsets: bool [m, n].
        """
        sizes = subsets.sum(axis=1)
        blocks = []
        for size in np.unique(sizes):
            indices = np.flatnonzero(sizes == size)
            most = self.block_size or self._default_block_size(suite, size)
            num_blocks = math.ceil(len(indices) / most)
            if self.mesh is not None:  # no device without one
                num_blocks = math.ceil(num_blocks / self.mesh.size) * self.mesh.size
            length = math.ceil(len(indices) / num_blocks)
            num_blocks = math.ceil(len(indices) / length)
            # The last block is filled with subsets of its own, trained once more.
            padded = np.resize(indices[(num_blocks - 1) * length :], length)
            padded = np.append(indices[: (num_blocks - 1) * length], padded)
            blocks += lay_out(suite, subsets, padded.reshape(num_blocks, length))
        return blocks

    def _default_block_size(self, suite: TaskSuite, subset_size: int) -> int:
        if jax.default_backend() == "cpu":
            return 1
        most = 4 * bounded_elements(BLOCK_BYTES // 4, BLOCK_SHARE)
        return max(1, most // (subset_size * self.bytes_per_task(suite)))

    def bytes_per_task(self, suite: TaskSuite) -> int:
        """Roughly the bytes that one task of one subset takes while it is trained on.

        Counted are the environments twice, three copies of the data of an update, and
        a minibatch's activations, as many numbers as the networks have biases, with
        their gradients; what one policy holds is small beside them.
        """
        config = self.ppo.config
        state = jax.eval_shape(
            lambda key: suite.reset(key, config.num_envs), jax.random.key(0)
        )
        environments = (
            sum(math.prod(x.shape) * 4 for x in jax.tree.leaves(state))
            // suite.num_tasks
        )
        sample = 4 * (2 * suite.observation_size + suite.action_space.size + 8)
        params = jax.eval_shape(self.ppo.actor_critic.init, jax.random.key(0))
        units = sum(x.shape[0] for x in jax.tree.leaves(params) if len(x.shape) == 1)
        minibatch = config.steps_per_update // config.num_minibatches
        return (
            2 * environments
            + 3 * config.steps_per_update * sample
            + 4 * minibatch * 4 * units
        )

    def fine_tune(
        self, block: Block, meta: TrainingState, key: jax.Array
    ) -> BlockScores:
        """Fine-tunes on and scores the subsets of a block, on one device. Pure."""
        num_rows = block.tasks.shape[1]
        ppo = dataclasses.replace(self.ppo, mesh=None)
        train_key, evaluate_key = jax.random.split(key)

        def fine_tune_on_one(tasks, place, index):
            suite = SubsetSuite(block.suite, block.rows, block.source, tasks, place)
            state = ppo.init_from(
                suite,
                jax.random.fold_in(train_key, index),
                np.zeros(num_rows, np.int32),
                meta.params,
                meta.observation_statistics,
                jax.tree.map(lambda x: x[tasks], meta.value_statistics),
            )
            state, _ = ppo.run(suite, state, ppo.total_updates)
            result = evaluate(
                suite,
                ppo.actor_critic,
                state.params["policy"],
                state.observation_statistics,
                state.policy_ids,
                evaluate_key,
                self.num_episodes,
                deterministic=self.deterministic,
                row_ids=tasks,
            )
            finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state.params)]
            return BlockScores(
                scores=getattr(result, METRICS[self.score]).mean(axis=1),
                finite=jnp.all(jnp.stack(finite)),
                evaluation_steps=result.episode_length.max(),
            )

        scores = jax.vmap(fine_tune_on_one)(block.tasks, block.place, block.indices)
        return scores._replace(evaluation_steps=scores.evaluation_steps.max())


def _gather(
    subsets: np.ndarray,
    blocks: Sequence[Block],
    done: Mapping[int, tuple[BlockScores, float]],
) -> np.ndarray:
    """The scores of the blocks that are done, NaN elsewhere; float32 [m, n]."""
    scores = np.full(subsets.shape, np.nan, np.float32)
    for i, (result, _) in done.items():
        rows = np.asarray(blocks[i].indices)[:, None]
        scores[rows, np.asarray(blocks[i].tasks)] = result.scores
    return scores


def _task_means(scores: np.ndarray) -> np.ndarray:
    """The mean score of every task, NaN where it has none; [n]."""
    known = np.isfinite(scores)
    total, count = np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _check_finite(block: Block, done: BlockScores) -> None:
    if not np.all(done.finite):
        bad = int(np.argmin(done.finite))
        raise FloatingPointError(
            f"fine-tuning on subset {int(block.indices[bad])}, tasks "
            f"{block.tasks[bad].tolist()}, met a number that is not finite"
        )
