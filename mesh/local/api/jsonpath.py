"""The JSONPath of printer columns: `.spec.a`, `.items[0].b`, `[*]`, `[?(@.x=="y")]`. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

_STEP: Final = re.compile(
    r"""\.(?P<name>(?:[^.\[\\]|\\.)+)
      | \[(?P<index>-?\d+)\]
      | \[(?P<all>\*)\]
      | \[['"](?P<quoted>[^'"]*)['"]\]
      | \[\?\(@\.(?P<key>[^=!\s)]+)\s*(?P<op>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)]*)\)\]
      | \.(?P<star>\*)""",
    re.VERBOSE,
)


def find(path: str, obj: Any) -> list[Any]:
    """All values at a path; none when it leads nowhere or cannot be read."""
    found = [obj]
    for step in _steps(path):
        found = [value for item in found for value in _take(step, item)]
    return [value for value in found if value is not None]


def text(values: list[Any]) -> str:
    """The first value, as a cell shows it."""
    return values[0] if isinstance(values[0], str) else _plain(values[0])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        json.dumps(value, separators=(",", ":")) if isinstance(value, dict | list) else str(value)
    )


@lru_cache(maxsize=512)
def _steps(path: str) -> tuple[re.Match[str], ...]:
    path = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if path and path[0] not in ".[":
        path = "." + path
    steps, position = [], 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            return (_NOWHERE,)
        steps.append(match)
        position = match.end()
    return tuple(steps)


def _match(text: str) -> re.Match[str]:
    found = _STEP.match(text)
    if found is None:
        raise ValueError(text)
    return found


_NOWHERE: Final = _match("['\x00']")


def _take(step: re.Match[str], item: Any) -> Iterable[Any]:
    name = step["name"] if step["name"] is not None else step["quoted"]
    if step["all"] or step["star"] or name == "*":
        if isinstance(item, list):
            return item
        return list(item.values()) if isinstance(item, dict) else []
    if name is not None:
        name = re.sub(r"\\(.)", r"\1", name)
        return [item[name]] if isinstance(item, dict) and name in item else []
    if step["index"] is not None:
        index = int(step["index"])
        inside = isinstance(item, list) and -len(item) <= index < len(item)
        return [item[index]] if inside else []
    return _filter(step, item)


def _filter(step: re.Match[str], item: Any) -> list[Any]:
    if not isinstance(item, list):
        return []
    wanted = step["value"].strip().strip("\"'")
    found = []
    for one in item:
        values = find(f".{step['key']}", one)
        same = bool(values) and _plain(values[0]) == wanted
        if same == (step["op"] == "=="):
            found.append(one)
    return found
