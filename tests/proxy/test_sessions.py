"""A second connection to the same peer resumes the first one's session, and proves no less."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from mesh.core.model import Protocol
from tests.proxy.apps import Reader, Writer
from tests.proxy.world import World, on_loop
from tests.support.authority import workload


async def echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def connect(world: World) -> tuple[bool, str]:
    """One opaque connection: whether its handshake was spared, and whom the server saw."""
    reader, writer = await world.client.connect()
    writer.write(b"\x00hello")
    assert await reader.readexactly(6) == b"\x00hello"
    (tunnel,) = world.client.server.keeper.tunnels
    link = tunnel.server.near.get_extra_info("ssl_object")
    seen = [
        dict(labels).get("client_id", "")
        for (key, labels, peer), series in world.server.server.telemetry.tcp.items()
        if peer == "src" and series.open
    ]
    remember_now(world, link)
    writer.close()
    while world.client.server.keeper.tunnels:  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(0.001)
    return link.session_reused, seen[0]


def remember_now(world: World, link: Any) -> None:
    """What a timer does a second later."""
    (hop,) = world.client.server.targets.hops()
    endpoint, mesh = hop.endpoint, hop.mesh
    assert mesh is not None
    hop._dialler.remember((endpoint.address, endpoint.port), mesh, link)


@on_loop
async def test_a_session_is_resumed_until_the_leaf_changes(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(echo)
        world.route(protocol=Protocol.OPAQUE, opaque=True)

        first = await connect(world)
        second = await connect(world)
        world.client.credentials.renew(world.chain, workload("client"), tmp_path)
        third = await connect(world)

    name = workload("client").dns()
    assert first == (False, name)
    assert second == (True, name)
    assert third == (False, name)
