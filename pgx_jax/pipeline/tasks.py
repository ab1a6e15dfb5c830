"""The tasks of a run."""

from __future__ import annotations

from pgx_jax.envs import TaskIdSuite, TaskSuite, as_tasks, make_suite
from pgx_jax.pipeline.config import SuiteConfig


def make_tasks(settings: SuiteConfig, split: str = "source") -> TaskSuite:
    """The suite of a config, whose tasks are to be grouped or adapted to.

    Args:
      settings: of the suite.
      split: "source" or "target".

    Raises:
      ValueError: there is no such suite or split, or it has several tasks of vector
        rewards.
    """
    suite = as_tasks(make_suite(settings.name, split))
    return TaskIdSuite.create(suite) if settings.task_id else suite
