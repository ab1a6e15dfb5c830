"""Settings from a config file, and from what the command line changes of them."""

from __future__ import annotations

import ast
import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import config_dict

from pgx_jax.arguments import shorten
from pgx_jax.configs import find_config
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.settings import Problem, explain_missing, field_types

_FLAG = "config"


class Change(NamedTuple):
    """A setting that the command line changes.

    Attributes:
      path: of the field, sections before it.
      text: as it was given; None where there was nothing.
    """

    path: str
    text: str | None


def split_changes(argv: Sequence[str]) -> tuple[list[str], list[Change]]:
    """The arguments without `--config.FIELD=VALUE`, and what those change.

    `--config.FIELD VALUE` is the same, and of what is true or false `--config.FIELD`
    and `--noconfig.FIELD` do without a value.
    """
    rest, changes = [], []
    given = list(argv)
    while given:
        argument = given.pop(0)
        if argument == "--":
            return [*rest, argument, *given], changes
        name, equals, text = argument.partition("=")
        flag = name.lstrip("-") if name.startswith("-") else ""
        if flag.startswith(f"no{_FLAG}."):
            changes.append(Change(flag[len(_FLAG) + 3 :], text if equals else "false"))
        elif not flag.startswith(f"{_FLAG}."):
            rest.append(argument)
        else:
            path = flag[len(_FLAG) + 1 :]
            if not equals and _find_type(path) is bool:
                text = "true"
            elif not equals:
                text = given.pop(0) if given else None
            changes.append(Change(path, text))
    return rest, changes


def read_settings(
    name_or_path: str, changes: Iterable[Change]
) -> tuple[dict[str, Any], list[Problem]]:
    """The settings of a config as a nested dict, changed, and what is wrong with them.

    Args:
      name_or_path: a config of the package, or the path of a file.
      changes: of the command line; the last one of a field counts.
    """
    problems = []
    try:
        values = load_config(name_or_path)
    except ValueError as error:
        values = {}
        problems.append(Problem(f"--{_FLAG}", str(error)))
    chosen = {change.path: change.text for change in changes}
    for path, text in chosen.items():
        problem = _change(values, path, text)
        if problem is not None:
            problems.append(problem)
    return values, problems


def load_config(name_or_path: str) -> dict[str, Any]:
    """The settings that a config file defines, as a nested dict.

    Args:
      name_or_path: a config of the package, or the path of a file, and after a colon
        what its `get_config` is called with.

    Raises:
      ValueError: there is no such file, it fails, or it gives no settings; the message
        is to be read after the name of the argument.
    """
    path, _, argument = find_config(name_or_path).partition(":")
    shown = f"must be a config file that works; {path!r}"
    module = types.ModuleType("pgx_jax_config_file")
    module.__file__ = path
    sys.modules[module.__name__] = module  # where dataclasses look for types
    try:  # not imported, which would leave bytecode beside the file
        exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)
    except Exception as error:
        raise ValueError(f"{shown} fails with {_describe(error)}") from error
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise ValueError(f"{shown} defines no function get_config")
    try:
        settings = get_config(argument) if argument else get_config()
        if isinstance(settings, config_dict.ConfigDict):
            return settings.to_dict()
    except Exception as error:
        raise ValueError(
            f"{shown}: get_config fails with {_describe(error)}"
        ) from error
    if isinstance(settings, PipelineConfig):
        return settings.to_dict()
    raise ValueError(
        f"{shown}: get_config must return a ConfigDict of ml_collections, as "
        "pgx_jax.configs.defaults.suite_defaults does, or a PipelineConfig, got "
        f"{type(settings).__name__} {shorten(settings, 40)}"
    )


def parse_value(hint: Any, text: str) -> Any:
    """What a text of the command line stands for, in a field of that type.

    A text that stands for no value of the type is returned as it is.
    """
    if isinstance(hint, types.UnionType):
        if text.lower() == "none":
            return None
        (hint,) = set(typing.get_args(hint)) - {types.NoneType}
    try:
        if hint is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if hint in (int, float):
            return hint(text)
        if typing.get_origin(hint) is tuple:
            value = ast.literal_eval(text)
            return value if isinstance(value, tuple | list) else (value,)
    except (ValueError, KeyError, SyntaxError, MemoryError, RecursionError):
        pass
    return text


def _find_type(path: str) -> Any:
    """The type of a field; None where there is no such one."""
    hint: Any = PipelineConfig
    for name in path.split("."):
        if not dataclasses.is_dataclass(hint):
            return None
        hint = field_types(typing.cast(type, hint)).get(name)
    return hint


def _change(values: dict[str, Any], path: str, text: str | None) -> Problem | None:
    """Sets one field of a nested dict; returns what is wrong with it, if anything."""
    *sections, name = path.split(".")
    cls: Any = PipelineConfig
    for i, section in enumerate(sections):
        known, parent = field_types(cls), ".".join(sections[: i + 1])
        if section not in known:
            text = f"does not exist: {parent} {explain_missing(cls, parent)}"
            return Problem(path, text)
        cls = known[section]
        if not dataclasses.is_dataclass(cls):
            return Problem(path, f"does not exist: {parent} has no fields")
        inner = values.get(section, {})
        # What is no dict in the file is reported as that, not replaced.
        if not isinstance(inner, Mapping):
            return None
        values[section] = values = dict(inner)
    hint = field_types(cls).get(name)
    if hint is None:
        return Problem(path, explain_missing(cls, path))
    if dataclasses.is_dataclass(hint):
        fields = ", ".join(f"{path}.{x}" for x in field_types(typing.cast(type, hint)))
        return Problem(path, f"must be changed by its fields {fields}")
    if text is None:
        return Problem(path, "needs a value")
    values[name] = parse_value(hint, text)
    return None


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
