"""slowhttptest against both sides of a pair of proxies: whoever is slow, others are served."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from statistics import median
from time import monotonic

import pytest

from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.test_overload import GET, counted
from tests.proxy.world import World, on_loop, request

MODES = {
    "headers": ("-H", "-i", "3", "-x", "24"),
    "body": ("-B", "-i", "3", "-s", "8192", "-x", "10"),
    "range": ("-R", "-a", "5", "-b", "3000"),
    "read": ("-X", "-n", "2", "-w", "10", "-y", "20", "-z", "32", "-k", "3"),
}
CONNECTIONS = 400
SECONDS = 14

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is missing"),
]


async def large(reader: Reader, writer: Writer) -> None:
    """Answers every request with 256 KiB, having read what body it had."""
    while True:
        head = await read_head(reader)
        if size := re.search(rb"(?i)content-length: (\d+)", head):
            await reader.readexactly(int(size[1]))
        body = bytes(262_144) if b"large" in head else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()


async def probe(world: World, *, inbound: bool) -> float:
    """One request of somebody else; the seconds that it took."""
    began = monotonic()
    status, _, _ = await request(world.server if inbound else world.client, GET, inbound=inbound)
    assert status == 200
    return monotonic() - began


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", ["outbound", "inbound"])
@on_loop
async def test_others_are_served_while_clients_are_slow(
    tmp_path: Path, side: str, mode: str
) -> None:
    is_inbound = side == "inbound"
    async with World(tmp_path) as world:
        await world.serve(large)
        world.route()
        pod = world.server if is_inbound else world.client
        port = pod.inbound if is_inbound else pod.outbound
        quiet = median([await probe(world, inbound=is_inbound) for _ in range(50)])
        attack = await asyncio.create_subprocess_exec(
            *("slowhttptest", *MODES[mode], "-c", str(CONNECTIONS), "-r", "200"),
            *("-l", str(SECONDS), "-u", f"http://127.0.0.1:{port}/large"),
            stdout=asyncio.subprocess.PIPE,
        )
        took: list[float] = []
        while attack.returncode is None and len(took) < 20 * SECONDS:
            took.append(await probe(world, inbound=is_inbound))
            await asyncio.sleep(0.05)
        said, _ = await attack.communicate()

        assert b"service available:" in said  # it ran; what it says of large answers is its load
        assert median(took) < 3 * quiet + 0.02
        assert len(took) > SECONDS
        if mode == "headers":
            assert counted(pod, "head-timeout") > CONNECTIONS / 2
