"""Connections that nobody parses: by the name in a ClientHello, by weight, or refused."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from mesh.core.model import Backend, Match, Protocol, Rule, Service, Target
from tests.proxy.apps import Reader, Writer
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.routing import SOURCE, endpoint
from tests.proxy.world import World, on_loop

NAMES = ("a.shop.svc:443", "b.shop.svc:443")


def hello_for(name: str) -> bytes:
    """The first bytes of a TLS client that asks for `name`."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def serve_names(world: World) -> list[Service]:
    """Two Services whose servers say their name and hang up."""

    async def say(name: str, reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        writer.write(name.encode())
        await writer.drain()
        writer.close()

    services = []
    for name in NAMES:
        port = await world.serve(lambda reader, writer, name=name: say(name[0], reader, writer))
        end = endpoint(world, port=port, meshed=False)
        services.append(Service(name, "shop", name[0], 443, (end,)))
    return services


def by_name(*names: str, backend: str) -> Rule:
    matches = (Match(sni=names),) if names else ()
    return Rule((Backend(backend),), matches, source=SOURCE)


async def answer(world: World, first: bytes, *, pieces: int = 1) -> bytes:
    reader, writer = await world.client.connect()
    size = len(first) // pieces + 1
    for at in range(0, len(first), size):
        writer.write(first[at : at + size])
        await asyncio.sleep(0.01)
    try:
        return await reader.read()
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


@pytest.mark.parametrize("protocol", [Protocol.TLS, Protocol.DETECT, Protocol.OPAQUE])
@on_loop
async def test_a_tls_connection_goes_where_its_name_leads(
    tmp_path: Path, protocol: Protocol
) -> None:
    async with World(tmp_path) as world:
        services = await serve_names(world)
        rules = (
            by_name("one.example", backend=NAMES[0]),
            by_name("*.two.example", backend=NAMES[1]),
        )
        target = Target(CLUSTER_IP, protocol, WEB, connections=rules, rules=rules)
        world.client.discovery.update(target, services=services)

        assert await answer(world, hello_for("one.example")) == b"a"
        assert await answer(world, hello_for("x.two.example"), pieces=3) == b"b"
        assert await answer(world, hello_for("else.where")) in (b"reset", b"")


@on_loop
async def test_bytes_without_a_name_take_the_rule_that_asks_for_none(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        services = await serve_names(world)
        rules = (by_name("one.example", backend=NAMES[0]), by_name(backend=NAMES[1]))
        target = Target(CLUSTER_IP, Protocol.OPAQUE, WEB, connections=rules, rules=rules)
        world.client.discovery.update(target, services=services)

        assert await answer(world, b"\x00\x01 no TLS at all") == b"b"


@on_loop
async def test_connections_are_shared_out_by_weight(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        services = await serve_names(world)
        rule = Rule((Backend(NAMES[0], 3), Backend(NAMES[1], 1)), source=SOURCE)
        target = Target(CLUSTER_IP, Protocol.OPAQUE, WEB, connections=(rule,), rules=(rule,))
        world.client.discovery.update(target, services=services)

        got = [await answer(world, b"x") for _ in range(20)]

        assert 4 <= got.count(b"b") <= 6
