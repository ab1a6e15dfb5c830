"""Task suites: ready-made ones, and adapters that make them of other environments."""

from pgx_jax.extras import needs_extra

with needs_extra("envs"):
    import pgx_jax.envs.mjx  # noqa: F401  # before anything else imports MJX

from pgx_jax.envs.adapters import from_brax, from_functions, from_playground
from pgx_jax.envs.collection import CollectionSuite
from pgx_jax.envs.core import (
    ActionSpace,
    StepSuite,
    SuiteState,
    TaskEnvironment,
    TaskSuite,
)
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.registry import SUITES, make_suite, register_suite
from pgx_jax.envs.wrappers import (
    ObjectiveTasks,
    PreferenceSuite,
    SuiteView,
    TaskIdSuite,
    as_tasks,
)

__all__ = [
    "SUITES",
    "ActionSpace",
    "CollectionSuite",
    "FamilySuite",
    "ObjectiveTasks",
    "PreferenceSuite",
    "StepSuite",
    "SuiteState",
    "SuiteView",
    "TaskEnvironment",
    "TaskIdSuite",
    "TaskSuite",
    "as_tasks",
    "from_brax",
    "from_functions",
    "from_playground",
    "make_suite",
    "register_suite",
]
