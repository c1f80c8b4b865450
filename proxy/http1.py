"""HTTP/1 heads: what a request and a response are, how both are written, and the half of
reading that both share. Pure.

The readers are `http1_request` and `http1_response`. A head leaves them checked, stripped of
hop-by-hop fields and ready to be joined again: nothing is forwarded as it came.
A head's fields are one flat list `name, b": ", value, b"\\r\\n", ...` in the order and case of
the sender: writing a head is a single join. What llhttp leaves open is decided in `guard`.
"""

from __future__ import annotations

from typing import Final

from proxy import guard
from proxy.guard import Fields

PIECE: Final = 16 * 1024  # bytes parsed at a time where several messages may hide
COLON: Final = b": "
CRLF: Final = b"\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CHUNKED: Final = (b"Transfer-Encoding", COLON, b"chunked", CRLF)

IDLE, HEAD, BODY = range(3)
# What becomes of fields that only the mesh may send: forgotten, set aside, or passed on.
STRIP, COLLECT, KEEP = range(3)


class Request:
    """One request head. `length` is None for chunked, else bytes (0: no body).

    `upgrade` is the protocol asked for (`b"connect"` for CONNECT), else empty.
    """

    __slots__ = (
        "fields",
        "has_length",
        "host",
        "keep_alive",
        "length",
        "method",
        "minor",
        "ours",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, host: bytes, fields: Fields) -> None:
        self.method = method
        self.target = target
        self.host = host
        self.fields = fields
        self.minor = 1
        self.length: int | None = 0
        self.has_length = False
        self.keep_alive = True
        self.upgrade = b""
        self.ours: dict[bytes, bytes] | None = None  # what a trusted peer's proxy said


class Response:
    """One response head. `length` is None when chunked or delimited by the end (`until_end`)."""

    __slots__ = ("fields", "keep_alive", "length", "reason", "status", "until_end", "upgrade")

    def __init__(self, status: int, reason: bytes, fields: Fields) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.length: int | None = 0
        self.until_end = False
        self.keep_alive = True
        self.upgrade = b""


class HeadReader:
    """What both directions share: the fields of one head, its budget, its trailers."""

    __slots__ = (
        "_fields",
        "_framing",
        "_head",
        "_nominated",
        "_ours",
        "_state",
        "_trust",
        "_upgrade",
    )

    _fields: Fields
    _trust: int

    def _begin(self) -> None:
        self._state = HEAD
        self._fields = []
        self._framing: list[tuple[int, bytes]] | None = None
        self._ours: dict[bytes, bytes] | None = None
        self._nominated: bytes | None = None
        self._upgrade = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name in guard.USUAL:
            self._fields += (name, COLON, value, CRLF)
        else:
            self._unusual(name, value)

    def _unusual(self, name: bytes, value: bytes) -> None:
        """Everything with a rule of its own, and names that the table does not know."""
        kind = guard.kind_of(name)
        if kind == guard.PLAIN:
            if name[0] in b"mMlL" and self._trust != KEEP and guard.is_ours(name):
                if self._trust == COLLECT:
                    self._ours = self._ours or {}
                    self._ours[name.lower()] = value
                return
            self._fields += (name, COLON, value, CRLF)
            return
        if kind == guard.DROPPED:
            return
        value = value.rstrip(b" \t")
        if kind == guard.HOST:
            self._fields += (name, COLON, value, CRLF)
        elif kind == guard.CONNECTION:
            word = value.lower()
            if word != b"keep-alive" and word != b"close":
                self._nominated = word if not self._nominated else self._nominated + b"," + word
            return
        elif kind == guard.UPGRADE:
            self._upgrade = value.lower() if not self._upgrade else b"two"
            return
        elif kind == guard.TE:
            if b"trailers" in value.lower():
                self._fields += (name, COLON, b"trailers", CRLF)
            return
        elif kind == guard.LENGTH:
            self._fields += (name, COLON, value, CRLF)
        elif kind == guard.CODING:
            self._fields += (name, COLON, b"chunked", CRLF)
        if self._framing is None:
            self._framing = []
        self._framing.append((kind, value))

    def _take_trailers(self) -> Fields | None:
        fields, self._fields = self._fields, []
        return guard.clean_trailers(fields) if fields else None


def request_head(request: Request, extra: Fields) -> bytes:
    """The bytes of a request head. `extra` fields come last."""
    parts = [request.method, b" ", request.target, b" HTTP/1.1\r\n", *request.fields, *extra]
    if request.upgrade and request.upgrade != b"connect":
        parts += (b"Connection: Upgrade\r\nUpgrade: ", request.upgrade, CRLF)
    parts.append(CRLF)
    return b"".join(parts)


def response_head(response: Response, extra: Fields) -> bytes:
    """The bytes of a response head. `extra` fields come last."""
    parts = [b"HTTP/1.1 %d " % response.status, response.reason, CRLF, *response.fields, *extra]
    if response.upgrade and response.upgrade != b"connect":
        parts += (b"Connection: Upgrade\r\nUpgrade: ", response.upgrade, CRLF)
    parts.append(CRLF)
    return b"".join(parts)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Fields | None) -> bytes:
    """The end of a chunked body with its trailers."""
    if not trailers:
        return LAST_CHUNK
    return b"".join((b"0\r\n", *trailers, CRLF))
