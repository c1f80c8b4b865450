"""Matches of HTTPRoute and GRPCRoute rules; pure.

A match that does not read drops its rule: without the part that does not, it would hold for
requests that its author did not mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from destination.dialects.reading import Reader, checked_regex, shown
from destination.fragments import INVALID_REGEX, INVALID_VALUE, MALFORMED, RouteKind
from mesh.core.model import HeaderMatch, Match, QueryMatch

_HTTP: Final = ("path", "headers", "queryParams", "method")
_GRPC: Final = ("method", "headers")
_TYPED: Final = ("type", "name", "value")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_MOST: Final = 128


class _Unread(Exception):
    """A part of a match does not read; it has been reported."""


def read_matches(
    reader: Reader, kind: RouteKind, value: Any, path: str
) -> tuple[Match, ...] | None:
    """The matches of a rule, one that always holds where none are given; None: drop the rule."""
    items = reader.items(value, path)
    if value and not items:
        return None
    if len(items) > _MOST:
        reader.warn(path, MALFORMED, f"expected at most {_MOST} matches; the rule is dropped")
        return None
    if not items:
        return (Match(path_prefix="/") if kind is RouteKind.HTTP else Match(),)
    read = _http if kind is RouteKind.HTTP else _grpc
    try:
        return tuple(read(reader, item, f"{path}[{index}]") for index, item in enumerate(items))
    except _Unread:
        return None


def _http(reader: Reader, value: Any, path: str) -> Match:
    found = _fields(reader, value, path, _HTTP)
    headers = _headers(reader, found.get("headers"), f"{path}.headers")
    method = found.get("method")
    if method is not None and not (isinstance(method, str) and _TOKEN.fullmatch(method)):
        raise _drop(reader, f"{path}.method", f"expected a method such as GET, got {shown(method)}")
    exact, prefix, regex = _path(reader, found.get("path"), f"{path}.path")
    query: dict[str, QueryMatch] = {}
    for index, item in enumerate(_list(reader, found.get("queryParams"), f"{path}.queryParams")):
        name, text, is_regex = _typed(reader, item, f"{path}.queryParams[{index}]")
        query.setdefault(name, QueryMatch(name, text, is_regex))  # the first of equal names counts
    return Match(
        path=exact,
        path_prefix=prefix,
        path_regex=regex,
        method=method,
        headers=headers,
        query=tuple(query.values()),
    )


def _path(reader: Reader, value: Any, path: str) -> tuple[str | None, str | None, str | None]:
    """Exact, prefix or pattern; the prefix `/`, which is everything, where nothing is said."""
    if value is None:
        return None, "/", None
    found = _fields(reader, value, path, ("type", "value"))
    kind, text = found.get("type", "PathPrefix"), found.get("value", "/")
    if not isinstance(text, str) or not text:
        raise _drop(reader, f"{path}.value", f"expected a path, got {shown(text)}")
    if kind == "RegularExpression":
        _check_regex(reader, text, f"{path}.value")
        return None, None, text
    if not text.startswith("/"):
        raise _drop(reader, f"{path}.value", f"expected a path from /, got {shown(text)}")
    if kind == "Exact":
        return text, None, None
    if kind == "PathPrefix":
        return None, text, None
    raise _drop(
        reader,
        f"{path}.type",
        f"expected Exact, PathPrefix or RegularExpression, got {shown(kind)}",
    )


def _grpc(reader: Reader, value: Any, path: str) -> Match:
    found = _fields(reader, value, path, _GRPC)
    headers = _headers(reader, found.get("headers"), f"{path}.headers")
    method = found.get("method")
    if method is None:
        return Match(headers=headers)
    here = f"{path}.method"
    parts = _fields(reader, method, here, ("type", "service", "method"))
    kind = parts.get("type", "Exact")
    service, name = parts.get("service"), parts.get("method")
    for field, text in (("service", service), ("method", name)):
        if text is not None and not isinstance(text, str):
            raise _drop(reader, f"{here}.{field}", f"expected text, got {shown(text)}")
    if not service and not name:
        raise _drop(reader, here, "expected a service, a method or both, got none")
    if kind == "RegularExpression":
        pattern = f"/(?:{service or '[^/]+'})/(?:{name or '[^/]+'})"
        _check_regex(reader, pattern, here)
        return Match(path_regex=pattern, headers=headers)
    if kind != "Exact":
        raise _drop(
            reader, f"{here}.type", f"expected Exact or RegularExpression, got {shown(kind)}"
        )
    if service and name:
        return Match(path=f"/{service}/{name}", headers=headers)
    if service:
        return Match(path_prefix=f"/{service}", headers=headers)
    return Match(path_regex=f"/[^/]+/{re.escape(str(name))}", headers=headers)


def _headers(reader: Reader, value: Any, path: str) -> tuple[HeaderMatch, ...]:
    headers: dict[str, HeaderMatch] = {}
    for index, item in enumerate(_list(reader, value, path)):
        name, text, is_regex = _typed(reader, item, f"{path}[{index}]")
        if not _TOKEN.fullmatch(name):
            raise _drop(reader, f"{path}[{index}].name", f"expected a name, got {shown(name)}")
        # The first of equal names counts (HTTPHeaderMatch).
        headers.setdefault(name.lower(), HeaderMatch(name.lower(), text, is_regex))
    return tuple(headers.values())


def _typed(reader: Reader, value: Any, path: str) -> tuple[str, str, bool]:
    """Name, value and whether that is a pattern."""
    found = _fields(reader, value, path, _TYPED)
    kind, name, text = found.get("type", "Exact"), found.get("name"), found.get("value")
    for field, given in (("name", name), ("value", text)):
        if not isinstance(given, str) or (field == "name" and not given):
            raise _drop(reader, f"{path}.{field}", f"expected text, got {shown(given)}")
    if kind not in ("Exact", "RegularExpression"):
        raise _drop(
            reader, f"{path}.type", f"expected Exact or RegularExpression, got {shown(kind)}"
        )
    if kind == "RegularExpression":
        _check_regex(reader, str(text), f"{path}.value")
    return str(name), str(text), kind == "RegularExpression"


def _fields(reader: Reader, value: Any, path: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _drop(reader, path, f"expected a mapping, got {shown(value)}")
    if reader.unknown(value, path, known):
        raise _drop(reader, path, "has a field that is not known")
    return value


def _list(reader: Reader, value: Any, path: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise _drop(reader, path, f"expected a list, got {shown(value)}")
    return value or []


def _check_regex(reader: Reader, pattern: str, path: str) -> None:
    wrong = checked_regex(pattern)
    if wrong:
        reader.warn(path, INVALID_REGEX, f"{wrong}; the rule is dropped")
        raise _Unread


def _drop(reader: Reader, path: str, message: str) -> _Unread:
    reader.warn(path, INVALID_VALUE, f"{message}; the rule is dropped")
    return _Unread()
