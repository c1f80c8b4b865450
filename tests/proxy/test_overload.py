"""Too slow, too much, too many: each is refused with a reason, and counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from proxy.client_connection import ClientConnection, Keeper
from proxy.http2_frames import HEADERS, PREFACE, SETTINGS, frame
from proxy.pace import MIN_RATE, PACE_SECONDS, Pace, Watermark
from tests.proxy.apps import Reader, Writer, hello, read_head
from tests.proxy.frame_scripts import HEAD
from tests.proxy.h2_ends import End, head
from tests.proxy.memory import MemoryTransport, NoLoop
from tests.proxy.test_http2_stranger import Watching
from tests.proxy.world import Pod, World, on_loop, parse_response, request

GET = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


def counted(pod: Pod, reason: str) -> int:
    """How often a reason was counted."""
    return sum(
        count
        for (_, labels), count in pod.server.telemetry.errors.items()
        if reason in dict(labels).values()
    )


async def later(pod: Pod, *seconds: float) -> None:
    """Let the keeper look at all clients as if so many seconds had gone by."""
    now = monotonic()
    for after in seconds:
        for client in list(pod.server.keeper.clients):
            client.check(now + after)
    await asyncio.sleep(0)


def test_a_pace_is_slow_only_after_its_whole_time() -> None:
    pace = Pace(0, now=0.0)

    assert not pace.is_slow(100, now=PACE_SECONDS)
    assert pace.is_slow(100, now=PACE_SECONDS + 1)


def test_bytes_that_keep_up_begin_a_new_time() -> None:
    pace = Pace(0, now=0.0)
    enough = int(MIN_RATE * PACE_SECONDS)

    assert not pace.is_slow(enough, now=59.0)
    assert not pace.is_slow(enough + 1, now=100.0)
    assert pace.is_slow(enough + 1, now=120.0)


def test_a_watermark_lets_go_below_where_it_took_hold() -> None:
    mark = Watermark(1000)

    seen = [(mark.observe(used), mark.is_high) for used in (899, 900, 870, 849, 870)]

    assert seen == [(False, False), (True, True), (False, True), (True, False), (False, False)]
    assert not Watermark(0).observe(1 << 40)


@on_loop
async def test_where_memory_is_short_requests_are_answered_503(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        keeper = world.client.server.keeper
        keeper.is_shedding = True
        status, headers, _ = await request(world.client, GET)
        two = End(*await world.client.connect(), client=True)
        _, answer = two.ask(head())
        await answer.ended.wait()
        keeper.is_shedding = False
        after, _, _ = await request(world.client, GET)
        await two.close()

    assert (status, headers["mesh-reason"], after) == (503, "overloaded", 200)
    assert (answer.status, answer.get("mesh-reason")) == (503, "overloaded")
    assert counted(world.client, "overloaded") == 2


@on_loop
async def test_a_head_that_takes_too_long_is_answered_408(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.route()
        reader, writer = await world.client.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost:")
        while not world.client.server.keeper.clients:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.001)
        await later(world.client, 11.0)

        status, headers, _ = parse_response(await reader.read())
        writer.close()

    assert (status, headers["mesh-reason"]) == (408, "head-timeout")
    assert counted(world.client, "head-timeout") == 1


@on_loop
async def test_a_body_that_takes_too_long_is_answered_408(tmp_path: Path) -> None:
    got = asyncio.Event()

    async def waits(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        got.set()
        await reader.read()
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(waits)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\nsome")
        await got.wait()
        await later(world.client, 1.0, 30.0, 62.0)

        status, headers, _ = parse_response(await reader.read())
        writer.close()

    assert (status, headers["mesh-reason"]) == (408, "slow-body")
    assert counted(world.client, "slow-body") == 1


@on_loop
async def test_a_stream_of_chunks_may_be_silent(tmp_path: Path) -> None:
    got = asyncio.Event()

    async def waits(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        got.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with World(tmp_path) as world:
        await world.serve(waits)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n")
        await got.wait()
        await later(world.client, 1.0, 100.0, 1000.0)
        writer.write(b"0\r\n\r\n")

        assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


@on_loop
async def test_a_response_that_nobody_takes_is_cut(tmp_path: Path) -> None:
    async def pours(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65_536))
            await writer.drain()

    async with World(tmp_path) as world:
        await world.serve(pours)
        world.route()
        _, writer = await world.client.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        clients = world.client.server.keeper.clients
        while not any(getattr(one, "_write_paused", 0) for one in clients):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await later(world.client, 1.0, 62.0)
        writer.transport.abort()

    assert counted(world.client, "stalled") == 1


def test_a_client_that_reads_nothing_of_whole_answers_is_cut() -> None:
    there = Watching()
    transport = MemoryTransport()
    client = ClientConnection(transport, there, Keeper(NoLoop()))
    client.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nEnd: now\r\n\r\n")
    began = monotonic()
    assert there.exchanges[0].is_over

    for second in range(130):
        client.check(began + second)

    assert transport.get_write_buffer_size()
    assert there.reasons == ["stalled"] * len(there.reasons)
    assert there.reasons
    assert transport.is_aborted


@on_loop
async def test_a_header_block_that_takes_too_long_ends_its_connection(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.route()
        reader, writer = await world.client.connect()
        writer.write(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 0, 1, HEAD))
        await reader.readexactly(9)
        await asyncio.sleep(0.01)
        await later(world.client, *range(1, 13))

        told = await reader.read()
        writer.close()

    assert told.endswith(b"\x00\x00\x00\x0b")
    assert counted(world.client, "head_timeout") == 1


@pytest.mark.parametrize("inbound", [False, True])
@on_loop
async def test_file_descriptors_are_kept_for_what_must_go_on(tmp_path: Path, inbound: bool) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        pod = world.server if inbound else world.client
        pod.server.path.fd_limit = 0
        connect = pod.connect_inbound if inbound else pod.connect
        reader, writer = await connect()
        try:
            told = await reader.read()
        except ConnectionError:
            told = b""
        writer.close()
        pod.server.path.fd_limit = 1 << 20
        status, _, _ = await request(world.client, GET)

    assert (told, status) == (b"", 200)
    assert counted(pod, "too-many-files") == 1


@pytest.mark.parametrize(
    ("head_text", "status", "reason"),
    [
        (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "target-too-long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 17_000 + b"\r\n\r\n", 431, "field-too-long"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n"
            + b"X: "
            + b"x" * 15_000
            + b"\r\n"
            + b"Y: y\r\n" * 9_000,
            431,
            "head-too-large",
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 129 + b"\r\n", 431, "too-many-fields"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "two-hosts"),
        (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-target"),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "host-conflict"),
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "bad-method"),
        (b"GET / HTTP/1.7\r\nHost: a\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "bad-version"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5x\r\n\r\n", 400, "bad-request"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            "bad-coding",
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", 400, "field-twin"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n", 400, "bad-connection"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n"
            * 2000,
            400,
            "chunk-overhead",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@on_loop
async def test_each_rule_of_the_guard_answers_and_counts(
    tmp_path: Path, head_text: bytes, status: int, reason: str
) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        got, headers, _ = await request(world.client, head_text)

    assert (got, headers.get("mesh-reason")) == (status, reason)
    assert counted(world.client, reason) + counted(world.client, reason.replace("-", "_")) >= 1
