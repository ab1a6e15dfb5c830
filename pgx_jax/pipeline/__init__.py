"""The stages in order, resumable between and inside them.

    meta_training -> estimation -> grouping -> group_training -> evaluation
                                                      -> adaptation (target tasks)

`stages` has them as functions of their inputs, settings and a key; `runner` alone
touches the disk, metrics and progress; `run` puts them in order.

Methods are compared at equal numbers of environment steps, to within one update: those
that do without the estimate's transitions train for longer, and so do groupings that
spend less on choosing the policy to adapt.
"""

from pgx_jax.extras import needs_extra

with needs_extra("experiments"):
    from pgx_jax.pipeline.policies import (
        Route,
        TrainedPolicies,
        load_policies,
        route,
    )

__all__ = ["Route", "TrainedPolicies", "load_policies", "route"]
