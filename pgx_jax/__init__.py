"""Find which tasks should be learned together, by gradient estimation.

batch = pgx.Transitions(observation, action, advantage)  # [n, N, ...]
estimates = pgx.estimate_subsets(log_prob_fn, params, batch, subsets, key=key)
affinity = pgx.task_affinity(estimates)
groups = pgx.cluster_tasks(affinity, num_groups=3)
"""

from pgx_jax.estimation.estimate import estimate_subsets
from pgx_jax.estimation.evaluators import Adapted, Evaluation
from pgx_jax.estimation.gradients import task_gradients
from pgx_jax.estimation.projection import (
    GaussianProjection,
    RademacherProjection,
    back_project,
    project_gradients,
)
from pgx_jax.estimation.regression import RegressionSolution, solve_regressions
from pgx_jax.estimation.subsets import pair_counts, sample_subsets
from pgx_jax.grouping.affinity import task_affinity
from pgx_jax.grouping.baselines import gradient_similarity, random_grouping
from pgx_jax.grouping.clustering import cluster_tasks, grouping_stability
from pgx_jax.types import (
    Affinity,
    Grouping,
    GroupingStability,
    SubsetEstimates,
    Transitions,
)

__version__ = "0.1.0"

__all__ = [
    "Adapted",
    "Affinity",
    "Evaluation",
    "GaussianProjection",
    "Grouping",
    "GroupingStability",
    "RademacherProjection",
    "RegressionSolution",
    "SubsetEstimates",
    "Transitions",
    "back_project",
    "cluster_tasks",
    "estimate_subsets",
    "gradient_similarity",
    "grouping_stability",
    "pair_counts",
    "project_gradients",
    "random_grouping",
    "sample_subsets",
    "solve_regressions",
    "task_affinity",
    "task_gradients",
]
