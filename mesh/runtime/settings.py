"""Environment and flags -> one typed object, or every error at once.

A setting exists once: a dataclass field made by `setting`, with variable, parser, default
and a sentence. The injector and the installer write the variables, the roles read them,
and the documentation lists them, all from the same field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


def setting(
    variable: str,
    help: str,
    *,
    default: str | None = None,
    parse: Callable[[str], Any] = str,
) -> Any:
    """A dataclass field read from `variable`. `default` is text, parsed like the variable."""
    return field(metadata={"variable": variable, "help": help, "default": default, "parse": parse})


def load(settings: type[S], environ: Mapping[str, str]) -> S:
    """Build `settings` from the environment. Raises ConfigError that lists every fault."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for item in _settings(settings):
        meta = item.metadata
        text = environ.get(meta["variable"])
        if text is None or text == "":
            text = meta["default"]
        if text is None:
            problems.append(f"{meta['variable']}: expected {meta['help']}, got nothing")
            continue
        try:
            values[item.name] = meta["parse"](text)
        except ValueError as error:
            problems.append(f"{meta['variable']}: {error}")
    if problems:
        raise ConfigError(problems)
    return settings(**values)


def describe(settings: type[Any]) -> list[Described]:
    """Each setting of a class, in order, for docs and for whoever writes the variables."""
    return [
        Described(item.name, m["variable"], m["default"], m["help"])
        for item in _settings(settings)
        for m in (item.metadata,)
    ]


def variable_of(settings: type[Any], name: str) -> str:
    """The variable behind one field: what an injector writes."""
    for item in _settings(settings):
        if item.name == name:
            return str(item.metadata["variable"])
    raise KeyError(name)


def _settings(settings: type[Any]) -> Iterator[Field[Any]]:
    for item in fields(settings):
        if "variable" in item.metadata:
            yield item
        elif item.default is MISSING and item.default_factory is MISSING:
            raise TypeError(f"{settings.__name__}.{item.name} is not made by setting()")
