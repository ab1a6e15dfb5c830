"""What a run found, in numbers: the mean return of every way of grouping."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.analysis import statistics
from pgx_jax.pipeline.results import Expected, MethodResult, RunResults
from pgx_jax.reporting.tables import Cell, Table
from pgx_jax.runs.formats import format_count

# Means that some runs have besides returns, and what columns call them.
MEANS = {
    "success": "success",
    "sampled_return": "return, sampled",
    "sampled_success": "success, sampled",
}
SHARES = ("success", "sampled_success")  # those of them that are shares of episodes
ABSENT = "\N{EN DASH}"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean return with its 95% interval.

    Attributes:
      mean: over draws, tasks and episodes.
      low: lower end of the interval.
      high: upper end of the interval.
      by_draw: mean of every draw; [draws].
      by_task: mean of every task; [tasks].
    """

    mean: float
    low: float
    high: float
    by_draw: np.ndarray
    by_task: np.ndarray

    @property
    def interval(self) -> str:
        """Both ends in brackets, with as many decimals as the mean has."""
        low, high = (format_number(x, self.mean) for x in (self.low, self.high))
        return f"[{low}, {high}]"

    @property
    def cell(self) -> Cell:
        """The mean and its interval."""
        return Cell(format_number(self.mean), self.interval)

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two intervals have a point in common."""
        return self.low <= other.high and other.low <= self.high


@dataclasses.dataclass(frozen=True)
class MethodSummary:
    """One way of grouping as tables and figures show it.

    Attributes:
      name: what it is called.
      description: one sentence.
      num_policies: policies of one draw.
      source: return on the tasks trained on.
      target: return on unseen tasks, or None.
      nmi: with the planted groups, or None.
      means: those of `MEANS` that were measured.
      scalarized: the tasks' returns as one number, or None.
      predicted: what the estimate says of its groups, or None.
    """

    name: str
    description: str
    num_policies: int
    source: Estimate
    target: Estimate | None
    nmi: float | None
    means: dict[str, float]
    scalarized: float | None
    predicted: float | None = None


def estimate_return(returns: ArrayLike) -> Estimate:
    """Mean return and 95% interval of a method.

    Of a method that was trained once, the bootstrap interval over the episodes of each
    task; of one with several draws, which vary more than episodes do, the t interval
    over draws, of which there are few.

    Args:
      returns: [draws, tasks, episodes].
    """
    returns = np.asarray(returns, dtype=np.float64)
    by_draw = returns.mean(axis=(1, 2))
    if len(returns) == 1:
        low, high = statistics.bootstrap_interval(returns[0])
    else:
        low, high = statistics.t_interval(by_draw)
    by_task = returns.mean(axis=(0, 2))
    return Estimate(float(returns.mean()), low, high, by_draw, by_task)


def summarize(results: RunResults) -> list[MethodSummary]:
    """The methods of a run, in its order: first the one that the run is about."""
    return [
        _summarize_method(results, method, is_first=index == 0)
        for index, method in enumerate(results.methods)
    ]


def methods_table(results: RunResults, methods: Sequence[MethodSummary]) -> Table:
    """The table of a run that text, Markdown and page show.

    Args:
      results: of the run.
      methods: what `summarize` returns of it.
    """
    columns = {
        "method": [_name_cell(m) for m in methods],
        "policies": [Cell(str(m.num_policies)) for m in methods],
        "return [95% interval]": [m.source.cell for m in methods],
    }
    if any(m.predicted is not None for m in methods):
        columns["predicted"] = [
            Cell(_format_or_absent(m.predicted, ".3g")) for m in methods
        ]
    for name, title in MEANS.items():
        if all(name in m.means for m in methods):
            columns[title] = [_mean_cell(name, m.means[name]) for m in methods]
    if any(m.target for m in methods):
        title = "unseen tasks [95% interval]"
        columns[title] = [m.target.cell if m.target else Cell(ABSENT) for m in methods]
    if results.nmi:
        columns["NMI"] = [Cell(_format_or_absent(m.nmi, ".2f")) for m in methods]
    if results.scalarization:
        title = results.scalarization.replace("_", " ").replace("tcheb", "Tcheb")
        columns[title] = [Cell(_format_or_absent(m.scalarized, ".3f")) for m in methods]
    return Table(list(columns), list(zip(*columns.values(), strict=True)))


def summary_table(results: RunResults) -> str:
    """`methods_table` as text for a terminal, below what a race says of groups."""
    table = methods_table(results, summarize(results)).to_text()
    verdict = describe_verdict(results)
    return f"{verdict}\n{table}" if verdict else table


def single_policy(methods: Sequence[MethodSummary]) -> MethodSummary | None:
    """The method that trains one policy for all tasks, if it was run."""
    return next((m for m in methods[1:] if m.num_policies == 1), None)


def headline(results: RunResults, methods: Sequence[MethodSummary]) -> str:
    """What was found, in a few sentences, whether groups pay the first."""
    verdict = describe_verdict(results)
    num_groups = len(results.found_groups)
    ours, single = methods[0].source, single_policy(methods)
    found = f"{num_groups} group{'s' if num_groups != 1 else ''}"
    text = f"{verdict} " if verdict else ""
    text += (
        f"{found} among {results.num_tasks} tasks. One policy per group returns "
        f"{ours.cell} an episode"
    )
    if single is None:
        return f"{text}."
    text += f", against {single.source.cell} with one policy for all tasks"
    return text + ("; the intervals overlap." if ours.overlaps(single.source) else ".")


def describe_verdict(results: RunResults) -> str:
    """Whether groups pay, by a race; empty where there was none."""
    estimated = results.groups["estimated"]
    chosen = [g for g in results.gains or [] if g["labels"] == estimated]
    if not chosen:
        return ""
    gain = chosen[0]["over_one_policy"]
    if chosen[0]["num_groups"] == 1:
        return (
            "Groups do not pay here: of what raced, no groups are expected to return "
            "more than one policy for all tasks."
        )
    openings = {
        "pays": "Groups pay",
        "costs": "Groups do not pay",
        "does not matter": "Groups do not matter here",
        "cannot tell": "The data cannot tell whether groups pay",
    }
    alone = describe_gain(chosen[0]["over_single_tasks"])
    return (
        f"{openings[gain['verdict']]}: trained for as many updates, their policies are "
        f"expected to return {describe_gain(gain)} more per task than one policy for "
        f"all; over single tasks the gain is {alone} (90% intervals)."
    )


def describe_gain(gain: Expected) -> str:
    """An expected gain and its 90% interval, in as many decimals as it has."""
    scale = max(abs(gain["mean"]), gain["deviation"])
    mean, low, high = (
        format_number(gain[name], scale) for name in ("mean", "lower", "upper")
    )
    return f"{mean} [{low}, {high}]"


def describe_collection(results: RunResults) -> str:
    """How many transitions the estimate took and why no more; empty if not known."""
    collection = results.collection
    if collection is None:
        return ""
    count = format_count(collection["num_transitions"][-1])
    agreement = f"{collection['agreement'][-1]:.2f}"
    why = (
        f"the groups were stable (NMI {agreement} with those of bootstrap samples)"
        if collection["is_stable"]
        else f"the limit was reached (NMI {agreement} with the groups of bootstrap "
        f"samples, {collection['stable_agreement']:g} counts as stable)"
    )
    return f"{count} transitions per task were collected until {why}."


def format_number(value: float, scale: float | None = None) -> str:
    """A number with as many decimals as one of size `scale` (its own size) deserves."""
    size = abs(value if scale is None else scale)
    decimals = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _summarize_method(
    results: RunResults, method: MethodResult, *, is_first: bool
) -> MethodSummary:
    grouping = method.get("grouping", "estimated" if is_first else method["name"])
    target, scalarized = method["target"], method.get("scalarized")
    predicted = method.get("predicted")
    return MethodSummary(
        name=method["name"],
        description=method["description"],
        num_policies=method["num_policies"],
        source=estimate_return(method["source"]),
        target=None if target is None else estimate_return(target),
        nmi=results.nmi.get(grouping),
        means={
            name: float(np.mean(method[name]))
            for name in MEANS
            if method.get(name) is not None
        },
        scalarized=None if scalarized is None else float(np.mean(scalarized)),
        predicted=None if predicted is None else float(np.mean(predicted)),
    )


def _name_cell(method: MethodSummary) -> Cell:
    draws = len(method.source.by_draw)
    note = f"{method.description} {draws} draws." if draws > 1 else method.description
    return Cell(method.name, note=note)


def _mean_cell(name: str, mean: float) -> Cell:
    return Cell(f"{mean:.1%}" if name in SHARES else format_number(mean))


def _format_or_absent(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)
