"""Heads of HTTP/2 streams as applications and strangers send and expect them (RFC 9113 §8). Pure.

What comes is held to every rule of §8.2 and §8.3; what goes has lower-case names, `:authority`
in place of Host, and nothing that means one connection.
"""

from __future__ import annotations

from typing import Final

from mesh.core.errors import PeerError
from proxy import guard
from proxy.guard import HOST, LENGTH, OURS, PLAIN, TE, Fields
from proxy.heads2 import REASONS, STATUSES, Heads, Pairs
from proxy.hpack import PSEUDO, TOO_LARGE, Block
from proxy.http1 import CHUNKED, COLON, CRLF, STRIP, Request, Request2, Response

_REQUEST_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_SCHEMES: Final = (b"http", b"https")
_NOT_SENT: Final = frozenset((b"transfer-encoding", b"connection", b"upgrade", b"keep-alive"))
_NO_LENGTH: Final = frozenset((*_NOT_SENT, b"content-length"))  # in the answer to CONNECT


# What a block was read as; the first two plus 1 where it ended its stream.
_REQUEST: Final = 0
_RESPONSE: Final = 2
_TRAILERS: Final = 4


def _again(known: Request) -> Request:
    """The same request as one that was read before."""
    request = Request2(known.method, known.target, known.fields[:])
    request.host = known.host
    request.length = known.length
    request.upgrade = known.upgrade
    request.ours = known.ours
    return request


def _once_more(known: Response) -> Response:
    """The same response as one that was read before."""
    response = type(known)(known.status, known.reason, known.fields[:])
    response.framing = known.framing
    response.length = known.length
    return response


class AppHeads(Heads):
    """Entries of one connection's header blocks -> heads; `bad_field` is a malformed message."""

    __slots__ = ()

    def __init__(self, *, trust: int = STRIP) -> None:
        super().__init__(trust=trust)

    def read_request(self, block: Block, end: bool) -> Request:
        """One request head. Raises PeerError."""
        key, known = block.memo
        if key == _REQUEST + end:
            return _again(known)
        request = self._read_request(block, end)
        block.memo = _REQUEST + end, request
        return _again(request)

    def _read_request(self, block: Block, end: bool) -> Request2:
        pseudo = self._collect(block)
        if not pseudo.keys() <= _REQUEST_PSEUDO:
            raise PeerError("bad_field", "a pseudo-field that requests do not have")
        method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        request = Request2(method, target, self._fields[:])
        self._place_host(request, pseudo.get(b":authority"))
        if method == b"CONNECT":
            self._connect(request, pseudo)
        else:
            if pseudo.get(b":scheme") not in _SCHEMES or not target:
                raise PeerError("bad_field", "a request without :scheme or :path")
            if target[:1] != b"/" and (target != b"*" or method != b"OPTIONS"):
                raise PeerError("bad_target", "a :path that is none")
            if guard.HASH in target or guard.SPACE in target:
                raise PeerError("bad_target", "a space or fragment in :path")
            if len(target) > guard.MAX_LINE:
                raise PeerError("target_too_long", "request target too long", status=414)
            request.length = self._length_of(end)
        if not method.isalpha() and not guard.TOKEN.fullmatch(method):
            raise PeerError("bad_method", "a method that is no token")
        if len(request.fields) > guard.MAX_FIELDS * 4:
            raise PeerError("too_many_fields", "too many header fields", status=431)
        if request.length is None:
            request.fields += CHUNKED
        request.ours = self._ours
        self._reset()
        return request

    def _place_host(self, request: Request, authority: bytes | None) -> None:
        """`:authority` becomes Host, and must agree with it (RFC 9113 §8.3.1)."""
        host = self._host
        if authority is not None:
            if host is None:
                request.fields[:0] = (b"host", COLON, authority, CRLF)
            elif host.lower() != authority.lower():
                raise PeerError("host_conflict", "Host differs from :authority")
            host = authority
        if host:
            if host != self._known_host:
                guard.check_host(host, 1)
                self._known_host = host
            request.host = host

    def _connect(self, request: Request, pseudo: dict[bytes, bytes]) -> None:
        """CONNECT has an authority and nothing else (RFC 9113 §8.5)."""
        if b":scheme" in pseudo or b":path" in pseudo or b":authority" not in pseudo:
            raise PeerError("bad_field", "CONNECT has :authority alone")
        if self._length is not None:
            raise PeerError("upgrade_with_body", "a tunnel with a body")
        guard.check_target(b"CONNECT", request.host, request.host)
        request.target = request.host
        request.upgrade = b"connect"

    def read_response(self, block: Block, end: bool, *, is_head: bool) -> Response:
        """One response head. Raises PeerError."""
        key, known = block.memo
        if key == _RESPONSE + end and not is_head:
            return _once_more(known)
        response = self._read_response(block, end, is_head=is_head)
        if is_head:
            return response
        block.memo = _RESPONSE + end, response
        return _once_more(response)

    def _read_response(self, block: Block, end: bool, *, is_head: bool) -> Response:
        pseudo = self._collect(block)
        status = STATUSES.get(pseudo.get(b":status", b""))
        if status is None or len(pseudo) != 1 or status == 101:
            raise PeerError("bad_response", "pseudo-fields that no response has", status=502)
        response = self._response(status, REASONS.get(status, b""), end, is_head=is_head)
        self._reset()
        return response

    def read_trailers(self, block: Block) -> Fields | None:
        """The fields behind a body."""
        key, known = block.memo
        if key == _TRAILERS:
            again: Fields = known[:]
            return again
        if self._collect(block):
            raise PeerError("bad_field", "pseudo-fields in trailers")
        fields = self._fields[:]
        self._reset()
        cleaned = guard.clean_trailers(fields) if fields else None
        if cleaned is not None:
            block.memo = _TRAILERS, cleaned[:]
        return cleaned

    def _collect(self, block: Block) -> dict[bytes, bytes]:
        fields, special = self._fields, self._special
        pseudo: dict[bytes, bytes] = {}
        is_done = False
        for kind, name, value, flat in block.entries:
            if kind == PSEUDO:
                if is_done or name in pseudo:
                    raise PeerError("bad_field", "pseudo-fields come first, and once")
                pseudo[name] = value
                continue
            is_done = True
            if kind == PLAIN:
                fields += flat
            elif kind in (HOST, LENGTH, TE, OURS):
                special(name, value)
            elif kind == TOO_LARGE:
                raise PeerError("head_too_large", "header list too large", status=431)
            else:
                raise PeerError("bad_field", "a field that must not be in HTTP/2")
        return pseudo


def request_pairs(request: Request, extra: Fields) -> Pairs:
    """A request as an application gets it."""
    pairs: Pairs = [
        (b":method", request.method),
        (b":scheme", b"http"),
        (b":path", request.target),
    ]
    fields = request.fields + extra if extra else request.fields
    for i in range(0, len(fields), 4):
        name = fields[i].lower()
        if name == b"host":
            pairs.insert(3, (b":authority", fields[i + 2]))
        elif name not in _NOT_SENT:
            pairs.append((name, fields[i + 2]))
    return pairs


def response_pairs(response: Response) -> Pairs:
    """A response as an application gets it."""
    not_sent = _NO_LENGTH if response.upgrade else _NOT_SENT
    fields = response.fields
    pairs: Pairs = [(b":status", b"%d" % response.status)]
    for i in range(0, len(fields), 4):
        name = fields[i].lower()
        if name not in not_sent:
            pairs.append((name, fields[i + 2]))
    return pairs


def trailer_pairs(trailers: Fields) -> Pairs:
    """Trailers as an application gets them."""
    return [(trailers[i].lower(), trailers[i + 2]) for i in range(0, len(trailers), 4)]
