"""A protobuf file -> one route for each method of its services; pure.

gRPC sends every call as POST /package.Service/Method. A method whose `idempotency_level` says
that it may be repeated is retryable. Nothing is imported: services stand in the file itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from mesh.core.errors import ConfigError
from mesh.profile.routes import Route, escape

_TOKEN: Final = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|[\w.]+|\S", re.S
)
_REPEATABLE: Final = ("IDEMPOTENT", "NO_SIDE_EFFECTS")


def read_proto(text: str) -> list[Route]:
    """The routes of all services of a file. Raises ConfigError when there is none."""
    tokens = [t for t in _TOKEN.findall(text) if not t.startswith(("//", "/*"))]
    package = ""
    found: list[tuple[str, str, bool]] = []
    depth = 0
    for at, token in enumerate(tokens):
        if depth == 0 and token == "package" and at + 1 < len(tokens):
            package = tokens[at + 1]
        if depth == 0 and token == "service" and tokens[at + 2 : at + 3] == ["{"]:
            body = tokens[at + 3 : _end(tokens, at + 2)]
            found += [(tokens[at + 1], name, safe) for name, safe in _methods(body)]
        depth += {"{": 1, "}": -1}.get(token, 0)
    if not found:
        raise ConfigError("expected a service with rpc methods, got none; is it the right file?")
    counts = Counter(name for _, name, _ in found)
    return [
        Route(
            name=name if counts[name] == 1 else f"{service}/{name}",
            method="POST",
            segments=tuple(
                (False, escape(part))
                for part in ("", f"{package}.{service}" if package else service, name)
            ),
            retryable=safe,
        )
        for service, name, safe in found
    ]


def _methods(body: list[str]) -> Iterator[tuple[str, bool]]:
    """(name, may be repeated) of each rpc: its options stand before the next one."""
    starts = [
        at for at, token in enumerate(body) if token == "rpc" and body[at + 2 : at + 3] == ["("]
    ]
    for at, end in zip(starts, [*starts[1:], len(body)], strict=True):
        part = body[at:end]
        levels = [
            part[i + 2]
            for i, token in enumerate(part[:-2])
            if token == "idempotency_level" and part[i + 1] == "="
        ]
        yield body[at + 1], bool(levels) and levels[-1] in _REPEATABLE


def _end(tokens: list[str], start: int) -> int:
    """The place of the brace that closes the one at `start`."""
    depth = 0
    for at in range(start, len(tokens)):
        depth += {"{": 1, "}": -1}.get(tokens[at], 0)
        if depth == 0:
            return at
    raise ConfigError("expected a closing brace, got the end of the file")
