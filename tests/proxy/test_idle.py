"""Connections that were begun and lead to nothing end by themselves, each after its time."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from mesh.core import labels
from mesh.runtime import tls
from proxy.client_connection import IDLE_SECONDS, ClientConnection, Keeper
from proxy.client_streams import APPLICATION_IDLE, PREFACE_SECONDS, ClientStreams
from proxy.http2_frames import GOAWAY, PREFACE, SETTINGS, STRANGER, frame
from tests.proxy.memory import MemoryTransport, NoLoop
from tests.proxy.test_detect import client_hello
from tests.proxy.test_http2_stranger import Stranger, Watching
from tests.proxy.test_overload import counted
from tests.proxy.test_pair_tcp import until_cut
from tests.proxy.test_silence import Hurried
from tests.proxy.world import World, on_loop


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
    assert stranger.transport.is_closing()


def test_settings_alone_do_not_keep_a_connection() -> None:
    stranger = Stranger()
    stranger.send(frame(SETTINGS, 0, 0, b""))
    stranger.transport.written.clear()

    stranger.server.check(stranger.server._since + APPLICATION_IDLE + 1.0)

    assert stranger.server._leaving


@on_loop
async def test_a_handshake_that_does_not_end_is_cut(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.server.server.inbound.loop = Hurried()  # type: ignore[assignment]
        name = tls.server_name(world.server.credentials.identity)
        reader, writer = await world.server.connect_inbound()
        writer.write(client_hello(name, labels.ALPN_HTTP2))
        assert await reader.readexactly(1) == b"\x16"  # its half of the handshake

        await until_cut(reader)
        writer.close()

        assert counted(world.server, "handshake-timeout") == 1
