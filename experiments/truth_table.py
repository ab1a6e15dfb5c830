"""What policies trained on every subset of a few tasks return: the truth of groupings.

    python experiments/truth_table.py --config=experiments/configs/truth_tables.py \
        --table=cartpole_0 --output=runs/truth

Trains a meta-policy on the chosen tasks, keeps what estimates need of it, and trains a
policy on every subset of the tasks from it, several times over, side by side in one
program: a row of the program is a task and the subset, of one training, whose policy
learns it. The stages leave one file each, and a stage whose file is there is not run
again; trainings go in blocks of `--block` replicates, with a file each.

    OUTPUT/NAME_meta.npz       the meta-policy
    OUTPUT/NAME_sums.npz       sums over its transitions, at several numbers of them
    OUTPUT/NAME_truth_B.npz    returns and learning curves of block B of trainings
    OUTPUT/NAME.npz            all but the sums: what experiments/partition_methods.py
                               reads beside them

With `--seconds`, training stops when so many have passed since the start, and the block
is stored as unfinished: its values are then those of the last episodes in training.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from pgx_jax import runtime

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of every table.")
_TABLE = flags.DEFINE_string("table", None, "Which table.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory of the files.")
_STAGES = flags.DEFINE_list("stages", ["meta", "sums", "truth"], "Which to run.")
_BLOCK = flags.DEFINE_integer("block", 0, "Trainings in one program; 0 for all.")
_SECONDS = flags.DEFINE_float("seconds", 0, "Stop training after; 0 for never.")
flags.mark_flags_as_required(["config", "table", "output"])

BEGAN = time.monotonic()
NUM_RUNS = 10  # pieces of a training, between which the time is looked at


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
            seconds=_SECONDS.value or None,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")


def run(
    values: Mapping[str, Any],
    name: str,
    output: Path,
    *,
    stages: list[str],
    block: int = 0,
    seconds: float | None = None,
) -> None:
    """Makes a table, or what is missing of it.

    Raises:
      ValueError: there is no such table, or a setting is not allowed.
    """
    table = Table.create(values, name)
    output.mkdir(parents=True, exist_ok=True)
    meta_path = output / f"{name}_meta.npz"
    if not meta_path.exists() and "meta" in stages:
        _save(meta_path, train_meta(table))
    meta = dict(_load(meta_path))
    if "sums" in stages and not (output / f"{name}_sums.npz").exists():
        _save(output / f"{name}_sums.npz", sum_up(table, meta))
    if "truth" not in stages:
        return
    size = block or table.settings["num_replicates"]
    blocks = []
    for first in range(0, table.settings["num_replicates"], size):
        path = output / f"{name}_truth_{first // size}.npz"
        if not path.exists():
            _save(path, train_subsets(table, meta, first, size, seconds))
        blocks.append(_load(path))
    joined = {
        key: np.concatenate([x[key] for x in blocks])
        for key in (
            "returns",
            "success",
            "curve",
            "curve_success",
            "finished",
            "meta_returns",
        )
    }
    joined |= {key: blocks[0][key] for key in ("subsets", "curve_steps")}
    joined["truth_seconds"] = np.sum([x["seconds"] for x in blocks])
    _save(output / f"{name}.npz", meta | joined)


@dataclasses.dataclass(frozen=True)
class Table:
    """The tasks, networks and budgets of one table.

    Attributes:
      name: of the table.
      settings: of all tables.
      config: the pipeline's, with what the table changes.
      suite: the n tasks.
      actor_critic: the networks.
    """

    name: str
    settings: Mapping[str, Any]
    config: Any
    suite: Any
    actor_critic: Any

    @classmethod
    def create(cls, values: Mapping[str, Any], name: str) -> Table:
        import importlib

        from pgx_jax.envs import TaskIdSuite, make_suite, register_suite
        from pgx_jax.envs.locks import combination_locks
        from pgx_jax.networks.mlp import make_actor_critic
        from pgx_jax.pipeline.config import PipelineConfig

        if name not in values["tables"]:
            raise ValueError(
                f"table {name!r} does not exist; there are "
                f"{', '.join(values['tables'])}"
            )
        given = values["tables"][name]
        register_suite("combination_locks", source=combination_locks)
        module = importlib.import_module(f"pgx_jax.configs.{given['config']}")
        config = module.get_config()
        config.seed = given.get("seed", 0)
        if "suite" in given:
            config.suite.name = given["suite"]
        if "hidden_sizes" in given:
            config.network.hidden_sizes = given["hidden_sizes"]
        if "num_envs" in given:
            config.ppo.num_envs = given["num_envs"]
        if "meta_updates" in given:
            config.meta_training.num_updates = given["meta_updates"]
        if "updates" in given:
            config.group_training.num_updates = given["updates"]
        config = PipelineConfig.from_dict(config.to_dict())
        suite = make_suite(config.suite.name)
        tasks = given.get("tasks") or [
            suite.task_names.index(x) for x in given["task_names"]
        ]
        suite = suite.select(list(tasks))
        if config.suite.task_id:
            suite = TaskIdSuite.create(suite)
        networks = make_actor_critic(
            suite.observation_size,
            suite.action_space.size,
            suite.action_space.discrete,
            config.network.hidden_sizes,
            config.network.activation,
            config.network.bounded_mean,
        )
        return cls(name, values, config, suite, networks)

    @property
    def num_episodes(self) -> int:
        """Of evaluation, for each row."""
        given = self.settings["tables"][self.name]
        return given.get("num_episodes", self.settings["num_episodes"])

    def key(self, stage: int):
        return jax.random.fold_in(jax.random.key(self.config.seed), stage)

    def policy(self, meta: Mapping[str, Any]):
        """Parameters [1, ...] and statistics out of the meta-policy's file."""
        from pgx_jax.training.running_statistics import RunningStatistics

        like = jax.eval_shape(self.actor_critic.init, jax.random.key(0))
        leaves, treedef = jax.tree.flatten(like)
        params = [jnp.asarray(meta[f"params_{i}"]) for i in range(len(leaves))]
        statistics = [
            RunningStatistics(*(jnp.asarray(meta[f"{x}_{i}"]) for i in range(3)))
            for x in ("observation", "value")
        ]
        return jax.tree.unflatten(treedef, params), *statistics


def train_meta(table: Table) -> dict[str, Any]:
    """Trains one policy on all tasks."""
    from pgx_jax.runs.provenance import describe
    from pgx_jax.training.ppo import PPO

    num_updates = table.config.meta_training.num_updates
    ppo = PPO(table.config.ppo, table.actor_critic, num_updates)
    began = time.monotonic()
    state = ppo.init(table.suite, table.key(0))
    state, metrics = ppo.run(table.suite, state, num_updates)
    about = {
        "table": table.name,
        "config": table.config.to_dict(),
        "task_names": list(table.suite.task_names),
        **describe(),
    }
    leaves = jax.tree.leaves(state.params)
    result = {f"params_{i}": x for i, x in enumerate(leaves)}
    for name, statistics in (
        ("observation", state.observation_statistics),
        ("value", state.value_statistics),
    ):
        result |= {f"{name}_{i}": x for i, x in enumerate(statistics)}
    result["meta_curve"] = metrics["return"]
    result["about"] = json.dumps(about)
    result["meta_seconds"] = time.monotonic() - began
    _report(table, "meta", jnp.nanmean(metrics["return"][-5:], axis=0))
    return result


def sum_up(table: Table, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Estimates and sums of the meta-policy's transitions, at several numbers."""
    import pgx_jax as pge
    from pgx_jax.analysis.partitions import all_subsets
    from pgx_jax.estimation.sums import accumulate
    from pgx_jax.evaluation.transition_sums import unroll_transitions
    from pgx_jax.training.ppo import PPO

    settings = table.settings
    num_envs = settings["collection_envs"]
    length = settings["chunk_transitions"] // num_envs
    config = dataclasses.replace(
        table.config.ppo, num_envs=num_envs, unroll_length=length, num_minibatches=1
    )
    ppo = PPO(config, table.actor_critic, 1)
    state = ppo.init_from(
        table.suite, table.key(1), [0] * table.suite.num_tasks, *table.policy(meta)
    )
    policy = jax.tree.map(lambda x: x[0], state.params["policy"])
    log_prob = table.actor_critic.log_prob
    projection = pge.GaussianProjection(settings["dim"])
    collect = jax.jit(functools.partial(unroll_transitions, ppo))
    add_up = functools.partial(
        accumulate,
        log_prob,
        policy,
        key=table.key(2),
        projection=projection,
    )
    subsets = all_subsets(table.suite.num_tasks)
    result = {"subsets": subsets}
    total = None
    for chunk in range(settings["num_chunks"]):
        key = jax.random.fold_in(table.key(3), chunk)
        suite_state, batch = collect(table.suite, state, key)
        state = state._replace(suite_state=suite_state)
        sums = add_up(batch, num_parts=settings["num_parts"])
        total = sums if total is None else total + sums
        if chunk:
            continue
        result |= _pack(sums._replace(squared_product=None, noise_outer=None), chunk)
        for size in settings["estimate_transitions"]:
            few = jax.tree.map(lambda x, size=size: x[:, :size], batch)
            cosine = pge.gradient_similarity(log_prob, policy, few)
            result[f"cosine_{size}"] = cosine.matrix
            if size < settings["estimate_transitions"][-1] // 8:
                continue
            result |= _pack(add_up(few, noise=False, num_parts=2), size)
            estimates = pge.estimate_subsets(
                log_prob, policy, few, subsets, key=table.key(4), dim=settings["dim"]
            )
            result[f"surrogate_{size}"] = estimates.scores
        cosine = pge.gradient_similarity(log_prob, policy, batch)
        result["cosine_chunk"] = cosine.matrix
        _report(table, "first chunk", sums.count.sum(axis=0))
    _report(table, "sums", total.count.sum(axis=0))
    return result | _pack(total, "all")


def _pack(sums, level) -> dict[str, Any]:
    """The leaves of sums, of symmetric matrices the upper triangle."""
    level = "chunk" if level == 0 else level
    packed = {}
    for name, x in sums._asdict().items():
        if x is None:
            continue
        if x.ndim == 4:
            rows, columns = np.triu_indices(x.shape[-1])
            x = np.asarray(x)[..., rows, columns]
        packed[f"{name}_{level}"] = x
    return packed


def train_subsets(
    table: Table,
    meta: Mapping[str, Any],
    first: int,
    num_replicates: int,
    seconds: float | None,
) -> dict[str, Any]:
    """Trains a policy on every subset, several times over, and evaluates it."""
    from pgx_jax.analysis.partitions import all_subsets
    from pgx_jax.training.episodes import evaluate
    from pgx_jax.training.ppo import PPO

    num_updates = table.config.group_training.num_updates
    num_tasks = table.suite.num_tasks
    ppo = PPO(table.config.ppo, table.actor_critic, num_updates)
    subsets = all_subsets(num_tasks)
    # Rows in the order of tasks, since those of one suite may be several programs.
    task, replicate, subset = np.nonzero(
        np.broadcast_to(subsets.T[:, None], (num_tasks, num_replicates, len(subsets)))
    )
    rows = table.suite.select(task.tolist())
    params, observation_statistics, value_statistics = table.policy(meta)
    began = time.monotonic()
    key = jax.random.fold_in(table.key(5), first)
    state = ppo.init_from(
        rows,
        key,
        (replicate * len(subsets) + subset).tolist(),
        params,
        observation_statistics,
        jax.tree.map(lambda x: x[task], value_statistics),
    )
    policy_ids = np.asarray(state.policy_ids)  # The state is given away below.
    # Traced while the first updates are run: the tracing takes about as long.
    start = jax.tree.map(
        jnp.copy, (state.params["policy"], state.observation_statistics)
    )
    play = functools.partial(evaluate, rows, table.actor_critic)
    rest = (policy_ids, jax.random.fold_in(key, 1), table.num_episodes)
    threads = ThreadPoolExecutor(1)
    unadapted = None
    curves, done = [], 0
    while done < num_updates and (
        seconds is None or time.monotonic() - BEGAN < seconds
    ):
        length = min(-(-num_updates // NUM_RUNS), num_updates - done)
        state, metrics = ppo.run(rows, state, length)
        unadapted = unadapted or threads.submit(play, *start, *rest)
        curves.append(
            jax.device_get({x: metrics[x] for x in ("return", "success", "episodes")})
        )
        done += length
        _report(table, f"update {done}", curves[-1]["return"][-1][:num_tasks])
    curve = {x: np.concatenate([c[x] for c in curves]) for x in curves[0]}

    def place(x, fill=np.nan):
        """[..., rows] to [replicates, ..., m, n]."""
        new = np.full((num_replicates, *x.shape[:-1], *subsets.shape), fill, np.float32)
        new[replicate, ..., subset, task] = np.moveaxis(x, -1, 0)
        return new

    finished = done == num_updates
    values = {
        x: thin(curve[x], curve["episodes"], 10)[-1] for x in ("return", "success")
    }
    if finished:
        found = play(state.params["policy"], state.observation_statistics, *rest)
        values = {
            "return": np.asarray(found.episode_return).mean(axis=1),
            "success": np.asarray(found.episode_success).mean(axis=1),
        }
    threads.shutdown(wait=finished)
    points = table.settings["num_points"]
    _report(table, "truth", np.nanmean(values["return"]))
    return {
        "subsets": subsets,
        "returns": place(values["return"]),
        "success": place(values["success"]),
        "curve": place(thin(curve["return"], curve["episodes"], points)),
        "curve_success": place(thin(curve["success"], curve["episodes"], points)),
        "curve_steps": np.linspace(0, done, points + 1)[1:]
        * table.config.ppo.steps_per_update,
        "meta_returns": np.full((1, num_tasks), np.nan)
        if not finished
        else _mean_by_task(unadapted.result().episode_return, task, num_tasks)[None],
        "finished": np.full(num_replicates, finished),
        "seconds": time.monotonic() - began,
    }


def _mean_by_task(values: Any, task: Any, num_tasks: int) -> Any:
    """Means over all episodes of the rows of each task; [r, episodes] to [n]."""
    values = np.asarray(values)
    return np.array([values[task == i].mean() for i in range(num_tasks)])


def thin(values: Any, episodes: Any, num_points: int) -> Any:
    """Means over the episodes of equal stretches of updates.

    From [updates, r] to [points, r]. A stretch in which no episode ended has the value
    of the one before it.
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


def _report(table: Table, what: str, values: Any) -> None:
    shown = np.array2string(np.asarray(values), precision=1, max_line_width=200)
    print(f"{time.monotonic() - BEGAN:6.0f} s {table.name}: {what} {shown}", flush=True)


def _save(path: Path, values: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **jax.device_get(dict(values)))
    temporary.replace(path)


def _load(path: Path) -> Mapping[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


if __name__ == "__main__":
    app.run(main)
