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
preferences       preference_transitions and PreferenceLogProb, for DPO's loss
sampled rewards   optimal_advantages, optimal_value: those of A*-PO
sums of a stream  accumulate -> TaskSums, which estimate_subsets takes for transitions
steps beneath     task_gradients, project_gradients, back_project, GaussianProjection,
                  RademacherProjection, solve_regressions -> RegressionSolution
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pgx_jax.api import *  # noqa: F403
else:
    # The names are imported when the first of them is asked for, since JAX takes over a
    # second, during which a command must already answer signals (PEP 562).

    def __getattr__(name):
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if importlib.util.find_spec(f"{__name__}.{name}"):
            return importlib.import_module(f"{__name__}.{name}")
        from pgx_jax import api

        names = {x: getattr(api, x) for x in api.__all__}
        globals().update(names, __all__=api.__all__)
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
