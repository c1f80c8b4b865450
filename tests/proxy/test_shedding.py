"""What is short somewhere is not used up: bodies wait at their client, requests go elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.exchange import Exchange
from proxy.http1 import Request
from tests.proxy.apps import hello
from tests.proxy.test_http2 import Client, Here, Sink, There
from tests.proxy.test_refused import GET, POST, pods, route
from tests.proxy.world import on_loop, request


def test_a_body_waits_at_its_client_while_nobody_is_there_to_take_it() -> None:
    asked = Request(b"POST", b"/", [b"Host", b": ", b"a", b"\r\n"])
    asked.length = 1 << 30
    client, there = Client(), There(lambda exchange: None)
    there.bodies.append(b"")
    exchange = Exchange(client, Here(), asked, 0.0)

    exchange.request_body(b"some")
    assert client.paused

    exchange.attach(Sink(there, 0))
    assert not client.paused
    assert there.bodies == [b"some"]


@on_loop
async def test_a_peer_whose_memory_is_short_leaves_requests_to_another(tmp_path: Path) -> None:
    async with pods(tmp_path, "client", "full", "web") as (client, full, web):
        application = await asyncio.start_server(hello, "127.0.0.1", 0)
        full.application = web.application = application.sockets[0].getsockname()[:2]
        full.server.keeper.is_shedding = True
        route(client, full, web)

        answers = [await request(client, head) for head in (GET, POST) * 5]

        application.close()

    assert [status for status, _, _ in answers] == [200] * 10
