"""The ways of grouping that a run compares, and the partitions that they train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pgx_jax.grouping.clustering import number_labels
from pgx_jax.pipeline.config import GroupingConfig

# What the estimated groups are, by `GroupingConfig.method`.
ESTIMATED = {
    "clustering": "One policy per group of the estimated affinity.",
    "partition": "One policy per group of the best partition by the scores.",
    "race": "One policy per group of the best partition by the returns of a race.",
}


class Method(NamedTuple):
    """One way of grouping the tasks.

    Attributes:
      name: as tables and figures call it.
      description: one sentence.
      grouping: the key of its labels in the report; that of one draw if there are
        several.
      draws: labels of every draw; int [draws, n].
      uses_estimate: whether it needs the transitions of the estimate.
      raced: whether its policies are those that a race has trained.
    """

    name: str
    description: str
    grouping: str
    draws: np.ndarray
    uses_estimate: bool = False
    raced: bool = False

    @property
    def num_policies(self) -> int:
        """Policies of one draw."""
        return int(self.draws.max()) + 1


def list_methods(
    settings: GroupingConfig,
    labels: Mapping[str, np.ndarray],
    planted: np.ndarray | None,
) -> list[Method]:
    """The estimated groups, and what they are compared with.

    Args:
      settings: which methods there are.
      labels: by every way of grouping, as `stages.choose_groups` returns them.
      planted: the groups known beforehand, int [n], or None.
    """
    num_tasks = len(labels["estimated"])
    methods = [
        Method(
            "estimated groups",
            ESTIMATED[settings.method],
            "estimated",
            labels["estimated"][None],
            uses_estimate=True,
            raced=settings.races,
        )
    ]
    methods += [
        Method(
            f"estimated groups, k = {k}",
            "The same, with another number of groups.",
            f"estimated, k = {k}",
            labels[f"estimated_{k}"][None],
            uses_estimate=True,
            raced=settings.races,
        )
        for k in settings.other_num_groups
    ]
    one_policy = np.zeros((1, num_tasks), np.int32)
    methods.append(
        Method("one policy", "One policy for all tasks.", "one policy", one_policy)
    )
    if "random" in labels:
        text = "One policy per group, groups of the same sizes drawn at random."
        methods.append(Method("random groups", text, "random", labels["random"]))
    methods.append(
        Method(
            "gradient similarity",
            "One policy per group of the cosine similarity of task gradients.",
            "gradient similarity",
            labels["similarity"][None],
            uses_estimate=True,
        )
    )
    if planted is not None:
        text = "One policy per group, the groups known beforehand."
        methods.append(Method("planted groups", text, "planted", planted[None]))
    if settings.single_tasks:
        alone = np.arange(num_tasks, dtype=np.int32)[None]
        methods.append(
            Method("single tasks", "One policy per task.", "single tasks", alone)
        )
    return [
        method._replace(draws=np.stack([number_labels(x) for x in method.draws]))
        for method in methods
    ]


@dataclasses.dataclass(frozen=True)
class Groupings:
    """Every different partition among all methods, trained once each.

    A partition is trained twice where methods with and without the estimate have it,
    since these train for different numbers of updates; one that a race has trained
    counts apart from the same one of other methods, too.

    Attributes:
      labels: one row per partition; int [groupings, n].
      uses_estimate: of the methods that have it; bool [groupings].
      raced: of the methods that have it; bool [groupings].
      of_method: for every method, the partition of each of its draws.
    """

    labels: np.ndarray
    uses_estimate: np.ndarray
    raced: np.ndarray
    of_method: list[np.ndarray]

    @classmethod
    def create(cls, methods: Sequence[Method]) -> Groupings:
        """The partitions of all draws of the methods, the estimated groups first."""
        every = np.concatenate(
            [
                np.insert(m.draws, 0, [[m.uses_estimate], [m.raced]], axis=1)
                for m in methods
            ]
        )
        different, first, inverse = np.unique(
            every, axis=0, return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # as they first appear: the estimated groups lead
        place = np.argsort(order)[inverse.ravel()]
        ends = np.cumsum([len(m.draws) for m in methods])
        kinds = different[order, :2].astype(bool)
        of_method = np.split(place, ends[:-1])
        return cls(different[order, 2:], kinds[:, 0], kinds[:, 1], of_method)

    @classmethod
    def alone(cls, num_tasks: int, num_groupings: int) -> Groupings:
        """Groupings that have every task alone."""
        labels = np.tile(np.arange(num_tasks), (num_groupings, 1))
        no = np.zeros(num_groupings, bool)
        return cls(labels, no, no, [])

    @property
    def to_train(self) -> Groupings:
        """Those that no race has trained, of no method."""
        left = ~self.raced
        return Groupings(
            self.labels[left], self.uses_estimate[left], self.raced[left], []
        )

    @property
    def policy_ranges(self) -> list[tuple[int, int]]:
        """First and one past the last policy of every partition."""
        ends = np.cumsum(self.group_counts).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))

    @property
    def num_policies(self) -> int:
        return self.policy_ranges[-1][1]

    @property
    def group_counts(self) -> np.ndarray:
        """Policies of every partition; int [groupings]."""
        return self.labels.max(axis=1) + 1

    @property
    def tasks(self) -> np.ndarray:
        """The task of every row; int [rows]."""
        return np.tile(np.arange(self.labels.shape[1]), len(self.labels))

    @property
    def policy_ids(self) -> np.ndarray:
        """The policy of every row; int32 [rows]."""
        firsts = np.array([first for first, _ in self.policy_ranges])
        return (self.labels + firsts[:, None]).ravel().astype(np.int32)

    def rows(self, grouping: int) -> np.ndarray:
        """The rows of one partition, in the order of tasks; int [n]."""
        num_tasks = self.labels.shape[1]
        return grouping * num_tasks + np.arange(num_tasks)


def locate_policies(
    methods: Sequence[Method], groupings: Groupings, raced_subsets: np.ndarray | None
) -> dict[str, dict]:
    """Where the run leaves the policies of every method.

    Args:
      methods: of which the groupings are made.
      groupings: all of them.
      raced_subsets: those that a race has trained, bool [t, n], or None.

    Returns:
      By method, in order: "stage", whose training state holds them, and "policy_ids",
      the policy of each task there, [draws][n].
    """
    ids = np.empty(groupings.labels.shape, int)
    rest = groupings.to_train
    ids[~groupings.raced] = rest.policy_ids.reshape(rest.labels.shape)
    if raced_subsets is not None:
        for grouping in np.flatnonzero(groupings.raced):
            ids[grouping] = find_rows(raced_subsets, groupings.labels[grouping])
    return {
        method.name: {
            "stage": "race_training" if method.raced else "group_training",
            "policy_ids": ids[draws].tolist(),
        }
        for method, draws in zip(methods, groupings.of_method, strict=True)
    }


def find_rows(subsets: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The row of the group of every task among subsets, bool [t, n]; int [n]."""
    groups = labels[:, None] == labels
    return (groups[:, None] == subsets).all(axis=2).argmax(axis=1)
