"""Groups of tasks from an affinity matrix, by a semidefinite program.

A partition into groups is the matrix X with X_ij = 1 / |g| where i and j share group g
and 0 elsewhere; it is positive semidefinite and nonnegative, its rows sum to 1 and its
trace is the number of groups. <U, X> is then the sum over groups of the mean affinity
of a group's members, each counted once per member. The program maximises <U, X> over
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

    Args:
      affinity: U, or an array of shape [n, n]; its symmetric part is used.
      num_groups: k in 1..n, or None to choose it.
      penalty: what one more group costs, in units of U, when k is chosen. If None, the
        penalty that makes a task alone count as much as a pair one standard deviation
        below the average one: the mean of the diagonal, less the mean off the diagonal,
        plus the standard deviation there. Without the last term, noise in U splits
        groups: the best of many splits looks better than none.
      solver: a CVXPY solver; if None, CLARABEL up to n = 30 and SCS, where installed,
        beyond.

    Returns:
      The groups, the solution of the program, and both values of the objective: of
      <U, X> where k was given, less the penalty where it was not. `bound` is as exact
      as the solver.

    Raises:
      ValueError: the affinity is not square or not finite, num_groups is not in 1..n,
        or both num_groups and penalty are given.
      RuntimeError: the solver failed.
    """
    matrix = affinity.matrix if isinstance(affinity, Affinity) else affinity
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"affinity must have shape [n, n], got {matrix.shape}")
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"affinity must be finite; entry ({i}, {j}) is {matrix[i, j]}")
    num_tasks = len(matrix)
    if num_groups is not None and not 1 <= num_groups <= num_tasks:
        raise ValueError(
            f"num_groups must be in 1..n = 1..{num_tasks}, got {num_groups}"
        )
    if num_groups is not None and penalty is not None:
        raise ValueError("penalty chooses the number of groups; num_groups gives it")
    matrix = 0.5 * (matrix + matrix.T)
    if num_groups is None:
        if penalty is None:
            penalty = _default_penalty(matrix)
        matrix = matrix - penalty * np.eye(num_tasks)

    if num_tasks == 1:
        relaxation = np.ones((1, 1))
    else:
        relaxation = _solve_program(matrix, num_groups, solver)
    candidates = range(1, num_tasks + 1) if num_groups is None else [num_groups]
    partitions = [_improve(matrix, labels) for labels in _round(relaxation, candidates)]
    objectives = [_objective(matrix, labels) for labels in partitions]
    # Among equals, the fewest groups.
    slack = 1e-9 * max(1.0, np.abs(matrix).max()) * num_tasks
    best = int(np.argmax(np.asarray(objectives) >= max(objectives) - slack))
    labels = number_labels(partitions[best])
    return Grouping(
        labels=labels,
        num_groups=int(labels.max()) + 1,
        relaxation=relaxation,
        objective=objectives[best],
        bound=float(np.sum(matrix * relaxation)),
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
      ValueError: the affinity has no resamples.
    """
    if affinity.resamples is None:
        raise ValueError(
            "affinity has no resamples; task_affinity(estimates, key=key) draws them"
        )
    labels = np.stack(
        [cluster_tasks(u, num_groups).labels for u in np.asarray(affinity.resamples)]
    )
    together = labels[:, :, None] == labels[:, None, :]
    return GroupingStability(
        co_assignment=together.mean(axis=0),
        nmi=np.array(
            [normalized_mutual_information(x, grouping.labels) for x in labels]
        ),
    )


def number_labels(labels: np.ndarray) -> np.ndarray:
    """Numbers groups 0..k-1 in the order of each group's first task; int32 [n]."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int32)


def _default_penalty(matrix: np.ndarray) -> float:
    num_tasks = len(matrix)
    if num_tasks == 1:
        return 0.0
    pairs = matrix[np.triu_indices(num_tasks, 1)]
    return float(np.diag(matrix).mean() - pairs.mean() + pairs.std())


def _solve_program(
    matrix: np.ndarray, num_groups: int | None, solver: str | None
) -> np.ndarray:
    """X of the semidefinite program; float64 [n, n]."""
    import cvxpy

    num_tasks = len(matrix)
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
    slack = 1e-12 * max(1.0, np.abs(matrix).max())
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
