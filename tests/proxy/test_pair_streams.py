"""Answers that take their time: events, long polls, streams of messages both ways."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.h2_ends import GRPC, End, Message, head
from tests.proxy.test_pair_http2 import OK, pair
from tests.proxy.world import World, on_loop

GET = b"GET /events HTTP/1.1\r\nHost: web\r\n\r\n"


@pytest.mark.parametrize("http2", [True, False])
@on_loop
async def test_each_event_arrives_before_the_next_is_sent(tmp_path: Path, http2: bool) -> None:
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def events(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            assert await seen.get() == number
        writer.write(b"0\r\n\r\n")

    async with World(tmp_path, http2=http2) as world:
        await world.serve(events)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)
        await read_head(reader)
        for number in range(5):
            assert b"data: %d\n\n" % number in await reader.readuntil(b"\n\n\r\n")
            seen.put_nowait(number)
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.close()


@on_loop
async def test_a_long_poll_outlives_every_idle_limit(tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def polls(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        asked.set()
        await answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews")

    async with World(tmp_path) as world:
        await world.serve(polls)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)
        await asked.wait()
        for pod in (world.client, world.server):
            for after in (61.0, 700.0, 3600.0):
                for client in list(pod.server.keeper.clients):
                    client.check(monotonic() + after)
                pod.server.targets.sweep(monotonic() + after)
                pod.server.inbound.sweep(monotonic() + after)
        answer.set()

        assert b"200 OK" in await read_head(reader)
        assert await reader.readexactly(4) == b"news"
        writer.close()


@on_loop
async def test_messages_pass_both_ways_in_turn_on_one_stream(tmp_path: Path) -> None:
    def converse(end: End, number: int, message: Message) -> None:
        async def run() -> None:
            end.h2.send_headers(number, [*OK, ("content-type", "application/grpc")])
            end.flush()
            answered = 0
            while answered < 5:
                await asyncio.sleep(0.001)
                while answered < len(message.body):
                    await end.send(number, b"pong")
                    answered += 1
            end.h2.send_headers(number, [("grpc-status", "0")], end_stream=True)
            end.flush()

        tasks.append(asyncio.ensure_future(run()))

    tasks: list[asyncio.Future[None]] = []
    async with pair(tmp_path, converse) as (_, client, _application):
        number, answer = client.ask(head("/s/chat", *GRPC, method="POST"), end=False)
        for turn in range(1, 6):
            await client.send(number, b"x")
            while len(answer.body) < 4 * turn:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await answer.ended.wait()

    assert bytes(answer.body) == b"pong" * 5
    assert answer.trailers == [("grpc-status", "0")]
