"""Trains policies on every subset of a few tasks: the truth to judge groupings by.

    python experiments/truth_table.py --config=experiments/configs/truth_tables.py \
        --table=cartpole_0 --output=runs/truth

Trains a meta-policy on the chosen tasks, stores what estimates need of it, and trains a
policy on every subset of the tasks from it, several times over, side by side in one
program: a row of the program is a task together with the subset, of one training, whose
policy learns it. Each stage writes a file, and a stage whose file exists is not run
again; trainings run in blocks of `--block` replicates, with a file for each block.

    OUTPUT/NAME_meta.npz       the meta-policy
    OUTPUT/NAME_sums.npz       sums over its transitions, for several numbers of them
    OUTPUT/NAME_truth_B.npz    returns and learning curves of block B of trainings
    OUTPUT/NAME.npz            everything but the sums

The script `partition_methods.py` reads the last file and that of the sums.

With `--seconds`, training stops when that time has passed since the start; the policies
are evaluated as they are then, and the block is stored as unfinished.

Values are those of the mode of each policy, as the pipeline evaluates policies; those
of sampled actions are stored beside them, with the standard errors of both.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command goes on from the stages that are finished")

import functools
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from truth_setup import BEGAN, Setup, load_arrays, report, save_arrays

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis.truth_tables import all_subsets
from pgx_jax.envs import TaskSuite
from pgx_jax.estimation.sums import TaskSums, accumulate
from pgx_jax.evaluation.transition_sums import unroll_transitions
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO, TrainingState

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of every table.")
_TABLE = flags.DEFINE_string("table", None, "Name of the table.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Directory of the files.", required=True)
_STAGES = flags.DEFINE_list("stages", ["meta", "sums", "truth"], "Stages to run.")
_BLOCK = flags.DEFINE_integer(
    "block", None, "Replicates in one program; by default all.", lower_bound=1
)
_SECONDS = flags.DEFINE_float(
    "seconds", None, "When to stop training; by default never."
)
flags.mark_flag_as_required("config")

NUM_PIECES = 20  # of a training, after each of which the time is checked
SHARED = ("subsets", "curve_steps", "about_truth")  # by all blocks of a table
EPISODES_AT_ONCE = 32  # of a row; the memory of an evaluation grows with them


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
            block=_BLOCK.value,
            seconds=_SECONDS.value,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")


def run(
    values: Mapping[str, Any],
    name: str,
    output: Path,
    *,
    stages: list[str],
    block: int | None = None,
    seconds: float | None = None,
) -> None:
    """Makes a table, or the files of it that are missing.

    Raises:
      ValueError: there is no such table, or a setting is not allowed.
    """
    setup = Setup.create(values, name)
    output.mkdir(parents=True, exist_ok=True)
    meta_path = output / f"{name}_meta.npz"
    if not meta_path.exists() and "meta" in stages:
        save_arrays(meta_path, train_meta(setup))
    meta = load_arrays(meta_path)
    if "sums" in stages and not (output / f"{name}_sums.npz").exists():
        save_arrays(output / f"{name}_sums.npz", sum_transitions(setup, meta))
    if "truth" not in stages:
        return
    size = block or setup.settings["num_replicates"]
    blocks = []
    for first in range(0, setup.settings["num_replicates"], size):
        path = output / f"{name}_truth_{first // size}.npz"
        if not path.exists():
            save_arrays(path, train_subsets(setup, meta, first, size, seconds))
        blocks.append(load_arrays(path))
    joined = {
        key: np.concatenate([x[key] for x in blocks])
        for key in blocks[0]
        if key not in (*SHARED, "seconds")
    }
    joined |= {key: blocks[0][key] for key in SHARED}
    joined["truth_seconds"] = np.sum([x["seconds"] for x in blocks])
    save_arrays(output / f"{name}.npz", meta | joined)


def train_meta(setup: Setup) -> dict[str, Any]:
    """Trains one policy on all tasks."""
    num_updates = setup.config.meta_training.num_updates
    ppo = PPO(setup.config.ppo, setup.actor_critic, num_updates)
    began = time.monotonic()
    state = ppo.init(setup.suite, setup.key(0))
    state, metrics = ppo.run(setup.suite, state, num_updates)
    leaves = jax.tree.leaves(state.params)
    result = {f"params_{i}": x for i, x in enumerate(leaves)}
    for name, statistics in (
        ("observation", state.observation_statistics),
        ("value", state.value_statistics),
    ):
        result |= {f"{name}_{i}": x for i, x in enumerate(statistics)}
    result["meta_curve"] = metrics["return"]
    result["about"] = setup.about()
    result["meta_seconds"] = time.monotonic() - began
    report(setup, "meta", jnp.nanmean(metrics["return"][-5:], axis=0))
    return result


def sum_transitions(setup: Setup, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Estimates and sums from several numbers of the meta-policy's transitions."""
    settings = setup.settings
    ppo = setup.collecting_ppo()
    state = ppo.init_from(
        setup.suite, setup.key(1), [0] * setup.suite.num_tasks, *setup.policy(meta)
    )
    policy = jax.tree.map(lambda x: x[0], state.params["policy"])
    collect = jax.jit(functools.partial(unroll_transitions, ppo))
    add_up = functools.partial(
        accumulate,
        setup.actor_critic.log_prob,
        policy,
        key=setup.key(2),
        projection=pge.GaussianProjection(settings["dim"]),
    )
    result: dict[str, Any] = {"subsets": all_subsets(setup.suite.num_tasks)}
    total: TaskSums | None = None
    for chunk in range(settings["num_chunks"]):
        key = jax.random.fold_in(setup.key(3), chunk)
        suite_state, batch = collect(setup.suite, state, key)
        state = state._replace(suite_state=suite_state)
        sums = add_up(batch, num_parts=settings["num_parts"])
        if total is None:
            small = sums._replace(squared_product=None, noise_outer=None)
            result |= _pack(small, "chunk")
            result |= _estimate(setup, policy, batch, add_up)
            report(setup, "first chunk", sums.count.sum(axis=0))
        total = sums if total is None else total + sums
    assert total is not None, "num_chunks is 0"
    report(setup, "sums", total.count.sum(axis=0))
    return result | _pack(total, "all")


def _estimate(setup: Setup, policy: Any, batch: Any, add_up: Any) -> dict[str, Any]:
    """What the first transitions of a chunk give, for several numbers of them."""
    settings, log_prob = setup.settings, setup.actor_critic.log_prob
    subsets = all_subsets(setup.suite.num_tasks)
    result = {}
    for size in settings["estimate_transitions"]:
        few = jax.tree.map(lambda x, size=size: x[:, :size], batch)
        cosine = pge.gradient_similarity(log_prob, policy, few)
        result[f"cosine_{size}"] = cosine.matrix
        if size < settings["estimate_transitions"][-1] // 8:
            continue
        result |= _pack(add_up(few, noise=False, num_parts=2), str(size))
        estimates = pge.estimate_subsets(
            log_prob, policy, few, subsets, key=setup.key(4), dim=settings["dim"]
        )
        result[f"surrogate_{size}"] = estimates.scores
    cosine = pge.gradient_similarity(log_prob, policy, batch)
    return result | {"cosine_chunk": cosine.matrix}


def _pack(sums: TaskSums, level: str) -> dict[str, Any]:
    """The leaves of sums by name; of symmetric matrices the upper triangles."""
    packed = {}
    for name, x in sums._asdict().items():
        if x is None:
            continue
        if x.ndim == 4:
            rows, columns = np.triu_indices(x.shape[-1])
            x = np.asarray(x)[..., rows, columns]
        packed[f"{name}_{level}"] = x
    return packed


class Rows(NamedTuple):
    """The rows of a block of trainings.

    Attributes:
      subsets: bool [m, n].
      num_replicates: trainings of each subset.
      task: of each row; int [r].
      replicate: of each row; int [r].
      subset: of each row, its index in `subsets`; int [r].
    """

    subsets: np.ndarray
    num_replicates: int
    task: np.ndarray
    replicate: np.ndarray
    subset: np.ndarray

    @classmethod
    def create(cls, subsets: np.ndarray, num_replicates: int) -> Rows:
        """All rows in the order of tasks, as one suite may be several programs."""
        num_subsets, num_tasks = subsets.shape
        shape = (num_tasks, num_replicates, num_subsets)
        places = np.nonzero(np.broadcast_to(subsets.T[:, None], shape))
        return cls(subsets, num_replicates, *places)

    @property
    def policy_ids(self) -> list[int]:
        return (self.replicate * len(self.subsets) + self.subset).tolist()

    def place(self, values: np.ndarray) -> np.ndarray:
        """From [..., rows] to [replicates, ..., m, n], NaN where there is no row."""
        shape = (self.num_replicates, *values.shape[:-1], *self.subsets.shape)
        placed = np.full(shape, np.nan, np.float32)
        placed[self.replicate, ..., self.subset, self.task] = np.moveaxis(values, -1, 0)
        return placed

    def mean_by_task(self, values: Any) -> np.ndarray:
        """Means over the rows of each task; [r] to [n]."""
        values = np.asarray(values)
        return np.array(
            [values[self.task == i].mean() for i in range(self.subsets.shape[1])]
        )


def train_subsets(
    setup: Setup,
    meta: Mapping[str, Any],
    first: int,
    num_replicates: int,
    seconds: float | None,
) -> dict[str, Any]:
    """Trains a policy on every subset, several times over, and evaluates it."""
    num_updates = setup.config.group_training.num_updates
    ppo = PPO(setup.config.ppo, setup.actor_critic, num_updates)
    rows = Rows.create(all_subsets(setup.suite.num_tasks), num_replicates)
    suite = setup.suite.select(rows.task.tolist())
    params, observation_statistics, value_statistics = setup.policy(meta)
    began = time.monotonic()
    key = jax.random.fold_in(setup.key(5), first)
    state = ppo.init_from(
        suite,
        key,
        rows.policy_ids,
        params,
        observation_statistics,
        jax.tree.map(lambda x: x[rows.task], value_statistics),
    )
    # Copies, since training donates the state's buffers.
    policy, statistics, policy_ids = jax.tree.map(
        jnp.copy,
        (state.params["policy"], state.observation_statistics, state.policy_ids),
    )
    play = functools.partial(
        _play, setup, suite, policy_ids, jax.random.fold_in(key, 1)
    )
    threads = ThreadPoolExecutor(1)
    # The evaluation is traced while the first updates run; both take about as long.
    state, curve, unadapted = _train(
        setup,
        ppo,
        suite,
        state,
        seconds,
        lambda: threads.submit(play, policy, statistics, num_episodes=EPISODES_AT_ONCE),
    )
    done = len(curve["return"])
    finished = done == num_updates
    trained = (state.params["policy"], state.observation_statistics)
    num_sampled = max(EPISODES_AT_ONCE, setup.num_episodes // 4)
    sampled = play(*trained, num_episodes=num_sampled, deterministic=False)
    values = play(*trained, num_episodes=setup.num_episodes)
    values |= {f"{x}_sampled": y for x, y in sampled.items()}
    meta_returns = rows.mean_by_task(unadapted.result()["returns"])
    returns = values["returns"]
    threads.shutdown()
    report(setup, "truth", np.nanmean(returns))
    points = min(setup.settings["num_points"], done)
    steps = np.linspace(0, done, points + 1)[1:] * setup.config.ppo.steps_per_update
    return {
        "subsets": rows.subsets,
        **{x: rows.place(y) for x, y in values.items()},
        "curve": rows.place(thin(curve["return"], curve["episodes"], points)),
        "curve_success": rows.place(thin(curve["success"], curve["episodes"], points)),
        "curve_steps": steps,
        "about_truth": setup.about(),
        "meta_returns": meta_returns[None],
        "finished": np.full(num_replicates, finished),
        "seconds": time.monotonic() - began,
    }


def _play(
    setup: Setup,
    suite: TaskSuite,
    policy_ids: np.ndarray,
    key: jax.Array,
    policy_params: Any,
    observation_statistics: Any,
    *,
    num_episodes: int,
    deterministic: bool = True,
) -> dict[str, np.ndarray]:
    """Means over episodes, and the standard error of that of returns; [r] each."""
    found = []
    for part in range(-(-num_episodes // EPISODES_AT_ONCE)):
        found.append(
            jax.device_get(
                evaluate(
                    suite,
                    setup.actor_critic,
                    policy_params,
                    observation_statistics,
                    policy_ids,
                    jax.random.fold_in(key, part),
                    EPISODES_AT_ONCE,
                    deterministic=deterministic,
                )
            )
        )
    returns, success = (
        np.concatenate([getattr(x, f"episode_{y}") for x in found], axis=1)
        for y in ("return", "success")
    )
    return {
        "returns": returns.mean(axis=1),
        "success": success.mean(axis=1),
        "returns_error": returns.std(axis=1, ddof=1) / np.sqrt(returns.shape[1]),
    }


def _train(
    setup: Setup,
    ppo: PPO,
    suite: TaskSuite,
    state: TrainingState,
    seconds: float | None,
    on_start: Callable[[], Any],
) -> tuple[TrainingState, dict[str, np.ndarray], Any]:
    """Trains in pieces while there is time; the state, the curve and `on_start()`."""
    pieces, started, done = [], None, 0
    while done < ppo.total_updates:
        if done and seconds is not None and time.monotonic() - BEGAN >= seconds:
            break
        length = min(-(-ppo.total_updates // NUM_PIECES), ppo.total_updates - done)
        state, metrics = ppo.run(suite, state, length)
        started = started or on_start()
        pieces.append(
            jax.device_get({x: metrics[x] for x in ("return", "success", "episodes")})
        )
        done += length
        latest = pieces[-1]["return"][-1][: setup.suite.num_tasks]
        report(setup, f"update {done}", latest)
    curve = {x: np.concatenate([piece[x] for piece in pieces]) for x in pieces[0]}
    return state, curve, started


def thin(values: Any, episodes: Any, num_points: int) -> Any:
    """Means over the episodes that ended in equal stretches of updates.

    A stretch in which no episode ended has the value of the one before it.

    Args:
      values: means over the episodes of an update; [updates, r].
      episodes: numbers of those episodes; [updates, r].
      num_points: of stretches.

    Returns:
      Shape [points, r], with as many points as updates at most.
    """
    num_points = min(num_points, len(values))
    means = []
    for stretch in np.array_split(np.arange(len(values)), num_points):
        weight = episodes[stretch]
        total = np.where(weight > 0, values[stretch] * weight, 0.0).sum(axis=0)
        count = weight.sum(axis=0)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        if means:
            mean = np.where(np.isnan(mean), means[-1], mean)
        means.append(mean)
    return np.stack(means)


if __name__ == "__main__":
    app.run(main)
