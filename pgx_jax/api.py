"""The names that `import pgx_jax` offers; importing this module imports JAX."""

from pgx_jax.estimation.advantages import optimal_advantages, optimal_value
from pgx_jax.estimation.estimate import estimate_subsets
from pgx_jax.estimation.evaluators import Adapted, Evaluation
from pgx_jax.estimation.gradients import task_gradients
from pgx_jax.estimation.preferences import PreferenceLogProb, preference_transitions
from pgx_jax.estimation.projection import (
    GaussianProjection,
    RademacherProjection,
    back_project,
    project_gradients,
)
from pgx_jax.estimation.regression import solve_regressions
from pgx_jax.estimation.solver import RegressionSolution
from pgx_jax.estimation.status import check_estimates
from pgx_jax.estimation.storage import load_estimates, save_estimates
from pgx_jax.estimation.subsets import pair_counts, sample_subsets
from pgx_jax.estimation.sums import TaskSums, accumulate
from pgx_jax.grouping.affinity import task_affinity
from pgx_jax.grouping.baselines import gradient_similarity, random_grouping
from pgx_jax.grouping.clustering import cluster_tasks, grouping_stability
from pgx_jax.grouping.expected_gain import GainCurve, GroupingGain, grouping_gain
from pgx_jax.grouping.partition_search import best_partition
from pgx_jax.grouping.plots import plot_affinity
from pgx_jax.grouping.task_groups import TaskGroups, group_tasks
from pgx_jax.types import (
    Affinity,
    EstimateStatus,
    Grouping,
    GroupingStability,
    ScoredSubsets,
    SubsetEstimates,
    Transitions,
)

__all__ = [
    "Adapted",
    "Affinity",
    "EstimateStatus",
    "Evaluation",
    "GainCurve",
    "GaussianProjection",
    "Grouping",
    "GroupingGain",
    "GroupingStability",
    "PreferenceLogProb",
    "RademacherProjection",
    "RegressionSolution",
    "ScoredSubsets",
    "SubsetEstimates",
    "TaskGroups",
    "TaskSums",
    "Transitions",
    "accumulate",
    "back_project",
    "best_partition",
    "check_estimates",
    "cluster_tasks",
    "estimate_subsets",
    "gradient_similarity",
    "group_tasks",
    "grouping_gain",
    "grouping_stability",
    "load_estimates",
    "optimal_advantages",
    "optimal_value",
    "pair_counts",
    "plot_affinity",
    "preference_transitions",
    "project_gradients",
    "random_grouping",
    "save_estimates",
    "sample_subsets",
    "solve_regressions",
    "task_affinity",
    "task_gradients",
]
