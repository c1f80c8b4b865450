"""A service that is scaled up, and servers that wait less than we do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh.core.model import (
    Backend,
    BackendPolicy,
    Balancing,
    Endpoint,
    Rule,
    Service,
    Source,
    Target,
)
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.h2_ends import Application, End, Message, head
from tests.proxy.world import World, make_pod, on_loop, read_response


@pytest.mark.parametrize(
    ("balancing", "least"), [(Balancing.EWMA, 50), (Balancing.ROUND_ROBIN, 100)]
)
@on_loop
async def test_an_open_http2_connection_reaches_endpoints_that_come_later(
    tmp_path: Path, balancing: Balancing, least: int
) -> None:
    """One connection of a gRPC client, which would otherwise stay with its first server. It asks
    twenty at once: of one request after the other the better latency gets all, by a hair."""
    served = [0, 0]

    def serve(number: int) -> Application:
        def handle(end: End, stream: int, message: Message) -> None:
            served[number] += 1
            end.answer(stream, [(":status", "204")])

        return Application(handle)

    applications = [serve(0), serve(1)]
    async with World(tmp_path) as world:
        second = make_pod(world.chain, tmp_path, "web")
        await second.start()
        pods = [world.server, second]
        for pod, application in zip(pods, applications, strict=True):
            pod.application = ("127.0.0.1", await application.start())
        endpoints = [
            Endpoint("127.0.0.1", pod.inbound, identity=pod.credentials.identity) for pod in pods
        ]

        def scale(count: int) -> None:
            rule = Rule((Backend(WEB),), source=Source("Service", "shop", "web"))
            use = BackendPolicy(balancing)
            service = Service(WEB, "shop", "web", 80, tuple(endpoints[:count]), policy=use)
            world.client.discovery.update(
                Target(CLUSTER_IP, authority=WEB, rules=(rule,)), services=[service]
            )

        async def ask(client: End, times: int) -> None:
            for _ in range(times // 20 or 1):
                answers = [client.ask(head())[1] for _ in range(min(times, 20))]
                for answer in answers:
                    await answer.ended.wait()
                    assert answer.status == 204

        scale(1)
        client = End(*await world.client.connect(), client=True)
        await ask(client, 10)
        assert served == [10, 0]
        scale(2)
        await ask(client, 200)
        await client.close()
        await second.stop()
        for application in applications:
            await application.close()

    assert served[1] >= least
    assert sum(served) == 210


@on_loop
async def test_a_server_that_hangs_up_early_teaches_its_pool(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def brief(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        closed.set()

    async with World(tmp_path) as world:
        await world.serve(brief)
        reader, writer = await world.server.connect_inbound()
        hop = world.server.server.inbound.hop(*world.server.application)
        before = hop.pool._idle_seconds
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await read_response(reader))[0] == 200
        await closed.wait()
        while hop.pool.open:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.001)
        writer.close()

        assert hop.pool._idle_seconds < before
