"""Who connects and says nothing, and who is connected to and says nothing, is hung up on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.core.model import Inbound, InboundPort, Protocol
from tests.proxy.apps import Reader, Writer, hello
from tests.proxy.test_overload import GET, counted
from tests.proxy.world import World, on_loop, request


class Hurried:
    """A loop on which waiting takes a hundredth of its time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Any:
        return self._loop.call_later(delay / 100, callback, *args)


async def ended(reader: Reader) -> bool:
    async with asyncio.timeout(10):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize("protocol", [Protocol.HTTP1, Protocol.HTTP2, Protocol.GRPC])
@on_loop
async def test_a_client_of_a_port_declared_http_has_to_speak(
    tmp_path: Path, protocol: Protocol
) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hello)
        world.route(protocol=protocol)
        world.server.discovery.update(inbound=Inbound(ports=(InboundPort(port, protocol),)))
        world.client.server.outbound.loop = Hurried()  # type: ignore[assignment]
        world.server.server.inbound.loop = Hurried()  # type: ignore[assignment]

        for connect in (world.client.connect, world.server.connect_inbound):
            reader, writer = await connect()
            assert await ended(reader)
            writer.close()

        assert counted(world.client, "silent") == counted(world.server, "silent") == 1


@on_loop
async def test_where_tls_is_required_a_stranger_has_to_speak(tmp_path: Path) -> None:
    async with World(tmp_path, server={"require_tls": True}) as world:
        await world.serve(hello)
        world.server.server.inbound.loop = Hurried()  # type: ignore[assignment]
        reader, writer = await world.server.connect_inbound()

        assert await ended(reader)
        writer.close()

        assert counted(world.server, "silent") == 1


@on_loop
async def test_a_peer_that_never_ends_its_handshake_is_let_go(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def mute(reader: Reader, writer: Writer) -> None:
        await reader.read()
        left.set()
        writer.close()

    async with World(tmp_path, connect_timeout=0.05) as world:
        port = await world.serve(mute)
        world.route(port=port)

        status, headers, _ = await request(world.client, GET)

        assert (status, headers["mesh-reason"].partition(";")[0]) == (504, "connect-timeout")
        async with asyncio.timeout(5):
            await left.wait()


@on_loop
async def test_descriptors_are_kept_from_connections_that_we_open_too(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        dialler = world.client.server.path.dialler
        dialler.fd_limit, limit = 0, dialler.fd_limit

        status, headers, _ = await request(world.client, GET)
        dialler.fd_limit = limit
        after, _, _ = await request(world.client, GET)

    assert (status, headers["mesh-reason"].partition(";")[0], after) == (503, "too-many-files", 200)
    assert world.client.server.path.fd_limit < limit
