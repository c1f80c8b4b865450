"""Heads of HTTP/2 streams between two proxies of ours <-> the same `Request` and `Response`
that HTTP/1 gives. Pure.

Every field passes the same guard as on HTTP/1, so what is routed, counted and forwarded does
not depend on how it came. A request that its application sent as HTTP/2 carries `:scheme`, one
of HTTP/1 does not: the far proxy speaks to its application as the client spoke to us.
"""

from __future__ import annotations

from typing import Final

from mesh.core.errors import PeerError
from proxy import guard
from proxy.guard import PLAIN, Fields
from proxy.hpack import MALFORMED, PSEUDO, TOO_LARGE, Block
from proxy.http1 import (
    CHUNKED,
    CHUNKS,
    COLLECT,
    KEEP,
    MEASURED,
    UNTIL_END,
    HeadReader,
    Request,
    Request2,
    Response,
    WholeResponse,
)

Pairs = list[tuple[bytes, bytes]]

_SCHEME: Final = (b":scheme", b"http")
STATUSES: Final = {b"%d" % status: status for status in range(100, 600)}
REASONS: Final = {
    200: b"OK",
    201: b"Created",
    204: b"No Content",
    301: b"Moved Permanently",
    302: b"Found",
    304: b"Not Modified",
    400: b"Bad Request",
    404: b"Not Found",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


def request_pairs(request: Request, extra: Fields) -> Pairs:
    """A request as it travels between two proxies."""
    fields = request.fields + extra if extra else request.fields
    pairs = [
        (b":method", request.method),
        (b":path", request.target),
        *zip(fields[0::4], fields[2::4], strict=True),
    ]
    if request.is_http2:
        pairs.insert(0, _SCHEME)
    return pairs


def response_pairs(response: Response) -> Pairs:
    """A response as it travels between two proxies; an unusual reason phrase goes along."""
    status, fields = response.status, response.fields
    pairs = [(b":status", b"%d" % status)]
    if REASONS.get(status) != response.reason:
        pairs.append((b":reason", response.reason))
    pairs += zip(fields[0::4], fields[2::4], strict=True)
    return pairs


class Heads(HeadReader):
    """Entries of one connection's header blocks -> heads, by the rules of the wire guard."""

    __slots__ = ("_known_host",)

    def __init__(self, *, trust: int) -> None:
        super().__init__(trust)
        self._known_host = b" "

    def read_request(self, block: Block, end: bool) -> Request:
        """One request head. Raises PeerError."""
        pseudo = self._collect(block)
        method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        kind = Request2 if b":scheme" in pseudo else Request
        request = kind(method, target, self._fields[:])
        host = self._host or b""
        if host != self._known_host:
            guard.check_host(host, 1)
            self._known_host = host
        request.host = host
        if target[:1] != b"/" or guard.HASH in target or guard.SPACE in target:
            if guard.SPACE in target:
                raise PeerError("bad_target", "a space in the request target")
            guard.check_target(method, target, host)
        if method == b"CONNECT" or not (method.isalpha() or guard.TOKEN.fullmatch(method)):
            raise PeerError("bad_method", "no such method here")
        request.length = self._length_of(end)
        if request.length is None and not self._coding:
            request.fields += CHUNKED
        elif end and self._coding:
            request.fields = guard.without(request.fields, b"transfer-encoding")
        request.ours = self._ours
        if method == b"HEAD":
            request.is_usual = False
        self._reset()
        return request

    def read_response(self, block: Block, end: bool, *, is_head: bool) -> Response:
        """One response head. Raises PeerError."""
        pseudo = self._collect(block)
        status = STATUSES.get(pseudo.get(b":status", b""))
        if status is None:
            raise PeerError("bad_response", "no status", status=502)
        reason = pseudo.get(b":reason")
        if reason is None:
            reason = REASONS.get(status, b"")
        response = self._response(status, reason, end, is_head=is_head)
        self._reset()
        return response

    def _response(self, status: int, reason: bytes, end: bool, *, is_head: bool) -> Response:
        """The response whose fields have been collected, with its framing."""
        kind = WholeResponse if end else Response
        response = kind(status, reason, self._fields[:])
        if is_head or status < 200 or status == 204 or status == 304:
            response.framing = MEASURED
        elif self._coding:
            response.framing = CHUNKS
        elif self._length is None:
            response.framing = UNTIL_END
        else:
            response.length = guard.parse_length(self._length)
            if end and response.length:
                raise PeerError("bad_response", "a body shorter than it said", status=502)
        return response

    def read_trailers(self, block: Block) -> Fields | None:
        """The fields behind a body."""
        self._collect(block)
        fields = self._fields[:]
        self._reset()
        return guard.clean_trailers(fields) if fields else None

    def start_anew(self) -> None:
        """Forget a head that was refused half-way."""
        self._reset()

    def _collect(self, block: Block) -> dict[bytes, bytes]:
        fields, special = self._fields, self._special
        pseudo: dict[bytes, bytes] = {}
        for kind, name, value, flat in block.entries:
            if kind == PLAIN:
                fields += flat
            elif kind == PSEUDO:
                if fields or name in pseudo:
                    raise PeerError("bad_field", "pseudo-fields come first, and once")
                pseudo[name] = value
            elif kind == TOO_LARGE:
                raise PeerError("head_too_large", "header list too large", status=431)
            elif kind == MALFORMED:
                raise PeerError("bad_field", "a request line that is none")
            else:
                special(name, value)
        return pseudo

    def _length_of(self, end: bool) -> int | None:
        if self._length is not None:
            if self._coding:
                raise PeerError("bad_framing", "Transfer-Encoding beside a length")
            length = guard.parse_length(self._length)
            if end and length:
                raise PeerError("bad_length", "a body shorter than it said")
            return length
        return 0 if end else None


def trailer_pairs(trailers: Fields) -> Pairs:
    """Trailers as they travel."""
    return list(zip(trailers[0::4], trailers[2::4], strict=True))


__all__ = ["COLLECT", "KEEP", "Heads", "request_pairs", "response_pairs", "trailer_pairs"]
