"""The estimate for every subset of tasks, in one call."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from pgx_jax.arguments import as_key
from pgx_jax.estimation.closed_form import estimate_least_squares
from pgx_jax.estimation.evaluators import Evaluator
from pgx_jax.estimation.logistic import estimate_logistic
from pgx_jax.estimation.projection import LogProbFn, Projection
from pgx_jax.estimation.settings import check_switches
from pgx_jax.estimation.sums import TaskSums
from pgx_jax.memory import explained
from pgx_jax.types import PyTree, SubsetEstimates, Transitions


def estimate_subsets(
    log_prob_fn: LogProbFn | None,
    params: PyTree,
    data: Transitions | Iterable[Transitions] | TaskSums,
    subsets: jax.Array | np.ndarray,
    *,
    key: jax.Array,
    regression: str = "logistic",
    weights: jax.Array | np.ndarray | None = None,
    dim: int | str | None = "auto",
    projection: Projection | None = None,
    ridge: float | None = None,
    l2: float | None = None,
    num_folds: int | None = None,
    num_parts: int | None = None,
    num_splits: int = 0,
    batch_transitions: float | None = None,
    max_relative_distance: float | str | None = "auto",
    evaluator: str | Evaluator = "surrogate",
    held_out_fraction: float = 0.0,
    normalize_advantages: bool = True,
    center_features: bool | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    feature_precision: str = "float32",
    num_resamples: int = 0,
    resample_length: int = 1,
    mesh: jax.sharding.Mesh | None = None,
) -> SubsetEstimates:
    """Estimates what adapting the policy to each subset of tasks would do.

    Projects the policy gradient of every transition, solves a weighted regression per
    subset in the projected space, and scores the adapted policy on every task of its
    subset. There are two regressions:

    * "logistic", the paper's, which looks at all transitions in every step and limits
      how far each solution moves the parameters;
    * "least_squares" (`pgx_jax.estimation.least_squares`), in closed form from sums
      over the transitions, whatever their number: they may come as a stream of batches
      that are looked at one at a time, or as sums that were made before. Scores are
      cross-fitted: of each fold at the solution from all others.

    Each has arguments of its own; those of the other are refused.

    For the logistic regression features are scaled to a mean squared norm of 400 (to
    unit mean square at d = 400), for least squares to unit mean square, so that `l2`
    and `ridge` mean the same for every policy and every `dim`; `delta` is in the units
    of P all the same, so that theta_S = theta* + P delta.

    Args:
      log_prob_fn: `log_prob_fn(params, observation, action) -> log-probability`, of one
        transition or of a batch. The program is compiled once for it, so that a new
        lambda, or a new bound method of a new object, compiles anew.
      params: theta*, any pytree of float arrays.
      data: transitions of n tasks, collected under theta*; for "least_squares" also an
        iterator or a list of `Transitions`, see `accumulate`, or `TaskSums`, of which
        log_prob_fn and params are not looked at and may be None.
      subsets: 0/1 matrix [m, n]. Outside of jit a subset that comes several times is
        solved and scored once, unless few do.
      key: draws the projection, the split into fitted and held-out transitions, and
        what the evaluator and the resamples draw.
      regression: "logistic" or "least_squares".
      weights: least squares only. How much every task counts in the regression of every
        subset; [m, n], not negative. None for the mean over its tasks, 1 / |S| each.
      dim: d, the projected dimension, at most the number p of parameters; "auto" for
        the smaller of 400 (the paper's choice) and p. None for no projection, which is
        exact and takes a few thousand transitions or parameters at most. d is then the
        smaller of the two numbers, and `delta` is in coordinates of the span of the
        gradients.
      projection: the distribution of P, in place of `GaussianProjection(dim)`.
      ridge: least squares only. Ridge penalty, 1 if None, for features of unit mean
        square and advantages of unit variance.
      l2: logistic only. Ridge penalty, 0.1 if None, for features scaled as above and
        weights of unit mean.
      num_folds: least squares only. Folds of the parts that scores are cross-fitted
        over, 2 if None; 1 scores on the transitions that were fitted.
      num_parts: least squares only. Parts that transitions are summed up in, 8 if None.
      num_splits: least squares only. Also score the halves of so many splits of the
        parts, each half alone and its parts at solutions from the other, for
        `grouping_gain`; num_parts must then be even.
      batch_transitions: least squares only. N_b, the transitions of a task in one batch
        of training; what their noise is expected to take off the scores is taken off.
        None leaves it out.
      max_relative_distance: logistic only. The most that |P delta| / |theta*| may be
        for any subset; if one is beyond it, all are scaled back by the same factor, and
        scored there.
        None for no limit; "auto" for none with the evaluator "surrogate", which runs
        no network, and otherwise for the evaluator's own attribute of this name, where
        it has one, or 0.01. The first-order approximation was within 2% at 0.01 and
        within 10% at 0.05 (paper, section 3).
      evaluator: logistic only. A name in `pgx_jax.estimation.evaluators.EVALUATORS`, or
        a function of the same signature.
      held_out_fraction: logistic only. Share of each task's valid transitions that is
        kept out of the regression and scored on, at least one; 0 scores on the
        transitions that were fitted.
      normalize_advantages: divide each task's advantages by their mean absolute value,
        or for least squares by their standard deviation, so that no task weighs more
        for the scale of its rewards.
      center_features: subtract each task's mean feature. grad log pi has mean zero
        under the policy itself, so that this takes out sampling noise only, and a
        constant feature could no longer act as an intercept. On the planted suites it
        made the groups recoverable at small steps, and the choice of k reliable. Where
        the advantages of a task all have one sign, as for supervised data with
        advantage 1 throughout, its mean feature is what there is to learn. None: center
        unless there is such a task; least squares, which cannot see signs in sums,
        centers features and advantages unless this is False.
      tolerance: logistic only; see `solve_regressions`.
      max_iterations: logistic only; see `solve_regressions`.
      feature_precision: "float32", or "tf32": about four times faster on a recent GPU,
        features off by about 7e-4 relative.
      num_resamples: also estimate everything from this many bootstrap samples of the
        transitions, for least squares of the parts, for the intervals of
        `task_affinity`; memory for as many [m, n].
      resample_length: logistic only. Number of consecutive transitions that may depend
        on each other, where those of an episode are adjacent: they are resampled
        together (Kuensch, 1989), and standard errors account for such runs.
      mesh: logistic only. Devices to split transitions and subsets over, along all its
        axes, of whatever type.

    Returns:
      The estimates, in the order of `subsets`.

    Raises:
      ValueError: an argument is out of range or of the other regression, shapes do not
        agree, a number is not
        finite, a task has only zero advantages, or what follows from them is not finite
        or zero throughout; the message names the argument, and the task and transition
        or the parameter. Inside jit, where values are not known, `status` of the result
        reports the same.
      OutOfMemory: of `pgx_jax.memory`; the device ran out of it. The message names
        what to lower.

    Source: PolicyGradEx (arXiv 2511.12779), section 3, algorithm 1.
    """
    logistic = {
        "l2": l2,
        "max_relative_distance": max_relative_distance,
        "evaluator": evaluator,
        "held_out_fraction": held_out_fraction,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
        "resample_length": resample_length,
        "mesh": mesh,
    }
    closed_form = {
        "weights": weights,
        "ridge": ridge,
        "num_folds": num_folds,
        "num_parts": num_parts,
        "num_splits": num_splits,
        "batch_transitions": batch_transitions,
    }
    of_both = {
        "dim": dim,
        "projection": projection,
        "normalize_advantages": normalize_advantages,
        "center_features": center_features,
        "feature_precision": feature_precision,
        "num_resamples": num_resamples,
    }
    check_switches(normalize_advantages, center_features, mesh)
    inputs = (log_prob_fn, params, data, subsets)
    lower = {
        "dim": dim,
        "num_resamples": num_resamples,
        "transitions in data": None,
    }
    if regression == "logistic":
        _refuse(regression, closed_form)
        with explained("the estimate", lower):
            return estimate_logistic(*inputs, key=as_key(key), **logistic, **of_both)
    if regression == "least_squares":
        _refuse(regression, logistic)
        with explained("the estimate", lower):
            return estimate_least_squares(
                *inputs, key=as_key(key), **closed_form, **of_both
            )
    raise ValueError(
        f"regression must be 'logistic' or 'least_squares', got {regression!r}"
    )


def _refuse(regression: str, arguments: Mapping[str, Any]) -> None:
    """Refuses arguments of the other regression that are not their defaults.

    Raises:
      ValueError: the message names the first of them.
    """
    parameters = inspect.signature(estimate_subsets).parameters
    for name, value in arguments.items():
        default = parameters[name].default
        same = value is default
        if isinstance(value, (bool, int, float, str)) and default is not None:
            same = value == default
        if not same:
            raise ValueError(
                f"{name} is no argument of regression={regression!r}, got {value!r}"
            )
