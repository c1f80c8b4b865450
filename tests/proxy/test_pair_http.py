"""Two proxies with mutual TLS between them: HTTP/1.1 from end to end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.proxy.world import World, on_loop, read_head, request

GET = b"GET /a?b HTTP/1.1\r\nHost: web\r\nX-Case: Kept\r\n\r\n"
GET_CLOSE = b"GET /a?b HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An application that answers each request with the head it got."""
    try:
        while True:
            head = await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
    except asyncio.IncompleteReadError:
        writer.close()


@on_loop
async def test_a_request_passes_both_proxies(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()

        status, headers, body = await request(world.client, GET_CLOSE)

        assert status == 200
        assert headers["connection"] == "close"
        assert b"GET /a?b HTTP/1.1\r\nHost: web\r\n" in body
        assert b"l5d-client-id: client.shop.serviceaccount.identity.mesh.cluster.local" in body
        assert world.client.discovery.failures == []


@on_loop
async def test_connections_are_kept_on_every_hop(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()

        for _ in range(3):
            writer.write(GET)
            head = await read_head(reader)
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(size)
            assert b"X-Case: Kept" in body
        writer.close()

        hop = world.client.server.targets.hops()[0]
        assert (hop.tcp.opened, len(hop.pool)) == (1, 1)
        assert hop.mesh is not None


@on_loop
async def test_an_unmeshed_endpoint_gets_plaintext(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route(meshed=False)

        status, _, body = await request(world.client, GET_CLOSE)

        assert status == 200
        assert b"l5d-client-id" not in body
