"""Connections that are not this pod's, or that would go round in circles, end at once."""

from __future__ import annotations

from pathlib import Path

from tests.proxy.apps import hello
from tests.proxy.test_overload import GET, counted
from tests.proxy.test_pair_tcp import until_cut
from tests.proxy.world import World, on_loop


@on_loop
async def test_our_own_ports_are_not_dialled_for_others(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hello)
        world.server.server.inbound.own_ports = frozenset((port,))
        reader, writer = await world.server.connect_inbound()
        writer.write(GET)

        assert await until_cut(reader) == b""
        writer.close()

        assert counted(world.server, "loop") == 1


@on_loop
async def test_what_was_meant_for_another_pod_is_not_let_in(tmp_path: Path) -> None:
    async with World(tmp_path, server={"pod_ips": ("127.0.0.1",)}) as world:
        port = await world.serve(hello)
        world.server.application = ("127.0.0.2", port)
        reader, writer = await world.server.connect_inbound()
        writer.write(GET)

        assert await until_cut(reader) == b""
        writer.close()

        assert counted(world.server, "not-this-pod") == 1
