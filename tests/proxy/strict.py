"""A reader of HTTP/1 requests that forgives nothing: what a proxy forwards must be plain.

Independent of our own parser and of llhttp: regular expressions over RFC 9112's grammar, without
anything that a recipient may accept out of kindness.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(rb"([A-Z][A-Z-]{0,23}) ([!-~]+) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\t -~\x80-\xff]*)")
_CHUNK = re.compile(rb"([1-9a-f][0-9a-f]*)\r\n")
_BANNED = (b"content_length", b"transfer_encoding", b"proxy-connection", b"keep-alive")


class DesyncError(Exception):
    """Bytes that two readers could understand differently."""


@dataclass
class Arrived:
    """One request as it arrived."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


def read(data: bytes) -> tuple[Arrived | None, bytes]:
    """The first request of `data` and what follows; None while it is incomplete."""
    request = read_head(data)
    if request is None:
        return None, data
    body, rest = _body(request, data.partition(b"\r\n\r\n")[2])
    if body is None:
        return None, data
    request.body = body
    return request, rest


def read_head(data: bytes) -> Arrived | None:
    """The head that `data` begins with; None while it is incomplete."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None
    if b"\n" in head.replace(b"\r\n", b"") or b"\r" in head.replace(b"\r\n", b""):
        raise DesyncError(f"a bare line end in {head!r}")
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise DesyncError(f"no request line: {first!r}")
    return Arrived(line[1], line[2], [read_field(text) for text in lines], b"")


def read_field(line: bytes) -> tuple[bytes, bytes]:
    """One field line. Raises DesyncError."""
    found = _FIELD.fullmatch(line)
    if found is None or found[1].lower() in _BANNED:
        raise DesyncError(f"no field: {line!r}")
    return found[1], found[2] or b""


def _body(request: Arrived, rest: bytes) -> tuple[bytes | None, bytes]:
    lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
    if len(request.values(b"host")) != 1:
        raise DesyncError("not one Host")
    if len(lengths) + len(codings) > 1:
        raise DesyncError(f"two framings: {lengths} {codings}")
    if codings:
        if codings != [b"chunked"]:
            raise DesyncError(f"coding {codings}")
        return read_chunks(rest)
    if not lengths:
        return b"", rest
    if not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise DesyncError(f"length {lengths}")
    size = int(lengths[0])
    return (rest[:size], rest[size:]) if len(rest) >= size else (None, rest)


def read_chunks(rest: bytes) -> tuple[bytes | None, bytes]:
    """A chunked body and what follows; None while it is incomplete."""
    body = b""
    while True:
        if rest.startswith(b"0\r\n"):
            trailers, end, rest = rest[1:].partition(b"\r\n\r\n")
            for line in trailers.split(b"\r\n")[1:]:
                read_field(line)
            return (body, rest) if end else (None, rest)
        size = _CHUNK.match(rest)
        if size is None:
            if b"\r\n" in rest or len(rest) > 16:
                raise DesyncError(f"no chunk: {rest[:40]!r}")
            return None, rest
        stop = size.end() + int(size[1], 16)
        if len(rest) < stop + 2:
            return None, rest
        if rest[stop : stop + 2] != b"\r\n":
            raise DesyncError(f"a chunk that does not end: {rest[:40]!r}")
        body += rest[size.end() : stop]
        rest = rest[stop + 2 :]
