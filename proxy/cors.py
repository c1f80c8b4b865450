"""Cross-origin requests answered by the proxy (Fetch standard §3.2, Gateway API's CORS). Pure.

An origin that is not allowed gets no fields: the browser refuses by itself. A wildcard is
answered literally, except with credentials, where what was asked for is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mesh.core.model import Cors
from proxy import guard
from proxy.guard import Fields
from proxy.http1 import COLON, CRLF, Request

_OURS: Final = (
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-expose-headers",
)


class Crossing:
    """One CORS filter, compiled."""

    __slots__ = ("_cors", "_is_allowed", "_is_open")

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._is_open = "*" in cors.allow_origins
        self._is_allowed = _origins(cors.allow_origins)

    def preflight(self, request: Request) -> Fields | None:
        """The fields that answer a preflight, or None of any other request."""
        if request.method != b"OPTIONS":
            return None
        origin = guard.get(request.fields, b"origin")
        method = guard.get(request.fields, b"access-control-request-method")
        if origin is None or method is None:
            return None
        if not self._allows(origin):
            return []
        cors = self._cors
        wanted = guard.get(request.fields, b"access-control-request-headers") or b""
        fields = self._origin(origin)
        fields += self._list(b"access-control-allow-methods", cors.allow_methods, method)
        fields += self._list(b"access-control-allow-headers", cors.allow_headers, wanted)
        fields += (b"access-control-max-age", COLON, b"%d" % cors.max_age, CRLF)
        return fields

    def response(self, request: Request, fields: Fields) -> Fields:
        """The fields of a response to a cross-origin request; what the server said of it goes."""
        origin = guard.get(request.fields, b"origin")
        if origin is None or not self._allows(origin):
            return fields
        fields = guard.without(fields, *_OURS) + self._origin(origin)
        fields += self._list(b"access-control-expose-headers", self._cors.expose_headers, b"*")
        return fields

    def _allows(self, origin: bytes) -> bool:
        return self._is_open or self._is_allowed(origin.decode("latin-1").lower())

    def _origin(self, origin: bytes) -> Fields:
        cors = self._cors
        named = cors.allow_credentials or not self._is_open
        fields = [b"access-control-allow-origin", COLON, origin if named else b"*", CRLF]
        if cors.allow_credentials:
            fields += (b"access-control-allow-credentials", COLON, b"true", CRLF)
        if named:
            fields += (b"vary", COLON, b"origin", CRLF)
        return fields

    def _list(self, name: bytes, values: Sequence[str], asked: bytes) -> Fields:
        if not values:
            return []
        text = ", ".join(values).encode("latin-1", "replace")
        if "*" in values:
            text = asked if self._cors.allow_credentials and asked else b"*"
        return [name, COLON, text, CRLF]


def _origins(allowed: Sequence[str]) -> Callable[[str], bool]:
    """Whether an origin is one of those; each may hold one wildcard."""
    exact = frozenset(text.lower() for text in allowed if "*" not in text)
    wild = [tuple(text.lower().split("*", 1)) for text in allowed if "*" in text]

    def test(origin: str) -> bool:
        if origin in exact:
            return True
        return any(
            len(origin) > len(head) + len(tail)
            and origin.startswith(head)
            and origin.endswith(tail)
            for head, tail in wild
        )

    return test
