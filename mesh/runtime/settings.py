"""Environment and flags -> one typed object, or every error at once.

A setting exists once: a dataclass field made by `setting`, with variable, parser, default,
a sentence and, where a person may want one, a flag. The injector and the installer write the
variables, the roles read them, and the documentation lists them, all from the same field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from mesh.core.errors import ConfigError

S = TypeVar("S")


@dataclass(frozen=True)
class Described:
    """One setting as documentation and injectors see it."""

    field: str
    variable: str
    default: str | None  # None: required
    help: str
    flag: str  # "": only the variable


def setting(
    variable: str,
    help: str,
    *,
    default: str | None = None,
    parse: Callable[[str], Any] = str,
    flag: str = "",
) -> Any:
    """A dataclass field read from `flag`, else from `variable`. `default` is text, parsed alike."""
    return field(
        metadata={
            "variable": variable,
            "help": help,
            "default": default,
            "parse": parse,
            "flag": flag,
        }
    )


def load(settings: type[S], environ: Mapping[str, str], arguments: Sequence[str] = ()) -> S:
    """Build `settings` from flags, then the environment. Raises ConfigError with every fault."""
    values: dict[str, Any] = {}
    flags, problems = _read_flags(settings, arguments)
    for item in _settings(settings):
        meta = item.metadata
        name, text = meta["flag"], flags.get(meta["flag"])
        if text is None:
            name, text = meta["variable"], environ.get(meta["variable"]) or meta["default"]
        if text is None:
            problems.append(f"{name}: expected {meta['help']}, got nothing")
            continue
        try:
            values[item.name] = meta["parse"](text)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError(problems)
    return settings(**values)


def describe(settings: type[Any]) -> list[Described]:
    """Each setting of a class, in order, for docs and for whoever writes the variables."""
    return [
        Described(item.name, m["variable"], m["default"], m["help"], m["flag"])
        for item in _settings(settings)
        for m in (item.metadata,)
    ]


def variable_of(settings: type[Any], name: str) -> str:
    """The variable behind one field: what an injector writes."""
    for item in _settings(settings):
        if item.name == name:
            return str(item.metadata["variable"])
    raise KeyError(name)


def usage(settings: type[Any], command: str) -> str:
    """What `--help` prints: the flags, and where the other settings are."""
    flags = [item for item in describe(settings) if item.flag]
    short = "".join(f" [{item.flag} VALUE]" for item in flags)
    lines = [f"  {item.flag} VALUE  {item.help} ({item.variable})" for item in flags]
    return "\n".join(
        [f"usage: {command}{short}", "", *lines, "", "All else comes from the environment."]
    )


def _read_flags(settings: type[Any], arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The text of each flag, written `--flag VALUE` or `--flag=VALUE`, and what was no flag."""
    known = [item.flag for item in describe(settings) if item.flag]
    expected = " or ".join(known) or "no arguments"
    found: dict[str, str] = {}
    problems: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, text = argument.partition("=")
        if flag not in known:
            problems.append(f'expected {expected}, got "{argument}"')
            continue
        found[flag] = text if equals else next(rest, "")
    return found, problems


def _settings(settings: type[Any]) -> Iterator[Field[Any]]:
    for item in fields(settings):
        if "variable" in item.metadata:
            yield item
        elif item.default is MISSING and item.default_factory is MISSING:
            raise TypeError(f"{settings.__name__}.{item.name} is not made by setting()")
