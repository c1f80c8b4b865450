"""Requests that were seen -> one route for each kind of them; pure.

They come from lines of a proxy's access log, text and JSON mixed with other lines between them,
or from what proxies say they have seen. Parts of a path that look like names of single things
become parameters, and so does a place where many different words were seen (`mesh.core.shapes`).
What was not found or not allowed is left out, since it says more of a client than of the service.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mesh.core.errors import ConfigError
from mesh.core.shapes import NOISE, PARAMETER, Shape, collapse, path_of, read_path, shape_of
from mesh.profile.routes import Route, escape

MOST_ROUTES: Final = 50
_LINE: Final = re.compile(
    r'"(?P<method>[A-Z]{1,20}) (?P<uri>[^ "]{1,600}) HTTP/[\d.]+" (?P<status>\d{3}) .*'
    r"\b(?P<direction>inbound|outbound)\b"
)


def read_access_log(text: str, service: str) -> list[Route]:
    """The routes of what came in, and of what went out to `service`, the most frequent first
    where there are too many. Raises ConfigError when there is none."""
    seen: Counter[tuple[str, Shape]] = Counter()
    for method, shape in _requests(text.splitlines(), service):
        seen[method, shape] += 1
    if not seen:
        raise ConfigError(
            "expected lines of an access log with requests, got none; switch it on with the "
            "annotation mesh/access-log: json and read the log of container mesh-proxy"
        )
    return _routes(seen)


def read_reports(kinds: Iterable[Mapping[str, Any]]) -> list[Route]:
    """The routes of what proxies have seen, the most frequent first where there are too many.
    Raises ConfigError when there is none."""
    seen: Counter[tuple[str, Shape]] = Counter()
    for kind in kinds:
        seen[str(kind["method"]), read_path(str(kind["path"]))] += int(kind["count"])
    if not seen:
        raise ConfigError("expected requests that proxies have seen, got none")
    return _routes(seen)


def _routes(seen: Counter[tuple[str, Shape]]) -> list[Route]:
    names = collapse({shape for _, shape in seen})
    routes: Counter[tuple[str, Shape]] = Counter()
    for (method, shape), count in seen.items():
        routes[method, names[shape]] += count
    return [_route(method, shape) for (method, shape), _ in routes.most_common(MOST_ROUTES)]


def _requests(lines: Iterable[str], service: str) -> Iterator[tuple[str, Shape]]:
    for line in lines:
        found = _json(line) if line.startswith("{") else _text(line)
        if found is None:
            continue
        method, uri, status, direction, host = found
        named = host.partition(":")[0].partition(".")[0]
        if direction == "outbound" and named != service:
            continue
        path = uri.partition("?")[0]
        if status not in NOISE and path.startswith("/"):
            yield method, shape_of(path)


def _json(line: str) -> tuple[str, str, int, str, str] | None:
    try:
        entry = json.loads(line)
        method, uri = entry["method"], entry["uri"]
        status, direction = entry["status"], entry["direction"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not all(isinstance(part, str) for part in (method, uri, direction)):
        return None
    if not isinstance(status, int) or not re.fullmatch("[A-Z]{1,20}", method):
        return None
    return method, uri, status, direction, str(entry.get("host") or "")


def _text(line: str) -> tuple[str, str, int, str, str] | None:
    found = _LINE.search(line)
    if found is None:
        return None
    return found["method"], found["uri"], int(found["status"]), found["direction"], ""


def _route(method: str, shape: Shape) -> Route:
    segments = [(True, "[^/]+") if part == PARAMETER else (False, escape(part)) for part in shape]
    return Route(f"{method} {path_of(shape)}", method, ((False, ""), *segments))
