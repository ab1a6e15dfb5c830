"""What stops a run: memory that ran out, and numbers that are not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pgx_jax.pipeline.config import PipelineConfig

# Of estimates: infinite where the parameters are all zero, NaN where they are unknown.
MAY_BE_INFINITE = ("relative_distance",)


class NotFinite(ValueError):
    """A stage computed a number that is not finite; nothing of it was stored."""


def settings_to_lower(config: PipelineConfig, stage: str) -> dict[str, Any]:
    """The settings that the memory of a stage grows with, and what they are.

    Args:
      config: of the run.
      stage: its name.
    """
    ppo, estimation = config.ppo, config.estimation
    if stage == "estimation":
        lower: dict[str, Any] = {
            "estimation.dim": estimation.dim,
            "estimation.num_resamples": estimation.num_resamples,
        }
        if estimation.uses_sums:
            num_envs = estimation.num_envs or ppo.num_envs
            return {"estimation.num_envs": num_envs} | lower
        lower = {"estimation.num_transitions": estimation.num_transitions} | lower
        if estimation.evaluator == "rollout":
            lower["estimation.num_rollouts"] = estimation.num_rollouts
        return lower
    if stage == "grouping":
        return {
            "estimation.num_subsets": estimation.num_subsets,
            "estimation.num_resamples": estimation.num_resamples,
        }
    if stage in ("evaluation", "adaptation_evaluation"):
        return {"evaluation.num_episodes": config.evaluation.num_episodes}
    if stage == "adaptation_selection":
        episodes = config.adaptation.num_selection_episodes
        return {"adaptation.num_selection_episodes": episodes}
    lower = {
        "ppo.num_envs": ppo.num_envs,
        "ppo.unroll_length": ppo.unroll_length,
        **config.network.sizes,
    }
    if stage == "group_training":
        draws = config.grouping.num_random_draws
        lower["grouping.num_random_draws"] = draws
    if stage.startswith("race"):
        lower["grouping.num_candidates"] = config.grouping.num_candidates
        lower["grouping.num_race_episodes"] = config.grouping.num_race_episodes
    return lower


def check_finite(
    stage: str, result: Mapping[str, Any], task_names: Sequence[str]
) -> None:
    """Refuses a stage's arrays where a number is not finite.

    Args:
      stage: its name.
      result: arrays by name.
      task_names: of the axis that is as long, to name the task.

    Raises:
      NotFinite: the message names the stage, the array, the place and the task.
    """
    for name, value in result.items():
        array = np.asarray(value)
        if array.dtype.kind != "f" or name in MAY_BE_INFINITE:
            continue
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            index = tuple(bad[0].tolist())
            axes = [i for i, x in enumerate(array.shape) if x == len(task_names)]
            tasks = "".join(f", task {task_names[index[i]]!r}" for i in axes[-1:])
            raise NotFinite(
                f"{stage} gave {len(bad)} numbers of {name!r} that are not finite, the "
                f"first at index {list(index)}{tasks}: {array[index]}. Nothing of the "
                "stage was stored"
            )
