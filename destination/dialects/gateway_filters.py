"""Filters of routes and backends; pure.

A filter that cannot be done must not be skipped (HTTPRouteFilter): what it stands on is
refused, so that its requests are answered with an error. Texts that go into heads are checked
here, since nobody else sees them before they are on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from destination.dialects.gateway_refs import read_service_ref
from destination.dialects.reading import Reader, shown
from destination.fragments import (
    INVALID_FILTER,
    UNSUPPORTED_FILTER,
    BackendRef,
    RouteKind,
)
from mesh.core.model import Cors, Filters, HeaderEdit, Mirror, PathChange, Redirect, Rewrite
from mesh.core.names import service_authority

NO_PREFIX: Final = INVALID_FILTER
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 §5.6.2
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,4096}")  # RFC 9110 §5.5
_HOST: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")
_PATH: Final = re.compile(r"[\x21-\x7e]{0,1024}")
# What frames a message, or says who is asked, is the proxy's own to write.
_OURS: Final = frozenset(
    ("connection", "content-length", "host", "keep-alive", "proxy-connection", "te")
) | frozenset(("trailer", "transfer-encoding", "upgrade"))
_FIELDS: Final = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "CORS": "cors",
}
_OTHERS: Final = ("extensionRef", "externalAuth")
_GRPC_TYPES: Final = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror")
_STATUSES: Final = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class FiltersRead:
    """The filters of one rule or backend; `refused` is the reason why they cannot be done."""

    filters: Filters | None = None
    mirrors: tuple[BackendRef, ...] = ()
    refused: str = ""
    needs_prefix: bool = False


class _Refused(Exception):
    """A filter cannot be done; it has been reported."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_filters(
    reader: Reader, kind: RouteKind, value: Any, path: str, cluster_domain: str
) -> FiltersRead:
    """The filters of a list, put together."""
    items = reader.items(value, path)
    if not items:
        return FiltersRead()
    reading = _Reading(reader, kind, cluster_domain)
    try:
        for index, item in enumerate(items):
            reading.take(item, f"{path}[{index}]")
        if reading.filters.redirect is not None and reading.filters.rewrite is not None:
            raise reading.refuse(path, "expected a redirect or a rewrite, got both")
    except _Refused as refused:
        return FiltersRead(None, tuple(reading.mirrors), refused.reason)
    needs_prefix = any(
        change is not None and change.full is None
        for part in (reading.filters.redirect, reading.filters.rewrite)
        for change in (part.path if part is not None else None,)
    )
    found = reading.filters
    return FiltersRead(
        None if found == Filters() else found, tuple(reading.mirrors), "", needs_prefix
    )


class _Reading:
    """One list of filters as it is read."""

    def __init__(self, reader: Reader, kind: RouteKind, cluster_domain: str) -> None:
        self.filters = Filters()
        self.mirrors: list[BackendRef] = []
        self._reader = reader
        self._kind = kind
        self._cluster_domain = cluster_domain
        self._seen: set[str] = set()

    def take(self, value: Any, path: str) -> None:
        found = self._mapping(value, path)
        name = found.get("type")
        known = _GRPC_TYPES if self._kind is RouteKind.GRPC else tuple(_FIELDS)
        if name not in known:
            message = f"{shown(name)} is not supported; requests are answered with 500"
            self._reader.warn(f"{path}.type", UNSUPPORTED_FILTER, message)
            raise _Refused(UNSUPPORTED_FILTER)
        field = _FIELDS[name]
        self._reader.unknown(found, path, ("type", *_FIELDS.values(), *_OTHERS))
        for other in found:
            if other in (*_FIELDS.values(), *_OTHERS) and other != field:
                raise self.refuse(f"{path}.{other}", f"does not belong to type {name}")
        if name in self._seen and name != "RequestMirror":
            raise self.refuse(path, f"expected {name} once, got it twice")
        self._seen.add(name)
        part = self._mapping(found.get(field), f"{path}.{field}")
        self._takers()[name](part, f"{path}.{field}")

    def _takers(self) -> Mapping[str, Callable[[Mapping[str, Any], str], None]]:
        return {
            "RequestHeaderModifier": self._request,
            "ResponseHeaderModifier": self._response,
            "RequestMirror": self._mirror,
            "RequestRedirect": self._redirect,
            "URLRewrite": self._rewrite,
            "CORS": self._cors,
        }

    def refuse(self, path: str, message: str) -> _Refused:
        self._reader.warn(path, INVALID_FILTER, f"{message}; requests are answered with 500")
        return _Refused(INVALID_FILTER)

    # -- by type ----------------------------------------------------------------------------

    def _request(self, found: Mapping[str, Any], path: str) -> None:
        self.filters = replace(self.filters, request=self._edit(found, path))

    def _response(self, found: Mapping[str, Any], path: str) -> None:
        self.filters = replace(self.filters, response=self._edit(found, path))

    def _edit(self, found: Mapping[str, Any], path: str) -> HeaderEdit:
        self._only(found, path, ("set", "add", "remove"))
        names = self._list(found.get("remove"), f"{path}.remove")
        removed = [self._name(name, f"{path}.remove[{at}]") for at, name in enumerate(names)]
        return HeaderEdit(
            set=self._pairs(found.get("set"), f"{path}.set"),
            add=self._pairs(found.get("add"), f"{path}.add"),
            remove=tuple(removed),
        )

    def _pairs(self, value: Any, path: str) -> tuple[tuple[str, str], ...]:
        pairs: dict[str, str] = {}
        for index, item in enumerate(self._list(value, path)):
            found = self._mapping(item, f"{path}[{index}]")
            self._only(found, f"{path}[{index}]", ("name", "value"))
            name = self._name(found.get("name"), f"{path}[{index}].name")
            text = found.get("value")
            if not isinstance(text, str) or not _VALUE.fullmatch(text):
                raise self.refuse(f"{path}[{index}].value", "expected the value of a header")
            pairs.setdefault(name, text.strip())  # the first of equal names counts (HTTPHeader)
        return tuple(pairs.items())

    def _name(self, value: Any, path: str) -> str:
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise self.refuse(path, f"expected the name of a header, got {shown(value)}")
        name = value.lower()
        if name in _OURS:
            hint = "; URLRewrite changes it" if name == "host" else ""
            raise self.refuse(path, f"{name} cannot be changed{hint}")
        return name

    def _mirror(self, found: Mapping[str, Any], path: str) -> None:
        self._only(found, path, ("backendRef", "percent", "fraction"))
        ref = self._mapping(found.get("backendRef"), f"{path}.backendRef")
        here = f"{path}.backendRef"
        self._reader.unknown(ref, here, ("group", "kind", "name", "namespace", "port"))
        service, port, refused = read_service_ref(self._reader, ref, here)
        share = self._share(found, path)
        if refused or not port:  # a mirror that leads nowhere takes nothing from the request
            return
        name = service_authority(service[1], service[0], port, self._cluster_domain)
        self.mirrors.append(BackendRef(service, port, here))
        self.filters = replace(self.filters, mirrors=(*self.filters.mirrors, Mirror(name, share)))

    def _share(self, found: Mapping[str, Any], path: str) -> float:
        percent, fraction = found.get("percent"), found.get("fraction")
        if percent is not None and fraction is not None:
            raise self.refuse(path, "expected percent or fraction, got both")
        if percent is not None:
            if not _is_number(percent) or not 0 <= percent <= 100:
                raise self.refuse(f"{path}.percent", "expected a number from 0 to 100")
            return float(percent) / 100
        if fraction is None:
            return 1.0
        parts = self._mapping(fraction, f"{path}.fraction")
        self._only(parts, f"{path}.fraction", ("numerator", "denominator"))
        above, below = parts.get("numerator"), parts.get("denominator", 100)
        if not isinstance(above, int) or not isinstance(below, int) or not 0 <= above <= below > 0:
            raise self.refuse(f"{path}.fraction", "expected 0 <= numerator <= denominator")
        return float(above) / float(below)

    def _redirect(self, found: Mapping[str, Any], path: str) -> None:
        self._only(found, path, ("scheme", "hostname", "path", "port", "statusCode"))
        scheme, port = found.get("scheme"), found.get("port")
        status = found.get("statusCode", 302)
        if scheme not in (None, "http", "https"):
            raise self.refuse(f"{path}.scheme", "expected http or https")
        if port is not None and not (_is_number(port) and 0 < port < 65536):
            raise self.refuse(f"{path}.port", "expected a port")
        if status not in _STATUSES:
            raise self.refuse(f"{path}.statusCode", "expected 301, 302, 303, 307 or 308")
        self.filters = replace(
            self.filters,
            redirect=Redirect(
                scheme=scheme,
                hostname=self._host(found.get("hostname"), f"{path}.hostname"),
                port=port,
                path=self._path(found.get("path"), f"{path}.path"),
                status=status,
            ),
        )

    def _rewrite(self, found: Mapping[str, Any], path: str) -> None:
        self._only(found, path, ("hostname", "path"))
        hostname = self._host(found.get("hostname"), f"{path}.hostname")
        change = self._path(found.get("path"), f"{path}.path")
        if hostname is not None or change is not None:
            self.filters = replace(self.filters, rewrite=Rewrite(hostname, change))

    def _host(self, value: Any, path: str) -> str | None:
        if value is not None and not (isinstance(value, str) and _HOST.fullmatch(value)):
            raise self.refuse(path, f"expected a host name, got {shown(value)}")
        return value

    def _path(self, value: Any, path: str) -> PathChange | None:
        if value is None:
            return None
        found = self._mapping(value, path)
        self._only(found, path, ("type", "replaceFullPath", "replacePrefixMatch"))
        kind = found.get("type")
        fields = {"ReplaceFullPath": "replaceFullPath", "ReplacePrefixMatch": "replacePrefixMatch"}
        field = fields.get(kind) if isinstance(kind, str) else None
        if field is None:
            raise self.refuse(f"{path}.type", f"expected {' or '.join(fields)}")
        text = found.get(field)
        if not isinstance(text, str) or not _PATH.fullmatch(text) or "?" in text or "#" in text:
            raise self.refuse(f"{path}.{field}", "expected a path without query")
        if text and not text.startswith("/"):
            raise self.refuse(f"{path}.{field}", "expected a path from /")
        if len(found) > 2:
            raise self.refuse(path, f"expected {field} alone for type {kind}")
        return PathChange(full=text) if kind == "ReplaceFullPath" else PathChange(prefix=text)

    def _cors(self, found: Mapping[str, Any], path: str) -> None:
        lists = ("allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders")
        self._only(found, path, (*lists, "allowCredentials", "maxAge"))
        texts: dict[str, tuple[str, ...]] = {}
        for name in lists:
            items = self._list(found.get(name), f"{path}.{name}")
            for at, item in enumerate(items):
                if not isinstance(item, str) or not _PATH.fullmatch(item) or "," in item:
                    raise self.refuse(f"{path}.{name}[{at}]", f"expected text, got {shown(item)}")
            texts[name] = tuple(items)
        age, credentials = found.get("maxAge", 5), found.get("allowCredentials", False)
        if not _is_number(age) or age < 0:
            raise self.refuse(f"{path}.maxAge", "expected seconds")
        if not isinstance(credentials, bool):
            raise self.refuse(f"{path}.allowCredentials", "expected true or false")
        self.filters = replace(
            self.filters,
            cors=Cors(
                texts["allowOrigins"],
                texts["allowMethods"],
                texts["allowHeaders"],
                texts["exposeHeaders"],
                credentials,
                age,
            ),
        )

    # -- shapes -----------------------------------------------------------------------------

    def _mapping(self, value: Any, path: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.refuse(path, f"expected a mapping, got {shown(value)}")
        return value

    def _list(self, value: Any, path: str) -> list[Any]:
        if value is not None and not isinstance(value, list):
            raise self.refuse(path, f"expected a list, got {shown(value)}")
        return value or []

    def _only(self, found: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
        if self._reader.unknown(found, path, known):
            raise self.refuse(path, "has a field that is not known")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
