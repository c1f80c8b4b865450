"""Machines that are gone without a word: what is asked of them goes elsewhere in bounded time.

A socket filter that drops everything stands in for such a machine: it acknowledges nothing, and
not a probe either.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from proxy.hop import PEER_SILENCE, SERVER_SILENCE
from tests.proxy.apps import Reader, Writer, hello
from tests.proxy.world import World, on_loop, read_response

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
SO_ATTACH_FILTER = 26
BPF_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)


def vanish(sock: Any) -> None:
    """Nothing that comes for this socket is seen from now on."""
    program = ctypes.create_string_buffer(BPF_RETURN_NOTHING)
    header = struct.pack("HL", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)


def option(sock: Any, name: int) -> int:
    return int(sock.getsockopt(socket.IPPROTO_TCP, name))


def sockets_to(port: int, world: World) -> list[Any]:
    """Those that the client's proxy has opened to a port."""
    (hop,) = world.client.server.hops()
    found = [one._transport.get_extra_info("socket") for one in hop.tcp.open]  # type: ignore[attr-defined]
    return [sock for sock in found if sock.getpeername()[1] == port]


async def served(world: World) -> tuple[Reader, Writer]:
    """A client whose first request has been answered."""
    reader, writer = await world.client.connect()
    writer.write(GET)
    assert (await read_response(reader))[0] == 200
    return reader, writer


@on_loop
async def test_a_request_to_a_peer_that_is_gone_goes_over_a_new_connection(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await served(world)
        (link,) = sockets_to(world.server.inbound, world)
        assert option(link, socket.TCP_USER_TIMEOUT) == PEER_SILENCE * 1000
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        (peer,) = world.server.server.keeper.clients
        vanish(peer._transport.get_extra_info("socket"))  # type: ignore[attr-defined]

        writer.write(GET)
        status, _, _ = await read_response(reader)
        writer.close()

    assert status == 200


@on_loop
async def test_a_request_to_a_machine_that_is_gone_goes_over_a_new_connection(
    tmp_path: Path,
) -> None:
    accepted: list[Any] = []

    async def answers(reader: Reader, writer: Writer) -> None:
        accepted.append(writer.get_extra_info("socket"))
        await hello(reader, writer)

    async with World(tmp_path) as world:
        port = await world.serve(answers)
        world.route(meshed=False)
        reader, writer = await served(world)
        (sock,) = sockets_to(port, world)
        assert option(sock, socket.TCP_USER_TIMEOUT) == SERVER_SILENCE * 1000
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        vanish(accepted[0])

        writer.write(GET)
        status, _, _ = await read_response(reader)
        writer.close()

    assert status == 200
    assert len(accepted) == 2


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_a_machine_that_goes_while_we_wait_is_missed(meshed: bool, tmp_path: Path) -> None:
    """The request has been acknowledged: only probes can tell."""
    asked = asyncio.Event()

    async def silent(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    async with World(tmp_path) as world:
        port = await world.serve(silent)
        world.route(meshed=meshed)
        reader, writer = await world.client.connect()
        writer.write(GET)
        await asked.wait()
        (sock,) = sockets_to(world.server.inbound if meshed else port, world)
        probes = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [option(sock, name) for name in probes] == [10, 3, 3]
        for name in probes:
            sock.setsockopt(socket.IPPROTO_TCP, name, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        for other in far_ends(world):
            vanish(other)

        status, _, _ = await read_response(reader)
        writer.close()

    assert status == 502


def far_ends(world: World) -> list[Any]:
    """The sockets of the server's pod that connections of the client's proxy end at."""
    found = [client._transport for client in world.server.server.keeper.clients]  # type: ignore[attr-defined]
    transports = found or [writer.transport for writer in world._writers]
    return [one.get_extra_info("socket") for one in transports]
