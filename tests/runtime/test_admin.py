"""The admin port and the limits of HttpServer."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web

from mesh.core.errors import ConfigError
from mesh.runtime.admin import make_admin, make_registry
from mesh.runtime.listen import open_listeners
from mesh.runtime.web import HttpServer, Limits

pytestmark = pytest.mark.anyio


async def test_ready_says_what_it_waits_for_and_metrics_parse() -> None:
    waiting = ["leaf"]
    admin = make_admin(
        waiting_for=lambda: waiting, registry=make_registry(), host="127.0.0.1", port=0
    )
    await admin.start()
    url = f"http://127.0.0.1:{admin.port}"

    async with aiohttp.ClientSession() as client:
        async with client.get(url + "/live") as live:
            assert live.status == 200
        async with client.get(url + "/ready") as ready:
            assert (ready.status, await ready.text()) == (503, "waiting for leaf\n")
        waiting.clear()
        async with client.get(url + "/ready") as ready:
            assert ready.status == 200
        async with client.get(url + "/metrics") as metrics:
            assert "process_resident_memory_bytes" in await metrics.text()
        async with client.get(url + "/debug/pprof") as other:
            assert other.status == 404
    await admin.stop()


async def test_a_silent_connection_is_closed() -> None:
    server = HttpServer(
        web.Application(), host="127.0.0.1", port=0, limits=Limits(head_seconds=0.05)
    )
    await server.start()

    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\n")

    with pytest.raises((ConnectionError, EOFError)):
        await reader.readexactly(1)
    writer.close()
    await server.stop()


async def test_one_connection_too_many_is_refused_and_the_others_live() -> None:
    server = HttpServer(web.Application(), host="127.0.0.1", port=0, limits=Limits(connections=1))
    await server.start()

    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert b"404" in await reader.readline()
    second, other = await asyncio.open_connection("127.0.0.1", server.port)
    with pytest.raises((ConnectionError, EOFError)):
        await second.readexactly(1)
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(14)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert b"404" in await reader.readline()

    writer.close()
    other.close()
    await server.stop()


async def test_an_address_that_connects_too_often_is_turned_away_alone() -> None:
    limits = Limits(address_rate=0.01, address_burst=3)
    server = HttpServer(web.Application(), host="127.0.0.1", port=0, limits=limits)
    await server.start()

    async def ask(source: str) -> bytes:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, local_addr=(source, 0)
        )
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            return (await reader.read())[:12]
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    first = [await ask("127.0.0.1") for _ in range(5)]

    assert first == [b"HTTP/1.0 404"] * 3 + [b""] * 2
    assert await ask("127.0.0.2") == b"HTTP/1.0 404"
    await server.stop()


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address alre"):
            open_listeners("127.0.0.1", port)


def test_all_addresses_means_one_port_for_both_families() -> None:
    sockets = open_listeners("", 0)

    assert len({s.getsockname()[1] for s in sockets}) == 1
    assert sockets[0].family == socket.AF_INET
    for listener in sockets:
        listener.close()
