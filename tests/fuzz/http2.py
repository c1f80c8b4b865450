"""HTTP/2 in both roles, and HPACK: bytes as they come, or frames made of them.

The first byte decides: whether the far end is a stranger or a proxy of ours, whether what
follows is raw or a list of frames, and in which pieces it comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack

import hpack

from mesh.core.errors import PeerError
from proxy import heads2_app
from proxy.client_connection import Keeper
from proxy.client_streams import ClientStreams
from proxy.exchange import Exchange
from proxy.guard import get
from proxy.hpack import TABLE, TOO_LARGE, Decoder, Encoder
from proxy.http1 import Request, Request2, Response, last_chunk, request_head
from proxy.http2_frames import (
    GOAWAY,
    HEADER,
    PEER,
    PREFACE,
    SETTINGS,
    STRANGER,
    Limits,
    frame,
)
from proxy.server_streams import ServerStreams
from tests.proxy import strict
from tests.proxy.frame_floods import FLOODS
from tests.proxy.frame_scripts import HEAD, OPEN, SCRIPTS, head, text
from tests.proxy.memory import MemoryTransport, NoLoop
from tests.proxy.test_http2 import Client, Here, Owner, There

GREETING = PREFACE + frame(SETTINGS, 0, 0, b"")


def _open(data: bytes) -> tuple[Limits, bytes, int]:
    """How to read an input: the far end's limits, its bytes, and the size of pieces."""
    first, raw = data[0], data[1:]
    if first & 2:
        raw = b"".join(_frames(raw))
    return PEER if first & 1 else STRANGER, raw, 1 + (first >> 2)


def _frames(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        kind, flags, number, size = data[at : at + 4]
        yield frame(kind % 12, flags, number % 16, data[at + 4 : at + 4 + size])
        at += 4 + size


def _feed(end: ClientStreams | ServerStreams, data: bytes, step: int) -> None:
    for at in range(0, len(data), step or len(data) or 1):
        end.data_received(data[at : at + (step or len(data))])


def serve(data: bytes) -> None:
    """A client speaks: what is read of it is the same in any pieces, and plain to forward."""
    if not data:
        return
    limits, raw, step = _open(data)
    whole, exchanges = _served(limits, raw, 0)
    pieces, _ = _served(limits, raw, step)

    assert whole == pieces
    for exchange in exchanges:
        _check_forwarded(exchange.request)


def _served(limits: Limits, raw: bytes, step: int) -> tuple[object, list[Exchange]]:
    there, transport = There(_answer), MemoryTransport()
    server = ClientStreams(transport, there, Keeper(NoLoop()), limits)
    server.data_received(GREETING)
    _feed(server, raw, step)
    sent = b"".join(transport.written)
    server.connection_lost(None)
    assert all(exchange.is_over for exchange in there.exchanges)
    heads = [(e.request.method, e.request.target, e.request.fields) for e in there.exchanges]
    return (heads, _ends(sent)), there.exchanges


def _answer(exchange: Exchange) -> None:
    """Some are answered at once, some never."""
    request = exchange.request
    if request.upgrade:
        return
    if request.method == b"GET":
        response = Response(200, b"OK", [])
        response.length = 2
        exchange.on_response(response)
        exchange.on_body(b"ok")
        exchange.on_end(None)
    elif request.method == b"DELETE":
        exchange.server_blocked()


def _ends(sent: bytes) -> list[bytes]:
    """The GOAWAY frames among what we sent."""
    at, found = 0, []
    while at < len(sent):
        high, low, kind, _, _ = HEADER.unpack_from(sent, at)
        stop = at + 9 + (high << 8 | low)
        if kind == GOAWAY:
            found.append(sent[at + 9 : stop])
        at = stop
    assert at == len(sent)
    return found


def _check_forwarded(request: Request) -> None:
    """To an application as HTTP/2 or as HTTP/1: one request, with nothing hidden in it."""
    if request.is_http2:
        pairs = heads2_app.request_pairs(request, [])
        for name, value in pairs:
            assert name == name.lower(), name
            strict.read_field(name.removeprefix(b":") + b": " + value)
        assert sum(name == b":authority" for name, _ in pairs) <= 1
        return
    written = request_head(request, [])
    if request.length is None:
        written += last_chunk(None)
    elif request.length:
        return  # its body is as long as it said, which the streams see to
    if get(request.fields, b"host") is None:
        return  # the pipeline adds one
    arrived, rest = strict.read(written)
    assert arrived is not None, written
    assert rest == b"", written
    assert (arrived.method, arrived.target) == (request.method, request.target)


def ask(data: bytes) -> None:
    """A server speaks: no client gets an end without a response, or two of them."""
    if not data:
        return
    limits, raw, step = _open(data)
    assert _asked(limits, raw, 0) == _asked(limits, raw, step)


def _asked(limits: Limits, raw: bytes, step: int) -> object:
    here, transport = Here(), MemoryTransport()
    streams = ServerStreams(transport, Owner(), 0.0, limits)
    streams.data_received(frame(SETTINGS, 0, 0, b""))
    clients = []
    for method in (b"GET", b"HEAD", b"POST"):
        request = Request2(method, b"/", [b"host", b": ", b"web", b"\r\n"])
        client = Client()
        exchange = Exchange(client, here, request, 0.0)
        exchange.attach(streams.open_stream())
        clients.append((client, exchange))
    _feed(streams, raw, step)
    streams.connection_lost(None)
    for client, exchange in clients:
        assert exchange.server is None
        if client.ended:
            assert client.response is not None
            assert client.response.status >= 200
    told = [(c.ended, c.response and (c.response.status, c.response.fields)) for c, _ in clients]
    return told


def decode(data: bytes) -> None:
    """Blocks of one connection, each behind its size: as the hpack package reads them."""
    ours, strictly = Decoder(), Decoder(is_strict=True)
    theirs = hpack.Decoder(max_header_list_size=1 << 30)
    theirs.max_allowed_table_size = TABLE
    theirs.header_table_size = TABLE
    at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big") % 2048
        block = data[at + 2 : at + 2 + size]
        at += 2 + size
        try:
            strict_entries = strictly.decode(block).entries
        except PeerError:
            return
        wanted = [(bytes(n), bytes(v)) for n, v in theirs.decode(block, raw=True)]
        if any(entry[0] == TOO_LARGE for entry in strict_entries):
            return
        assert [(e[1], e[2]) for e in strict_entries] == wanted
        try:
            entries = ours.decode(block).entries
        except PeerError:
            return
        assert [(e[1], e[2]) for e in entries] == wanted
        _check_encoded(wanted)


def _check_encoded(pairs: list[tuple[bytes, bytes]]) -> None:
    encoder, decoder = Encoder(), Decoder(is_strict=True)
    encoder.resize(TABLE)
    for _ in range(3):
        again = [(e[1], e[2]) for e in decoder.decode(encoder.encode(pairs)).entries]
        assert again == pairs or len(pairs) > 100


def server_seeds() -> Iterator[bytes]:
    for script in SCRIPTS:
        raw = b"".join(script.frames)
        if len(raw) < 3000:
            yield b"\x1c" + raw
            yield b"\x1d" + raw
    for script in FLOODS:
        yield b"\x5c" + b"".join(script.frames)[:3000]


def client_seeds() -> Iterator[bytes]:
    ok, length = b"\x88", text(b"content-length", b"4")
    answers = (
        head(1, ok + length, 4) + frame(0, 1, 1, b"four"),
        head(1, ok, OPEN) + head(3, ok, OPEN) + head(5, ok, 4) + frame(0, 1, 5, b"x"),
        head(1, text(b":status", b"103"), 4) + head(1, ok, 4) + head(1, text(b"a", b"b")),
        frame(3, 0, 1, b"\0\0\0\x07") + frame(7, 0, 0, bytes(8)),
        head(1, ok + text(b"grpc-status", b"0"), OPEN),
    )
    for raw in answers:
        yield b"\x1c" + raw
        yield b"\x1d" + raw
    yield from server_seeds()


def block_seeds() -> Iterator[bytes]:
    blocks = [HEAD, HEAD + text(b"x-test", b"1"), b"\x88", b"\x20" + HEAD]
    blocks += [
        hpack.Encoder().encode([(b"x-a", b"some text"), (b"cookie", b"a" * 40)], huffman=h)
        for h in (True, False)
    ]
    for block in blocks:
        yield pack(">H", len(block)) + block
    yield b"".join(pack(">H", len(block)) + block for block in blocks)
    for script in SCRIPTS:
        for part in script.frames:
            if part[3] == 1 and len(part) < 500:
                yield pack(">H", len(part) - 9) + part[9:]
