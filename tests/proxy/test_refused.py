"""A peer that never looked at a request says so, and another endpoint serves it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.core.model import Backend, Endpoint, Rule, Service, Source, Target
from proxy.hop import HEARD
from tests.proxy.apps import Reader, Writer, hello, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.world import Pod, free_port, make_pod, on_loop, request
from tests.support.authority import TrustChain

GET = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
CHUNKS = GET.replace(b"GET", b"PUT").replace(
    b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
)
DELETE = GET.replace(b"GET", b"DELETE")
POST = b"POST / HTTP/1.1\r\nHost: web\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@contextlib.asynccontextmanager
async def pods(folder: Path, *accounts: str) -> AsyncIterator[list[Pod]]:
    chain = TrustChain()
    made = [make_pod(chain, folder, account) for account in accounts]
    for pod in made:
        await pod.start()
    try:
        yield made
    finally:
        for pod in made:
            await pod.stop()


def route(client: Pod, *servers: Pod) -> None:
    endpoints = tuple(
        Endpoint("127.0.0.1", server.inbound, identity=server.credentials.identity)
        for server in servers
    )
    rule = Rule((Backend(WEB),), source=Source("Service", "shop", "web"))
    client.discovery.update(
        Target(CLUSTER_IP, authority=WEB, rules=(rule,)),
        services=[Service(WEB, "shop", "web", 80, endpoints)],
    )


@on_loop
async def test_a_request_goes_to_another_endpoint_when_an_application_is_gone(
    tmp_path: Path,
) -> None:
    async with pods(tmp_path, "client", "gone", "web") as (client, gone, web):
        gone.application = ("127.0.0.1", free_port())
        application = await asyncio.start_server(hello, "127.0.0.1", 0)
        web.application = application.sockets[0].getsockname()[:2]
        route(client, gone, web)

        answers = [await request(client, head) for head in (GET, POST) * 10]

        application.close()

    assert [status for status, _, _ in answers] == [200] * 20


@on_loop
async def test_requests_that_go_to_another_endpoint_share_its_connection(tmp_path: Path) -> None:
    """Without destination an endpoint that is gone is asked again and again."""
    async with pods(tmp_path, "client", "gone", "web") as (client, gone, web):
        gone.application = ("127.0.0.1", free_port())
        application = await asyncio.start_server(hello, "127.0.0.1", 0)
        web.application = application.sockets[0].getsockname()[:2]
        route(client, gone, web)

        for _ in range(10):
            await asyncio.gather(*(request(client, GET) for _ in range(4)))

        series = [
            line for line in client.server.metrics().splitlines() if "tcp_open_total{" in line
        ]
        application.close()
    made = [line for line in series if f'target_addr="127.0.0.1:{web.inbound}"' in line]
    assert [line.rpartition(" ")[2] for line in made] == ["1"]


@pytest.mark.parametrize("arrives", [True, False], ids=["closed with it", "closed before it"])
@on_loop
async def test_a_request_that_an_application_never_read_goes_to_another(
    arrives: bool, tmp_path: Path
) -> None:
    """As when a listener closes with connections in its queue, or just took them."""
    async with pods(tmp_path, "client", "closing", "web") as (client, closing, web):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            closing.application = listener.getsockname()
            application = await asyncio.start_server(hello, "127.0.0.1", 0)
            web.application = application.sockets[0].getsockname()[:2]
            route(client, closing, web)
            unread = asyncio.create_task(_close_unread(listener, arrives=arrives))

            answers = [await request(client, head) for head in (GET, DELETE) * 10]

            unread.cancel()
            await asyncio.wait([unread])
            application.close()
    assert [status for status, _, _ in answers] == [200] * 20


async def _close_unread(listener: socket.socket, *, arrives: bool) -> None:
    """Take connections, wait for a request on each or not, and close without reading it."""
    loop = asyncio.get_running_loop()
    while True:
        taken, _ = await loop.sock_accept(listener)
        with taken:
            if not arrives:
                continue
            arrived = asyncio.Event()
            loop.add_reader(taken, arrived.set)
            try:
                await arrived.wait()
            finally:
                loop.remove_reader(taken)


@pytest.mark.parametrize("asked", [CHUNKS, POST], ids=["in pieces", "not to be repeated"])
@on_loop
async def test_what_a_reset_does_not_prove_unread_is_not_sent_twice(
    asked: bytes, tmp_path: Path
) -> None:
    """It may be about the last piece only, be it as short as an empty body's, or said in anger."""
    async with pods(tmp_path, "client", "closing") as (client, closing):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            closing.application = listener.getsockname()
            route(client, closing)
            unread = asyncio.create_task(_close_unread(listener, arrives=True))

            status, headers, _ = await request(client, asked)

            unread.cancel()
            await asyncio.wait([unread])
    assert (status, headers["mesh-reason"].partition(";")[0]) == (502, "server-closed")


@pytest.mark.parametrize(("asked", "status"), [(GET, 200), (POST, 502)])
@on_loop
async def test_what_only_reads_goes_to_another_when_an_application_ends_with_it(
    asked: bytes, status: int, tmp_path: Path
) -> None:
    """Some servers read what arrives in their last moment, and drop it."""
    dropped: list[bytes] = []

    async def drop(reader: Reader, writer: Writer) -> None:
        dropped.append(await read_head(reader))
        ending.close()
        writer.close()

    async with pods(tmp_path, "client", "ending", "web") as (client, ended, web):
        ending = await asyncio.start_server(drop, "127.0.0.1", 0)
        ended.application = ending.sockets[0].getsockname()[:2]
        application = await asyncio.start_server(hello, "127.0.0.1", 0)
        web.application = application.sockets[0].getsockname()[:2]
        route(client, ended, web)

        answers: list[int] = []
        while not dropped:
            answers.append((await request(client, asked))[0])

        application.close()
    assert answers == [200] * (len(answers) - 1) + [status]
    assert len(dropped) == 1


@on_loop
async def test_what_may_have_ended_an_application_goes_to_one_other_only(tmp_path: Path) -> None:
    servers: dict[str, asyncio.Server] = {}
    ended: list[str] = []

    async def crash(name: str, reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        ended.append(name)
        servers[name].close()
        writer.close()

    names = ("one", "two", "three")
    async with pods(tmp_path, "client", *names) as (client, *others):
        for name, pod in zip(names, others, strict=True):
            handler = functools.partial(crash, name)
            servers[name] = await asyncio.start_server(handler, "127.0.0.1", 0)
            pod.application = servers[name].sockets[0].getsockname()[:2]
        route(client, *others)

        status, headers, _ = await request(client, GET)

        for server in servers.values():
            server.close()
    assert (status, headers["mesh-reason"].partition(";")[0]) == (502, "server-closed")
    assert len(set(ended)) == len(ended) == 2


@on_loop
async def test_an_application_that_goes_on_is_asked_once(tmp_path: Path) -> None:
    """What it closed without an answer may have been the request's fault."""
    dropped: list[bytes] = []

    async def drop(reader: Reader, writer: Writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            dropped.append(await read_head(reader))
        writer.close()

    async with pods(tmp_path, "client", "dropping", "other") as (client, dropping, other):
        application = await asyncio.start_server(drop, "127.0.0.1", 0)
        dropping.application = other.application = application.sockets[0].getsockname()[:2]
        route(client, dropping, other)

        status, headers, _ = await request(client, GET)

        application.close()
    assert (status, headers["mesh-reason"].partition(";")[0]) == (502, "server-closed")
    assert len(dropped) == 1


@on_loop
async def test_an_application_that_often_drops_costs_few_ports(tmp_path: Path) -> None:
    """Each empty connection that asks whether it goes on takes one for a minute."""
    taken = dropped = 0

    async def drop(reader: Reader, writer: Writer) -> None:
        nonlocal taken, dropped
        taken += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            await read_head(reader)
            dropped += 1
        writer.close()

    async with pods(tmp_path, "client", "dropping") as (client, dropping):
        application = await asyncio.start_server(drop, "127.0.0.1", 0)
        dropping.application = application.sockets[0].getsockname()[:2]
        route(client, dropping)

        began = time.monotonic()
        answers = [await request(client, GET) for _ in range(50)]
        ended = time.monotonic()

        application.close()
    assert [status for status, _, _ in answers] == [502] * 50
    assert dropped == 50
    assert taken - dropped <= 1 + (ended - began) / HEARD


@on_loop
async def test_where_nobody_listens_the_client_is_told(tmp_path: Path) -> None:
    async with pods(tmp_path, "client", "gone") as (client, gone):
        gone.application = ("127.0.0.1", free_port())
        route(client, gone)

        status, headers, _ = await request(client, GET)

    assert (status, headers["mesh-reason"].partition(";")[0]) == (502, "connect-failed")


@on_loop
async def test_a_peer_that_drains_is_asked_for_nothing_new(tmp_path: Path) -> None:
    """GOAWAY comes while requests are on their way."""

    async def slow(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(0)
        await hello(reader, writer)

    async with pods(tmp_path, "client", "leaving", "web") as (client, leaving, web):
        application = await asyncio.start_server(slow, "127.0.0.1", 0)
        leaving.application = web.application = application.sockets[0].getsockname()[:2]
        route(client, leaving, web)
        asked = [asyncio.create_task(request(client, GET)) for _ in range(20)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        leaving.server.end()
        asked += [asyncio.create_task(request(client, POST)) for _ in range(20)]

        answers = await asyncio.gather(*asked)

        application.close()
    assert [status for status, _, _ in answers] == [200] * 40
