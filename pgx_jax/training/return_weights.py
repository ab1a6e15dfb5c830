"""Weights of tasks, or objectives, from what policies return.

The gradient of sum_i w_i J_i, J_i the return of task i under one policy, is followed
with weights that are chosen anew after each update. Each way here answers another
question about several returns:

* `constrained`: the mean return, with floors and ceilings for some tasks;
* `concave`: a sum of concave functions of the returns, such as fairness;
* `tchebycheff`: the task that falls short of its ideal the most, by preferences;
* `projected`: a power mean of the returns, by projections onto what it should reach.

All have one interface: `weights(state, returns)` gives the weights and the new state.
Weights that only choose a direction have a mean of 1 over the tasks of a policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgx_jax.arguments import as_integer, as_numbers, check_number
from pgx_jax.types import PyTree

SMALLEST = 1e-6  # return above its origin, of what must be positive
SMALLEST_AHEAD = 1e-6  # of a level above a power mean, as a share of that
_BISECTIONS = 40


class ReturnWeighting(NamedTuple):
    """A way to weight tasks by their returns.

        state = weighting.init(num_tasks)
        for _ in range(num_updates):
            weights, state = weighting.weights(state, returns)

    Attributes:
      init: `init(num_tasks)` returns the state to start from; leaves of shape [n].
      weights: `weights(state, returns, known=None, groups=None)` returns weights,
        float32 [n], and the new state. `returns` are the tasks' mean returns, float32
        [n]; of tasks that are not `known`, bool [n], the return of before counts.
        Tasks of one group, int32 [n] in 0..n-1, share a policy; all do by default.
        ValueError: an array is of another number of tasks than the state.
    """

    init: Callable[[int], PyTree]
    weights: Callable[..., tuple[jax.Array, PyTree]]


class Averages(NamedTuple):
    """Running means of returns.

    Attributes:
      mean: float32 [n].
      is_known: whether there has been a return; bool [n].
    """

    mean: jax.Array
    is_known: jax.Array


class Multipliers(NamedTuple):
    """State of `constrained`.

    Attributes:
      floor: multipliers of the floors, at least 0; float32 [n].
      ceiling: multipliers of the ceilings; float32 [n].
      returns: the last that is known; of no weight where none is.
      size: of the largest return so far; float32 [n].
    """

    floor: jax.Array
    ceiling: jax.Array
    returns: Averages
    size: jax.Array


def constrained(
    floors: np.ndarray,
    ceilings: np.ndarray,
    *,
    learning_rate: float = 0.05,
    penalty: float = 1.0,
    most: float = 100.0,
) -> ReturnWeighting:
    """The mean return, as long as J_i >= floor_i and J_i <= ceiling_i.

    w_i = n (1 / n + [lambda_i + rho (floor_i - J_i) / s_i]_+ - the same of ceilings):
    n times the gradient of the augmented Lagrangian in J_i. The multipliers follow its
    gradient, lambda_i <- [lambda_i + eta (floor_i - J_i) / s_i]_+. Here s_i is the size
    of the bound or of the largest return of the task so far, whichever is larger, so
    that rates do not depend on the unit of returns, and no step exceeds 2 eta.

    Where bounds cannot be met together, multipliers run away, until they are `most`.

    Args:
      floors: of every task, -inf for none; [n].
      ceilings: of every task, inf for none; [n].
      learning_rate: eta, of the multipliers.
      penalty: rho, of the augmented Lagrangian, which damps the swings of primal and
        dual steps.
      most: largest multiplier.

    Raises:
      ValueError: an argument is out of its range, or a floor above its ceiling.

    Source: Zeng et al., "Fast policy learning for constrained multi-task reinforcement
    learning" (arXiv 2405.02456): a policy gradient of the Lagrangian and projected
    gradient steps of its multipliers. The penalty and s_i are ours.
    """
    check_number("learning_rate", learning_rate)
    check_number("penalty", penalty, zero=True)
    check_number("most", most)
    floors = as_numbers("floors", floors, finite=False)
    ceilings = as_numbers("ceilings", ceilings, finite=False)
    if floors.ndim != 1 or floors.shape != ceilings.shape:
        raise ValueError(
            "floors must have shape [n], as ceilings, got shapes "
            f"{list(floors.shape)} and {list(ceilings.shape)}"
        )
    for task in np.flatnonzero(~(floors <= ceilings))[:1]:
        raise ValueError(
            "floors must be at most the ceilings of the same tasks, got "
            f"{floors[task]} and {ceilings[task]} of task {task}"
        )
    for name, x, none in (("floors", floors, -np.inf), ("ceilings", ceilings, np.inf)):
        if not (np.isfinite(x) | (x == none)).all():
            raise ValueError(f"{name} must be finite, or {none} for none, got {x}")
    bounds = [jnp.asarray(x, jnp.float32) for x in (floors, ceilings)]

    def init(num_tasks):
        averages = _no_averages(num_tasks)
        zeros = jnp.zeros_like(averages.mean)
        return Multipliers(zeros, zeros, averages, zeros)

    def weights(state, returns, known=None, groups=None):
        _check_lengths(state.returns, floors=bounds[0], ceilings=bounds[1])
        last = _average(state.returns, returns, known, 0.0)
        groups = _as_groups(groups, last.mean)
        numbers = _sum(jnp.ones_like(last.mean), groups)
        largest = jnp.maximum(state.size, jnp.abs(last.mean))
        sides = []
        for bound, sign, old in (
            (bounds[0], 1.0, state.floor),
            (bounds[1], -1.0, state.ceiling),
        ):
            has_bound = jnp.isfinite(bound) & last.is_known
            size = jnp.maximum(jnp.where(has_bound, jnp.abs(bound), 0.0), largest)
            size = jnp.where(size > 0.0, size, 1.0)  # all is 0
            short = jnp.where(has_bound, sign * (bound - last.mean) / size, 0.0)
            new = jnp.clip(old + learning_rate * short, 0.0, most)
            pull = jnp.where(has_bound, jnp.maximum(new + penalty * short, 0.0), 0.0)
            sides.append((new, pull))
        (floor, up), (ceiling, down) = sides
        new = Multipliers(floor, ceiling, last, largest)
        return 1.0 + numbers * (up - down), new

    return ReturnWeighting(init, weights)


def concave(
    alpha: float, *, origins: np.ndarray | float = 0.0, decay: float = 0.9
) -> ReturnWeighting:
    """The sum of alpha-fair utilities, f(J) = J^(1 - alpha) / (1 - alpha).

    w_i is proportional to f'(J_i) = J_i^(-alpha), J_i a running mean of the return:
    alpha 0 is the sum of returns, 1 proportional fairness (the sum of logarithms), 2
    the harmonic mean, and the larger it is, the more the least return counts.

    Args:
      alpha: at least 0.
      origins: of every task, the return that counts as 0; [n] or a number. Returns
        below it count as just above it.
      decay: weight of the past in the running mean, in [0, 1).

    Raises:
      ValueError: an argument is out of its range.

    Source: Agarwal et al., "Multi-objective reinforcement learning with non-linear
    scalarization" (arXiv 2105.14125): policy gradients of a concave function of the
    returns, whose gradient is taken at their running mean.
    """
    check_number("alpha", alpha, zero=True)
    zero = jnp.asarray(as_numbers("origins", origins), jnp.float32)

    def slope(mean, groups):
        logs = jnp.log(jnp.maximum(mean - zero, SMALLEST))
        # Of the least return's slope: powers themselves would be infinite or all 0.
        return jnp.exp(-alpha * (logs - _least(logs, groups)))

    return _of_running_mean(slope, decay, origins=zero)


def tchebycheff(
    preferences: np.ndarray,
    ideals: np.ndarray,
    *,
    smoothness: float = 0.0,
    decay: float = 0.9,
) -> ReturnWeighting:
    """The largest shortfall preference_i (ideal_i - J_i), which is to be small.

    Plain, the task with the largest one has all the weight; smooth, w_i is proportional
    to preference_i softmax_i(preference_i (ideal_i - J_i) / mu), the gradient of mu log
    sum_i exp(preference_i (ideal_i - J_i) / mu). Unlike weights that are fixed, both
    reach every trade-off between returns, those in hollows of the front included.

    Args:
      preferences: positive; [n].
      ideals: returns that are hoped for; [n].
      smoothness: mu, in units of weighted returns; 0 for the plain one.
      decay: weight of the past in the running mean of returns, in [0, 1).

    Raises:
      ValueError: an argument is out of its range.

    Source: Qiu et al., "Traversing Pareto optimal policies: provably efficient
    multi-objective reinforcement learning" (arXiv 2407.17466), sections 3 and 5.
    """
    check_number("smoothness", smoothness, zero=True)
    preferences = as_numbers("preferences", preferences)
    if not (preferences > 0).all():
        raise ValueError(f"preferences must be positive, got {preferences.tolist()}")
    factors = jnp.asarray(preferences, jnp.float32)
    goals = jnp.asarray(as_numbers("ideals", ideals), jnp.float32)

    def slope(mean, groups):
        short = factors * (goals - mean)
        top = -_least(-short, groups)
        if np.float32(smoothness) > 0:
            share = jnp.exp((short - top) / smoothness)
        else:
            share = (short >= top).astype(jnp.float32)
        return factors * share / _sum(share, groups)

    return _of_running_mean(slope, decay, preferences=factors, ideals=goals)


def projected(
    power: float,
    *,
    target: float | None = None,
    step: float = 0.002,
    origins: np.ndarray | float = 0.0,
    decay: float = 0.9,
) -> ReturnWeighting:
    """The power mean M(J) = (mean_i J_i^p)^(1/p) of the returns, p <= 1.

    The running mean J is projected onto the convex set of all x with M(x) >= c, and the
    weights are the direction from J to its projection: a round of a linear problem.
    Without a target the set moves on with J, c = (1 + step) M(J), and the weights tend
    to the gradient of M at J as the step goes to 0.

    Args:
      power: p, at most 1; 1 is the mean, 0 the geometric mean, and far below 0 nearly
        the least return.
      target: c; weights are equal once it is reached. None for a step ahead of J.
      step: how far ahead, as a share of M(J); of no use with a target.
      origins: of every task, the return that counts as 0; [n] or a number.
      decay: weight of the past in the running mean, in [0, 1).

    Raises:
      ValueError: an argument is out of its range.

    Source: Xiong and Singh, "Projection optimization: a general framework for
    multi-objective and multi-group RLHF" (arXiv 2502.15145), where the target is given.
    The step ahead is ours, for where no level is known.
    """
    _check_power(power)
    check_number("step", step)
    if target is not None:
        check_number("target", target)
    zero = jnp.asarray(as_numbers("origins", origins), jnp.float32)

    def slope(mean, groups):
        returns = jnp.maximum(mean - zero, SMALLEST)
        reached = power_mean(returns, power, groups)
        # A level ahead in any case, so that there is a point to project onto.
        level = (1.0 + step) * reached
        if target is None:
            return _way(returns, power, level, groups)
        way = _way(returns, power, jnp.maximum(target, level), groups)
        return jnp.where(reached >= target, 1.0, way)

    return _of_running_mean(slope, decay, origins=zero)


def power_mean(x: jax.Array, power: float, groups: jax.Array) -> jax.Array:
    """Of the positive x float32 [n] in each one's group; float32 [n]."""
    numbers = _sum(jnp.ones_like(x), groups)
    logs = jnp.log(x)
    if np.float32(power) == 0.0:
        return jnp.exp(_sum(logs, groups) / numbers)
    # Of the entry with the largest power: powers of returns themselves would overflow,
    # and those near 1 of a small p lose their digits.
    top = -_least(-logs, groups) if power > 0 else _least(logs, groups)
    mean = _sum(jnp.expm1(power * (logs - top)), groups) / numbers
    return jnp.exp(top + jnp.log1p(mean) / power)


def project(
    x: jax.Array, power: float, target: jax.Array, groups: jax.Array
) -> jax.Array:
    """The point nearest to x whose power mean is the target, which is above x's.

    Args:
      x: positive; float32 [n].
      power: p, at most 1.
      target: of each one's group; float32 [n].
      groups: int32 [n].
    """
    return x + _way(x, power, target, groups)


def _way(x: jax.Array, power: float, target: jax.Array, groups: jax.Array) -> jax.Array:
    """From x to its projection, whose arguments these are; positive, float32 [n].

    By the conditions of Karush, Kuhn and Tucker it is the d with d_i = nu (x_i + d_i)^
    (p - 1) for one nu of each group. Their logarithms are found by bisection: steps
    that are small beside x_i keep their digits.
    """
    scale = power_mean(x, power, groups)
    x, target = x / scale, target / scale
    logs, steep = jnp.log(x), 1.0 - power
    ahead = jnp.maximum(target - 1.0, SMALLEST_AHEAD)
    # With x_i (1 + ahead) everywhere the target is met; nu is between those of the x_i.
    own = jnp.log(ahead) + logs
    largest = -_least(-logs, groups) + jnp.log1p(ahead)

    def way(log_nu):
        def halve(_, bounds):
            low, high = bounds
            middle = 0.5 * (low + high)
            above = middle + steep * jnp.log(x + jnp.exp(middle)) > log_nu
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        bounds = log_nu - steep * largest, log_nu - steep * logs
        low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, bounds)
        return jnp.exp(0.5 * (low + high))

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        above = power_mean(x + way(middle), power, groups) > target
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    bounds = (
        _least(own + steep * logs, groups),
        -_least(-own - steep * (logs + jnp.log1p(ahead)), groups),
    )
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, bounds)
    return scale * way(0.5 * (low + high))


def _of_running_mean(
    slope: Callable[[jax.Array, jax.Array], jax.Array],
    decay: float,
    **vectors: jax.Array,
) -> ReturnWeighting:
    """Weights that are the slope at the running mean, of mean 1 in every group."""
    check_number("decay", decay, zero=True)
    if decay >= 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")

    def weights(state, returns, known=None, groups=None):
        _check_lengths(state, **vectors)
        state = _average(state, returns, known, decay)
        groups = _as_groups(groups, state.mean)
        raw = slope(state.mean, groups)
        numbers = _sum(jnp.ones_like(raw), groups)
        # Equal weights until every task of the group has returned something.
        unknown = _sum((~state.is_known).astype(jnp.float32), groups)
        raw = raw / -_least(-raw, groups)  # whose sum is at least 1
        normalized = numbers * raw / _sum(raw, groups)
        return jnp.where(unknown > 0, 1.0, normalized), state

    return ReturnWeighting(_no_averages, weights)


def _no_averages(num_tasks: int) -> Averages:
    num_tasks = as_integer("num_tasks", num_tasks, 1)
    return Averages(jnp.zeros((num_tasks,), jnp.float32), jnp.zeros(num_tasks, bool))


def _average(
    state: Averages, returns: jax.Array, known: jax.Array | None, decay: float
) -> Averages:
    """The running means with the returns that are known now."""
    returns = _as_shape("returns", returns, state.mean)
    known = _as_shape("known", True if known is None else known, state.is_known)
    weight = jnp.where(state.is_known, decay, 0.0)
    new = weight * state.mean + (1.0 - weight) * returns
    return Averages(jnp.where(known, new, state.mean), state.is_known | known)


def _sum(x: jax.Array, groups: jax.Array) -> jax.Array:
    """The sum over each one's group; [n]."""
    return jax.ops.segment_sum(x, groups, len(x))[groups]


def _least(x: jax.Array, groups: jax.Array) -> jax.Array:
    """The least of each one's group; [n]."""
    return jax.ops.segment_min(x, groups, len(x))[groups]


def _check_power(power: float) -> None:
    if isinstance(power, bool) or not np.isreal(power) or not -np.inf < power <= 1:
        raise ValueError(f"power must be at most 1 and finite, got {power}")


def _as_groups(groups: jax.Array | None, x: jax.Array) -> jax.Array:
    """The group of each task, one of all by default; int32 [n]."""
    return _as_shape("groups", 0 if groups is None else groups, x.astype(jnp.int32))


def _as_shape(name: str, given: Any, like: jax.Array) -> jax.Array:
    """An array of the shape and dtype of `like`; a number is that of all tasks."""
    array = jnp.asarray(given, like.dtype)
    if array.shape not in ((), like.shape):
        raise ValueError(
            f"{name} must have shape {list(like.shape)}, one a task of the state, got "
            f"{list(array.shape)}"
        )
    return jnp.broadcast_to(array, like.shape)


def _check_lengths(state: Averages, **vectors: jax.Array) -> None:
    """Refuses vectors of other tasks than those of the state."""
    for name, vector in vectors.items():
        _as_shape(name, vector, state.mean)
