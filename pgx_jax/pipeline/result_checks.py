"""What results of a run may be: the types, shapes and ranges of all their fields.

A file may hold anything. What is not refused here is drawn, so that everything is
looked at, in one pass over the types that `results` declares and one over the numbers.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NotRequired

import numpy as np

from pgx_jax.arguments import shorten

if TYPE_CHECKING:
    from pgx_jax.pipeline.results import (
        Collection,
        GroupGain,
        LearningCurve,
        MethodResult,
        RunResults,
        Uncertainty,
    )

VERDICTS = ("pays", "costs", "does not matter", "cannot tell")
_SHARE = (0.0, 1.0 + 1e-6)  # least and most; rounding may exceed 1
_KINDS = {str: "text", int: "an integer", float: "a number", bool: "true or false"}


def check_results(results: RunResults) -> None:
    """Refuses results that no run has.

    Raises:
      ValueError: the message names the field, what it must be and what it is.
    """
    hints = typing.get_type_hints(type(results), include_extras=True)
    for field in dataclasses.fields(results):
        _check_type(field.name, getattr(results, field.name), hints[field.name])
    n = results.num_tasks
    if n < 2:
        raise ValueError(f"task_names must name at least 2 tasks, got {n}")
    for name, least, most in (
        ("episode_length", 1, np.inf),
        ("seed", 0, 2**32 - 1),
        ("num_subsets", 1, np.inf),
        ("subset_size", 1, n),
        ("converged_share", *_SHARE),
    ):
        if (value := getattr(results, name)) is not None:
            _check_numbers(name, value, (), least, most)
    _check_numbers("affinity", results.affinity, (n, n), but_diagonal=True)
    _check_numbers("pair_counts", results.pair_counts, (n, n), 0)
    if missing := {"median", "max"} - set(results.relative_distance):
        raise ValueError(f"relative_distance lacks {sorted(missing)}")
    if "estimated" not in results.groups:
        raise ValueError(f'groups must hold "estimated", got {sorted(results.groups)}')
    for name, labels in results.groups.items():
        _check_numbers(f"groups[{name!r}]", labels, (n,), 0, n - 1)
    for name, value in results.nmi.items():
        _check_numbers(f"nmi[{name!r}]", value, (), *_SHARE)
    for stage, curve in results.learning_curves.items():
        _check_curve(f"learning_curves[{stage!r}]", curve, n)
    for name, curve in results.adaptation_curves.items():
        _check_curve(f"adaptation_curves[{name!r}]", curve, None)
    if not results.methods:
        raise ValueError("methods must not be empty")
    names = [method["name"] for method in results.methods]
    if repeated := sorted({x for x in names if names.count(x) > 1}):
        raise ValueError(f"methods must have names of their own, got {repeated} twice")
    for index, method in enumerate(results.methods):
        _check_method(f"methods[{index}]", method, n, results.groups)
    for index, timing in enumerate(results.timings):
        for name in ("seconds", "env_steps"):
            if (value := timing[name]) is not None:
                _check_numbers(f"timings[{index}][{name!r}]", value, (), 0)
    if results.uncertainty is not None:
        _check_uncertainty(results.uncertainty, n)
    if results.collection is not None:
        _check_collection(results.collection)
    for index, gain in enumerate(results.gains or []):
        _check_gain(f"gains[{index}]", gain, n)


def _check_type(field: str, value: Any, hint: Any) -> None:
    """Refuses a value that is not of its annotation, nor any entry of it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return
    if origin is NotRequired:
        _check_type(field, value, arguments[0])
    elif origin in (types.UnionType, typing.Union):  # with None
        if value is not None:
            _check_type(field, value, arguments[0])
    elif origin is list:
        if not isinstance(value, list):
            raise _refusal(field, "a list", value)
        for index, entry in enumerate(value):
            _check_type(f"{field}[{index}]", entry, arguments[0])
    elif origin is dict:
        if not isinstance(value, dict):
            raise _refusal(field, "an object of names and values", value)
        for name, entry in value.items():
            _check_type(f"{field}[{name!r}]", entry, arguments[1])
    elif typing.is_typeddict(hint):
        _check_fields(field, value, hint)
    else:
        kinds = (int, float) if hint is float else (hint,)
        if not isinstance(value, kinds) or (
            isinstance(value, bool) and hint is not bool
        ):
            raise _refusal(field, _KINDS[hint], value)


def _check_fields(field: str, value: Any, hint: Any) -> None:
    """Refuses what lacks a field of a TypedDict, or has others."""
    hints = typing.get_type_hints(hint, include_extras=True)
    if not isinstance(value, dict):
        raise _refusal(field, f"an object with {', '.join(hints)}", value)
    required = {x for x in hints if typing.get_origin(hints[x]) is not NotRequired}
    if wrong := sorted(required - set(value)):
        raise ValueError(f"{field} lacks {', '.join(wrong)}")
    if wrong := sorted(set(value) - set(hints)):
        raise ValueError(f"{field} has no {', '.join(wrong)}")
    for name, entry in value.items():
        _check_type(f"{field}[{name!r}]", entry, hints[name])


def _refusal(field: str, allowed: str, value: Any) -> ValueError:
    return ValueError(f"{field} must be {allowed}, got {shorten(value)}")


def _check_numbers(
    field: str,
    value: Any,
    shape: tuple[int | None, ...],
    least: float = -np.inf,
    most: float = np.inf,
    *,
    nan: bool = False,
    but_diagonal: bool = False,
) -> np.ndarray:
    """The value as an array.

    Args:
      field: its name.
      value: numbers, as nested lists.
      shape: of the array; None stands for any positive length.
      least: that a number may be.
      most: that it may be.
      nan: whether it may be NaN, as what is not known yet.
      but_diagonal: whether that may be anything.

    Raises:
      ValueError: it is of another shape, not finite or out of range.
    """
    allowed = ", ".join("any" if size is None else str(size) for size in shape)
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"{field} must be numbers of shape ({allowed}), got rows that differ"
        raise ValueError(message) from error
    fits = len(array.shape) == len(shape) and all(
        size > 0 if wanted is None else size == wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{field} must have shape ({allowed}), got {array.shape}")
    good = np.isfinite(array) & (array >= least) & (array <= most)
    if nan:
        good |= np.isnan(array)
    if but_diagonal:
        good |= np.eye(len(array), dtype=bool)
    if not good.all():
        index = tuple(np.argwhere(~good)[0].tolist())
        where = f" at {list(index)}" if index else ""
        bounds = [f"at least {least:g}"] if np.isfinite(least) else []
        bounds += [f"at most {most:g}"] if np.isfinite(most) else []
        limits = " and ".join(["finite", *bounds])
        raise ValueError(f"{field} must be {limits}, got {array[index]:g}{where}")
    return array


def _check_curve(field: str, curve: LearningCurve, num_tasks: int | None) -> None:
    steps = _check_numbers(f"{field}['steps']", curve["steps"], (None,), 0)
    if (np.diff(steps) <= 0).any():
        raise ValueError(f"{field}['steps'] must increase")
    shape = (len(steps), num_tasks)
    _check_numbers(f"{field}['returns']", curve["returns"], shape, nan=True)
    if "success" in curve:
        success = curve["success"]
        _check_numbers(f"{field}['success']", success, shape, *_SHARE, nan=True)


def _check_method(
    field: str, method: MethodResult, num_tasks: int, groups: Iterable[str]
) -> None:
    source = _check_numbers(
        f"{field}['source']", method["source"], (None, num_tasks, None)
    )
    draws = len(source)
    if method["target"] is not None:
        shape = (draws, None, None)
        _check_numbers(f"{field}['target']", method["target"], shape)
    _check_numbers(f"{field}['num_policies']", method["num_policies"], (), 1, num_tasks)
    if method.get("grouping", "estimated") not in groups:
        raise _refusal(f"{field}['grouping']", "in groups", method.get("grouping"))
    for name, shape, limits in (
        ("success", (draws, num_tasks), _SHARE),
        ("sampled_success", (draws, num_tasks), _SHARE),
        ("sampled_return", (draws, num_tasks), ()),
        ("scalarized", (draws,), ()),
        ("predicted", (draws,), ()),
    ):
        if (values := method.get(name)) is not None:
            _check_numbers(f"{field}[{name!r}]", values, shape, *limits)
    for stage, steps in method.get("env_steps", {}).items():
        _check_numbers(f"{field}['env_steps'][{stage!r}]", steps, (), 0)


def _check_uncertainty(uncertainty: Uncertainty, num_tasks: int) -> None:
    shape, ends = (num_tasks, num_tasks), {}
    for name in ("lower", "upper"):
        ends[name] = _check_numbers(
            f"uncertainty[{name!r}]", uncertainty[name], shape, but_diagonal=True
        )
    if (ends["lower"] > ends["upper"]).any():
        raise ValueError("uncertainty['lower'] must be at most uncertainty['upper']")
    name = "uncertainty['co_assignment']"
    _check_numbers(name, uncertainty["co_assignment"], shape, 0, _SHARE[1])
    _check_numbers("uncertainty['nmi']", uncertainty["nmi"], (None,), *_SHARE)


def _check_collection(collection: Collection) -> None:
    taken = _check_numbers(
        "collection['num_transitions']", collection["num_transitions"], (None,), 1
    )
    shape = (len(taken),)
    _check_numbers("collection['agreement']", collection["agreement"], shape, *_SHARE)
    level = collection["stable_agreement"]
    _check_numbers("collection['stable_agreement']", level, ())


def _check_gain(field: str, gain: GroupGain, num_tasks: int) -> None:
    k = gain["num_groups"]
    _check_numbers(f"{field}['num_groups']", k, (), 1, num_tasks)
    labels = gain["labels"]
    _check_numbers(f"{field}['labels']", labels, (num_tasks,), 0, num_tasks - 1)
    _check_numbers(f"{field}['measured']", gain["measured"], ())
    expected: Mapping[str, Any]
    for name, expected in gain.items():  # pyright: ignore[reportAssignmentType]
        if not name.startswith("over_"):
            continue
        for entry in ("mean", "deviation", "lower", "upper"):
            _check_numbers(f"{field}[{name!r}][{entry!r}]", expected[entry], ())
        if expected["lower"] > expected["upper"] or expected["deviation"] < 0:
            raise ValueError(f"{field}[{name!r}] must have lower ends below upper ones")
        if expected["verdict"] not in VERDICTS:
            allowed = f"one of {', '.join(VERDICTS)}"
            raise _refusal(
                f"{field}[{name!r}]['verdict']", allowed, expected["verdict"]
            )
