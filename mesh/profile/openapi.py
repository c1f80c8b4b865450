"""OpenAPI 2 (Swagger) and 3 -> routes; pure.

`{id}` in a path becomes `[^/]*`; the base is `basePath` in 2 and the path of the first server
in 3. Each status that is listed becomes a response class, a failure from 500 on; `default`
says nothing. `x-linkerd-retryable` and `x-linkerd-timeout` of an operation are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from mesh.core.errors import ConfigError
from mesh.core.quantity import parse_duration
from mesh.profile.routes import Route, escape

_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PARAMETER: Final = re.compile(r"\{[^{}/]*\}")
_SHOWN: Final = 60


def read_openapi(document: Any) -> list[Route]:
    """The routes of a document. Raises ConfigError with every fault."""
    if not isinstance(document, dict) or not ("swagger" in document or "openapi" in document):
        raise ConfigError("expected an OpenAPI document with `swagger: 2.0` or `openapi: 3.x`")
    paths = document.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise ConfigError("paths: expected at least one path; a profile without routes is no use")
    base = _base_of(document)
    faults: list[str] = []
    routes: list[Route] = []
    for path, item in paths.items():
        if not isinstance(path, str) or not path.startswith("/"):
            if not str(path).startswith("x-"):
                faults.append(f'paths: expected a path from /, got "{str(path)[:_SHOWN]}"')
            continue
        if isinstance(item, dict) and "$ref" in item:
            faults.append(f"paths.{path[:_SHOWN]}: expected operations, got $ref; inline it first")
            continue
        routes += _routes_of(base + path, item, faults)
    if faults:
        raise ConfigError(faults)
    return routes


def _routes_of(path: str, item: Any, faults: list[str]) -> Iterator[Route]:
    for method in _METHODS:
        operation = item.get(method) if isinstance(item, dict) else None
        if not isinstance(operation, dict):
            continue
        yield Route(
            name=f"{method.upper()} {path}",
            method=method.upper(),
            segments=tuple(_segment(part) for part in path.split("/")),
            responses=tuple(_responses(operation)),
            retryable=operation.get("x-linkerd-retryable") is True,
            timeout=_timeout(operation, f"{method} {path[:_SHOWN]}", faults),
        )


def _segment(part: str) -> tuple[bool, str]:
    pieces = _PARAMETER.split(part)
    return len(pieces) > 1, "[^/]*".join(escape(piece) for piece in pieces)


def _responses(operation: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """(first, last) of each status: 404, or 5XX as OpenAPI 3 writes a class of them."""
    responses = operation.get("responses")
    for status in sorted(map(str, responses if isinstance(responses, dict) else ())):
        if re.fullmatch(r"[1-5]\d\d", status, re.ASCII):
            yield int(status), int(status)
        elif re.fullmatch(r"[1-5]XX", status):
            yield int(status[0]) * 100, int(status[0]) * 100 + 99


def _timeout(operation: Mapping[str, Any], where: str, faults: list[str]) -> str:
    text = operation.get("x-linkerd-timeout")
    if text is None:
        return ""
    try:
        parse_duration(str(text))
    except ValueError as error:
        faults.append(f"{where}: x-linkerd-timeout: {error}")
    return str(text)


def _base_of(document: Mapping[str, Any]) -> str:
    base = document.get("basePath")
    servers = document.get("servers")
    if "openapi" in document:
        first = servers[0] if isinstance(servers, list) and servers else None
        url = first.get("url") if isinstance(first, dict) else None
        base = urlsplit(url).path if isinstance(url, str) else ""
    return base.rstrip("/") if isinstance(base, str) else ""
