"""Find which tasks should be learned together, by gradient estimation.

import pgx_jax as pge

batch = pge.Transitions(observation, action, advantage)  # [n, N, ...]
groups = pge.group_tasks(log_prob_fn, params, batch, key=key)

or, step by step,

estimates = pge.estimate_subsets(log_prob_fn, params, batch, subsets, key=key)
affinity = pge.task_affinity(estimates)
grouping = pge.cluster_tasks(affinity, num_groups=3)

The names by what they are for:

all at once       group_tasks -> TaskGroups
subsets           sample_subsets, pair_counts
their estimates   estimate_subsets(..., Transitions) -> SubsetEstimates; save_estimates,
                  load_estimates; EstimateStatus and check_estimates after jit;
                  Adapted and Evaluation for evaluators of your own
a table of scores ScoredSubsets, which task_affinity and best_partition take
affinity          task_affinity -> Affinity; gradient_similarity; plot_affinity
groups            cluster_tasks, best_partition, random_grouping -> Grouping;
                  grouping_stability -> GroupingStability
does it pay?      grouping_gain -> GroupingGain, with a GainCurve for each comparison
sums of a stream  accumulate -> TaskSums, which estimate_subsets takes for transitions
steps beneath     task_gradients, project_gradients, back_project, GaussianProjection,
                  RademacherProjection, solve_regressions -> RegressionSolution
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

__version__ = "0.1.0"

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
    "pair_counts",
    "plot_affinity",
    "project_gradients",
    "random_grouping",
    "save_estimates",
    "sample_subsets",
    "solve_regressions",
    "task_affinity",
    "task_gradients",
]
