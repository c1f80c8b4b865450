"""What ended connections and peaks leave behind: nothing, and it goes back to the system."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mesh.core.model import Protocol
from proxy.client_connection import ClientConnection
from proxy.client_streams import ClientStreams
from proxy.datapath import GIVE_BACK_INTERVAL
from proxy.http1_request import RequestReader
from proxy.http1_response import ResponseReader
from proxy.inbound import InboundConnection
from proxy.memory import resident_bytes
from proxy.opening import Opening
from proxy.outbound import OutboundConnection
from proxy.server_connection import ServerConnection
from proxy.server_streams import ServerStreams
from proxy.tls import TlsLink
from tests.proxy.apps import answering
from tests.proxy.routing import until
from tests.proxy.world import World, on_loop

MIB = 1 << 20
BLOCK = 4096


def leave_a_peak(blocks: int = 20_000) -> list[bytearray]:
    """Take 80 MiB of the C heap; what is given keeps one block of a hundred."""
    taken = [bytearray(BLOCK) for _ in range(blocks)]
    return taken[::100]


def test_free_pages_between_blocks_that_stay_are_given_back() -> None:
    code = """
from proxy.memory import give_back, resident_bytes
from tests.proxy.test_memory import leave_a_peak
kept = leave_a_peak()
before = resident_bytes()
give_back()
print(before - resident_bytes())
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert int(said.stdout) > 60 * MIB


@on_loop
async def test_a_proxy_gives_back_once_in_an_interval(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        path = world.client.server.path
        later = 1e9
        path.tick(later)
        kept = leave_a_peak()
        before = resident_bytes()
        path.tick(later + GIVE_BACK_INTERVAL - 1.0)
        early = resident_bytes()
        path.tick(later + GIVE_BACK_INTERVAL)
        after = resident_bytes()

    assert len(kept) == 200
    assert before - early < 10 * MIB
    assert early - after > 60 * MIB


# What holds the buffers of a connection, or what does.
HOLDERS = (
    *(TlsLink, Opening, InboundConnection, OutboundConnection),
    *(ClientConnection, ClientStreams, RequestReader),
    *(ServerConnection, ServerStreams, ResponseReader),
)


def holders() -> Counter[str]:
    return Counter(type(known).__name__ for known in gc.get_objects() if isinstance(known, HOLDERS))


@pytest.mark.parametrize("http2", [True, False])
@pytest.mark.parametrize("protocol", [Protocol.DETECT, Protocol.OPAQUE])
@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_ended_connections_leave_nothing_to_the_garbage_collector(
    tmp_path: Path, meshed: bool, protocol: Protocol, http2: bool
) -> None:
    """It counts objects, and not the buffers that OpenSSL has for each."""

    async def ask() -> None:
        reader, writer = await world.client.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=True))
        world.route(meshed=meshed, protocol=protocol)
        keeper = world.client.server.keeper
        gc.disable()
        try:
            await ask()
            await until(lambda: not (keeper.clients or keeper.tunnels))
            first = holders()
            for _ in range(5):
                await ask()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await until(lambda: holders() <= first)
            then = holders()
        finally:
            gc.enable()

    assert then <= first
