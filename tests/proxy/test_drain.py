"""Stopping: nothing in hand is lost, and the end comes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from mesh.core.model import Protocol
from tests.proxy.apps import Reader, Writer, hello, read_head
from tests.proxy.test_admin import ask
from tests.proxy.world import World, free_port, make_pod, on_loop, request
from tests.support.authority import TrustChain

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


@on_loop
async def test_a_request_in_hand_is_finished(tmp_path: Path) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        begun.set()
        await released.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with World(tmp_path) as world:
        await world.serve(slow)
        world.route()
        reader, writer = await world.client.connect()
        idle, other = await world.client.connect()
        other.write(b"GET / HTTP/1.1\r\n")  # half a head is no request in hand
        writer.write(GET)
        await begun.wait()

        world.client.server.end()
        world.server.server.end()
        assert (await ask(world.client.admin, b"GET /ready"))[0] == 503
        assert (await ask(world.client.admin, b"GET /live"))[0] == 200
        released.set()

        head = await read_head(reader)
        assert b"Connection: close" in head
        assert await reader.read() == b"ok"
        writer.close()
        other.close()
        del idle
        assert world.client.task is not None
        await world.client.task


@on_loop
async def test_idle_connections_are_closed_and_the_process_ends(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)
        head = await read_head(reader)
        await reader.readexactly(int(head.split(b"Length: ")[1].split(b"\r\n")[0]))

        world.client.server.end()

        assert await reader.read() == b""
        writer.close()
        assert world.client.task is not None
        await world.client.task


@on_loop
async def test_new_connections_are_still_taken_while_the_application_runs(tmp_path: Path) -> None:
    async with World(tmp_path, native_sidecar=False) as world:
        await world.serve(hello)
        world.route()
        world.client.server.end()
        await asyncio.sleep(0)

        status, headers, _ = await request(world.client, GET)
        assert (status, headers["connection"]) == (200, "close")

        world.client.discovery.update(app_done=True)
        assert world.client.task is not None
        await world.client.task


@on_loop
async def test_a_proxy_ends_by_itself_when_its_application_has(tmp_path: Path) -> None:
    async with World(tmp_path, native_sidecar=False) as world:
        world.client.discovery.update(app_done=True)

        assert world.client.task is not None
        await world.client.task


@on_loop
async def test_at_the_deadline_what_is_left_is_cut(tmp_path: Path) -> None:
    joined = asyncio.Event()

    async def waits(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        joined.set()
        await reader.read()

    async with World(tmp_path, drain_timeout=0.2) as world:
        await world.serve(waits)
        world.route(protocol=Protocol.OPAQUE)
        reader, writer = await world.client.connect()
        writer.write(b"\x00")
        await joined.wait()
        world.client.server.end()

        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert world.client.task is not None
        await world.client.task


@on_loop
async def test_a_drain_does_not_make_clients_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pace is judged at each housekeeping, once a second; a drain looks more often."""
    kept: list[float] = []
    async with World(tmp_path) as world:
        server = world.client.server
        monkeypatch.setattr(type(server.path), "tick", lambda path, now: kept.append(now))
        for tenth in range(50):
            server.tick(1e6 + tenth / 10)

    assert 5 <= len(kept) <= 6


@on_loop
async def test_nothing_is_taken_before_the_proxy_knows_enough(tmp_path: Path) -> None:
    chain = TrustChain()
    pod = make_pod(chain, tmp_path, "web")
    pod.meant_for = ("127.0.0.1", free_port())
    pod.discovery.ready = False
    pod.meant_for = ("127.0.0.1", free_port())
    await pod.start()
    reader, writer = await pod.connect()
    writer.write(GET)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    pod.discovery.ready = True

    assert b"HTTP/1.1 50" in await read_head(reader)
    writer.close()
    await pod.stop()
