"""Bulk moved by the kernel: complete, in order, and every descriptor given back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path

import pytest

from mesh.core.model import Protocol
from proxy.splice import Splice
from tests.proxy.apps import Reader, Writer
from tests.proxy.world import World, on_loop


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def open_pipes() -> int:
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(link.startswith("pipe:") for link in links)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection (splice needs more than a socketpair of AF_UNIX)."""
    listener = socket.create_server(("127.0.0.1", 0))
    one = socket.create_connection(listener.getsockname())
    two, _ = listener.accept()
    listener.close()
    for end in (one, two):
        end.setblocking(False)
    return one, two


class Events:
    def __init__(self) -> None:
        self.moved = 0
        self.ended = asyncio.Event()
        self.error: OSError | None = None

    def on_moved(self, size: int) -> None:
        self.moved += size

    def on_failed(self, error: OSError) -> None:
        self.error = error
        self.ended.set()


@pytest.mark.parametrize("slow", [False, True])
@on_loop
async def test_all_bytes_arrive_in_order(slow: bool) -> None:
    loop = asyncio.get_running_loop()
    before = open_fds()
    client, source = pair()
    target, server = pair()
    events = Events()
    splice = Splice(
        loop,
        source,
        target,
        moved=events.on_moved,
        ended=events.ended.set,
        failed=events.on_failed,
    )
    data = bytes(range(256)) * 40_000

    async def send() -> None:
        await loop.sock_sendall(client, data)
        client.shutdown(socket.SHUT_WR)

    sending = asyncio.ensure_future(send())
    got = bytearray()
    while len(got) < len(data):
        if slow:
            await asyncio.sleep(0.001)
        got += await loop.sock_recv(server, 200_000)
    await sending
    await events.ended.wait()

    assert got == data
    assert events.moved == len(data)
    assert events.error is None
    for end in (client, source, target, server):
        end.close()
    splice.close()
    assert open_fds() == before


@on_loop
async def test_a_target_that_is_gone_is_a_failure() -> None:
    loop = asyncio.get_running_loop()
    before = open_fds()
    client, source = pair()
    target, server = pair()
    events = Events()
    Splice(
        loop,
        source,
        target,
        moved=events.on_moved,
        ended=events.ended.set,
        failed=events.on_failed,
    )
    server.close()

    for _ in range(50):
        try:
            await loop.sock_sendall(client, b"x" * 100_000)
        except ConnectionError:
            break
        if events.ended.is_set():
            break
        await asyncio.sleep(0)
    await events.ended.wait()

    assert events.error is not None
    for end in (client, source, target):
        end.close()
    assert open_fds() == before


@on_loop
async def test_a_plaintext_tunnel_goes_over_to_it_and_keeps_half_close(tmp_path: Path) -> None:
    size = 6_000_000

    async def drains(reader: Reader, writer: Writer) -> None:
        total = 0
        while data := await reader.read(1 << 16):
            total += len(data)
        writer.write(b"%d" % total)
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(drains)
        world.route(meshed=False, protocol=Protocol.OPAQUE)
        reader, writer = await world.client.connect()
        for _ in range(size // 60_000):
            writer.write(b"x" * 60_000)
            await writer.drain()
        (tunnel,) = world.client.server.keeper.tunnels
        assert not tunnel.client.may_splice  # taken
        writer.write_eof()

        assert await reader.read() == b"%d" % size
        assert tunnel.client.read_bytes == size
        assert tunnel.server.written_bytes == size
        writer.close()


@on_loop
async def test_a_tunnel_that_is_cut_gives_its_descriptors_back(tmp_path: Path) -> None:
    async def stalls(reader: Reader, writer: Writer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    before = open_pipes()
    async with World(tmp_path) as world:
        await world.serve(stalls)
        world.route(meshed=False, protocol=Protocol.OPAQUE)
        _, writer = await world.client.connect()
        try:
            async with asyncio.timeout(0.5):
                while True:
                    writer.write(b"x" * 100_000)
                    await writer.drain()
        except TimeoutError:
            pass
        reset = struct.pack("ii", 1, 0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()
        (tunnel,) = world.client.server.keeper.tunnels
        while not tunnel.client.is_lost:  # noqa: ASYNC110, nothing tells of a reset unread
            await asyncio.sleep(0.01)

    assert open_pipes() == before
