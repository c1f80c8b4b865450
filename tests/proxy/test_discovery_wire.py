"""The stream spoken by another version of destination, or cut in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.core import labels
from mesh.core.model import Service, Target, Update
from mesh.core.wire import UpdateMessage, encode
from proxy.discovery import Discovery, DiscoveryTiming
from tests.destination.streams import DESTINATION, HELLO, WEB, Changes, FixedCredentials
from tests.support.authority import TrustChain

FIRST = Update(1, {"10.0.0.1:80": Target("10.0.0.1:80")}, {"a:80": Service("a:80", "d", "a", 80)})
SECOND = Update(2, {"10.0.0.1:80": None}, {"a:80": None}, bundle="B")


def _frame(body: dict[str, object]) -> bytes:
    data = json.dumps(body).encode()
    return len(data).to_bytes(4, "big") + data


@contextlib.asynccontextmanager
async def _told(
    folder: Path, *scripts: bytes, timing: DiscoveryTiming | None = None
) -> AsyncIterator[tuple[Discovery, Changes, asyncio.Event]]:
    """A discovery whose destination says each script to one stream, and closes all but the last."""
    chain = TrustChain()
    said, left = asyncio.Event(), list(scripts)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(left.pop(0))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if left:
            writer.close()
        else:
            said.set()
            await reader.read()
            writer.transport.abort()

    context = FixedCredentials(chain, folder, DESTINATION).server_context((labels.ALPN_STREAM,))
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    discovery = Discovery(
        host="127.0.0.1",
        port=server.sockets[0].getsockname()[1],
        hello=HELLO,
        server=DESTINATION,
        credentials=FixedCredentials(chain, folder, WEB),
        timing=timing or DiscoveryTiming(backoff_first=0.005, backoff_last=0.01),
    )
    changes = Changes(discovery)
    task = asyncio.create_task(discovery.run())
    try:
        async with asyncio.timeout(20):
            yield discovery, changes, said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        await server.wait_closed()


def test_a_stream_cut_within_an_update_leaves_the_view_whole(tmp_path: Path) -> None:
    first, second = encode(UpdateMessage(FIRST, True)), encode(UpdateMessage(SECOND))

    async def act() -> None:
        async with _told(tmp_path, first + second[:-1], b"") as (discovery, changes, said):
            await said.wait()  # the second stream: the first one is over

            assert discovery.view.version == 1
            assert set(discovery.view.targets) == {"10.0.0.1:80"}
            assert len(changes.updates) == 1

    asyncio.run(act())


def test_a_newer_destination_may_say_more(tmp_path: Path) -> None:
    update = {"version": 1, "targets": {}, "services": {}, "weather": "fine"}
    script = _frame({"type": "weather", "sky": "blue"})
    script += _frame({"type": "update", "first": True, "update": update, "mood": 7})

    async def act() -> None:
        async with _told(tmp_path, script) as (discovery, changes, _):
            await changes.until(lambda: discovery.ready)

            assert discovery.view.version == 1

    asyncio.run(act())


def test_an_older_destination_may_say_less(tmp_path: Path) -> None:
    script = _frame({"type": "update", "first": True, "update": {"version": 1}})

    async def act() -> None:
        async with _told(tmp_path, script) as (discovery, changes, _):
            await changes.until(lambda: discovery.ready)

            assert discovery.view.targets == {}

    asyncio.run(act())


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff\xff", _frame({"type": "update", "update": {"version": "x"}}), b"\0\0\0\2no"],
    ids=["too large", "of another form", "no JSON"],
)
def test_what_does_not_read_costs_the_stream_and_not_the_view(
    tmp_path: Path, garbage: bytes
) -> None:
    first = encode(UpdateMessage(FIRST, True))

    async def act() -> None:
        async with _told(tmp_path, first + garbage, first) as (discovery, changes, said):
            await changes.until(lambda: discovery.ready and said.is_set())

            assert set(discovery.view.targets) == {"10.0.0.1:80"}

    asyncio.run(act())


def test_a_stream_without_a_view_is_given_up(tmp_path: Path) -> None:
    timing = DiscoveryTiming(backoff_first=0.005, ping=0.02, first_view=0.05)

    async def act() -> None:
        script = encode(UpdateMessage(FIRST, True))
        async with _told(tmp_path, b"", script, timing=timing) as (discovery, changes, _):
            await changes.until(lambda: discovery.ready)

    asyncio.run(act())
