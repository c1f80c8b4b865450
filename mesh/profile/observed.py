"""Lines of a proxy's access log -> one route for each kind of request that was seen; pure.

Text and JSON lines may be mixed, and other lines stand between them. Parts of a path that look
like names of single things (numbers, UUIDs, long hexadecimal) become parameters, and so does a
place where many different words were seen. What was not found or not allowed is left out, since
it says more of a client than of the service.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from mesh.core.errors import ConfigError
from mesh.profile.routes import Route, escape

MOST_ROUTES: Final = 50
_MANY: Final = 12  # words at one place that make it a parameter
_LINE: Final = re.compile(
    r'"(?P<method>[A-Z]{1,20}) (?P<uri>[^ "]{1,600}) HTTP/[\d.]+" (?P<status>\d{3}) .*'
    r"\b(?P<direction>inbound|outbound)\b"
)
_THING: Final = re.compile(
    r"\d+|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}|[A-Za-z]{0,4}[-_]?\d{3,}"
)
_NOISE: Final = frozenset((400, 401, 403, 404, 405, 431))
_PARAMETER: Final = "\0"  # no path holds it
_Path = tuple[str, ...]


def read_access_log(text: str, service: str) -> list[Route]:
    """The routes of what came in, and of what went out to `service`, the most frequent first
    where there are too many. Raises ConfigError when there is none."""
    seen: Counter[tuple[str, _Path]] = Counter()
    for method, path in _requests(text.splitlines(), service):
        seen[method, path] += 1
    if not seen:
        raise ConfigError(
            "expected lines of an access log with requests, got none; switch it on with the "
            "annotation mesh/access-log: json and read the log of container mesh-proxy"
        )
    names = _collapsed({path for _, path in seen})
    routes: Counter[tuple[str, _Path]] = Counter()
    for (method, path), count in seen.items():
        routes[method, names[path]] += count
    return [_route(method, path) for (method, path), _ in routes.most_common(MOST_ROUTES)]


def _requests(lines: Iterable[str], service: str) -> Iterator[tuple[str, _Path]]:
    for line in lines:
        found = _json(line) if line.startswith("{") else _text(line)
        if found is None:
            continue
        method, uri, status, direction, host = found
        named = host.partition(":")[0].partition(".")[0]
        if direction == "outbound" and named != service:
            continue
        path = uri.partition("?")[0]
        if status not in _NOISE and path.startswith("/"):
            yield method, tuple(_PARAMETER if _THING.fullmatch(s) else s for s in _parts(path))


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


def _parts(path: str) -> list[str]:
    return path.split("/")[1:]


def _collapsed(paths: set[_Path]) -> dict[_Path, _Path]:
    """Each path with parameters where many words were seen behind the same beginning."""
    names = {path: path for path in paths}
    for depth in range(max(map(len, paths))):
        words: defaultdict[_Path, set[str]] = defaultdict(set)
        for path in names.values():
            if len(path) > depth:
                words[path[:depth]].add(path[depth])
        for original, path in names.items():
            if len(path) > depth and len(words[path[:depth]]) > _MANY:
                names[original] = (*path[:depth], _PARAMETER, *path[depth + 1 :])
    return names


def _route(method: str, path: _Path) -> Route:
    shown = "/".join("{id}" if part == _PARAMETER else part for part in path)
    segments = [(True, "[^/]+") if part == _PARAMETER else (False, escape(part)) for part in path]
    return Route(f"{method} /{shown}", method, ((False, ""), *segments))
