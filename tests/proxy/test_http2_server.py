"""HTTP/2 servers that are applications: what of theirs reaches a client, and what ends them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.errors import PeerError
from proxy.exchange import Exchange
from proxy.http1 import Request2
from proxy.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STRANGER,
    WINDOW_UPDATE,
    frame,
)
from proxy.server_streams import ServerStreams
from tests.proxy.frame_floods import FLOODS
from tests.proxy.frame_scripts import OPEN, SCRIPTS, long, setting, text
from tests.proxy.memory import MemoryTransport
from tests.proxy.test_http2 import Client, Here
from tests.proxy.test_http2_stranger import Stranger

OK = b"\x88"
PARTS = [part for script in SCRIPTS + FLOODS[:1] for part in script.frames][:1500]


class Server:
    """Our end of a connection to an application that the test plays."""

    def __init__(self) -> None:
        self.here = Here()
        self.transport = MemoryTransport()
        self.refused: list[PeerError] = []
        self.streams = ServerStreams(self.transport, self, 0.0, STRANGER)
        self.send(frame(SETTINGS, 0, 0, b""))

    def streams_lost(self, streams: Any, error: Any) -> None: ...

    def streams_refused(self, streams: Any, error: PeerError) -> None:
        self.refused.append(error)

    def ask(self) -> tuple[Exchange, Client]:
        client = Client()
        request = Request2(b"GET", b"/", [b"host", b": ", b"web", b"\r\n"])
        exchange = Exchange(client, self.here, request, 0.0)
        exchange.attach(self.streams.open_stream())
        return exchange, client

    def send(self, *frames: bytes) -> None:
        self.streams.data_received(b"".join(frames))


def head(block: bytes, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, 1, block)


def data(payload: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, 1, payload)


LENGTH = text(b"content-length", b"4")


@pytest.mark.parametrize(
    "frames",
    [
        [head(text(b"a", b"b"))],
        [head(b"\x86" + OK)],
        [head(OK + b"\x82")],
        [head(OK + OK)],
        [head(text(b":status", b"abc"))],
        [head(text(b":status", b"99"))],
        [head(text(b":status", b"101"))],
        [head(OK + text(b"X-Up", b"1"))],
        [head(OK + text(b"connection", b"close"))],
        [head(OK + text(b"transfer-encoding", b"chunked"))],
        [head(OK + text(b"a", b"b\r\nc: d"))],
        [head(OK + text(b"content-length", b"x"))],
        [head(OK + LENGTH + LENGTH)],
        [head(OK + LENGTH, OPEN)],
        [head(text(b":status", b"103"), OPEN)],
        [data(b"early")],
    ],
)
def test_a_response_that_is_none_is_a_bad_gateway(frames: list[bytes]) -> None:
    server = Server()
    _exchange, client = server.ask()
    server.transport.written.clear()

    server.send(*frames)

    assert client.response is None
    assert server.here.lost_for == ["bad-response"]
    told = b"".join(server.transport.written)
    assert frame(RST_STREAM, 0, 1, long(PROTOCOL_ERROR)) in told
    assert not server.streams.is_closing


@pytest.mark.parametrize(
    "frames",
    [
        [head(OK + LENGTH), data(b"12345")],
        [head(OK + LENGTH), data(b"123", END_STREAM)],
        [head(OK), head(text(b"a", b"b"))],
        [head(OK), head(OK, OPEN)],
        [head(OK), head(text(b"Upper", b"b"), OPEN)],
        [head(OK), frame(WINDOW_UPDATE, 0, 1, long(2**31 - 1))],
    ],
)
def test_a_response_that_goes_wrong_is_cut(frames: list[bytes]) -> None:
    server = Server()
    _, client = server.ask()

    server.send(*frames)

    assert client.response is not None
    assert client.was_cut
    assert not client.ended


@pytest.mark.parametrize(
    "frames",
    [
        [frame(PUSH_PROMISE, END_HEADERS, 1, long(2) + OK)],
        [frame(HEADERS, OPEN, 2, OK)],
        [frame(HEADERS, OPEN, 3, OK)],
        [frame(DATA, 0, 0, b"x")],
        [frame(SETTINGS, 0, 0, b"123")],
        [setting(4, 2**31)],
        [head(b"\xff\x7f")],
        [frame(PING, 0, 0, bytes(8))] * 1000,
        [frame(SETTINGS, 0, 0, b"")] * 1000,
        [frame(WINDOW_UPDATE, 0, 0, long(1))] * 1000,
        [head(OK), *[data(b"")] * 1000],
    ],
)
def test_a_server_that_breaks_its_connection_fails_its_requests(frames: list[bytes]) -> None:
    server = Server()
    exchange, _client = server.ask()

    server.send(*frames)

    assert len(server.refused) == 1
    assert exchange.is_over or server.here.lost_for == ["bad-response"]
    assert not server.streams.has_room
    assert frame(GOAWAY, 0, 0, b"")[3:4] in b"".join(server.transport.written)


def test_streams_that_were_never_looked_at_go_elsewhere() -> None:
    server = Server()
    for _ in range(3):
        server.ask()

    server.send(frame(RST_STREAM, 0, 1, long(REFUSED_STREAM)))
    server.send(frame(GOAWAY, 0, 0, long(3) + long(0)))

    assert server.here.lost_for == ["refused-stream", "refused-stream"]
    assert list(server.streams.streams) == [3]
    assert not server.streams.has_room


def test_the_servers_limit_of_streams_is_kept() -> None:
    server = Server()
    server.send(setting(3, 2))

    server.ask()
    assert server.streams.has_room
    server.ask()

    assert not server.streams.has_room


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=12), st.binary(max_size=20), st.integers(0, 200))
def test_spliced_frames_are_read_or_refused_by_both_roles(
    parts: list[bytes], noise: bytes, at: int
) -> None:
    raw = b"".join(parts)
    raw = raw[:at] + noise + raw[at:]
    server, stranger = Server(), Stranger()
    exchanges = [server.ask()[0] for _ in range(3)]

    server.send(raw)
    stranger.send(raw)

    server.streams.connection_lost(None)
    stranger.server.connection_lost(None)
    assert all(exchange.is_over for exchange in stranger.there.exchanges)
    assert not any(exchange.server for exchange in exchanges)
