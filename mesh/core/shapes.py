"""Kinds of requests: a path whose parts name single things becomes one with parameters. Pure.

Numbers, UUIDs, long hexadecimal and what looks like a token or an address of a person become a
parameter at once; a place where many different words were seen becomes one later (`collapse`).
So what is left says more of a service than of its clients, and there is little of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

Shape = tuple[str, ...]

PARAMETER: Final = "\0"  # no path holds it
NOISE: Final = frozenset((400, 401, 403, 404, 405, 431))  # statuses that say more of a client
_MANY: Final = 12  # words at one place that make it a parameter
_LONGEST: Final = 48  # characters of a word; longer ones are values, whatever they are
_DEEPEST: Final = 16  # parts of a path; what is deeper is one parameter
_THING: Final = re.compile(
    r"\d+|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}|[A-Za-z]{0,4}[-_]?\d{3,}"
    r"|(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])(?=\D*\d)[A-Za-z0-9_=-]{16,}|.*@.*"
)


def shape_of(path: str) -> Shape:
    """The parts of a path (without its query), with parameters for what names single things."""
    parts = path.split("/")[1:]
    if len(parts) > _DEEPEST:
        parts = [*parts[:_DEEPEST], PARAMETER]
    return tuple(PARAMETER if is_thing(part) else part for part in parts)


def is_thing(part: str) -> bool:
    """Whether a part of a path names one thing of many, or says something of a person."""
    return len(part) > _LONGEST or _THING.fullmatch(part) is not None


def path_of(shape: Shape) -> str:
    """A shape as people write it: /orders/{id}."""
    return "/" + "/".join("{id}" if part == PARAMETER else part for part in shape)


def read_path(path: str) -> Shape:
    """The shape that `path_of` has written."""
    return tuple(PARAMETER if part == "{id}" else part for part in path.split("/")[1:])


def collapse(shapes: Iterable[Shape]) -> dict[Shape, Shape]:
    """Each shape with parameters where many words were seen behind the same beginning."""
    names = {shape: shape for shape in shapes}
    for depth in range(max(map(len, names), default=0)):
        words: defaultdict[Shape, set[str]] = defaultdict(set)
        for shape in names.values():
            if len(shape) > depth:
                words[shape[:depth]].add(shape[depth])
        for original, shape in names.items():
            if len(shape) > depth and len(words[shape[:depth]]) > _MANY:
                names[original] = (*shape[:depth], PARAMETER, *shape[depth + 1 :])
    return names
