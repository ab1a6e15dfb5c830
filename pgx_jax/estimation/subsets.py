"""Subsets of tasks: how they are drawn, and whether they cover every pair."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pgx_jax.arguments import MOST, as_integer, as_key, as_subset_matrix, check_switch
from pgx_jax.estimation.checks import is_traced

# Beyond, drawing alone takes minutes, and affinities have long stopped to change.
MOST_SUBSETS = 10**6
# Pairs are counted in a matrix [n, n].
MOST_TASKS = 10_000


def sample_subsets(
    key: jax.Array,
    num_tasks: int,
    num_subsets: int,
    subset_size: int,
    *,
    singletons: bool = False,
) -> np.ndarray:
    """Draws subsets of one size that hold every pair of tasks about equally often.

    As long as m allows, every subset there is comes once before any comes again: beyond
    n! / (s! (n - s)!) subsets nothing new is drawn, and `estimate_subsets` solves each
    one once. The rest are grown task by task; the next task is the one whose pairs with
    the tasks already chosen have been seen least often, ties broken at random.

    Args:
      key: of the draw.
      num_tasks: n.
      num_subsets: m; all pairs are covered once m is a few times
        n (n - 1) / (s (s - 1)).
      subset_size: s, at least 2.
      singletons: add the n subsets of one task, which transfer gains refer to.

    Returns:
      0/1 matrix; bool NumPy array of shape [m, n], or [m + n, n] with singletons, which
      come last.

    Raises:
      ValueError: subset_size is not in 2..n, num_subsets is too small to cover every
        pair (the message names the least number that can) or above a million, or
        another argument is of another kind.
    """
    num_tasks = as_integer("num_tasks", num_tasks, 1, MOST_TASKS)
    num_subsets = as_integer("num_subsets", num_subsets, 1, MOST_SUBSETS)
    subset_size = as_integer("subset_size", subset_size, -MOST)
    check_switch("singletons", singletons)
    if not 2 <= subset_size <= num_tasks:
        raise ValueError(
            f"subset_size must be in 2..num_tasks = 2..{num_tasks}, got {subset_size}"
        )
    pairs, pairs_each = (x * (x - 1) // 2 for x in (num_tasks, subset_size))
    least = -(-pairs // pairs_each)
    if num_subsets < least:
        raise ValueError(
            f"num_subsets={num_subsets} cannot cover the {pairs} pairs of "
            f"num_tasks={num_tasks} tasks, since a subset of subset_size={subset_size} "
            f"holds {pairs_each}; at least {least} are needed"
        )
    bits = jax.random.bits(as_key(key), (4,), jnp.uint32)
    rng = np.random.default_rng(jax.device_get(bits))
    subsets = np.zeros((num_subsets, num_tasks), bool)
    num_different = math.comb(num_tasks, subset_size)
    num_listed = num_subsets // num_different * num_different
    if num_listed:
        every = np.array(list(itertools.combinations(range(num_tasks), subset_size)))
        every = np.tile(every, (num_listed // num_different, 1))
        subsets[np.arange(num_listed)[:, None], every] = True
    task_counts = np.zeros(num_tasks)
    pair_counts = np.zeros((num_tasks, num_tasks))
    for subset in subsets[num_listed:]:
        noise = rng.random((subset_size, num_tasks))
        chosen: list[int] = []
        for row in noise:
            # Seen pairs first, seen tasks next, and the noise to break ties.
            cost = pair_counts[chosen].sum(axis=0) + 1e-3 * task_counts + 1e-6 * row
            cost[chosen] = np.inf
            chosen.append(int(np.argmin(cost)))
        subset[chosen] = True
        task_counts[chosen] += 1
        pair_counts[np.ix_(chosen, chosen)] += 1
    check_coverage(subsets)
    if singletons:
        subsets = np.concatenate([subsets, np.eye(num_tasks, dtype=bool)])
    return subsets


def pair_counts(subsets: jax.Array) -> jax.Array:
    """How many subsets contain both tasks of each pair.

    Args:
      subsets: 0/1 matrix [m, n].

    Returns:
      int32 [n, n]; the diagonal counts the subsets that contain the task.

    Raises:
      ValueError: `subsets` is no 0/1 matrix, where it is known.
    """
    if not is_traced(subsets):
        as_subset_matrix(subsets, empty=True)
    counted = jnp.asarray(subsets).astype(jnp.int32)
    return counted.T @ counted


def distinct_subsets(subsets: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The different rows of a matrix, where that saves a quarter of them or more.

    Unless they are all that there are of their sizes, their number depends on the draw;
    it is then rounded up by rows that come twice, so that draws share a program.

    Args:
      subsets: bool [m, n].

    Returns:
      The rows in the order in which they first come, bool [r, n], and the place of
      every given row among them, int32 [m]; or the rows as given and None.
    """
    _, first, place = np.unique(
        np.packbits(subsets, axis=1), axis=0, return_index=True, return_inverse=True
    )
    num_rows, num_tasks = subsets.shape
    sizes = np.unique(subsets.sum(axis=1)).tolist()
    length = len(first)
    if length < sum(math.comb(num_tasks, size) for size in sizes):
        length = round_up(length, 4)
        if length > 0.75 * num_rows:
            return subsets, None
    if length == num_rows:
        return subsets, None
    order = np.argsort(first)
    rank = np.argsort(order)
    rows = np.resize(subsets[first[order]], (length, num_tasks))
    return rows, rank[place.reshape(-1)].astype(np.int32)


def round_up(size: int, parts: int) -> int:
    """The next of sizes of which there are `parts` in every doubling."""
    step = max(1, 2 ** (size - 1).bit_length() // (2 * parts))
    return -(-size // step) * step


def pad_rows(values: np.ndarray, length: int) -> np.ndarray:
    """`values` with copies of its first row added until it has `length` rows."""
    return np.concatenate([values, np.repeat(values[:1], length - len(values), axis=0)])


def as_subsets(
    subsets: jax.Array | np.ndarray | Sequence, num_tasks: int
) -> jax.Array | np.ndarray:
    """The 0/1 matrix of non-empty subsets of `num_tasks` tasks, as bool [m, n].

    Args:
      subsets: that matrix, of any dtype, or a list of sets or lists of the indices of
        tasks. A list of lists that can be read as the matrix is the matrix.
      num_tasks: n.

    Raises:
      ValueError: `subsets` is neither; values are looked at only outside of jit.
    """
    if isinstance(subsets, (list, tuple)):
        matrix = _from_list(subsets, num_tasks)
    else:
        matrix = subsets if isinstance(subsets, jax.Array) else np.asarray(subsets)
    check_subsets(matrix, num_tasks)
    if not isinstance(matrix, Tracer):
        matrix = jax.device_get(matrix)
    return matrix.astype(bool)


def _from_list(subsets: Sequence, num_tasks: int) -> np.ndarray:
    """The matrix that a list of rows, or of indices, stands for."""
    rows = [sorted(x) if isinstance(x, (set, frozenset)) else x for x in subsets]
    rows = [np.atleast_1d(np.asarray(jax.device_get(x))) for x in rows]
    sets = any(isinstance(x, (set, frozenset)) for x in subsets)
    if not sets and all(
        x.shape == (num_tasks,) and np.isin(x, (0, 1)).all() for x in rows
    ):
        return np.array(rows).reshape(-1, num_tasks)
    matrix = np.zeros((len(rows), num_tasks), bool)
    for index, row in enumerate(rows):
        valid = row.ndim == 1 and (row.size == 0 or row.dtype.kind in "iu")
        if not valid or not np.isin(row, np.arange(num_tasks)).all():
            raise ValueError(
                "subsets must be a 0/1 matrix [m, n] or a list of indices of tasks, "
                f"0..{num_tasks - 1}, for each subset; row {index} is {subsets[index]}"
            )
        if len(np.unique(row)) < len(row):
            raise ValueError(f"subsets must name a task once; row {index} is {row}")
        matrix[index, row.astype(int)] = True
    return matrix


def check_subsets(subsets: jax.Array | np.ndarray, num_tasks: int) -> None:
    """Refuses what is not a 0/1 matrix of non-empty subsets of `num_tasks` tasks.

    The values are looked at only outside of jit; shapes always.

    Raises:
      ValueError: the message names `subsets` and what is wrong with it.
    """
    if subsets.ndim != 2 or subsets.shape[1] != num_tasks or subsets.shape[0] == 0:
        raise ValueError(
            f"subsets must be a 0/1 matrix of shape [m, n] with n = {num_tasks} tasks, "
            f"got shape {tuple(subsets.shape)}"
        )
    if isinstance(subsets, Tracer):
        return
    values = jax.device_get(subsets)
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise ValueError("subsets must hold only 0 and 1")
    empty = np.flatnonzero(~values.astype(bool).any(axis=1))
    if empty.size:
        raise ValueError(f"subsets must not be empty; row {empty[0]} is")


def check_coverage(subsets: jax.Array | np.ndarray) -> None:
    """Refuses subsets that leave a pair of tasks uncovered.

    Raises:
      ValueError: the message names the pairs.
    """
    # Integers have no fast product; these counts only distinguish 0 from more.
    matrix = np.asarray(jax.device_get(subsets)).astype(np.float32)
    counts = matrix.T @ matrix
    missing = np.argwhere(np.triu(counts == 0))
    if missing.size:
        shown = ", ".join(f"({i}, {j})" for i, j in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise ValueError(
            f"subsets leave {len(missing)} pairs of tasks uncovered, whose affinity is "
            f"undefined: {shown}{more}"
        )
