"""The partition of tasks whose groups have the highest scores, without affinities.

A partition is worth the sum over tasks i of f_i(group of i). Up to 16 tasks it is found
exactly, by a dynamic program over subsets; beyond, by local search from several starts,
which requests the scores of the subsets that it meets, in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis.partitions import best_partitions
from pgx_jax.analysis.truth_tables import MOST_TASKS, all_subsets, encode_subsets
from pgx_jax.arguments import (
    as_integer,
    as_labels,
    as_numbers,
    as_seed,
    as_subset_matrix,
    show,
)
from pgx_jax.grouping.clustering import (
    check_num_groups,
    cluster_tasks,
    number_labels,
)
from pgx_jax.types import Grouping, ScoredSubsets

SubsetScorer = Callable[[np.ndarray], ArrayLike]
# What a change must add, relative to the value, to be more than rounding.
TOLERANCE = 1e-9
SMALLEST_BATCH = 64
# With d = 400 about three minutes on two CPU cores.
MAX_SUBSETS = 50_000


def best_partition(
    estimates: ScoredSubsets | SubsetScorer,
    num_groups: int | None = None,
    *,
    num_tasks: int | None = None,
    starts: Sequence[ArrayLike] = (),
    num_starts: int = 4,
    num_kicks: int = 8,
    batch_size: int = 4096,
    max_subsets: int | None = MAX_SUBSETS,
    seed: int = 0,
) -> Grouping:
    """Finds the partition with the largest sum over tasks i of f_i(group of i).

    Up to 16 tasks the result is the best one. Beyond, it is the best that local search
    finds: single tasks move to other groups, then two tasks swap, and groups merge
    and split, for as long as the sum grows; at a local optimum a merge and a split at
    random kick it out. It starts from single tasks that are agglomerated, from
    the groups that `cluster_tasks` finds by the scores of pairs and of single tasks,
    from those given, and from random partitions.

    Args:
      estimates: `subsets` [m, n] and `scores` [m, n], higher is better; or a function
        from subsets, bool [b, n], to their scores, [b, n], which is called with 64,
        128, ..., `batch_size` subsets, so that it compiles a few times at most.
      num_groups: k in 1..n; None for the number with the largest sum, the smaller one
        of equals.
      num_tasks: n, where `estimates` is a function.
      starts: further partitions that local search starts from; labels [n] of each, of
        k groups where k is given.
      num_starts: random partitions that local search starts from.
      num_kicks: kicks from each local optimum.
      batch_size: most subsets that a function is given at once; a power of 2.
      max_subsets: how many subsets a function is asked for; when they are up, local
        search begins neither from a further random partition nor from a further kick.
        None for no limit. Of 100 planted tasks it takes 25,000 to 35,000 before its
        first random partition, and 200,000 to 300,000 without a limit, to add 0.01%.
      seed: of the local search.

    Returns:
      The groups; `objective` is the sum, and `bound` the same where it is exact.

    Raises:
      ValueError: a score of a member is not finite, a subset that some partition into k
        groups has is missing, `num_groups` is not an integer in 1..n, or another
        argument is out of range; the message names it.
    """
    batch_size = as_integer("batch_size", batch_size, SMALLEST_BATCH)
    if batch_size & (batch_size - 1):
        raise ValueError(
            f"batch_size must be a power of 2 of at least {SMALLEST_BATCH}, got "
            f"{batch_size}"
        )
    num_starts = as_integer("num_starts", num_starts, 0)
    num_kicks = as_integer("num_kicks", num_kicks, 0)
    if max_subsets is not None:
        max_subsets = as_integer("max_subsets", max_subsets, 1)
    seed = as_seed(seed)
    num_tasks = _count_tasks(estimates, num_tasks)
    if num_groups is not None:
        num_groups = check_num_groups(num_groups, num_tasks, "n")
    starts = _check_starts(starts, num_tasks, num_groups)
    asked = estimates if callable(estimates) else None
    totals = _Totals(asked, num_tasks, batch_size, max_subsets)
    if asked is None:
        scores = as_numbers("scores", estimates.scores, finite=False)
        totals.add(as_subset_matrix(estimates.subsets), scores)
    if num_tasks <= MOST_TASKS:
        return _exact(totals, num_tasks, num_groups)
    if asked is None:
        raise ValueError(
            f"estimates of {num_tasks} tasks cannot hold every subset, as those of at "
            f"most {MOST_TASKS} tasks can; pass a function that scores subsets when "
            "asked"
        )
    search = _Search(totals, num_tasks, num_groups, np.random.default_rng(seed))
    found = [search.improve(labels) for labels in [*search.starts(), *starts]]
    for _ in range(num_starts):
        if totals.may_ask():
            found.append(search.improve(search.random_start()))
    for _ in range(num_kicks):
        for i, (_, labels) in enumerate(found):
            if totals.may_ask():
                kicked = search.improve(search.kick(labels))
                found[i] = max(found[i], kicked, key=lambda x: x[0])
    objective, labels = max(found, key=lambda x: x[0])
    labels = number_labels(labels)
    return Grouping(labels, int(labels.max()) + 1, objective=float(objective))


class _Totals:
    """The sum of f_i(S) over the tasks of S, of every subset that was requested."""

    def __init__(
        self,
        function: SubsetScorer | None,
        num_tasks: int,
        batch_size: int,
        max_subsets: int | None,
    ):
        self.function = function
        self.num_tasks = num_tasks
        self.batch_size = batch_size
        self.max_subsets = max_subsets
        self.num_asked = 0
        # By the bits of the subset; the empty one, of a group that is gone, is worth 0.
        self.known: dict[bytes, float] = {bytes(-(-num_tasks // 8)): 0.0}

    def may_ask(self) -> bool:
        """Whether fewer subsets were asked for than the most that may be."""
        return self.max_subsets is None or self.num_asked < self.max_subsets

    def add(self, subsets: np.ndarray, scores: np.ndarray) -> None:
        """Keeps the totals of scores, [b, n] both."""
        if scores.shape != subsets.shape:
            raise ValueError(
                f"scores must have the shape of subsets, {subsets.shape}, got "
                f"{scores.shape}"
            )
        member = subsets.astype(bool)
        bad = np.argwhere(~np.isfinite(scores) & member)
        if len(bad):
            row, task = bad[0]
            raise ValueError(
                f"scores must be finite for members; that of task {task} in subset "
                f"{np.flatnonzero(member[row]).tolist()} is {scores[row, task]}"
            )
        values = np.where(member, scores, 0.0).sum(axis=1, dtype=np.float64)
        self.known.update(zip(_pack(member), values.tolist(), strict=True))

    def __call__(self, groups: np.ndarray) -> np.ndarray:
        """The totals of groups, bool [..., n]; float64 [...]."""
        flat = groups.reshape(-1, self.num_tasks)
        keys = _pack(flat)
        unknown = {key: row for row, key in enumerate(keys) if key not in self.known}
        rows = np.fromiter(unknown.values(), int, len(unknown))
        for start in range(0, len(rows), self.batch_size):
            part = flat[rows[start : start + self.batch_size]]
            size = max(SMALLEST_BATCH, 1 << (len(part) - 1).bit_length())
            assert self.function is not None  # what is given is never asked for
            self.num_asked += len(part)
            scores = np.asarray(self.function(np.resize(part, (size, self.num_tasks))))
            if scores.shape != (size, self.num_tasks):
                raise ValueError(
                    "estimates must return scores of the shape of the subsets, "
                    f"{(size, self.num_tasks)}, got {scores.shape}"
                )
            self.add(part, scores[: len(part)])
        values = np.fromiter((self.known[key] for key in keys), float, len(keys))
        return values.reshape(groups.shape[:-1])


def _exact(totals: _Totals, num_tasks: int, num_groups: int | None) -> Grouping:
    subsets = all_subsets(num_tasks)
    if totals.function is not None:
        if num_groups is not None:
            largest = num_tasks - num_groups + 1
            subsets = subsets[subsets.sum(axis=1) <= largest]
        totals(subsets)
    table = np.full(2**num_tasks, np.nan)
    codes = encode_subsets(subsets)
    known = (totals.known.get(key, np.nan) for key in _pack(subsets))
    table[codes] = np.fromiter(known, float, len(codes))
    found = best_partitions(table, num_groups)
    values = {
        k: sum(table[encode_subsets(labels == g)] for g in range(k))
        for k, labels in found.items()
    }
    slack = TOLERANCE * max(1.0, np.nanmax(np.abs(table[codes])))
    k = min(k for k, value in values.items() if value >= max(values.values()) - slack)
    value = float(values[k])
    return Grouping(found[k].astype(np.int32), k, objective=value, bound=value)


class _Search:
    """Local search over partitions, given as labels [n] of groups 0..k-1."""

    def __init__(self, totals, num_tasks, num_groups, rng):
        self.totals: _Totals = totals
        self.num_tasks: int = num_tasks
        self.num_groups: int | None = num_groups
        self.rng: np.random.Generator = rng
        self.usual = 1

    def starts(self) -> list[np.ndarray]:
        """The agglomerated and the relaxed partitions."""
        starts = [self._agglomerate(), *self._relax()]
        self.usual = int(starts[0].max()) + 1
        return starts

    def random_start(self) -> np.ndarray:
        """A partition at random, into as many groups as the agglomerated one has."""
        labels = np.empty(self.num_tasks, int)
        order = self.rng.permutation(self.num_tasks)
        labels[order] = np.arange(self.num_tasks) % self.usual
        return labels

    def improve(self, labels: np.ndarray) -> tuple[float, np.ndarray]:
        """The local optimum that a partition leads to, and its value."""
        labels = number_labels(labels)
        steps = [self._move, self._swap]
        if self.num_groups is None:
            steps = [self._move, self._merge, self._split, self._swap]
        while True:
            for step in steps:
                better = step(labels)
                if better is not None:
                    labels = number_labels(better)
                    break
            else:
                return float(self.totals(_members(labels)).sum()), labels

    def kick(self, labels: np.ndarray) -> np.ndarray:
        """Merges two groups at random and splits one at random."""
        k = int(labels.max()) + 1
        if k < 2:
            return labels
        new = labels.copy()
        first, second = self.rng.permutation(k)[:2]
        new[new == second] = first
        sizes = np.bincount(new, minlength=k)
        group = self.rng.choice(np.flatnonzero(sizes >= 2))
        tasks = self.rng.permutation(np.flatnonzero(new == group))
        new[tasks[: self.rng.integers(1, len(tasks))]] = second
        return new

    def _move(self, labels: np.ndarray) -> np.ndarray | None:
        """Moves single tasks to other groups, or to a new one where k is free."""
        groups = _members(labels)
        if self.num_groups is None:
            groups = np.concatenate([groups, np.zeros((1, self.num_tasks), bool)])
        task = np.eye(self.num_tasks, dtype=bool)
        total = self.totals(groups)
        left = self.totals(groups[labels] & ~task) - total[labels]
        gain = left[:, None] + self.totals(groups | task[:, None]) - total
        gain[np.arange(self.num_tasks), labels] = -np.inf
        if self.num_groups is not None:
            gain[groups.sum(axis=1)[labels] == 1] = -np.inf
        return self._apply(
            labels,
            gain,
            lambda i, h: (labels[i], h),
            lambda new, i, h: new.__setitem__(i, h),
        )

    def _swap(self, labels: np.ndarray) -> np.ndarray | None:
        """Swaps two tasks of different groups."""
        groups = _members(labels)
        first, second = np.nonzero(np.triu(labels[:, None] != labels, 1))
        task = np.eye(self.num_tasks, dtype=bool)
        total = self.totals(groups)[labels]
        exchanged = task[first] | task[second]
        gain = np.full((self.num_tasks, self.num_tasks), -np.inf)
        gain[first, second] = (
            self.totals(groups[labels[first]] ^ exchanged)
            + self.totals(groups[labels[second]] ^ exchanged)
            - total[first]
            - total[second]
        )
        return self._apply(
            labels,
            gain,
            lambda i, j: (labels[i], labels[j]),
            lambda new, i, j: new.__setitem__([i, j], labels[[j, i]]),
        )

    def _merge(self, labels: np.ndarray) -> np.ndarray | None:
        """Merges two groups."""
        groups = _members(labels)
        return self._apply(
            labels,
            self._merge_gains(groups),
            lambda g, h: (g, h),
            lambda new, g, h: new.__setitem__(labels == h, g),
        )

    def _split(self, labels: np.ndarray) -> np.ndarray | None:
        """Splits a group in two: at random, for single tasks leave by moves."""
        groups = _members(labels)
        coins = self.rng.random((len(groups), 16, self.num_tasks)) < 0.5
        parts = groups[:, None] & coins
        gain = self.totals(parts) + self.totals(groups[:, None] & ~coins)
        gain = gain - self.totals(groups)[:, None]
        return self._apply(
            labels,
            gain,
            lambda g, c: (g,),
            lambda new, g, c: new.__setitem__(parts[g, c], new.max() + 1),
        )

    def _merge_gains(self, groups: np.ndarray) -> np.ndarray:
        total = self.totals(groups)
        gain = np.full((len(groups), len(groups)), -np.inf)
        first, second = np.triu_indices(len(groups), 1)
        merged = self.totals(groups[first] | groups[second])
        gain[first, second] = merged - total[first] - total[second]
        return gain

    def _agglomerate(self) -> np.ndarray:
        """Merges the pair of groups that gains most, until k groups are left.

        Where k is free, the best partition on the way down to one group.
        """
        labels = np.arange(self.num_tasks)
        best, best_value = labels, float(self.totals(_members(labels)).sum())
        for k in range(self.num_tasks - 1, (self.num_groups or 1) - 1, -1):
            gain = self._merge_gains(_members(labels))
            first, second = np.unravel_index(np.argmax(gain), gain.shape)
            labels = number_labels(np.where(labels == second, first, labels))
            value = float(self.totals(_members(labels)).sum())
            if value >= best_value or k == self.num_groups:
                best, best_value = labels, value
        return best

    def _relax(self) -> list[np.ndarray]:
        """The groups of the semidefinite program whose <U, X> is right up to pairs."""
        task = np.eye(self.num_tasks, dtype=bool)
        alone = self.totals(task)
        first, second = np.triu_indices(self.num_tasks, 1)
        pairs = self.totals(task[first] | task[second])
        matrix = np.diag(alone)
        matrix[first, second] = pairs - 0.5 * (alone[first] + alone[second])
        matrix[second, first] = matrix[first, second]
        penalty = 0.0 if self.num_groups is None else None
        try:
            found = cluster_tasks(matrix, self.num_groups, penalty=penalty)
        except RuntimeError:  # The solver failed: there are other starts.
            return []
        return [found.labels]

    def _apply(self, labels, gain, groups_of, change) -> np.ndarray | None:
        """Makes all changes that gain, best first, whose groups no other has touched.

        Args:
          labels: int [n].
          gain: of every change; [a, b].
          groups_of: the groups that change (a, b) touches.
          change: makes change (a, b) to new labels, in place.
        """
        scale = max(1.0, float(np.abs(self.totals(_members(labels))).sum()))
        order = np.argsort(-gain, axis=None, kind="stable")
        order = order[: int(np.sum(gain > TOLERANCE * scale))]
        if not order.size:
            return None
        new, touched = labels.copy(), set()
        for a, b in zip(*np.unravel_index(order, gain.shape), strict=True):
            groups = set(groups_of(a, b))
            if not groups & touched:
                touched |= groups
                change(new, a, b)
        return new


def _members(labels: np.ndarray) -> np.ndarray:
    """The groups of labels 0..k-1 as a matrix; bool [k, n]."""
    return labels == np.arange(labels.max() + 1)[:, None]


def _pack(subsets: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.packbits(subsets, axis=-1)]


def _count_tasks(estimates: ScoredSubsets | SubsetScorer, num_tasks: int | None) -> int:
    if num_tasks is not None:
        num_tasks = as_integer("num_tasks", num_tasks, 1)
    if callable(estimates):
        if num_tasks is None:
            raise ValueError(
                "num_tasks must be the number of tasks where estimates is a function, "
                "got None"
            )
        return num_tasks
    for name in ("subsets", "scores"):
        if getattr(estimates, name, None) is None:
            raise ValueError(
                "estimates must have subsets and scores, both [m, n], or be a function "
                f"from subsets to scores, got {show(estimates)} without {name}"
            )
    found = as_subset_matrix(estimates.subsets).shape[1]
    if num_tasks not in (None, found):
        raise ValueError(
            f"num_tasks must be that of subsets, {found}, or None, got {num_tasks}"
        )
    return found


def _check_starts(starts, num_tasks: int, num_groups: int | None) -> list[np.ndarray]:
    """The partitions that local search is to start from, groups numbered."""
    if not isinstance(starts, (list, tuple, np.ndarray)):
        raise ValueError(
            f"starts must be a list of labels [n] = [{num_tasks}], got {show(starts)}"
        )
    checked = []
    for labels in starts:
        labels = number_labels(as_labels("starts", labels, num_tasks))
        if num_groups not in (None, labels.max() + 1):
            raise ValueError(
                f"starts must have num_groups = {num_groups} groups, got one "
                f"of {labels.max() + 1}"
            )
        checked.append(labels)
    return checked
