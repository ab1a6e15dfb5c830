"""What tasks' gradients at several checkpoints of meta-training know of groups.

    python experiments/checkpoint_sums.py --config=experiments/configs/truth_tables.py \
        --table=cartpole_0 --output=runs/checkpoints

Trains the meta-policy of a truth table again, from the same key, and stops at about a
quarter, half and three quarters of its updates and at their end. At each of the four it
collects a chunk of transitions as the table did at the last one, and from them the
cosine of task gradients, and sums for least squares with one projection for all.

Then it regroups during training. For every number of groups k at once:

1. At the second checkpoint tasks are grouped by the cosine of their gradients, and each
   group's policy goes on from the meta-policy of then, up to the third checkpoint.
2. There, transitions of every task are collected under the policy of its group. Its
   gradient and its sums are those of that policy's parameters, with the same projection
   for all tasks, so that tasks of two groups are compared though their policies differ.
3. Tasks are regrouped by the cosine. A new group goes on from the policy (parameters,
   observation statistics, optimizer) of the old group that most of its tasks come from,
   up to the fourth checkpoint, where 2. is done again.

One policy for all would have taken the same number of steps of every task by then.

Each stage writes a file, and a stage whose file exists is not run again:

    OUTPUT/NAME_policies.npz     the meta-policies at the checkpoints
    OUTPUT/NAME_checkpoints.npz  cosines and scores at the checkpoints
    OUTPUT/NAME_regrouped.npz    partitions, cosines and scores of regrouping

The script `checkpoint_methods.py` scores them on the table.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command goes on from the stages that are finished")

import functools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from truth_files import (
    CHECKPOINT_RIDGES,
    CHECKPOINT_WEIGHTS,
    LARGEST_K,
    SMALLEST_K,
    Scored,
)
from truth_setup import Setup, load_arrays, report, save_arrays

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis.truth_tables import all_subsets
from pgx_jax.estimation.gradients import task_gradients
from pgx_jax.estimation.least_squares import least_squares_scores
from pgx_jax.estimation.sums import TaskSums, accumulate
from pgx_jax.evaluation.transition_sums import unroll_transitions
from pgx_jax.grouping.candidates import affinity_scores
from pgx_jax.training.ppo import PPO, TrainingState
from pgx_jax.training.running_statistics import RunningStatistics
from pgx_jax.types import PyTree

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of every table.")
_TABLE = flags.DEFINE_string("table", None, "Name of the table.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Directory of the files.", required=True)
_STAGES = flags.DEFINE_list("stages", ["checkpoints", "regrouping"], "Stages to run.")
flags.mark_flag_as_required("config")

QUARTERS = (1, 2, 3, 4)
_unroll = jax.jit(unroll_transitions, static_argnums=0)


class Policy(NamedTuple):
    """A policy, or one a row: leaves of [1, ...] or [n, ...]."""

    params: PyTree
    observation_statistics: RunningStatistics
    value_statistics: RunningStatistics  # [n]


class Knowledge(NamedTuple):
    """What transitions say of tasks.

    Attributes:
      gradients: the mean policy gradient of every task; [n, p].
      sums: of projected gradients, of one projection for all tasks and policies.
    """

    gradients: np.ndarray
    sums: TaskSums


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    try:
        run(
            _CONFIG.value.to_dict(),
            _TABLE.value,
            Path(_OUTPUT.value),
            stages=_STAGES.value,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")


def run(
    values: Mapping[str, Any], name: str, output: Path, *, stages: Sequence[str]
) -> None:
    """Makes the files of a table that are missing.

    Raises:
      ValueError: there is no such table, or a setting is not allowed.
    """
    setup = Setup.create(values, name)
    output.mkdir(parents=True, exist_ok=True)
    policies, known, regrouped = (
        output / f"{name}_{x}.npz" for x in ("policies", "checkpoints", "regrouped")
    )
    if not policies.exists():
        save_arrays(policies, train_meta(setup))
    meta = load_arrays(policies)
    if "checkpoints" in stages and not known.exists():
        save_arrays(known, compare_checkpoints(setup, meta))
    if "regrouping" in stages and not regrouped.exists():
        save_arrays(regrouped, regroup(setup, meta))


def checkpoint_updates(num_updates: int) -> tuple[int, tuple[int, ...]]:
    """Updates of a piece of training, and after how many each checkpoint comes.

    Pieces are of one length, so that they share a program: quarters, or the longest
    length up to an eighth that divides the updates.

    Raises:
      ValueError: there are fewer updates than checkpoints.
    """
    if num_updates < len(QUARTERS):
        raise ValueError(
            f"meta_training.num_updates must be at least {len(QUARTERS)}, one a "
            f"checkpoint, got {num_updates}"
        )
    if num_updates % 4 == 0:
        piece = num_updates // 4
    else:
        piece = max(
            x for x in range(1, max(1, num_updates // 8) + 1) if num_updates % x == 0
        )
    pieces = num_updates // piece
    return piece, tuple(piece * round(pieces * x / 4) for x in QUARTERS)


def train_meta(setup: Setup) -> dict[str, Any]:
    """Trains one policy on all tasks; what it is at every checkpoint."""
    num_updates = setup.config.meta_training.num_updates
    piece, ends = checkpoint_updates(num_updates)
    ppo = PPO(setup.config.ppo, setup.actor_critic, num_updates)
    began = time.monotonic()
    state = ppo.init(setup.suite, setup.key(0))
    snapshots, curve = [], []
    for done in range(piece, num_updates + 1, piece):
        state, metrics = ppo.run(setup.suite, state, piece)
        curve.append(jax.device_get(metrics["return"]))
        if done in ends:
            snapshots.append(jax.device_get(jax.tree.leaves(_snapshot(state))))
    report(setup, "meta", np.nanmean(curve[-1], axis=0))
    leaves = {
        f"leaf_{i}": np.stack(x) for i, x in enumerate(zip(*snapshots, strict=True))
    }
    return leaves | {
        "ends": np.array(ends),
        "meta_curve": np.concatenate(curve),
        "seconds": time.monotonic() - began,
        "about": setup.about(),
    }


def load_policies(setup: Setup, meta: Mapping[str, np.ndarray]) -> list[Policy]:
    """The meta-policies of `train_meta`."""
    ppo = PPO(setup.config.ppo, setup.actor_critic, 1)
    like = jax.tree.structure(
        _snapshot(jax.eval_shape(ppo.init, setup.suite, setup.key(0)))
    )
    leaves = [jnp.asarray(meta[f"leaf_{i}"]) for i in range(like.num_leaves)]
    every = [[x[c] for x in leaves] for c in range(len(QUARTERS))]
    return [jax.tree.unflatten(like, x) for x in every]


def compare_checkpoints(setup: Setup, meta: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores subsets at every checkpoint and by all of them."""
    began = time.monotonic()
    known = []
    for number, policy in enumerate(load_policies(setup, meta)):
        known.append(collect(setup, policy))
        report(setup, f"checkpoint {number + 1}, s:", time.monotonic() - began)
    result: dict[str, Any] = {}
    for size in known[0]:
        result |= _score_checkpoints(setup, size, [x[size] for x in known])
    return result | {
        "ends": meta["ends"],
        "meta_curve": meta["meta_curve"],
        "meta_seconds": meta["seconds"],
        "seconds": time.monotonic() - began,
        "about": setup.about(),
    }


def _snapshot(state: TrainingState) -> Policy:
    """The policy of a state."""
    return Policy(state.params, state.observation_statistics, state.value_statistics)


def collect(setup: Setup, policy: Policy) -> dict[int, Knowledge]:
    """What a chunk of every task's transitions says, and what its beginning does.

    Args:
      setup: of the table.
      policy: one for all tasks, or that of every task.

    Returns:
      By the number of transitions of a task, those of the largest estimate and all.
    """
    ppo, n = setup.collecting_ppo(), setup.suite.num_tasks
    own = policy._replace(
        params=_rows(policy.params, n),
        observation_statistics=_rows(policy.observation_statistics, n),
    )
    # A policy a row though they may be equal, so that one program serves for all.
    state = ppo.init_from(setup.suite, setup.key(1), range(n), *own)
    key = jax.random.fold_in(setup.key(3), 0)
    _, batch = _unroll(ppo, setup.suite, state, key)
    sizes = sorted(
        {max(setup.settings["estimate_transitions"]), batch.advantage.shape[1]}
    )
    return {size: _summarize(setup, own, batch, size) for size in sizes}


def _rows(tree: PyTree, num_rows: int) -> PyTree:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_rows, *x.shape[1:])), tree)


def _summarize(setup: Setup, policy: Policy, batch: Any, size: int) -> Knowledge:
    """Gradients and sums of every task at its own policy."""
    gradients, sums = [], []
    log_prob = setup.actor_critic.log_prob
    for task in range(setup.suite.num_tasks):
        params = jax.tree.map(lambda x, i=task: x[i], policy.params["policy"])
        few = jax.tree.map(lambda x, i=task: x[i : i + 1, :size], batch)
        gradients.append(np.asarray(task_gradients(log_prob, params, few)))
        sums.append(
            accumulate(
                log_prob,
                params,
                few,
                setup.key(2),
                pge.GaussianProjection(setup.settings["dim"]),
                num_parts=setup.settings["num_parts"],
                noise=False,
            )._replace(fingerprint=None)
        )
    joined = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *sums)
    return Knowledge(np.concatenate(gradients), joined)


def _score_checkpoints(
    setup: Setup, size: int, known: Sequence[Knowledge]
) -> dict[str, np.ndarray]:
    """Cosines and scores at every checkpoint, and of gradients and sums added up."""
    score = functools.partial(_least_squares, setup)
    found: dict[str, list[np.ndarray]] = {
        f"cosine_{size}": [cosine(x.gradients) for x in known],
        f"added_cosine_{size}": [
            cosine(add_gradients([x.gradients for x in known], w))
            for w in CHECKPOINT_WEIGHTS.values()
        ],
    }
    added = [add_sums([x.sums for x in known], w) for w in CHECKPOINT_WEIGHTS.values()]
    for ridge in CHECKPOINT_RIDGES:
        name = f"least_squares_{ridge:g}_{size}"
        found[name] = [score(x.sums, ridge) for x in known]
        found[f"added_{name}"] = [score(x, ridge) for x in added]
    return {name: np.stack(x).astype(np.float32) for name, x in found.items()}


def _least_squares(setup: Setup, sums: TaskSums, ridge: float) -> np.ndarray:
    subsets = all_subsets(setup.suite.num_tasks)
    return np.asarray(least_squares_scores(sums, subsets, ridge=ridge).scores)


def cosine(gradients: np.ndarray) -> np.ndarray:
    """Cosines of every two rows; [n, p] to [n, n]."""
    unit = _unit(np.asarray(gradients, float))
    return unit @ unit.T


def add_gradients(
    gradients: Sequence[np.ndarray], weights: Sequence[float]
) -> np.ndarray:
    """The weighted sum over checkpoints of each task's gradient of unit length."""
    return np.einsum("c,cip->ip", weights, _unit(np.asarray(gradients, float)))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def add_sums(sums: Sequence[TaskSums], weights: Sequence[float]) -> TaskSums:
    """Sums over the transitions of several policies, each weighted.

    Advantages are centered and scaled to unit variance, and features to unit mean
    square, at every checkpoint by itself: their units change as the policy learns.
    """
    total = None
    for x, weight in zip(sums, weights, strict=True):
        weighed = jax.tree.map(lambda y, w=weight: w * y, standardize_sums(x))
        total = weighed if total is None else jax.tree.map(jnp.add, total, weighed)
    assert total is not None, "sums is empty"
    return total


def standardize_sums(sums: TaskSums) -> TaskSums:
    """The sums of advantages and features in units of their own spread."""
    count = sums.count.sum(axis=0, keepdims=True)
    mean = sums.advantage.sum(axis=0, keepdims=True) / count
    square = sums.squared_advantage.sum(axis=0, keepdims=True) / count - mean**2
    spread = jnp.where(square > 0, jnp.sqrt(jnp.maximum(square, 0.0)), 1.0)
    trace = jnp.trace(sums.outer, axis1=2, axis2=3)
    dim = sums.feature.shape[-1]
    scale = jnp.sqrt(trace.sum() / (sums.count.sum() * dim))
    scale = jnp.where(scale > 0, scale, 1.0)
    centered = sums.squared_advantage - 2 * mean * sums.advantage
    product = sums.product - mean[..., None] * sums.feature
    return sums._replace(
        feature=sums.feature / scale,
        outer=sums.outer / scale**2,
        advantage=(sums.advantage - mean * sums.count) / spread,
        squared_advantage=(centered + mean**2 * sums.count) / spread**2,
        product=product / (spread[..., None] * scale),
    )


def regroup(setup: Setup, meta: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Trains groups from the second checkpoint on, and chooses them anew at each."""
    began = time.monotonic()
    n = setup.suite.num_tasks
    ks = tuple(range(SMALLEST_K, min(LARGEST_K, n - 1) + 1))
    piece, ends = checkpoint_updates(setup.config.meta_training.num_updates)
    size = setup.settings["chunk_transitions"]
    start = load_policies(setup, meta)[1]
    first = cosine(collect(setup, start)[size].gradients)
    labels = np.stack([choose_groups(first, k) for k in ks])
    # Rows in the order of tasks, as one suite may be several programs.
    suite = setup.suite.select(np.repeat(np.arange(n), len(ks)).tolist())
    ppo = PPO(setup.config.ppo, setup.actor_critic, ends[-1] - ends[1])
    statistics = jax.tree.map(
        lambda x: jnp.repeat(x, len(ks), axis=0), start.value_statistics
    )
    state = ppo.init_from(
        suite,
        setup.key(6),
        policy_ids(labels, ks),
        start.params,
        start.observation_statistics,
        statistics,
    )
    partitions, cosines, scores = [labels], [], []
    for number in (2, 3):
        for _ in range((ends[number] - ends[number - 1]) // piece):
            state, _ = ppo.run(suite, state, piece)
        found = [
            collect(setup, _policies_of_tasks(state, row, len(ks)))[size]
            for row in range(len(ks))
        ]
        cosines.append([cosine(x.gradients) for x in found])
        scores.append(
            [_least_squares(setup, x.sums, CHECKPOINT_RIDGES[-1]) for x in found]
        )
        new = [choose_groups(x, k) for x, k in zip(cosines[-1], ks, strict=True)]
        state = _hand_over(state, labels, np.stack(new), ks)
        labels = np.stack(new)
        partitions.append(labels)
        report(setup, f"regrouped at {ends[number]}, s:", time.monotonic() - began)
    return {
        "ks": np.array(ks),
        "ends": np.array(ends[1:]),
        "labels": np.stack(partitions, axis=1),
        "cosines": np.swapaxes(np.array(cosines, np.float32), 0, 1),
        "least_squares": np.swapaxes(np.array(scores, np.float32), 0, 1),
        "seconds": time.monotonic() - began,
        "about": setup.about(),
    }


def choose_groups(affinity: np.ndarray, num_groups: int) -> np.ndarray:
    """The partition into k groups with the largest <U, X>; labels [n]."""
    subsets = all_subsets(len(affinity))
    scores = affinity_scores(affinity, subsets)
    return np.asarray(pge.best_partition(Scored(subsets, scores), num_groups).labels)


def policy_ids(labels: np.ndarray, ks: Sequence[int]) -> list[int]:
    """The policy of each row; from [ks, n] to rows in the order of tasks."""
    first = np.concatenate([[0], np.cumsum(ks)[:-1]])
    return (labels + first[:, None]).T.reshape(-1).tolist()


def _policies_of_tasks(state: TrainingState, row: int, num_rows: int) -> Policy:
    """The policy of each task, of the partition into the `row`th number of groups."""
    ids = state.policy_ids[row::num_rows]
    params, observations = jax.tree.map(
        lambda x: x[ids], (state.params, state.observation_statistics)
    )
    statistics = jax.tree.map(lambda x: x[row::num_rows], state.value_statistics)
    return Policy(params, observations, statistics)


def _hand_over(
    state: TrainingState, old: np.ndarray, new: np.ndarray, ks: Sequence[int]
) -> TrainingState:
    """The state in which each new group has the policy that it goes on from."""
    first = np.concatenate([[0], np.cumsum(ks)[:-1]])
    source = np.concatenate(
        [start + parents(x, y) for start, x, y in zip(first, old, new, strict=True)]
    )
    fields = ("params", "optimizer_state", "observation_statistics")
    taken = {x: jax.tree.map(lambda y: y[source], getattr(state, x)) for x in fields}
    ids = jnp.asarray(policy_ids(new, ks), state.policy_ids.dtype)
    return state._replace(**taken)._replace(policy_ids=ids)


def parents(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The old group that most tasks of each new one come from, the first of equals."""
    return np.array([np.bincount(old[new == g]).argmax() for g in np.unique(new)])


if __name__ == "__main__":
    app.run(main)
