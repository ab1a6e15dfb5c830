"""Groups of tasks from an affinity matrix, by a semidefinite program.

A partition into groups is the matrix X with X_ij = 1 / |g| where i and j share group g
and 0 elsewhere; it is positive semidefinite and nonnegative, its rows sum to 1 and its
trace is the number of groups. <U, X> is then the sum over groups of the mean affinity
of a group's members, each counted once per member. The program maximizes <U, X> over
all matrices of that kind; its value bounds that of every partition.

Sources: PolicyGradEx (arXiv 2511.12779), section 3; Peng and Wei, "Approximating
k-means-type clustering via semidefinite programming", 2007.
"""

from __future__ import annotations

import importlib.util
import warnings

import jax
import numpy as np

from pgx_jax.analysis.statistics import normalized_mutual_information
from pgx_jax.arguments import as_integer, as_labels, as_numbers, is_real, show
from pgx_jax.grouping.significance import FEWEST_TASKS, LEVEL, gain_p_value
from pgx_jax.types import Affinity, Grouping, GroupingStability

# CLARABEL is the more exact one and SCS scales: 0.8 s against 0.08 s at n = 50.
SMALL_PROGRAM = 30


def cluster_tasks(
    affinity: Affinity | jax.Array | np.ndarray,
    num_groups: int | None = None,
    *,
    penalty: float | None = None,
    solver: str | None = None,
) -> Grouping:
    """Partitions tasks so that those of one group have a high affinity.

    With `num_groups` given, the program has tr X = num_groups, and the rounding returns
    exactly that many. Without it the program is max <U, X> - penalty tr X, and the
    number of groups is that of the best partition under the same objective.

    Where the penalty is chosen too, more than one group is returned only if it gains
    more over one group than the same search does on 95% of the affinities without
    groups (`pgx_jax.grouping.significance`): on noise, 5% of affinities are divided.
    Those have the pairs of U shuffled, with a fixed seed; of fewer than five tasks no
    arrangement of pairs is rare, and the resamples of U stand for its noise instead. So
    fewer than five tasks are one group unless U has resamples, k or a penalty is given.

    Args:
      affinity: U, or an array of shape [n, n]; its symmetric part is used.
      num_groups: k in 1..n, or None to choose it.
      penalty: what one more group costs, in units of U, when k is chosen. If None, the
        penalty that makes a task alone count as much as a pair one standard deviation
        below the average one: the mean of the diagonal, less the mean off the diagonal,
        plus the standard deviation there. If U says what a task alone is worth
        (`Affinity.alone`), it is 0, and the noise of U is judged by its resamples only.
      solver: a CVXPY solver; if None, CLARABEL up to n = 30 and SCS, where installed,
        beyond.

    Returns:
      The groups, the solution of the program, and both values of the objective: of
      <U, X> where k was given, less the penalty where it was not. `bound` is as exact
      as the solver. Groups do not depend on the units of U.

    Raises:
      ValueError: the affinity is not square, real and finite, num_groups is no integer
        in 1..n, the penalty is no finite number, or both are given.
      RuntimeError: the solver failed.
    """
    affinity = jax.device_get(affinity)
    matrix = _check_affinity(affinity)
    num_tasks = len(matrix)
    if num_groups is not None:
        num_groups = check_num_groups(num_groups, num_tasks, "n")
    _check_penalty(penalty, num_groups)
    _check_solver(solver)
    # Exact, since by a power of two: every floor below is relative to units of U.
    exponent = int(np.frexp(np.abs(matrix).max())[1])
    matrix = np.ldexp(matrix, -exponent)
    p_value = None
    if num_groups is None:
        if penalty is None:
            penalty = _default_penalty(matrix, affinity)
            p_value = _p_value(matrix, penalty, affinity, exponent)
        else:
            penalty = float(np.ldexp(float(penalty), -exponent))
        matrix = matrix - penalty * np.eye(num_tasks)

    relaxation = _solve_program(matrix, num_groups, solver)
    candidates = range(1, num_tasks + 1) if num_groups is None else [num_groups]
    if p_value is not None and p_value > LEVEL:
        candidates = [1]
    partitions = [_improve(matrix, labels) for labels in _round(relaxation, candidates)]
    objectives = [_objective(matrix, labels) for labels in partitions]
    # Among equals, the fewest groups.
    slack = 1e-9 * np.abs(matrix).max() * num_tasks
    best = int(np.argmax(np.asarray(objectives) >= max(objectives) - slack))
    labels = number_labels(partitions[best])
    return Grouping(
        labels=labels,
        num_groups=int(labels.max()) + 1,
        relaxation=relaxation,
        objective=float(np.ldexp(objectives[best], exponent)),
        bound=float(np.ldexp(np.sum(matrix * relaxation), exponent)),
        p_value=p_value,
    )


def grouping_stability(
    affinity: Affinity, grouping: Grouping, num_groups: int | None = None
) -> GroupingStability:
    """Clusters every resample of the affinity, and compares with the grouping.

    Args:
      affinity: with resamples, from `task_affinity(..., key=key)`.
      grouping: of the affinity itself.
      num_groups: k of every resample, or None to choose it each time.

    Raises:
      ValueError: the affinity has no resamples, or the grouping is not one of its
        tasks.
    """
    affinity = _check_resamples(affinity)
    labels_of_all = check_grouping(grouping, len(affinity.matrix))
    if num_groups is not None:
        num_groups = check_num_groups(num_groups, len(affinity.matrix), "n")
    # The noise of a resample is that of the affinity.
    noise = np.asarray(affinity.resamples) - np.asarray(affinity.matrix)
    labels = np.stack(
        [
            cluster_tasks(
                affinity._replace(matrix=u, resamples=u + noise), num_groups
            ).labels
            for u in np.asarray(affinity.resamples)
        ]
    )
    together = labels[:, :, None] == labels[:, None, :]
    return GroupingStability(
        co_assignment=together.mean(axis=0),
        nmi=np.array([normalized_mutual_information(x, labels_of_all) for x in labels]),
    )


def check_grouping(grouping: Grouping, num_tasks: int) -> np.ndarray:
    """The labels of a grouping; int64 [n].

    Raises:
      ValueError: it is no `Grouping` of as many tasks.
    """
    if not isinstance(grouping, Grouping):
        raise ValueError(
            f"grouping must be a Grouping, got {type(grouping).__name__}; "
            "cluster_tasks(affinity) makes one"
        )
    return as_labels("grouping.labels", grouping.labels, num_tasks)


def _check_resamples(affinity: Affinity) -> Affinity:
    """The affinity on the host; its resamples are float64 [resamples, n, n]."""
    if getattr(affinity, "resamples", None) is None:
        raise ValueError(
            "affinity has no resamples; task_affinity(estimates, key=key) draws them"
        )
    affinity = jax.device_get(affinity)
    shape = _check_affinity(affinity).shape
    resamples = as_numbers("affinity.resamples", affinity.resamples)
    if resamples.shape[1:] != shape or not len(resamples):
        raise ValueError(
            f"affinity.resamples must have shape [resamples, n, n] with n = {shape[0]},"
            f" got {resamples.shape}"
        )
    return affinity._replace(
        matrix=np.asarray(affinity.matrix, np.float64), resamples=resamples
    )


def check_num_groups(num_groups: int, num_tasks: int, name: str) -> int:
    """The number of groups as an int, refused if it is none in 1..num_tasks.

    Args:
      num_groups: k.
      num_tasks: n.
      name: what the caller calls n.

    Raises:
      ValueError: it is none.
    """
    try:
        return as_integer("num_groups", num_groups, 1, num_tasks)
    except ValueError:
        raise ValueError(
            f"num_groups must be an integer in 1..{name} = 1..{num_tasks}, got "
            f"{show(num_groups)}"
        ) from None


def number_labels(labels: np.ndarray) -> np.ndarray:
    """Numbers groups 0..k-1 in the order of each group's first task; int32 [n]."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int32)


def _check_affinity(affinity: Affinity | jax.Array | np.ndarray) -> np.ndarray:
    """The symmetric part of U; float64 [n, n]."""
    if hasattr(affinity, "subsets"):
        raise ValueError(
            "affinity must be an Affinity or an array of shape [n, n], got "
            f"{type(affinity).__name__}; task_affinity(estimates) makes one"
        )
    matrix = affinity.matrix if isinstance(affinity, Affinity) else affinity
    try:
        matrix = np.asarray(matrix)
    except ValueError:
        raise ValueError(
            "affinity must be an array of shape [n, n], got rows of several lengths"
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"affinity must have shape [n, n], got {matrix.shape}")
    if not is_real(matrix.dtype) and matrix.dtype != bool:
        raise ValueError(f"affinity must hold real numbers, got {matrix.dtype}")
    matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"affinity must be finite; entry ({i}, {j}) is {matrix[i, j]}")
    resamples = getattr(affinity, "resamples", None)
    if resamples is not None:
        as_numbers("affinity.resamples", resamples)
    return 0.5 * matrix + 0.5 * matrix.T


def _check_penalty(penalty: float | None, num_groups: int | None) -> None:
    if penalty is None:
        return
    if num_groups is not None:
        raise ValueError("penalty chooses the number of groups; num_groups gives it")
    if not isinstance(penalty, bool):
        try:
            if as_numbers("penalty", penalty).shape == ():
                return
        except ValueError:
            pass
    raise ValueError(f"penalty must be a finite number or None, got {show(penalty)}")


def _check_solver(solver: str | None) -> None:
    """Refuses what is not the name of a solver that CVXPY finds."""
    if solver is None:
        return
    import cvxpy

    installed = cvxpy.installed_solvers()
    if not isinstance(solver, str) or solver not in installed:
        raise ValueError(
            "solver must be None or a solver of CVXPY that is installed, "
            f"{', '.join(installed)}, got {show(solver)}"
        )


def _default_penalty(
    matrix: np.ndarray, affinity: Affinity | jax.Array | np.ndarray
) -> float:
    num_tasks = len(matrix)
    if num_tasks == 1 or getattr(affinity, "alone", None) is not None:
        return 0.0
    pairs = matrix[np.triu_indices(num_tasks, 1)]
    return float(np.diag(matrix).mean() - pairs.mean() + pairs.std())


def _p_value(
    matrix: np.ndarray,
    penalty: float,
    affinity: Affinity | jax.Array | np.ndarray,
    exponent: int,
) -> float | None:
    """Of one group against more; None where the noise of U is not known.

    Args:
      matrix: U over 2 to the exponent, symmetric; [n, n].
      penalty: in the same units.
      affinity: as it was given.
      exponent: of the units.
    """
    if not isinstance(affinity, Affinity):
        return gain_p_value(matrix, penalty)
    alone, resamples = affinity.alone is not None, affinity.resamples
    if resamples is None:
        return None if alone else gain_p_value(matrix, penalty)
    if not alone and len(matrix) >= FEWEST_TASKS:
        return gain_p_value(matrix, penalty)
    noise = np.asarray(resamples, np.float64) - np.asarray(affinity.matrix, np.float64)
    # The variance of means of c resampled values is too small by (c - 1) / c.
    count = np.maximum(np.asarray(affinity.pair_counts, np.float64), 2.0)
    noise *= np.sqrt(count / (count - 1.0))
    noise = np.ldexp(0.5 * noise + 0.5 * noise.swapaxes(1, 2), -exponent)
    mean = 0.0 if alone else None
    return gain_p_value(matrix, penalty, noise, mean=mean)


def _solve_program(
    matrix: np.ndarray, num_groups: int | None, solver: str | None
) -> np.ndarray:
    """X of the semidefinite program; float64 [n, n]."""
    import cvxpy

    num_tasks = len(matrix)
    if num_tasks == 1:
        return np.ones((1, 1))
    if solver is None:
        large = num_tasks > SMALL_PROGRAM and importlib.util.find_spec("scs")
        solver = "SCS" if large else "CLARABEL"
    # A shift adds a constant to <U, X>, since the rows of X sum to 1, and the scale
    # keeps the solver's tolerances meaningful whatever the units of U.
    shifted = matrix - matrix.mean()
    scale = np.abs(shifted).max()
    x = cvxpy.Variable((num_tasks, num_tasks), PSD=True)
    constraints = [x >= 0, cvxpy.sum(x, axis=1) == 1]
    if num_groups is not None:
        constraints.append(cvxpy.trace(x) == num_groups)
    objective = cvxpy.sum(cvxpy.multiply(shifted / (scale or 1.0), x))
    problem = cvxpy.Problem(cvxpy.Maximize(objective), constraints)
    try:
        with warnings.catch_warnings():
            # An inaccurate solution still rounds, and the bound says how far it is.
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            problem.solve(solver=solver)
    except cvxpy.SolverError as error:
        raise RuntimeError(f"the solver {solver} failed on the affinity") from error
    if x.value is None:
        raise RuntimeError(f"the solver {solver} ended as {problem.status}")
    return np.clip(0.5 * (x.value + x.value.T), 0.0, None)


def _round(relaxation: np.ndarray, candidates) -> list[np.ndarray]:
    """Partitions into each number of groups, from average linkage on X."""
    from scipy.cluster.hierarchy import average, cut_tree
    from scipy.spatial.distance import squareform

    num_tasks = len(relaxation)
    if num_tasks == 1:
        return [np.zeros(1, int)]
    size = np.sqrt(np.maximum(np.diag(relaxation), 1e-12))
    distance = np.clip(1.0 - relaxation / np.outer(size, size), 0.0, None)
    np.fill_diagonal(distance, 0.0)
    tree = average(squareform(distance, checks=False))
    # One cut at a time: given several, SciPy gets the one into n groups wrong.
    return [cut_tree(tree, n_clusters=k)[:, 0] for k in candidates]


def _objective(matrix: np.ndarray, labels: np.ndarray) -> float:
    """<U, X> of a partition."""
    member = labels[:, None] == np.unique(labels)
    within = np.einsum("ig,ij,jg->g", member, matrix, member)
    return float(np.sum(within / member.sum(axis=0)))


def _improve(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Moves one task at a time while that raises the objective; empties no group."""
    labels = labels.copy()
    groups = np.unique(labels)
    slack = 1e-12 * np.abs(matrix).max()
    while True:
        member = (labels[:, None] == groups).astype(float)
        size = member.sum(axis=0)
        to_group = matrix @ member  # [n, k], the task itself included in its own
        within = np.einsum("ig,ig->g", member, to_group)
        own = np.searchsorted(groups, labels)
        diagonal = np.diag(matrix)
        own_link = to_group[np.arange(len(labels)), own]
        loss = within[own] / size[own] - (
            within[own] - 2 * own_link + diagonal
        ) / np.maximum(size[own] - 1, 1)
        gain = (within + 2 * to_group + diagonal[:, None]) / (size + 1) - within / size
        change = gain - loss[:, None]
        change[np.arange(len(labels)), own] = -np.inf
        change[size[own] == 1] = -np.inf
        task, group = np.unravel_index(np.argmax(change), change.shape)
        if not change[task, group] > slack:
            return labels
        labels[task] = groups[group]
