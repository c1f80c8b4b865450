"""Connections that were made while nobody knew where they lead, and long ones."""

from __future__ import annotations

from pathlib import Path

from mesh.core.model import Backend, Endpoint, Rule, Service, Source, Target
from tests.proxy.apps import Reader, Writer, hello, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.world import World, on_loop

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


async def ask(reader: Reader, writer: Writer) -> bytes:
    writer.write(GET)
    head = await read_head(reader)
    await reader.readexactly(int(head.split(b"Length: ")[1].split(b"\r\n")[0]))
    return head.split(b"\r\n")[0]


@on_loop
async def test_a_connection_made_while_destination_was_away_joins_the_mesh(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hello)
        world.client.meant_for = ("127.0.0.1", port)
        discovery = world.client.discovery
        discovery.is_away = True
        reader, writer = await world.client.connect()
        assert await ask(reader, writer) == b"HTTP/1.1 200 OK"
        assert 'client_id="' not in world.server.server.metrics()

        world.client.server.targets.sweep(1e9)
        identity = world.server.credentials.identity
        endpoint = Endpoint("127.0.0.1", world.server.inbound, identity=identity)
        rule = Rule((Backend(WEB),), source=Source("Service", "shop", "web"))
        discovery.update(
            Target(f"127.0.0.1:{port}", authority=WEB, rules=(rule,)),
            services=[Service(WEB, "shop", "web", 80, (endpoint,))],
        )

        assert await ask(reader, writer) == b"HTTP/1.1 200 OK"
        assert 'client_id="' in world.server.server.metrics()
        assert discovery.in_use(f"127.0.0.1:{port}")
        writer.close()
        await reader.read()


@on_loop
async def test_an_address_is_in_use_while_a_connection_sends_requests_there(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        await ask(reader, writer)

        assert world.client.discovery.in_use(CLUSTER_IP)
        world.client.server.end()
        await reader.read()

        assert not world.client.discovery.in_use(CLUSTER_IP)
        writer.close()
