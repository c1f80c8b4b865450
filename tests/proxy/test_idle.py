"""Connections that were begun and lead to nothing end by themselves, each after its time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

from mesh.core import labels
from mesh.runtime import tls
from proxy.client_connection import IDLE_SECONDS, ClientConnection, Keeper
from proxy.client_streams import (
    _LAST_CALL,
    APPLICATION_IDLE,
    PREFACE_SECONDS,
    ClientStreams,
)
from proxy.http1 import Response
from proxy.http2_frames import ACK, GOAWAY, PING, PREFACE, RST_STREAM, SETTINGS, STRANGER, frame
from tests.proxy.apps import Reader, Writer
from tests.proxy.frame_scripts import head
from tests.proxy.memory import MemoryTransport, NoLoop
from tests.proxy.test_detect import client_hello
from tests.proxy.test_http2_stranger import Stranger, Watching
from tests.proxy.test_overload import counted, later
from tests.proxy.test_pair_tcp import until_cut
from tests.proxy.test_silence import Hurried
from tests.proxy.world import World, on_loop, parse_response


def test_a_connection_without_another_request_is_closed_after_a_minute() -> None:
    transport = MemoryTransport()
    client = ClientConnection(transport, Watching(), Keeper(NoLoop()))
    began = monotonic()

    client.check(began + IDLE_SECONDS - 1.0)
    assert not transport.is_closing()

    client.check(began + IDLE_SECONDS + 1.0)
    assert transport.is_closing()


def test_a_preface_that_does_not_come_ends_its_connection() -> None:
    for start in (b"", PREFACE[:10], PREFACE):
        transport = MemoryTransport()
        server = ClientStreams(transport, Watching(), Keeper(NoLoop()), STRANGER)
        server.data_received(start)
        transport.written.clear()

        server.check(server._since + PREFACE_SECONDS + 1.0)

        assert transport.is_closing() or server._leaving, start


def test_an_http2_connection_without_requests_is_told_to_go() -> None:
    stranger = Stranger()

    stranger.server.check(stranger.server._since + APPLICATION_IDLE + 1.0)
    stranger.server.check(stranger.server._since + APPLICATION_IDLE + 1000.0)

    assert [kind for kind, _, _ in stranger.told() if kind == GOAWAY] == [GOAWAY, GOAWAY]
    assert stranger.transport.eof


def test_a_client_that_was_told_to_go_takes_the_rest_at_its_own_pace() -> None:
    stranger = Stranger()
    stranger.send(frame(GOAWAY, 0, 0, bytes(8)))
    began = stranger.server._since
    assert stranger.transport.eof

    stranger.server.check(began + 10.0)  # what was written waits for it
    assert not stranger.transport.is_aborted
    stranger.transport.written.clear()
    stranger.server.check(began + 10.5)
    assert not stranger.transport.is_aborted
    stranger.server.check(began + 12.0)
    assert stranger.transport.is_aborted


def test_a_client_that_was_told_to_go_and_takes_nothing_is_cut() -> None:
    stranger = Stranger()
    stranger.send(frame(GOAWAY, 0, 0, bytes(8)))
    began = stranger.server._since

    for second in range(62):
        assert not stranger.transport.is_aborted
        stranger.server.check(began + second)

    assert stranger.transport.is_aborted


def test_what_comes_after_the_end_is_not_kept() -> None:
    transport = MemoryTransport()
    server = ClientStreams(transport, Watching(), Keeper(NoLoop()), STRANGER)
    server.data_received(PREFACE + frame(GOAWAY, 0, 0, bytes(8)))  # SETTINGS come first
    assert transport.eof

    for _ in range(100):
        server.data_received(bytes(65_536))

    assert len(server._rest) < 100


def test_a_client_that_resets_the_last_answer_of_a_drain_is_let_go() -> None:
    """The answer is complete for us, but its end waited for a window."""
    stranger = Stranger()
    stranger.send(frame(SETTINGS, 0, 0, b"\0\x04" + bytes(4)) + head(1))
    (exchange,) = stranger.there.exchanges
    exchange.on_response(Response(200, b"OK", []))
    exchange.on_body(b"body")
    exchange.on_end(None)
    stranger.server.end()
    stranger.send(frame(PING, ACK, 0, _LAST_CALL))
    assert stranger.server.goaway_sent
    assert not stranger.transport.eof

    stranger.send(frame(RST_STREAM, 0, 1, bytes(4)))
    stranger.server.check(stranger.server._since)

    assert stranger.transport.eof


def test_settings_alone_do_not_keep_a_connection() -> None:
    stranger = Stranger()
    stranger.send(frame(SETTINGS, 0, 0, b""))
    stranger.transport.written.clear()

    stranger.server.check(stranger.server._since + APPLICATION_IDLE + 1.0)

    assert stranger.server._leaving


@on_loop
async def test_a_handshake_that_does_not_end_is_cut(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.server.server.inbound.handshakes._loop = Hurried()  # type: ignore[assignment]
        name = tls.server_name(world.server.credentials.identity)
        reader, writer = await world.server.connect_inbound()
        writer.write(client_hello(name, labels.ALPN_HTTP2))
        assert await reader.readexactly(1) == b"\x16"  # its half of the handshake

        await until_cut(reader)
        writer.close()

        assert counted(world.server, "handshake-timeout") == 1


@on_loop
async def test_a_request_line_that_stalls_is_no_way_around_the_guard(tmp_path: Path) -> None:
    """On a port that declares nothing it would be passed on as bytes, to an application that
    may wait for its rest for ever."""

    async def never(reader: Reader, writer: Writer) -> None:
        raise AssertionError("the application was reached")

    async with World(tmp_path) as world:
        await world.serve(never)
        world.route()
        for pod, connect in (
            (world.client, world.client.connect),
            (world.server, world.server.connect_inbound),
        ):
            pod.server.outbound.loop = pod.server.inbound.loop = Hurried()  # type: ignore[assignment]
            reader, writer = await connect()
            writer.write(b"GET / HT")
            while not pod.server.keeper.clients:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.001)
            await later(pod, 11.0)

            status, headers, _ = parse_response(await reader.read())
            writer.close()

            assert (status, headers["mesh-reason"]) == (408, "head-timeout")
