"""HTTP/1 both ways: the same in any pieces, and what we write is plain to a strict reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mesh.core.errors import PeerError
from proxy.guard import Fields, get
from proxy.http1 import chunk, last_chunk, request_head, response_head
from proxy.http1_response import ResponseReader
from tests.proxy import strict
from tests.proxy.sinks import Message, Sink
from tests.proxy.sinks import read_requests as feed_requests
from tests.proxy.smuggling import ATTACKS

METHODS = (b"GET", b"HEAD", b"CONNECT", b"POST")
Story = tuple[list[Any], str, bytes]


def read_requests(data: bytes) -> None:
    """The first byte is the size of a piece, the rest comes from a client."""
    step, raw = data[:1], data[1:]
    whole, messages = _requests(raw, 0)
    pieces, _ = _requests(raw, 1 + step[0] % 64 if step else 1)

    assert whole[1] == pieces[1], (whole, pieces)
    told = min(len(whole[0]), len(pieces[0]))  # refused in one piece, less may have been told
    assert whole[0][:told] == pieces[0][:told]
    assert whole[1] or whole == pieces
    for message in messages:
        if message.ended:
            _check_forwarded(message)


def _requests(data: bytes, step: int) -> tuple[Story, list[Message]]:
    sink = Sink()
    status = 0
    try:
        feed_requests(data, step=step, into=sink)
    except PeerError as refused:
        status = refused.status
    assert not status or 400 <= status <= 505
    told = [(m.head.method, m.head.target, m.head.fields, m.body) for m in sink.messages if m.ended]
    # Where several rules are broken, pieces decide which is seen first.
    return (told, "refused" if status else "", b"" if status else sink.tunnel), sink.messages


def _check_forwarded(message: Message) -> None:
    """One request goes out, whatever the bytes were that came in."""
    head, body = message.head, message.body
    extra: Fields = [] if head.host else [b"Host", b": ", b"a", b"\r\n"]
    if not head.host and get(head.fields, b"host") is not None:
        extra = []
    written = request_head(head, extra)
    if head.length is None:
        written += (chunk(body) if body else b"") + last_chunk(message.trailers)
    else:
        assert len(body) == head.length
        written += body
    arrived, rest = strict.read(written)
    assert arrived is not None, written
    assert rest == b"", written
    assert (arrived.method, arrived.target, arrived.body) == (head.method, head.target, body)


def read_responses(data: bytes) -> None:
    """The first byte is the size of a piece, the second the method, the rest a server's."""
    if len(data) < 2:
        return
    method, raw = METHODS[data[1] % len(METHODS)], data[2:]
    whole = _response(raw, method, 0)
    pieces = _response(raw, method, 1 + data[0] % 64)

    assert whole[1] == pieces[1], (whole, pieces)
    if not whole[1]:
        assert whole == pieces
    for status, reason, fields, _ in whole[0]:
        for line in (b"x: " + reason, *(b"%b: %b" % f for f in fields)):
            strict.read_field(line)
        assert 100 <= status <= 999


def _response(data: bytes, method: bytes, step: int) -> Story:
    sink = Sink()
    reader = sink.reader = ResponseReader()
    reader.expect(method, sink)
    status = 0
    try:
        for at in range(0, len(data), step or len(data) or 1):
            reader.feed(data[at : at + (step or len(data))])
        reader.eof()
    except PeerError as refused:
        status = refused.status
    assert status in (0, 502)
    told = []
    for message in sink.messages:
        if message.ended:
            head = message.head
            assert response_head(head, []).endswith(b"\r\n\r\n")
            fields = list(zip(head.fields[0::4], head.fields[2::4], strict=True))
            told.append((head.status, head.reason, fields, message.body))
    return told[:1], "refused" if status else "", b"" if status else sink.tunnel


def request_seeds() -> Iterator[bytes]:
    for attack in ATTACKS:
        if len(attack.raw) < 2000:
            yield b"\x10" + attack.raw


def response_seeds() -> Iterator[bytes]:
    bodies = (
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"\r\nhello",
        b"Connection: close\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
    )
    lines = (
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 404 Not Found\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 304 \r\n",
    )
    for number in range(len(METHODS)):
        for line in lines:
            for body in bodies:
                yield bytes((7, number)) + line + body
