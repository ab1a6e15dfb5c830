"""Which stage of a run a setting comes into first.

What a stage depends on cannot be changed once it has begun; everything else can, when a
run goes on.
"""

from __future__ import annotations

from pgx_jax.pipeline.config import PipelineConfig

# Of whole sections, and of fields where those of a section differ; the longer name
# counts. None where only the report depends on it.
_FIRST_STAGES: dict[str, str | None] = {
    "seed": "meta_training",
    "checkpoint_every": None,
    "num_devices": None,
    "suite": "meta_training",
    "network": "meta_training",
    "ppo": "meta_training",
    "inner": "meta_training",
    "meta_training": "meta_training",
    "estimation": "estimation",
    "grouping.method": "estimation",
    "grouping.num_groups": "grouping",
    "grouping.other_num_groups": "grouping",
    "grouping.num_candidates": None,
    "grouping.num_race_episodes": None,
    "grouping.num_random_draws": "grouping",
    "grouping.single_tasks": "group_training",
    "group_training": "group_training",
    "evaluation": "evaluation",
    "evaluation.scalarization": None,
    "adaptation.num_updates": "adaptation_training",
    "adaptation.learner": "adaptation_training",
    "adaptation.num_selection_episodes": "adaptation_selection",
}
# Where candidates race, before there are groups.
_OF_A_RACE: dict[str, str | None] = {
    "grouping.num_groups": "race_training",
    "grouping.other_num_groups": "race_training",
    "grouping.num_candidates": "race_training",
    "grouping.num_race_episodes": "race_evaluation",
    "group_training.learner": "race_training",
    "group_training.num_updates": "race_training",
    "group_training.start": "race_training",
    "evaluation.deterministic": "race_evaluation",
}
# Where transitions are collected until the groups are stable.
_OF_ROUNDS: dict[str, str | None] = {"grouping.num_groups": "estimation"}


def first_stage(field: str, config: PipelineConfig) -> str | None:
    """The first stage that depends on a setting.

    Args:
      field: its name, sections before it: "ppo.num_envs".
      config: of the run.

    Returns:
      The name of a stage, as workdirs have it; None if no stage depends on it. The
      first of all for a setting that another version had.

    """
    stages = dict(_FIRST_STAGES)
    if config.grouping.races:
        stages |= _OF_A_RACE
    elif config.estimation.uses_sums:
        stages |= _OF_ROUNDS
    section = field.partition(".")[0]
    return stages[field] if field in stages else stages.get(section, "meta_training")
