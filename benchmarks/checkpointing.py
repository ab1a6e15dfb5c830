"""What checkpoints cost: the share of training time that they and their digests take.

python benchmarks/checkpointing.py            # a GPU, about five minutes
python benchmarks/checkpointing.py --small    # a CPU
python benchmarks/checkpointing.py --config=metaworld_mt10

The meta-policy of a config, and a policy for each of its tasks, are trained as a run
trains them, with a checkpoint every `checkpoint_every` updates. Rows are medians over
chunks of so many updates, without the first one, which compiles:

* training: `PPO.run`, until its result is ready;
* checkpoint: from there until the checkpoint is complete, so the state's way from the
  device, its files, their SHA-256, and metrics and TensorBoard's events on disk;
* digests: the part of it that computes digests;
* all else: the rest of the time between two chunks, such as checks for NaN and metrics.

"share" is the checkpoint's part of the time from chunk to chunk.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import common
import jax
import numpy as np

from pgx_jax.appearance import GROUP_COLORS
from pgx_jax.cli.config_files import load_config
from pgx_jax.pipeline.checks import make_checked_suite, make_networks, stage_key
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.runner import Runner
from pgx_jax.pipeline.stages import Problem
from pgx_jax.runs import checkpoints
from pgx_jax.runs.checkpoints import TrainingCheckpoints, pack
from pgx_jax.runs.metrics import MetricsWriter
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.ppo import PPO

# Percent of the time, written down before measuring.
PREDICTED = {"cartpole_planted on a CPU": 2.0, "metaworld_mt10 on an H100": 4.0}
FULL = {"configs": ("cartpole_planted", "metaworld_mt10"), "num_chunks": 5}
SMALL = {"configs": ("cartpole_planted",), "num_chunks": 3}
COLUMNS = {
    "config": "config",
    "policies": "num_policies",
    "state MB": "megabytes",
    "updates a checkpoint": "num_updates",
    "training s": "training_s",
    "checkpoint s": "checkpoint_s",
    "digests s": "digests_s",
    "all else s": "rest_s",
    "share %": "share",
}


def add_arguments(parser) -> None:
    parser.add_argument("--config", help="one config only, by name or path")


def measure(arguments, sizes, budget) -> common.Outcome:
    names = (arguments.config,) if arguments.config else sizes["configs"]
    rows = []
    for name in names:
        values = load_config(name)
        for section, change in sizes.get("changes", {}).items():
            is_section = isinstance(change, dict)
            values[section] = values[section] | change if is_section else change
        config = PipelineConfig.from_dict(values)
        suite = make_checked_suite(config)
        for num_policies in (1, suite.num_tasks):
            if budget.allows(f"{name}, {num_policies} policies"):
                times = time_training(config, suite, num_policies, sizes["num_chunks"])
                rows.append({"config": name, "num_policies": num_policies} | times)
    return common.Outcome(rows)


def time_training(
    config: PipelineConfig, suite: Any, num_policies: int, num_chunks: int
) -> dict[str, Any]:
    """Medians over the chunks of one training."""
    problem = Problem(suite, make_networks(config, suite), config.ppo)
    num_updates = config.checkpoint_every * (num_chunks + 1)
    ppo = PPO(config.ppo, problem.actor_critic, num_updates)
    rows = np.arange(suite.num_tasks)
    start = ppo.init(suite, stage_key(0, "meta_training"), rows % num_policies)
    times: dict[str, list[float]] = {"run": [], "save": [], "flush": [], "digest": []}
    began: list[float] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        MetricsWriter(directory, task_names=suite.task_names) as writer,
        timed(PPO, "run", times["run"], began),
        timed(TrainingCheckpoints, "save", times["save"]),
        timed(MetricsWriter, "flush", times["flush"]),
        timed(checkpoints, "digest_arrays", times["digest"]),
        timed(checkpoints, "seal", times["digest"]),
    ):
        workdir = Workdir(Path(directory) / "run", {})
        progress = Progress(stream=io.StringIO())
        runner = Runner(problem, workdir, writer, progress, config.checkpoint_every)
        runner.train("training", ppo, suite, rows, lambda _: start, rows)
    # The last chunk has none after it, and the result of the stage is sealed as well.
    chunks = slice(1, num_chunks)
    training = statistics.median(times["run"][chunks])
    saves = [a + b for a, b in zip(times["save"], times["flush"], strict=True)]
    checkpoint = statistics.median(saves[chunks])
    digests = np.reshape(times["digest"], (-1, 2)).sum(axis=1).tolist()
    whole = statistics.median(np.diff(began)[chunks].tolist())
    return {
        "megabytes": sum(x.nbytes for x in jax.tree.leaves(pack(start))) / 1e6,
        "num_updates": config.checkpoint_every,
        "training_s": training,
        "checkpoint_s": checkpoint,
        "digests_s": statistics.median(digests[chunks]),
        "rest_s": whole - training - checkpoint,
        "share": 100.0 * checkpoint / whole,
        "times": times,
    }


@contextlib.contextmanager
def timed(
    owner: Any, name: str, seconds: list[float], began: list[float] | None = None
) -> Iterator[None]:
    """Adds to lists when a function is called, and how long it takes to be ready."""
    function: Callable = getattr(owner, name)

    def call(*arguments, **named):
        start = time.perf_counter()
        result = jax.block_until_ready(function(*arguments, **named))
        seconds.append(time.perf_counter() - start)
        if began is not None:
            began.append(start)
        return result

    with mock.patch.object(owner, name, call):
        yield


def plot(rows):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.0, 3.0), layout="constrained")
    labels = [f"{row['config']}\n{row['num_policies']} policies" for row in rows]
    left = np.zeros(len(rows))
    parts = {"training": "training_s", "checkpoint": "checkpoint_s", "else": "rest_s"}
    for color, (label, key) in zip(GROUP_COLORS, parts.items(), strict=False):
        widths = np.array([row[key] for row in rows])
        axes.barh(labels, widths, left=left, label=label, color=color)
        left += widths
    axes.set_xlabel("seconds from checkpoint to checkpoint")
    figure.legend(loc="outside upper center", ncols=len(parts))
    return figure


def main() -> None:
    common.run(globals(), seconds=300)


if __name__ == "__main__":
    main()
