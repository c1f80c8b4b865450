"""Both roles of HTTP/2 back to back in memory, whole and byte by byte, and against abuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import http2_frames as http2
from proxy.client_connection import Keeper
from proxy.client_streams import ClientStreams
from proxy.exchange import Exchange, Pipeline
from proxy.guard import Fields
from proxy.http1 import CHUNKS, UNTIL_END, Request, Response
from proxy.http2_frames import frame
from proxy.mirror import Nobody
from proxy.server_streams import ServerStreams
from tests.proxy.memory import MemoryTransport, NoLoop, connect

GET = Request(b"GET", b"/a", [b"Host", b": ", b"web", b"\r\n", b"X-Case", b": ", b"Kept", b"\r\n"])


class Client(Nobody):
    """A `ClientSide` that remembers, for requests that a test makes."""

    def __init__(self) -> None:
        self.response: Response | None = None
        self.body = bytearray()
        self.trailers: Fields | None = None
        self.ended = False
        self.was_cut = False
        self.paused = False
        self.flushed = 0

    def send_response(self, response: Response) -> None:
        self.response = response

    def send_body(self, data: bytes) -> None:
        self.body += data

    def send_end(self, trailers: Fields | None) -> None:
        self.ended, self.trailers = True, trailers

    def flush(self) -> None:
        self.flushed += 1

    def refuse(self) -> bool:
        return False

    def cut(self, code: int = 0) -> None:
        self.was_cut = True

    def exchange_over(self, now: float) -> None: ...

    def tunnel(self) -> bytes:
        return b""

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Here(Pipeline):
    """The pipeline of the sending side."""

    def __init__(self) -> None:
        self.lost_for: list[str] = []

    def begin(self, exchange: Exchange) -> None: ...
    def responded(self, exchange: Exchange, response: Response) -> bool:
        return False

    def finished(self, exchange: Exchange, now: float) -> None: ...
    def refused(self, error: Any) -> None: ...
    def closed(self, client: Any, error: Any) -> None: ...

    def lost(self, exchange: Exchange, reason: str) -> None:
        self.lost_for.append(reason)


class There(Here):
    """The pipeline of the far side: a server written by the test."""

    def __init__(self, serve: Callable[[Exchange], None]) -> None:
        super().__init__()
        self.serve = serve
        self.exchanges: list[Exchange] = []
        self.bodies: list[bytes] = []

    def begin(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.bodies.append(b"")
        exchange.attach(Sink(self, len(self.bodies) - 1))
        self.serve(exchange)


class Sink:
    """A `ServerSide` that keeps the request's body."""

    is_reused = False

    def __init__(self, there: There, number: int) -> None:
        self._there = there
        self._number = number
        self.paused = False
        self.cancelled = False

    def send_request(self, exchange: Exchange) -> None: ...

    def send_body(self, data: bytes) -> None:
        self._there.bodies[self._number] += data

    def send_end(self, trailers: Fields | None) -> None:
        self._there.bodies[self._number] += b"|end"

    def discard(self) -> None: ...
    def cancel(self) -> None:
        self.cancelled = True

    def release(self, now: float) -> None: ...
    def tunnel_end(self) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Owner:
    def streams_lost(self, streams: Any, error: Any) -> None: ...
    def streams_refused(self, streams: Any, error: Any) -> None: ...


class Wire:
    """A connection between both roles."""

    def __init__(self, serve: Callable[[Exchange], None] = lambda e: None, step: int = 0) -> None:
        self.here, self.there = Here(), There(serve)
        self.near, self.far = connect(step)
        self.server = ClientStreams(self.far, self.there, Keeper(NoLoop()))
        self.far.protocol = self.server
        self.client = ServerStreams(self.near, Owner(), 0.0)
        self.near.protocol = self.client
        self.run()

    def run(self) -> None:
        """Carry bytes until none are left."""
        while self.near.carry() + self.far.carry():
            pass

    def ask(self, request: Request = GET) -> tuple[Exchange, Client]:
        client = Client()
        exchange = Exchange(client, self.here, request, 0.0)
        exchange.attach(self.client.open_stream())
        return exchange, client


def measured(exchange: Exchange) -> None:
    response = Response(200, b"Fine", [b"X-Up", b": ", b"1", b"\r\n"])
    response.fields += [b"Content-Length", b": ", b"2", b"\r\n"]
    response.length = 2
    exchange.on_response(response)
    exchange.on_body(b"hi")
    exchange.on_end(None)


@pytest.mark.parametrize("step", [0, 1, 7])
def test_a_request_and_its_response_arrive_as_they_were(step: int) -> None:
    wire = Wire(measured, step)

    _, client = wire.ask()
    wire.run()

    request = wire.there.exchanges[0].request
    assert (request.method, request.target, request.host) == (b"GET", b"/a", b"web")
    assert request.fields == GET.fields
    assert client.response is not None
    assert (client.response.status, client.response.reason) == (200, b"Fine")
    assert client.response.fields[:4] == [b"X-Up", b": ", b"1", b"\r\n"]
    assert bytes(client.body) == b"hi"
    assert client.ended
    assert not wire.client.streams
    assert not wire.server.streams


@pytest.mark.parametrize("step", [0, 1000])
def test_many_streams_at_once_keep_apart(step: int) -> None:
    wire = Wire(measured, step)

    clients = [wire.ask()[1] for _ in range(200)]
    wire.run()

    assert all(client.body == b"hi" and client.ended for client in clients)
    assert not wire.client.streams


def chunked_request() -> Request:
    request = Request(b"POST", b"/", [b"Host", b": ", b"a", b"\r\n"])
    request.fields += [b"Transfer-Encoding", b": ", b"chunked", b"\r\n"]
    request.length = None
    return request


@pytest.mark.parametrize("step", [0, 1000])
def test_bodies_and_trailers_pass_both_ways(step: int) -> None:
    def serve(exchange: Exchange) -> None:
        response = Response(200, b"OK", [b"Transfer-Encoding", b": ", b"chunked", b"\r\n"])
        response.framing = CHUNKS
        exchange.on_response(response)

    wire = Wire(serve, step)
    exchange, client = wire.ask(chunked_request())
    body = bytes(range(256)) * 400

    exchange.request_body(body)
    exchange.request_end([b"X-Sum", b": ", b"1", b"\r\n"])
    wire.run()
    wire.there.exchanges[0].on_body(body)
    wire.there.exchanges[0].on_end([b"X-Up", b": ", b"2", b"\r\n"])
    wire.run()

    assert wire.there.bodies[0] == body + b"|end"
    assert client.body == body
    assert client.trailers == [b"X-Up", b": ", b"2", b"\r\n"]
    assert client.ended


def test_a_taker_that_is_paused_holds_the_sender_back() -> None:
    wire = Wire()
    exchange, client = wire.ask(chunked_request())
    wire.run()
    far = wire.there.exchanges[0]
    response = Response(200, b"OK", [])
    response.framing = UNTIL_END
    far.on_response(response)
    exchange.client_blocked()  # the client does not read

    for _ in range(200):
        far.on_body(b"x" * 65_536)
        wire.run()

    sink = far.server
    assert isinstance(sink, Sink)
    assert sink.paused
    assert len(client.body) <= http2.PEER.stream_window
    exchange.client_ready()
    wire.run()
    assert len(client.body) == 200 * 65_536
    assert not sink.paused


def test_one_stalled_stream_does_not_stop_the_others() -> None:
    wire = Wire()
    stalled, _ = wire.ask()
    wire.run()
    response = Response(200, b"OK", [])
    response.framing = UNTIL_END
    wire.there.exchanges[0].on_response(response)
    stalled.client_blocked()
    wire.there.exchanges[0].on_body(b"x" * (2 << 20))
    wire.run()

    wire.there.serve = measured
    _, client = wire.ask()
    wire.run()

    assert client.body == b"hi"


def test_a_client_that_leaves_resets_its_stream_only() -> None:
    wire = Wire()
    exchange, _ = wire.ask()
    other, _ = wire.ask()
    wire.run()

    exchange.client_gone()
    wire.run()

    assert wire.there.exchanges[0].is_over
    assert not wire.there.exchanges[1].is_over
    assert not other.is_over
    assert len(wire.client.streams) == 1


def test_a_response_that_is_cut_does_not_pass_for_complete() -> None:
    wire = Wire()
    _, client = wire.ask()
    wire.run()
    far = wire.there.exchanges[0]
    response = Response(200, b"OK", [b"Content-Length", b": ", b"9", b"\r\n"])
    response.length = 9
    far.on_response(response)
    far.on_body(b"half")
    far.server_lost("server-closed")
    wire.run()

    assert client.was_cut
    assert not client.ended


def test_goaway_lets_requests_finish_that_were_on_their_way() -> None:
    wire = Wire()
    _, first = wire.ask()
    wire.run()

    wire.server.end()
    _, crossing = wire.ask()
    wire.run()
    for exchange in wire.there.exchanges:
        measured(exchange)
    wire.run()

    assert first.ended
    assert crossing.ended
    assert wire.here.lost_for == []
    assert not wire.client.has_room
    assert wire.far.eof


def test_streams_behind_the_last_goaway_go_elsewhere() -> None:
    wire = Wire()
    wire.ask()
    wire.run()
    wire.server.end()
    wire.run()

    late, _ = wire.ask()
    wire.run()

    assert wire.here.lost_for == ["refused-stream"]
    assert late.server is None


def test_a_lost_connection_is_told_to_every_stream() -> None:
    wire = Wire()
    for _ in range(3):
        wire.ask()
    wire.run()

    wire.client.connection_lost(None)
    wire.server.connection_lost(None)

    assert wire.here.lost_for == ["server-closed"] * 3
    assert all(exchange.is_over for exchange in wire.there.exchanges)


class Attacker:
    """Raw frames at the side that takes requests."""

    def __init__(self) -> None:
        self.there = There(lambda exchange: None)
        self.transport = MemoryTransport()
        self.server = ClientStreams(self.transport, self.there, Keeper(NoLoop()))
        self.server.data_received(http2.PREFACE + frame(http2.SETTINGS, 0, 0, b""))

    def send(self, *frames: bytes) -> bool:
        """Whether the connection outlived them."""
        for data in frames:
            if self.server.is_over or self.transport.is_closing():
                return False
            self.server.data_received(data)
        return not self.server.is_over


HEAD = b"\x82\x84\x00\x04Host\x01a"
OPEN = http2.END_HEADERS | http2.END_STREAM


@pytest.mark.parametrize(
    "frames",
    [
        [frame(http2.PING, 0, 0, b"12345678")] * 5000,
        [frame(http2.SETTINGS, 0, 0, b"")] * 5000,
        [frame(http2.PRIORITY, 0, 1, b"\x00" * 5)] * 5000,
        [frame(http2.WINDOW_UPDATE, 0, 0, b"\x00\x00\x00\x01")] * 5000,
        [frame(http2.DATA, 0, 1, b"")] * 5000,
        [
            data
            for number in range(1, 10_001, 2)
            for data in (
                frame(http2.HEADERS, OPEN, number, HEAD),
                frame(http2.RST_STREAM, 0, number, b"\x00\x00\x00\x08"),
            )
        ],
        [frame(http2.HEADERS, 0, 1, HEAD)] + [frame(http2.CONTINUATION, 0, 1, b"")] * 50,
        [frame(http2.HEADERS, 0, 1, HEAD)] + [frame(http2.CONTINUATION, 0, 1, b"x" * 60_000)] * 5,
        [frame(http2.HEADERS, 0, 1, HEAD), frame(http2.PING, 0, 0, b"12345678")],
        [frame(http2.CONTINUATION, 4, 1, HEAD)],
        [frame(http2.HEADERS, OPEN, 2, HEAD)],
        [b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"],
        [frame(http2.HEADERS, OPEN, 1, b"\xff\xff\xff\xff\xff\xff")],
        [frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")] * 2,
        [frame(http2.SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff")],
        [frame(http2.SETTINGS, 0, 0, b"12345")],
        [frame(http2.PING, 0, 0, b"1")],
        [frame(http2.PUSH_PROMISE, 4, 1, b"\x00\x00\x00\x02")],
        [frame(http2.DATA, http2.PADDED, 1, b"\x05abc")],
        [frame(http2.HEADERS, http2.END_HEADERS, 1, HEAD)]
        + [frame(http2.DATA, 0, 1, b"x" * 60_000)] * 400,
    ],
)
def test_abuse_ends_the_connection(frames: list[bytes]) -> None:
    attacker = Attacker()
    if frames[0][3] == http2.HEADERS and len(frames) > 300:
        # a taker that never takes: the window is a limit, not a suggestion
        attacker.there.serve = lambda exchange: exchange.server_blocked()

    assert attacker.send(*frames) is False


@pytest.mark.parametrize(
    "block",
    [
        b"\x84\x00\x04Host\x01a",  # no method
        b"\x82\x00\x04Host\x01a",  # no path
        b"\x82\x84",  # no host
        b"\x82\x84\x00\x04Host\x01a\x00\x04Host\x01b",
        b"\x82\x84\x00\x04Host\x03a/b",
        b"\x00\x04Host\x01a\x82\x84",  # pseudo-fields last
        b"\x82\x82\x84\x00\x04Host\x01a",
        b"\x00\x07:method\x07CONNECT\x84\x00\x04Host\x01a",
        b"\x82\x00\x05:path\x03/ b\x00\x04Host\x01a",
        b"\x82\x84\x00\x04Host\x01a\x00\x0econtent-length\x015",  # ... and no body
        b"\x82\x84\x00\x04Host\x01a\x00\x11transfer-encoding\x04gzip",
    ],
)
def test_a_request_that_is_none_costs_its_stream_only(block: bytes) -> None:
    attacker = Attacker()

    assert attacker.send(frame(http2.HEADERS, OPEN, 1, block))

    assert attacker.there.exchanges == []
    assert attacker.send(frame(http2.HEADERS, OPEN, 3, HEAD))
    assert len(attacker.there.exchanges) == 1


@pytest.mark.parametrize("size", [4, 6])
def test_a_body_of_another_length_than_said_is_no_request(size: int) -> None:
    attacker = Attacker()
    head = b"\x83\x84\x00\x04Host\x01a\x00\x0econtent-length\x015"

    attacker.send(
        frame(http2.HEADERS, http2.END_HEADERS, 1, head),
        frame(http2.DATA, http2.END_STREAM, 1, b"x" * size),
    )

    assert attacker.there.exchanges[0].is_over
    assert b"|end" not in attacker.there.bodies[0]


FRAMES = st.tuples(
    st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=30)
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=30)
        ),
        max_size=12,
    ),
    st.integers(1, 50),
)
def test_random_frames_are_read_or_refused(
    frames: list[tuple[int, int, int, bytes]], step: int
) -> None:
    attacker = Attacker()
    data = b"".join(frame(*parts) for parts in frames)

    attacker.send(*(data[i : i + step] for i in range(0, len(data), step)))

    attacker.server.connection_lost(None)
    assert all(exchange.is_over for exchange in attacker.there.exchanges)


def test_another_protocol_is_hung_up_on() -> None:
    there = There(lambda exchange: None)
    transport = MemoryTransport()
    server = ClientStreams(transport, there, Keeper(NoLoop()))

    server.data_received(b"GET / HTTP/1.1\r\n")

    assert transport.is_closing()
