"""HTTP/1 heads: what a request and a response are, how both are written, and the half of
reading that both share. Pure.

The readers are `http1_request` and `http1_response`. A head leaves them checked, stripped of
hop-by-hop fields and ready to be joined again: nothing is forwarded as it came.
A head's fields are one flat list `name, b": ", value, b"\\r\\n", ...` in the order and case of
the sender: writing a head is a single join. What llhttp leaves open is decided in `guard`.
"""

from __future__ import annotations

from typing import Final

from mesh.core.errors import PeerError
from proxy import guard
from proxy.guard import CODING, CONNECTION, HOST, LENGTH, PLAIN, RULES, USUAL, Fields
from proxy.native import mypyc_attr

PIECE: Final = 16 * 1024  # bytes parsed at a time where several messages may hide
COLON: Final = b": "
CRLF: Final = b"\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CHUNKED: Final = (b"Transfer-Encoding", COLON, b"chunked", CRLF)

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
# What becomes of fields that only the mesh may send: forgotten, set aside, or passed on.
STRIP: Final = 0
COLLECT: Final = 1
KEEP: Final = 2
# How a body is delimited: by its length (0 included), in chunks, by the end of the connection.
MEASURED: Final = 0
CHUNKS: Final = 1
UNTIL_END: Final = 2

_BLANKS: Final = b" \t"
_PERSISTENCE: Final = frozenset((b"keep-alive", b"Keep-Alive", b"close", b"Close"))
_STATUS_LINES: Final = {
    status: (reason, b"HTTP/1.1 %d %b\r\n" % (status, reason))
    for status, reason in (
        (200, b"OK"),
        (201, b"Created"),
        (204, b"No Content"),
        (206, b"Partial Content"),
        (301, b"Moved Permanently"),
        (302, b"Found"),
        (304, b"Not Modified"),
        (400, b"Bad Request"),
        (404, b"Not Found"),
        (500, b"Internal Server Error"),
        (503, b"Service Unavailable"),
    )
}
_NO_REASON: Final = (b"", b"")


class Request:
    """One request head. `length` is None for chunked, else bytes (0: no body).

    `upgrade` is the protocol asked for (`b"connect"` for CONNECT), else empty. `is_usual`: a
    client of 1.1 that keeps its connection and may get a body, so nothing needs a second look.
    """

    is_http2 = False  # how it came; a constant of the class costs no request anything

    __slots__ = (
        "fields",
        "host",
        "is_usual",
        "keep_alive",
        "length",
        "method",
        "minor",
        "ours",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, fields: Fields) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.host = b""
        self.minor = 1
        self.length: int | None = 0
        self.keep_alive = True
        self.is_usual = True
        self.upgrade = b""
        self.ours: dict[bytes, bytes] | None = None  # what a trusted peer's proxy said

    def copy(self) -> Request:
        """Another request like this one; the list of fields is the same."""
        again = type(self)(self.method, self.target, self.fields)
        again.host = self.host
        again.minor = self.minor
        again.length = self.length
        again.keep_alive = self.keep_alive
        again.is_usual = self.is_usual
        again.upgrade = self.upgrade
        again.ours = self.ours
        return again


class Request2(Request):
    """A request that an application sent as HTTP/2, and that its server gets as HTTP/2."""

    is_http2 = True

    __slots__ = ()


class Response:
    """One response head. `framing` says how its body ends, `length` how long it is if known."""

    is_whole = False  # nothing follows the head, not even trailers (known on HTTP/2 only)

    __slots__ = ("fields", "framing", "keep_alive", "length", "reason", "status", "upgrade")

    def __init__(self, status: int, reason: bytes, fields: Fields) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.framing = MEASURED
        self.length = 0
        self.keep_alive = True
        self.upgrade = b""


class WholeResponse(Response):
    """A head that ended its stream, as a gRPC server's that fails at once."""

    is_whole = True

    __slots__ = ()


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink:
    """Who takes what a reader reads: heads of its direction, then each body and its end."""

    __slots__ = ()

    def on_request(self, request: Request) -> None: ...
    def on_response(self, response: Response) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self, trailers: Fields | None) -> None: ...
    def on_tunnel(self, data: bytes) -> None: ...


class HeadReader:
    """What both directions share: the fields of one head, its budget, its trailers.

    Fields that need more thought than Host and Content-Length set `_is_odd`; all else stays
    reset. `_has_persistence`: Connection said whether the connection is kept.
    """

    __slots__ = (
        "_coding",
        "_fields",
        "_has_persistence",
        "_head",
        "_host",
        "_is_odd",
        "_length",
        "_nominated",
        "_ours",
        "_state",
        "_trust",
        "_upgrade",
    )

    def __init__(self, trust: int) -> None:
        self._trust = trust
        self._state = IDLE
        self._head = 0
        self._fields: Fields = []
        self._reset()

    def _reset(self) -> None:
        """Ready for the fields of another head."""
        self._fields.clear()
        self._host: bytes | None = None
        self._length: bytes | None = None
        self._is_odd = False
        self._has_persistence = False
        self._coding = False
        self._nominated: bytes | None = None
        self._upgrade = b""
        self._ours: dict[bytes, bytes] | None = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, as llhttp found it. Runs once per field of every message."""
        if name in USUAL:
            fields = self._fields
            fields.append(name)
            fields.append(COLON)
            fields.append(value)
            fields.append(CRLF)
        else:
            self._special(name, value)

    def _special(self, name: bytes, value: bytes) -> None:
        """Fields with a rule of their own, and names that no table knows."""
        kind = RULES.get(name)
        if kind == CONNECTION and value in _PERSISTENCE:
            self._has_persistence = True
            return  # llhttp keeps count of it
        if kind == HOST and self._host is None:
            self._host = value = value.rstrip(_BLANKS)
        elif kind == LENGTH and self._length is None:
            self._length = value = value.rstrip(_BLANKS)
        else:
            self._unusual(name, value)
            return
        self._fields.extend((name, COLON, value, CRLF))

    def _unusual(self, name: bytes, value: bytes) -> None:
        kind = guard.kind_of(name)
        if kind == PLAIN:
            if name[0] in b"mMlL" and self._trust != KEEP and guard.is_ours(name):
                if self._trust == COLLECT:
                    self._is_odd = True
                    self._ours = self._ours or {}
                    self._ours[name.lower()] = value
                return
            self._fields.extend((name, COLON, value, CRLF))
            return
        self._is_odd = True
        value = value.rstrip(b" \t")
        if kind == HOST:
            if self._host is not None:
                raise PeerError("two_hosts", "two Host fields")
            self._host = value
            self._fields.extend((name, COLON, value, CRLF))
        elif kind == LENGTH:
            if self._length is not None:
                raise PeerError("bad_length", "two Content-Length fields")
            self._length = value
            self._fields.extend((name, COLON, value, CRLF))
        elif kind == CODING:
            guard.check_coding(value, repeated=self._coding)
            self._coding = True
            self._fields.extend((name, COLON, b"chunked", CRLF))
        elif kind == CONNECTION:
            word = value.lower()
            if word not in _PERSISTENCE:
                self._nominated = word if not self._nominated else self._nominated + b"," + word
        elif kind == guard.UPGRADE:
            self._upgrade = value.lower() if not self._upgrade else b"two"
        elif kind == guard.TE and b"trailers" in value.lower():
            self._fields.extend((name, COLON, b"trailers", CRLF))

    def _take_trailers(self) -> Fields | None:
        fields = self._fields[:]
        self._reset()
        return guard.clean_trailers(fields) if fields else None


def request_head(request: Request, extra: Fields) -> bytes:
    """The bytes of a request head. `extra` fields come last."""
    if request.upgrade and request.upgrade != b"connect":
        extra = [*extra, b"Connection: Upgrade\r\nUpgrade: ", request.upgrade, CRLF]
    return b"".join(
        [request.method, b" ", request.target, b" HTTP/1.1\r\n", *request.fields, *extra, CRLF]
    )


def response_head(response: Response, extra: Fields) -> bytes:
    """The bytes of a response head. `extra` fields come last."""
    reason, line = _STATUS_LINES.get(response.status, _NO_REASON)
    if reason != response.reason or not line:
        line = b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason)
    if response.upgrade and response.upgrade != b"connect":
        extra = [*extra, b"Connection: Upgrade\r\nUpgrade: ", response.upgrade, CRLF]
    return b"".join([line, *response.fields, *extra, CRLF])


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Fields | None) -> bytes:
    """The end of a chunked body with its trailers."""
    if not trailers:
        return LAST_CHUNK
    return b"".join((b"0\r\n", *trailers, CRLF))
