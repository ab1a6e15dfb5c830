"""Dataclasses of settings that report every problem of theirs at once, by field."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from pgx_jax.arguments import MOST, shorten

CONFIG_FIELD = "config field "


class Problem(NamedTuple):
    """What is wrong with one setting.

    Attributes:
      field: its name, sections before it: "ppo.num_envs".
      text: what is allowed and what was given, to be read after the name.
      reads: other fields that the verdict depends on.
    """

    field: str
    text: str
    reads: tuple[str, ...] = ()

    def beneath(self, section: str) -> Problem:
        """The same problem as one of a section of the settings."""
        return Problem(
            f"{section}.{self.field}",
            self.text,
            tuple(f"{section}.{name}" for name in self.reads),
        )


class SettingsError(ValueError):
    """Settings that are not allowed.

    Args:
      problems: at least one.
      of: what to begin with where there is one only.

    Attributes:
      problems: all of them.
    """

    def __init__(self, problems: Iterable[Problem], of: str = "") -> None:
        self.problems = tuple(problems)
        lines = [f"{problem.field} {problem.text}" for problem in self.problems]
        title = f"{len(lines)} settings are not allowed:"
        single = len(lines) == 1
        super().__init__(of + lines[0] if single else "\n  ".join([title, *lines]))


class Checker:
    """Collects the problems of one section, the first one of each field.

    Args:
      settings: the section.
      bad: fields that are known to be wrong already; what depends on them is not
        checked.
    """

    def __init__(self, settings: Any, bad: Collection[str] = ()) -> None:
        self._settings = settings
        self._bad = set(bad)
        self.problems: list[Problem] = []

    def trusts(self, *fields: str) -> bool:
        """Whether no field has a problem, nor its section, nor one in a section."""
        return not any(
            field == bad or _is_in(field, bad) or _is_in(bad, field)
            for field in fields
            for bad in self._bad
        )

    def add(self, problem: Problem) -> None:
        """Adds a problem, unless one of its fields has another already."""
        if self.trusts(problem.field, *problem.reads):
            self.problems.append(problem)
            self._bad.add(problem.field)

    def require(
        self,
        holds: bool,
        field: str,
        allowed: str,
        *,
        reads: tuple[str, ...] = (),
    ) -> None:
        """Adds a problem unless `holds`; the text goes on with what was given."""
        if not holds:
            value = functools.reduce(getattr, field.split("."), self._settings)
            self.add(Problem(field, f"{allowed}, got {shorten(value)}", reads))

    def choice(self, field: str, allowed: Iterable[str]) -> None:
        """The value must be one of some names."""
        value = getattr(self._settings, field)
        allowed = list(allowed)
        self.require(
            value in allowed,
            field,
            f"must be one of {', '.join(allowed)}{suggest(value, allowed)}",
        )

    def least(self, **bounds: int) -> None:
        """Integers must be at least what is given by name; None passes."""
        for field, bound in bounds.items():
            value = getattr(self._settings, field)
            holds = value is None or value >= bound
            self.require(holds, field, f"must be at least {bound}")

    def positive(self, *fields: str) -> None:
        """Numbers must be positive and finite in float32; None passes."""
        for field in fields:
            value = getattr(self._settings, field)
            holds = value is None or 0 < _to_float32(value) < math.inf
            self.require(holds, field, "must be positive and finite in float32")

    def not_negative(self, *fields: str) -> None:
        """Numbers must be at least 0 and finite in float32."""
        for field in fields:
            value = _to_float32(getattr(self._settings, field))
            self.require(0 <= value < math.inf, field, "must be at least 0 and finite")

    def finite(self, *fields: str) -> None:
        """Numbers, or nested tuples of them, must be finite in float32."""
        for field in fields:
            value = getattr(self._settings, field)
            self.require(_is_finite(value), field, "must be finite in float32")

    def unused(self, choice: str, uses: Mapping[Any, Collection[str]]) -> None:
        """All fields but a choice, and what is used by it, must keep their defaults."""
        chosen = getattr(self._settings, choice)
        for field in dataclasses.fields(self._settings):
            used = field.name in (choice, *uses[chosen])
            self.require(
                used or getattr(self._settings, field.name) == field.default,
                field.name,
                f"must be {field.default!r} where {choice} is {chosen!r}, without use",
                reads=(choice,),
            )

    def fraction(self, *fields: str, zero: bool = True, one: bool = True) -> None:
        """Numbers must lie between 0 and 1, these among them or not."""
        interval = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        for field in fields:
            value = getattr(self._settings, field)
            inside = 0 < value < 1
            holds = inside or (zero and value == 0) or (one and value == 1)
            self.require(holds, field, f"must be in {interval}")


class Settings:
    """Base of frozen dataclasses whose fields are settings, or sections of them.

    Class attributes:
      SEEDS: fields whose integers may be larger than counts are.

    Raises:
      SettingsError: on construction, with all problems.
    """

    SEEDS: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        problems = self.find_problems()
        if problems:
            raise SettingsError(problems)

    def check(self, checker: Checker) -> None:
        """Reports what the types of fields do not say; to be extended."""

    def find_problems(self, bad: Collection[str] = ()) -> list[Problem]:
        """All problems, of sections too.

        Args:
          bad: fields that are known to be wrong already.
        """
        checker = Checker(self, bad)
        for name, hint in field_types(type(self)).items():
            value = getattr(self, name)
            if dataclasses.is_dataclass(hint):
                if isinstance(value, Settings):
                    beneath = {x[len(name) + 1 :] for x in bad if _is_in(x, name)}
                    for problem in value.find_problems(beneath):
                        checker.add(problem.beneath(name))
                    continue
                text = f"must be a section of settings, got {shorten(value)}"
                checker.add(Problem(name, text))
            elif (text := _explain_type(hint, value)) is not None:
                checker.add(Problem(name, text))
            elif name not in self.SEEDS and _is_too_large(value):
                text = f"must be at most {MOST:,}, got {shorten(value)}"
                checker.add(Problem(name, text))
        # Comparisons within a section of wrong types would fail without a name.
        if all("." in problem.field for problem in checker.problems):
            self.check(checker)
        return checker.problems

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> tuple[Self, list[Problem]]:
        """Settings from a nested dict, with all that is wrong with them.

        What is left out keeps its default, and so does what cannot be read. The
        settings are of use only where there are no problems, or for fields without.
        """
        settings, problems = _read(cls, values, "")
        found = settings.find_problems({problem.field for problem in problems})
        return settings, [*problems, *found]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Settings from a nested dict; what is left out keeps its default.

        Raises:
          SettingsError: a field does not exist, has a value of another type or one that
            is not allowed; the message has a line for each.
        """
        settings, problems = cls.read(values)
        if problems:
            raise SettingsError(problems, CONFIG_FIELD)
        return settings

    def to_dict(self) -> dict[str, Any]:
        """The settings as a nested dict of JSON values."""
        return dataclasses.asdict(self)  # pyright: ignore[reportArgumentType]


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def suggest(name: Any, known: Iterable[str]) -> str:
    """`" (did you mean x?)"` where a name is near one that exists, else nothing."""
    nearest = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def _read(cls: Any, values: Any, prefix: str) -> tuple[Any, list[Problem]]:
    """An instance that is not checked, and what could not be read."""
    hints, problems = field_types(cls), []
    chosen = {x.name: x.default for x in dataclasses.fields(cls)}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if name not in hints:
            problems.append(Problem(path, explain_missing(cls, path)))
        elif dataclasses.is_dataclass(hints[name]):
            if isinstance(value, Mapping):
                chosen[name], beneath = _read(hints[name], value, f"{path}.")
                problems += beneath
            else:
                text = f"must be a dict of settings, got {shorten(value)}"
                problems.append(Problem(path, text))
        elif (text := _explain_type(hints[name], value)) is not None:
            problems.append(Problem(path, text))
        else:
            chosen[name] = _convert(hints[name], value)
    settings = object.__new__(cls)
    for name, value in chosen.items():
        object.__setattr__(settings, name, value)
    return settings, problems


def explain_missing(cls: Any, path: str) -> str:
    """What to say of a field that does not exist, with the nearest one that does.

    Args:
      cls: of the section that the field would be in.
      path: of the field, sections before it.
    """
    section, _, name = path.rpartition(".")
    known = list(field_types(cls))
    return (
        f"does not exist{suggest(name, known)}; {section or 'the config'} has "
        f"{', '.join(known)}"
    )


def _explain_type(hint: Any, value: Any) -> str | None:
    """What is wrong with a value for its type; None if nothing is."""
    if _is_of(hint, value):
        return None
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return f"must be {name.replace(' | ', ' or ')}, got {shorten(value)}"


def _is_of(hint: Any, value: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_of(x, value) for x in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return isinstance(value, list | tuple) and all(_is_of(item, x) for x in value)
    if hint in (int, float):
        kind = Integral if hint is int else Real
        if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
            return False
        try:
            hint(value)  # pyright: ignore[reportArgumentType]
        except OverflowError:  # an integer beyond the largest float
            return False
        return True
    return isinstance(value, hint)


def _is_too_large(value: Any) -> bool:
    values = value if isinstance(value, tuple | list) else (value,)
    return any(isinstance(x, Integral) and abs(int(x)) > MOST for x in values)


def _convert(hint: Any, value: Any) -> Any:
    """A value of a type as exactly that one."""
    if isinstance(hint, types.UnionType):
        hint = next(x for x in typing.get_args(hint) if _is_of(x, value))
    if typing.get_origin(hint) is tuple:
        return tuple(_convert(typing.get_args(hint)[0], x) for x in value)
    return None if value is None else hint(value)


def _to_float32(value: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(value))


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    return math.isfinite(_to_float32(value))


def _is_in(path: str, section: str) -> bool:
    return path.startswith(f"{section}.")
